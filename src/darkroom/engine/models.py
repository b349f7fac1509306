"""Loaded models, by content hash, under a byte budget; least recently used out first.

A checkpoint and a VAE are kept apart, whether or not they lie in one file, so that another VAE is
another VAE and nothing else.
"""

from collections import OrderedDict
from collections.abc import Collection, Hashable
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

from torch import Tensor

from darkroom.core.model import ModelCard
from darkroom.engine.networks import Networks, Vae
from darkroom.engine.text import TextEncoder
from darkroom.sampling import NoiseTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint without its VAE."""

    card: ModelCard
    networks: Networks
    text: TextEncoder
    table: NoiseTable
    preview: Tensor  # (C + 1, 3): latent channels to RGB in [-1, 1], the last row the offset

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        return self.networks.bytes

    def with_vae(self, vae: Vae, card: ModelCard | None) -> "Model":
        """Ready to run with `vae`, which comes from the file of `card`."""
        own = {each.name: getattr(self, each.name) for each in fields(Checkpoint)}
        return Model(**own, vae=vae, vae_card=card)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Checkpoint):
    """A checkpoint ready to run."""

    vae: Vae
    vae_card: ModelCard | None = None  # the file that the VAE is from; None: the checkpoint's own

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        return self.networks.bytes + self.vae.bytes


class Sized(Protocol):
    """Something that takes memory."""

    @property
    def bytes(self) -> int:
        """How much of it."""


Part = TypeVar("Part", bound=Sized)


class ModelCache:
    """Parts of models by key, least recently used first out.

    Room is made before a part is loaded, so that old and new are never both beyond the budget.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget  # bytes
        self._parts: OrderedDict[Hashable, Sized] = OrderedDict()

    def find(self, key: Hashable, kind: type[Part]) -> Part | None:
        """The part of that key and kind, which is then the last to go."""
        part = self._parts.get(key)
        if not isinstance(part, kind):
            return None
        self._parts.move_to_end(key)
        return part

    def make_room(self, needed: int, keep: Collection[Hashable] = ()) -> None:
        """Let parts go until `needed` bytes fit the budget beside the rest; `keep` stays."""
        for key in [key for key in self._parts if key not in keep]:
            if self.bytes + needed <= self._budget:
                return
            del self._parts[key]

    def keep(self, key: Hashable, part: Sized) -> None:
        """Add a part, even one larger than the whole budget."""
        self._parts[key] = part

    @property
    def bytes(self) -> int:
        """Memory that all parts here take."""
        return sum(part.bytes for part in self._parts.values())

    def drop_others(self, keep: Collection[Hashable]) -> None:
        """Give up every part but these, to make room."""
        for other in [key for key in self._parts if key not in keep]:
            del self._parts[other]

"""Loaded models, by content hash, under a byte budget; least recently used out first."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from darkroom.core.model import ModelCard
from darkroom.engine.networks import Networks
from darkroom.engine.text import TextEncoder
from darkroom.sampling import NoiseTable


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint ready to run."""

    card: ModelCard
    networks: Networks
    text: TextEncoder
    table: NoiseTable
    preview: Tensor  # (C + 1, 3): latent channels to RGB in [-1, 1], the last row the offset

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        return self.networks.bytes


class ModelCache:
    """Models by sha256. The one asked for is always kept, even alone over the budget."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._models: OrderedDict[str, Model] = OrderedDict()

    def get(self, card: ModelCard, load: Callable[[], Model]) -> Model:
        """The model of `card`; loaded by `load` when it is not here yet."""
        if card.sha256 not in self._models:
            self._shrink(self._budget - card.bytes)
            self._models[card.sha256] = load()
            self._shrink(self._budget)
        self._models.move_to_end(card.sha256)
        return self._models[card.sha256]

    def drop_others(self, card: ModelCard) -> bool:
        """Give up every other model, to make room; whether there was one."""
        others = [key for key in self._models if key != card.sha256]
        for key in others:
            del self._models[key]
        return bool(others)

    def _shrink(self, budget: int) -> None:
        while len(self._models) > 1 and sum(m.bytes for m in self._models.values()) > budget:
            self._models.popitem(last=False)

"""Loaded models, by content hash, under a byte budget; least recently used out first."""

from collections import OrderedDict
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
    """Models by sha256, least recently used first out.

    Room is made before a model is loaded, so that old and new are never both beyond the budget.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget  # bytes
        self._models: OrderedDict[str, Model] = OrderedDict()

    def find(self, sha256: str) -> Model | None:
        """The model of that hash, which is then the last to go."""
        if sha256 in self._models:
            self._models.move_to_end(sha256)
        return self._models.get(sha256)

    def make_room(self, needed: int) -> None:
        """Let models go until `needed` bytes fit the budget beside the rest, or none is left."""
        while self._models and self.bytes + needed > self._budget:
            self._models.popitem(last=False)

    def keep(self, model: Model) -> None:
        """Add a model, even one larger than the whole budget."""
        self._models[model.card.sha256] = model

    @property
    def bytes(self) -> int:
        """Memory that all models here take."""
        return sum(model.bytes for model in self._models.values())

    def drop_others(self, sha256: str) -> None:
        """Give up every model but one, to make room."""
        for other in [key for key in self._models if key != sha256]:
            del self._models[other]

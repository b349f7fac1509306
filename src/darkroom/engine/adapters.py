"""LoRAs and hypernetworks in memory, ready to be put on a model, under a budget of bytes."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from darkroom.core.model import ModelCard
from darkroom.engine.models import Checkpoint
from darkroom.weights.header import read_header
from darkroom.weights.hypernetwork import Hypernetwork, read_hypernetwork
from darkroom.weights.lora import Network, fit, read_network, targets_of

ADAPTERS = 1 << 30  # bytes, at most, of files that are kept

Read = TypeVar("Read")


class AdapterCache:
    """Read files by hash, the least recently used dropped first. Not thread-safe."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: OrderedDict[tuple[str, str], Any] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Memory that the files here take."""
        return sum(one.bytes for one in self._held.values())

    def lora(self, card: ModelCard, base: Checkpoint) -> Network:
        """The LoRA of `card`, for the modules of `base`; BadFile when it does not fit."""

        def read() -> Network:
            header = read_header(Path(card.path))
            fitted = fit(header, targets_of(base.networks.detected))
            fitted.check()
            return read_network(header, fitted)

        return self._kept((card.sha256, base.card.sha256), read)

    def hypernetwork(self, card: ModelCard) -> Hypernetwork:
        """The hypernetwork of `card`."""
        path = Path(card.path)
        return self._kept((card.sha256, ""), lambda: read_hypernetwork(read_header(path)))

    def clear(self) -> None:
        """Drop everything."""
        self._held.clear()

    def _kept(self, key: tuple[str, str], read: Callable[[], Read]) -> Read:
        if key not in self._held:
            self._held[key] = read()
        self._held.move_to_end(key)
        while len(self._held) > 1 and self.bytes > self._budget:
            self._held.popitem(last=False)
        found: Read = self._held[key]
        return found

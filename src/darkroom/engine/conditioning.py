"""Encoded prompts: what the networks are given of a text, and a cache of it.

T tokens = 77 per chunk, D width of all text encoders together, P width of a pooled text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """An encoded prompt. Cached and shared: never change its tensors in place."""

    tokens: Tensor  # (1, T, D), in the dtype and on the device of the text encoder
    counts: tuple[int, ...]  # prompt tokens in each chunk, 0 to 75
    pooled: Tensor | None = None  # (1, P), the text as a whole: SDXL and its refiner
    negative: bool = False  # what to lead away from: the refiner is told so

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return self.tokens.nbytes + (self.pooled.nbytes if self.pooled is not None else 0)

    def to(self, dtype: torch.dtype) -> Conditioning:
        """The same in another number format."""
        pooled = None if self.pooled is None else self.pooled.to(dtype)
        return replace(self, tokens=self.tokens.to(dtype), pooled=pooled)

    def zeros(self) -> Conditioning:
        """Zeros in the same form."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return replace(self, tokens=torch.zeros_like(self.tokens), pooled=pooled)

    @property
    def finite(self) -> bool:
        """Whether every number is one."""
        tensors = [self.tokens] if self.pooled is None else [self.tokens, self.pooled]
        return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def same_length(a: Conditioning, b: Conditioning) -> bool:
    """Whether both fit one batched call as they are."""
    return a.tokens.shape[1] == b.tokens.shape[1]


class Encodings:
    """Encoded prompts under a budget of bytes, the least recently used dropped first.

    Shared by the encoders of one device, so that it outlives the models that come and go. Not
    thread-safe, as nothing on a device is.
    """

    def __init__(self, budget: int = 64 << 20) -> None:
        self._budget = budget
        self._held: OrderedDict[Hashable, Conditioning] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> Conditioning | None:
        """What was put under `key`, if it is still here."""
        if (found := self._held.get(key)) is not None:
            self._held.move_to_end(key)
        return found

    def put(self, key: Hashable, value: Conditioning) -> None:
        """Keep `value`, unless it alone is over the budget."""
        if value.bytes > self._budget:
            return
        if (old := self._held.pop(key, None)) is not None:
            self.bytes -= old.bytes
        self._held[key] = value
        self.bytes += value.bytes
        while self.bytes > self._budget:
            self.bytes -= self._held.popitem(last=False)[1].bytes

    def clear(self) -> None:
        """Drop everything: nothing that was encoded before is given out again."""
        self._held.clear()
        self.bytes = 0

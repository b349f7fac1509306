"""Noise per image from its own seed.

Every image draws from a generator of its own, on the CPU, so image k of a batch has the same bits
as that image alone, whatever the batch size and the device. `Seeds` says which noise (a plain
value); `Seeds.start` opens it (a `Noise`, which remembers how much was drawn).

Sources: "cpu" is torch's CPU generator; "nv" computes what torch draws on an NVIDIA card.
Shape letters: B batch, C latent channels, H W latent height and width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from darkroom.sampling.brownian import BrownianPath
from darkroom.sampling.philox import Philox

Source = Literal["cpu", "nv"]
Draw = Callable[[tuple[int, ...]], Tensor]  # shape -> float32 unit noise on the CPU; draws on


class Noise(Protocol):
    """Unit noise for a batch."""

    def __call__(self, like: Tensor, /) -> Tensor:
        """Fresh noise, of the shape (B, C, H, W), dtype and device of `like`."""
        ...

    def between(self, sigma: float, sigma_next: float, like: Tensor, /) -> Tensor:
        """The Brownian increment from `sigma` down to `sigma_next`, scaled to unit variance.

        It belongs to the noise levels and not to the order of the calls: steps that share a stretch
        share its noise.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """Which noise the images of a batch get."""

    values: tuple[int, ...]  # one per image
    source: Source = "cpu"

    def start(self, span: tuple[float, float]) -> Noise:
        """Open it anew; `span` is the lowest positive and the highest noise level of the run."""
        return SeededNoise(self, span)


class SeededNoise:
    """The `Noise` of `Seeds`: one generator, and one Brownian path when asked for, per image."""

    def __init__(self, seeds: Seeds, span: tuple[float, float]) -> None:
        self._seeds = seeds
        self._span = span
        self._draws = [generator(seed, seeds.source) for seed in seeds.values]
        self._paths: list[BrownianPath] = []

    def __call__(self, like: Tensor, /) -> Tensor:
        self._fits(like)
        return torch.stack([draw(tuple(like.shape[1:])) for draw in self._draws]).to(like)

    def between(self, sigma: float, sigma_next: float, like: Tensor, /) -> Tensor:
        self._fits(like)
        if not self._paths:
            self._paths = [self._path(seed, tuple(like.shape[1:])) for seed in self._seeds.values]
        rows = [path.increment(sigma_next, sigma) for path in self._paths]
        # The path runs from low to high, the sampler from high to low: hence the sign.
        return torch.stack(rows).to(like) / -math.sqrt(sigma - sigma_next)

    def _path(self, seed: int, shape: tuple[int, ...]) -> BrownianPath:
        source = self._seeds.source
        return BrownianPath(seed, self._span, lambda node: generator(node, source)(shape))

    def _fits(self, like: Tensor) -> None:
        if like.shape[0] != len(self._draws):
            raise ValueError(f"{len(self._draws)} seeds for a batch of {like.shape[0]}")


def generator(seed: int, source: Source) -> Draw:
    """A stream of unit noise that starts at `seed`."""
    match source:
        case "cpu":
            stream = torch.Generator().manual_seed(seed)
            return lambda shape: torch.randn(shape, generator=stream, dtype=torch.float32)
        case "nv":
            return Philox(seed).randn

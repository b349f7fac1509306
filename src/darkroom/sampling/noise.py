"""Noise per image from its own seed.

Every image draws from a generator of its own, so image k of a batch has the same bits as that image
alone, whatever the batch size. `Seeds` says which noise (a plain value); `Seeds.start` opens it (a
`Noise`, which remembers how much was drawn).

Sources: "cpu" is torch's CPU generator; "nv" computes what torch draws on an NVIDIA card; "gpu" is
torch's generator on the device of the latent. The first two have the same bits on every device.
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

Source = Literal["cpu", "nv", "gpu"]
Shape = tuple[int, ...]
Draw = Callable[[Shape], Tensor]  # shape -> float32 unit noise; draws on

_64_BITS = 0xFFFFFFFFFFFFFFFF
_PARALLEL = 0.9995  # mean cosine above which two noises are mixed and not turned


class Noise(Protocol):
    """Unit noise for a batch."""

    def first(self, like: Tensor, /) -> Tensor:
        """The noise that a run starts from, of the shape, dtype and device of `like`; once."""
        ...

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
class Variation:
    """Turn the first noise towards that of other seeds."""

    seeds: tuple[int, ...]  # one per image
    strength: float  # 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """Which noise the images of a batch get.

    `variation` and `resize_from` change the first noise only, `ensd` only what is drawn later, and
    none of them the Brownian paths, as in A1111. There all images of a varied batch have one seed.
    """

    values: tuple[int, ...]  # one per image
    source: Source = "cpu"
    variation: Variation | None = None
    resize_from: tuple[int, int] | None = None  # (H, W) whose noise goes into the middle
    ensd: int = 0  # A1111's eta noise seed delta, added to the seeds after the first noise

    def start(self, span: tuple[float, float]) -> Noise:
        """Open it anew; `span` is the lowest positive and the highest noise level of the run."""
        return SeededNoise(self, span)


class SeededNoise:
    """The `Noise` of `Seeds`: one generator, and one Brownian path when asked for, per image."""

    def __init__(self, seeds: Seeds, span: tuple[float, float]) -> None:
        if seeds.variation is not None and len(seeds.variation.seeds) != len(seeds.values):
            raise ValueError("as many variation seeds as seeds are needed")
        self._seeds = seeds
        self._span = span
        self._draws: list[Draw] = []
        self._paths: list[BrownianPath] = []

    def first(self, like: Tensor, /) -> Tensor:
        shape = tuple(like.shape[1:])
        plain = self(like)
        rows = [self._started(i, shape, plain[i], like.device) for i in range(like.shape[0])]
        if self._seeds.ensd:
            shifted = [(seed + self._seeds.ensd) & _64_BITS for seed in self._seeds.values]
            self._draws = [self._draw(seed, like.device) for seed in shifted]
        return torch.stack(rows).to(like)

    def __call__(self, like: Tensor, /) -> Tensor:
        self._fits(like)
        if not self._draws:
            self._draws = [self._draw(seed, like.device) for seed in self._seeds.values]
        return torch.stack([draw(tuple(like.shape[1:])) for draw in self._draws]).to(like)

    def between(self, sigma: float, sigma_next: float, like: Tensor, /) -> Tensor:
        self._fits(like)
        if not self._paths:
            shape = tuple(like.shape[1:])
            self._paths = [self._path(seed, shape, like.device) for seed in self._seeds.values]
        rows = [path.increment(sigma_next, sigma) for path in self._paths]
        # The path runs from low to high, the sampler from high to low: hence the sign.
        return torch.stack(rows).to(like) / -math.sqrt(sigma - sigma_next)

    def _started(self, image: int, shape: Shape, plain: Tensor, device: torch.device) -> Tensor:
        """The first noise (C, H, W) of an image, whose `plain` noise was drawn already."""
        seeds = self._seeds
        size = shape if seeds.resize_from is None else (shape[0], *seeds.resize_from)
        noise = plain if size == shape else self._draw(seeds.values[image], device)(size)
        if seeds.variation is not None and seeds.variation.strength != 0:
            other = self._draw(seeds.variation.seeds[image], device)(size).to(noise)
            noise = turned(noise, other, seeds.variation.strength)
        return noise if size == shape else centred(noise, plain)

    def _path(self, seed: int, shape: Shape, device: torch.device) -> BrownianPath:
        return BrownianPath(seed, self._span, lambda node: self._draw(node, device)(shape))

    def _draw(self, seed: int, device: torch.device) -> Draw:
        return generator(seed, self._seeds.source, device)

    def _fits(self, like: Tensor) -> None:
        if like.shape[0] != len(self._seeds.values):
            raise ValueError(f"{len(self._seeds.values)} seeds for a batch of {like.shape[0]}")


def generator(seed: int, source: Source, device: torch.device | str = "cpu") -> Draw:
    """A stream of unit noise that starts at `seed`; `device` matters to "gpu" alone."""
    match source:
        case "nv":
            return Philox(seed).randn
        case "cpu":
            place = "cpu"
        case "gpu":
            place = str(device)
    stream = torch.Generator(place).manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=stream, device=place, dtype=torch.float32)


def turned(noise: Tensor, other: Tensor, strength: float) -> Tensor:
    """`noise` (C, H, W) turned towards `other`: 0 leaves it, 1 gives `other`.

    Spherical interpolation column by column, over H, as in A1111. Its odd case is kept too: noises
    that are nearly the same are mixed the other way round.
    """
    cosine = (_unit(noise) * _unit(other)).sum(1, keepdim=True)
    if cosine.mean() > _PARALLEL:
        return noise * strength + other * (1 - strength)
    angle = cosine.clamp(-1, 1).acos()
    left, right = ((share * angle).sin() / angle.sin() for share in (1 - strength, strength))
    flat = angle.sin() < 1e-6  # columns that point the same way, or opposite: of one pixel
    left, right = left.masked_fill(flat, 1 - strength), right.masked_fill(flat, strength)
    return left * noise + right * other


def _unit(noise: Tensor) -> Tensor:
    length: Tensor = noise.norm(dim=1, keepdim=True)
    return noise / length


def centred(noise: Tensor, around: Tensor) -> Tensor:
    """`around` (C, H, W) with `noise` (C, h, w) pasted into its middle, cut where it is larger."""
    into, taken = zip(
        *(_overlap(around.shape[axis], noise.shape[axis]) for axis in (1, 2)), strict=True
    )
    found = around.clone()
    found[:, into[0], into[1]] = noise[:, taken[0], taken[1]].to(found)
    return found


def _overlap(whole: int, part: int) -> tuple[slice, slice]:
    """Where the middle of `part` pixels lies in `whole` pixels, and which of the part fit."""
    margin = (whole - part) // 2
    count = part if margin >= 0 else part + 2 * margin
    return slice(max(margin, 0), max(margin, 0) + count), slice(
        max(-margin, 0), max(-margin, 0) + count
    )

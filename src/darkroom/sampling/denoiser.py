"""The one contract of the engine, and the features that wrap it.

A denoiser maps a noisy latent and its noise level to an estimate of the clean latent:

    denoise(x, at) -> x0        x, x0: (B, C, H, W) or, for video, (F, C, H, W)

`x` is the clean latent plus `at.sigma` times unit noise, for every sampler. Samplers only ever call
a denoiser. A feature is a function from denoiser to denoiser, so text-to-image, inpainting,
ControlNet, tiling and AnimateDiff differ in what is wrapped, not in the loop. `stack` alone decides
the order of the wrappers.

For CFG++ (Chung et al. 2024) a denoiser gives two estimates of a latent, stacked on a leading axis:
x0 (2, B, C, H, W), the guided one, then the one without the prompt. A wrapper that treats axes in
front of (B, C, H, W) alike, as all here do, works on both without knowing. The samplers that can
use the second ask through `samplers.step.look`, where a denoiser with one estimate is as good.

Shape letters: B batch, F frames, C latent channels, H W latent height and width (pixels / 8).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import EllipsisType
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class At:
    """Where in the run a call happens."""

    sigma: float  # noise level of `x`
    progress: float  # share of the run that is done: 0 at the first call, below 1 at the last
    call: int = 0  # how many estimates the run asked for before; the loop fills it in


class Denoiser(Protocol):
    """Estimates the clean latent: `(x: (B, C, H, W), at) -> x0: (B, C, H, W)`, or two for CFG++."""

    def __call__(self, x: Tensor, at: At, /) -> Tensor: ...


Wrapper = Callable[[Denoiser], Denoiser]


class Mix(Protocol):
    """What is kept and what is painted (B, C, H, W) as one, by a mask (B or 1, 1, H, W)."""

    def __call__(self, kept: Tensor, painted: Tensor, mask: Tensor, at: At, /) -> Tensor: ...


def evenly(kept: Tensor, painted: Tensor, mask: Tensor, at: At, /) -> Tensor:
    """The `Mix` that is the same all the way: so much of `painted` as the mask says."""
    return torch.lerp(kept, painted, mask)


@dataclass(frozen=True, slots=True)
class Held:
    """What inpainting keeps: see `hold`."""

    clean: Tensor  # (B or 1, C, H, W)
    mask: Tensor  # (B or 1, 1, H, W) in [0, 1]; 1 repaints
    noise: Tensor | None = None  # (B, C, H, W), unit
    mix: Mix = evenly


def stack(
    inner: Denoiser,
    *,
    spread: Wrapper | None = None,
    held: Held | None = None,
    check: Callable[[Tensor], None] | None = None,
) -> Denoiser:
    """The order of the wrappers: `watch(hold(tiles_or_windows(guide(predict(network)))))`.

    `inner` is the guided denoiser (see `guidance`). It lies inside `spread` (tiles or windows), so
    that a tile is guided with what it sees and only blended estimates leave it. `hold` comes after
    blending, so that the seams cannot touch what is kept. `watch` is outermost: it sees what the
    sampler sees.
    """
    if spread is not None:
        inner = spread(inner)
    if held is not None:
        inner = hold(inner, held.clean, held.mask, held.noise, mix=held.mix)
    return inner if check is None else watch(inner, check)


def hold(
    inner: Denoiser,
    clean: Tensor,
    mask: Tensor,
    noise: Tensor | None = None,
    *,
    mix: Mix = evenly,
) -> Denoiser:
    """Inpainting with any model: keep `clean` where `mask` is 0.

    The estimate of the kept part is known, so it is replaced. A sampler that starts from
    `clean + sigma * noise` then carries the kept part at the right noise level by itself (and as
    A1111 does, with its own noise); any other start passes `noise` (unit), and the kept part is
    replaced on the way in as well. `mask` (B or 1, 1, H, W) lies in [0, 1]; `mix` says what grey
    in it means.
    """

    def denoise(x: Tensor, at: At) -> Tensor:
        seen = x if noise is None else mix(clean + at.sigma * noise, x, mask, at)
        return mix(clean, inner(seen, at), mask, at)

    return denoise


def between(inner: Denoiser, plain: Denoiser, start: float, end: float) -> Denoiser:
    """Use `inner` for progress in [start, end] and `plain` outside: ControlNet ranges."""
    return lambda x, at: (inner if start <= at.progress <= end else plain)(x, at)


def handover(
    inner: Denoiser, successor: Callable[[], Denoiser], due: Callable[[At], bool]
) -> Denoiser:
    """`inner` until a call is `due`, and from then on what `successor` makes, once (refiners).

    `inner` is let go before its successor is made, so that both need not be in memory together.
    """
    now, handed = inner, False
    del inner

    def denoise(x: Tensor, at: At) -> Tensor:
        nonlocal now, handed
        if not handed and due(at):
            del now
            now, handed = successor(), True
        return now(x, at)

    return denoise


def watch(inner: Denoiser, check: Callable[[Tensor], None]) -> Denoiser:
    """Call `check` on every estimate; it raises to stop (cancel, NaN guard)."""

    def denoise(x: Tensor, at: At) -> Tensor:
        estimate = inner(x, at)
        check(estimate)
        return estimate

    return denoise


def spans(total: int, length: int, overlap: int) -> Iterator[slice]:
    """Slices of `length` that cover range(total), the last one moved back to fit."""
    stride = length - overlap
    if stride <= 0 or overlap < 0:
        raise ValueError(f"overlap {overlap} must lie in 0 … {length - 1}")
    if total <= length:
        yield slice(0, total)
        return
    for start in (*range(0, total - length, stride), total - length):
        yield slice(start, start + length)


def ramp(length: int, like: Tensor) -> Tensor:
    """Blending weights 1, 2, …, 2, 1: (length,), highest in the middle, never 0."""
    up = torch.arange(1, length + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(up, up.flip(0))


def tiles(inner: Denoiser, size: int, overlap: int) -> Denoiser:
    """Run a network at `size` x `size` latent pixels over any H, W, blending the overlaps.

    The regions of MultiDiffusion (Bar-Tal et al. 2023), weighted so that no seam shows.
    """

    def denoise(x: Tensor, at: At) -> Tensor:
        blend = _Blend(x)
        for rows in spans(x.shape[-2], size, overlap):
            for columns in spans(x.shape[-1], size, overlap):
                part = x[..., rows, columns]
                share = ramp(part.shape[-2], x)[:, None] * ramp(part.shape[-1], x)
                blend.add(inner(part, at), share, (..., rows, columns))
        return blend.mean()

    return denoise


def windows(inner: Denoiser, length: int, overlap: int) -> Denoiser:
    """Run a video model that knows `length` frames on any number, blending the overlaps."""

    def denoise(x: Tensor, at: At) -> Tensor:
        blend = _Blend(x)
        for frames in spans(x.shape[0], length, overlap):
            part = x[frames]
            share = ramp(part.shape[0], x).view(-1, 1, 1, 1)
            blend.add(inner(part, at), share, (..., frames, slice(None), slice(None), slice(None)))
        return blend.mean()

    return denoise


class _Blend:
    """The weighted mean of estimates of parts of `x`; they may have more axes in front."""

    def __init__(self, x: Tensor) -> None:
        self._shape = x.shape
        self._total = x.new_zeros(())
        self._weight = torch.zeros_like(x)

    def add(self, estimate: Tensor, share: Tensor, where: tuple[EllipsisType | slice, ...]) -> None:
        """Count `estimate`, of the part `where`, `share` times."""
        if self._total.dim() == 0:
            front = estimate.shape[: estimate.dim() - len(self._shape)]
            self._total = estimate.new_zeros(*front, *self._shape)
        self._total[where] += share * estimate
        self._weight[where] += share

    def mean(self) -> Tensor:
        """The whole, once every part was added."""
        return self._total / self._weight

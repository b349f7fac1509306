"""Guidance: how an estimate with the prompt and one without make one, and when.

Two callables go in, a denoiser comes out:

    both(x, at)  -> (cond, uncond)      Branches: with the prompt and without
    alone(x, at) -> cond                without guidance; costs half as much

`Guidance` says how strictly, and in which part of the run; where it is off, `alone` is called. For
CFG++ (`paired`) the result is both the guided and the unconditional estimate (see `denoiser`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser


class Branches(Protocol):
    """Estimates with and without the prompt in one batched call: `(x, at) -> (cond, uncond)`."""

    def __call__(self, x: Tensor, at: At, /) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """How strictly to follow the prompt, and in which part of the run."""

    scale: float
    rescale: float = 0.0  # 0 to 1: how far to bring the contrast back to the prompt's own
    interval: tuple[float, float] = (0.0, math.inf)  # noise levels with guidance, both included
    window: tuple[float, float] = (0.0, 1.0)  # share of the run with guidance, from and to
    skip_early: float = 0.0  # share of the run, from its start, without guidance
    skip_below: float = 0.0  # noise level below which every second call is without (NGMS)
    skip_every: bool = False  # below it, every call
    paired: bool = False  # for CFG++
    image_scale: float = 1.0  # of instruct-pix2pix: how closely to follow the picture, see `near`

    @property
    def idle(self) -> bool:
        """Whether the estimate with the prompt is the result, so that one branch is enough."""
        return self.scale == 1 and not self.paired

    def acts(self, at: At) -> bool:
        """Whether this call is guided.

        The interval is Kynkäänniemi et al. 2024. The other two are A1111's "skip early CFG" and
        "negative guidance minimum sigma", with its counts: its steps are calls of the network.
        """
        low, high = self.interval
        begin, end = self.window
        inside = begin <= at.progress and (at.progress < end or end == 1)
        early = self.skip_early > 0 and at.progress <= self.skip_early
        late = at.sigma < self.skip_below and (self.skip_every or at.call % 2 == 1)
        return inside and low <= at.sigma <= high and not early and not late


def guide(cond: Denoiser, uncond: Denoiser, scale: float) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans 2022), one call per branch; none wasted at 1."""
    return steer(apart(cond, uncond), cond, Guidance(scale=scale))


def steer(both: Branches, alone: Denoiser, guidance: Guidance) -> Denoiser:
    """Guide as `guidance` says; where it says nothing, only `alone` is called."""
    if guidance.idle:
        return alone

    def denoise(x: Tensor, at: At) -> Tensor:
        if not guidance.acts(at):
            return alone(x, at)
        cond, uncond = both(x, at)
        found = lean(cond, uncond, guidance.scale)
        if guidance.rescale > 0:
            found = rescaled(found, cond, x, sigma=at.sigma, share=guidance.rescale)
        return torch.stack([found, uncond]) if guidance.paired else found

    return denoise


def lean(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Go from `uncond` towards `cond`, `scale` times as far."""
    return uncond + scale * (cond - uncond)


def rescaled(found: Tensor, cond: Tensor, x: Tensor, *, sigma: float, share: float) -> Tensor:
    """Lin et al. 2023, section 3.4: bring `found` back to the spread of `cond`, by `share`.

    Spread is per picture, of the velocity, which is what their network predicts; in these
    coordinates the velocity is a multiple of `x / (1 + sigma²)` minus the estimate.
    """
    still = x / (1 + sigma**2)
    spreads = [(each - still).std(dim=(-3, -2, -1), keepdim=True) for each in (cond, found)]
    ratio = torch.where(spreads[1] > 0, spreads[0] / spreads[1], torch.ones_like(spreads[1]))
    return still + (share * ratio + 1 - share) * (found - still)


def near(both: Branches, blind: Denoiser, scale: float) -> Branches:
    """`both`, which see a picture to edit, pulled away from `blind`: neither picture nor prompt.

    Equation 3 of Brooks et al. 2023, `blind + scale * (uncond - blind) + s * (cond - uncond)`, is
    guidance by s between two branches that the picture pulls alike. At scale 1 it does not.
    """

    def pulled(x: Tensor, at: At) -> tuple[Tensor, Tensor]:
        cond, uncond = both(x, at)
        pull = (scale - 1) * (uncond - blind(x, at))
        return cond + pull, uncond + pull

    return pulled


def apart(cond: Denoiser, uncond: Denoiser) -> Branches:
    """Both branches by one call each."""
    return lambda x, at: (cond(x, at), uncond(x, at))


Parts = Sequence[tuple[Denoiser, float]]  # estimates with a prompt each, and their weights


def compose(parts: Parts, uncond: Denoiser, scale: float) -> Denoiser:
    """Composable diffusion, Liu et al. 2022 (A1111's AND): every part pulls with its weight.

    `uncond + sum of weight * scale * (part - uncond)`; negative weights push away. Where the
    weights leave nothing of `uncond`, it is not called.
    """
    if math.isclose(scale * sum(weight for _, weight in parts), 1):
        return lambda x, at: _weighted([(part(x, at), scale * weight) for part, weight in parts])
    both = composed(parts, uncond)
    return lambda x, at: lean(*both(x, at), scale)


def composed(parts: Parts, uncond: Denoiser) -> Branches:
    """The parts as one branch with a prompt, and `uncond`: for `steer`."""

    def both(x: Tensor, at: At) -> tuple[Tensor, Tensor]:
        base = uncond(x, at)
        return blend([(part(x, at), weight) for part, weight in parts], base), base

    return both


def together(parts: Parts) -> Denoiser:
    """The parts without guidance, for `steer`: as in A1111 the first one stands for `uncond`."""

    def denoise(x: Tensor, at: At) -> Tensor:
        found = [(part(x, at), weight) for part, weight in parts]
        return blend(found, found[0][0])

    return denoise


def blend(estimates: Sequence[tuple[Tensor, float]], base: Tensor) -> Tensor:
    """`base` plus every estimate's weighted distance from it, all (B, C, H, W)."""
    return base + _weighted([(estimate - base, weight) for estimate, weight in estimates])


def _weighted(estimates: Sequence[tuple[Tensor, float]]) -> Tensor:
    total, weight = estimates[0]
    total = weight * total
    for estimate, weight in estimates[1:]:
        total = total + weight * estimate
    return total

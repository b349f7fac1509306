"""Prompts by region: where in the picture which prompt holds.

    both, alone = regional(both, alone, regions)        # then steer(both, alone, guidance)

At each call the estimate with the prompt is the weighted mean of the estimates with the prompts of
the regions, at each place of those that hold there: MultiDiffusion, Bar-Tal et al. 2023, equation
5, with the whole picture as every view. What all of them leave open of a place is the picture's own
prompt's. The estimate without the prompt is shared.

So a weight below 1 lets the picture's prompt have a say in the region, 1 leaves it none, and above
1 the region counts more than others where they overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.guidance import Branches, Parts, blend


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and when a prompt holds, and how much it counts there."""

    mask: Tensor  # (1, 1, H, W) in [0, 1]; 1 is inside
    weight: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)  # share of the run, from and to

    def holds(self, at: At) -> bool:
        """Whether it counts in this call."""
        start, end = self.window
        return self.weight > 0 and start <= at.progress and (at.progress < end or end == 1)


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the picture with a prompt of its own."""

    place: Place
    parts: Parts  # estimates with its prompt: one, or those that AND joins

    def estimate(self, x: Tensor, at: At, uncond: Tensor | None) -> Tensor:
        """(B, C, H, W) with its prompt; without `uncond` the first part stands for it."""
        found = [(part(x, at), weight) for part, weight in self.parts]
        first, weight = found[0]
        if len(found) == 1 and weight == 1:
            return first
        return blend(found, first if uncond is None else uncond)


def regional(
    both: Branches, alone: Denoiser, regions: Sequence[Region]
) -> tuple[Branches, Denoiser]:
    """Both branches of guidance, and the one without it, with regions in them."""

    def mixed_both(x: Tensor, at: At) -> tuple[Tensor, Tensor]:
        cond, uncond = both(x, at)
        return mixed(cond, x, at, regions=regions, uncond=uncond), uncond

    return mixed_both, lambda x, at: mixed(alone(x, at), x, at, regions=regions)


def prompted(both: Branches) -> Denoiser:
    """The branch with the prompt alone, where it cannot be had without the other."""
    return lambda x, at: both(x, at)[0]


def mixed(
    base: Tensor, x: Tensor, at: At, *, regions: Sequence[Region], uncond: Tensor | None = None
) -> Tensor:
    """`base`, the estimate with the picture's own prompt, and those of the regions: their mean."""
    found, total = base.new_zeros(()), base.new_zeros(())
    for region in regions:
        if region.place.holds(at):
            share = region.place.weight * region.place.mask.to(base)
            found = found + share * region.estimate(x, at, uncond)
            total = total + share
    left = (1 - total).clamp_min(0)  # of each place, for the picture's own prompt
    return (left * base + found) / (left + total)

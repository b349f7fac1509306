"""What grey in a mask means: two ways to mix what is kept with what is painted (`denoiser.Mix`).

`soft` is A1111's soft inpainting: grey is mixed in every step, and belongs to the kept part early
in the run and to the painted part late. `differential` is the strength of each place (Levin and
Fried 2023): it stays as it is until its turn comes. With white everywhere both paint all of the
picture, with black nothing.

Shape letters as in `denoiser`; h w are latent height and width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from darkroom.sampling.denoiser import At

REACH = 2  # latent pixels to each side of a place that decide on what is taken there
SPREAD = 1.5  # standard deviation of their weights
PEAK, MIDDLE = (0.9, 1.0), (0.25, 0.75)  # which of them, by rank: first the largest, then the usual
TINY = 1e-5


def differential(kept: Tensor, painted: Tensor, mask: Tensor, at: At, /) -> Tensor:
    """Free each place for the last part of the run, as large a part as the mask says.

    Algorithm 1 of Levin and Fried 2023, with white for what they call the strongest change.
    """
    free = (mask > 0) & (mask >= 1 - at.progress)
    return torch.where(free, painted, kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Soft:
    """The `Mix` of A1111's soft inpainting.

    A place that the mask frees by m is painted by m ** (scale * sigma ** power).
    """

    power: float = 1.0
    scale: float = 0.5
    detail: float = 4.0  # 1: the length of the mixed latent is the mean one; more: the larger one

    def __call__(self, kept: Tensor, painted: Tensor, mask: Tensor, at: At, /) -> Tensor:
        """Mix directions evenly and lengths by a power mean, so that detail is not averaged out."""
        share = torch.where(mask > 0, mask ** (self.scale * at.sigma**self.power), 0.0)
        mixed = torch.lerp(kept, painted, share)
        found = mixed * (self._wanted(kept, painted, share) / _length(mixed).clamp(min=TINY))
        # The ends to the last bit.
        return torch.where(share <= 0, kept, torch.where(share >= 1, painted, found))

    def _wanted(self, kept: Tensor, painted: Tensor, share: Tensor) -> Tensor:
        """The power mean of both lengths, in shares of the larger one, so that none overflows."""
        old, new = _length(kept), _length(painted)
        most = torch.maximum(old, new).clamp(min=TINY)
        old, new = ((length / most) ** self.detail for length in (old, new))
        mean: Tensor = torch.lerp(old, new, share) ** (1 / self.detail)
        return most * mean


def _length(latent: Tensor) -> Tensor:
    """Of each place's vector of channels: (…, C, h, w) to (…, 1, h, w)."""
    length: Tensor = latent.norm(dim=-3, keepdim=True)
    return length


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """How a soft inpainting decides what of its result is taken, by what changed."""

    threshold: float = 0.5  # change at which a place is taken by half
    contrast: float = 2.0  # how sharp the border between taken and not is
    influence: float = 0.0  # how far the mask shifts the threshold
    scale: float = 0.5  # `Soft.scale`


def composite_mask(clean: Tensor, result: Tensor, mask: Tensor, taking: Taking) -> Tensor:
    """How much of `result` to take over `clean`, place by place: (B, 1, h, w) in [0, 1].

    The change of a place is the distance of the two latents, spread to its surroundings and freed
    of outliers. All of it with the numbers of A1111's soft inpainting.
    """
    change = (result.float() - clean.float()).norm(dim=1, keepdim=True)
    change = _among_neighbours(_among_neighbours(change, *PEAK), *MIDDLE)
    black = 1 - mask.float().clamp(0, 1) ** (taking.scale / 2)
    keeps = 0.5 * (1 - taking.influence) + black * taking.influence
    half = taking.threshold * keeps / (1 + TINY - keeps)
    ratio = change / half.clamp(min=TINY)
    taken = 1 - 1 / (1 + ratio**taking.contrast)
    return taken**3 * (taken * (6 * taken - 15) + 10)


def _among_neighbours(values: Tensor, low: float, high: float) -> Tensor:
    """The mean of the neighbours of each place that rank from `low` to `high`, in shares of weight.

    `values` (B, 1, h, w). Neighbours weigh less the farther away they are, and those outside of
    the picture nothing; never less than the weight of the place itself is counted.
    """
    side = 2 * REACH + 1
    offsets = torch.arange(side, device=values.device, dtype=values.dtype) - REACH
    bell = torch.exp(-(offsets**2) / (2 * SPREAD**2))
    inside = functional.unfold(torch.ones_like(values), side, padding=REACH)  # (B, side², h * w)
    weights = inside * (bell[:, None] * bell).view(1, -1, 1)
    found, order = functional.unfold(values, side, padding=REACH).sort(dim=1)
    ends = weights.gather(1, order).cumsum(1)
    begins = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], 1)
    total = ends[:, -1:]
    width = ((high - low) * total).clamp(min=1)
    first = ((low + high) / 2 * total - width / 2).clamp(min=0).minimum(total - width)
    counted = (ends.minimum(first + width) - begins.maximum(first)).clamp(min=0)
    mean = (counted * found).sum(1, keepdim=True) / counted.sum(1, keepdim=True)
    return mean.view_as(values)

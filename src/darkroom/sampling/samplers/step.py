"""What all samplers share: the step they yield, how they look at the network, and noise added.

`now` and `then` are the noise level of a step and the next one.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.noise import Noise


@dataclass(frozen=True, slots=True)
class Step:
    """The state after one noise level."""

    index: int  # from 0
    # How many there will be. A sampler that finds its own number says what it expects by now; it is
    # above `index + 1` until the last step, and true there.
    count: int
    x: Tensor  # (B, C, H, W) at noise level `sigma_next`; of the last step: the result
    clean: Tensor  # (B, C, H, W), the latest estimate, for previews
    sigma_next: float


Sampler = Callable[[Denoiser, Tensor, Tensor, Noise], Iterator[Step]]


class Look(NamedTuple):
    """What the network says of a latent, all (B, C, H, W)."""

    clean: Tensor  # the estimate to go to
    plain: Tensor  # the estimate that noise is measured from: the same, but for CFG++
    x: Tensor  # the latent, moved so that `x - clean` is what was `x - plain`


def look(denoise: Denoiser, x: Tensor, at: At) -> Look:
    """Ask the network, guided by CFG++ where it gives two estimates (see `denoiser`)."""
    estimate = denoise(x, at)
    if estimate.dim() == x.dim():
        return Look(estimate, estimate, x)
    clean, plain = estimate
    return Look(clean, plain, x + (clean - plain))


def walk(sigmas: Tensor) -> Iterator[tuple[int, int, float, float]]:
    """(index, count, now, then) of every step; equal levels are one, and a rise is no step."""
    pairs = [(now, then) for now, then in pairwise(sigmas.tolist()) if now > then]
    for i, (now, then) in enumerate(pairs):
        yield i, len(pairs), now, then


def ancestral(now: float, then: float, eta: float) -> tuple[float, float]:
    """(level to go down to, noise to add there) so that the noise adds up to `then`."""
    up = min(then, eta * math.sqrt(max(then**2 * (now**2 - then**2), 0)) / now)
    return math.sqrt(then**2 - up**2), up


def toward(clean: Tensor, x: Tensor, ratio: float) -> Tensor:
    """`x` with its noise multiplied by `ratio`: the exact path while the estimate stays."""
    return clean + (x - clean) * ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """Noise added before each step: Karras et al. 2022, algorithm 2."""

    amount: float = 0.0  # S_churn
    low: float = 0.0  # S_tmin
    high: float = math.inf  # S_tmax
    scale: float = 1.0  # S_noise

    def __call__(self, x: Tensor, now: float, *, count: int, noise: Noise) -> tuple[Tensor, float]:
        """`x` and its noise level, raised where wanted.

        Where there is churn at all every step draws, so that the noise of a step does not depend
        on the limits (and is A1111's).
        """
        if self.amount == 0:
            return x, now
        drawn = noise(x)
        if not self.low <= now <= self.high:
            return x, now
        raised = now * (1 + min(self.amount / count, math.sqrt(2) - 1))
        return x + drawn * (self.scale * math.sqrt(raised**2 - now**2)), raised


CALM = Churn()

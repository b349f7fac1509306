"""Samplers: generators that yield a Step per noise level.

    sampler(denoise, x, sigmas, noise) -> Iterator[Step]

`x` (B, C, H, W) is the clean latent plus `sigmas[0]` times noise; `sigmas` (n + 1,) falls, mostly
to 0. They are generators so that the caller owns progress, previews and stopping. Nothing here
takes a callback, and all of them do any number of steps, one included.

In the comments `h` is the step in the logarithm of 1 / sigma. Arithmetic on noise levels is done in
Python floats (double precision), on latents in their own dtype.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.noise import Noise


@dataclass(frozen=True, slots=True)
class Step:
    """The state after one noise level."""

    index: int  # from 0
    count: int
    x: Tensor  # (B, C, H, W) at noise level `sigma_next`; of the last step: the result
    clean: Tensor  # (B, C, H, W), the latest estimate, for previews
    sigma_next: float


Sampler = Callable[[Denoiser, Tensor, Tensor, Noise], Iterator[Step]]


def euler(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Karras et al. 2022, algorithm 2 without churn."""
    return euler_ancestral(denoise, x, sigmas, noise, eta=0)


def euler_ancestral(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, eta: float = 1.0
) -> Iterator[Step]:
    """Euler further down than the next level, then noise back up to it (k-diffusion).

    It is the generalised DDIM of Song et al. 2020, eq. 12, with the latents scaled by sqrt(alpha).
    """
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        down, up = ancestral(now, then, eta)
        x = clean + (x - clean) * (down / now)
        if up > 0:
            x = x + up * noise(x)
        yield Step(i, count, x, clean, then)


def ddim(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, eta: float = 0.0
) -> Iterator[Step]:
    """Song et al. 2020, eq. 12; in these coordinates ancestral Euler, deterministic at `eta` 0."""
    return euler_ancestral(denoise, x, sigmas, noise, eta=eta)


def heun(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Karras et al. 2022, algorithm 1: second order, two calls per step but the last."""
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        slope = (x - clean) / now
        guess = x + slope * (then - now)
        if then > 0:
            end = (guess - denoise(guess, At(then, (i + 0.5) / count))) / then
            guess = x + (slope + end) * ((then - now) / 2)
        x = guess
        yield Step(i, count, x, clean, then)


def dpmpp_2m(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2; first order where it starts and ends in 0."""
    previous, last_h = x, math.inf
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        h = math.log(now / then) if then > 0 else math.inf
        ahead = 0.0 if i == 0 or then == 0 else h / last_h / 2
        x = x * (then / now) + (1 - then / now) * (clean + ahead * (clean - previous))
        yield Step(i, count, x, clean, then)
        previous, last_h = clean, h


def dpmpp_2m_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, eta: float = 1.0
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M), Lu et al. 2022, section 5, midpoint form; noise from Brownian paths."""
    previous, last_h = x, math.inf
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        h = math.log(now / then) if then > 0 else math.inf
        share = -math.expm1(-h * (1 + eta))  # how much of the step goes to the estimate
        ahead = 0.0 if i == 0 or then == 0 else h / last_h / 2
        x = (then / now) ** (1 + eta) * x + share * (clean + ahead * (clean - previous))
        if then > 0 and eta > 0:
            up = then * math.sqrt(-math.expm1(-2 * eta * h))
            x = x + up * noise.between(now, then, x)
        yield Step(i, count, x, clean, then)
        previous, last_h = clean, h


def unipc(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    order: int = 3,
    variant: Literal["bh1", "bh2"] = "bh1",
    lower_order_final: bool = True,
) -> Iterator[Step]:
    """UniPC, Zhao et al. 2023, algorithms 5 and 6: multistep predictor-corrector on the estimate.

    The corrector's call serves as the next step's, so a step costs one call. The order rises from 1
    at the start and, with `lower_order_final`, falls back to 1 at the end.
    """
    known: list[tuple[float, Tensor]] = []  # (sigma, estimate), newest first
    for i, count, now, then in walk(sigmas):
        if not known:
            known = [(now, denoise(x, At(now, 0.0)))]
        left = count - i if lower_order_final or then == 0 else order
        reach = min(order, i + 1, left)
        (_, clean), *_ = known
        h = math.log(now / then) if then > 0 else math.inf
        scale = h if variant == "bh1" else -math.expm1(-h)
        ratios = [math.log(now / sigma) / h for sigma, _ in known[1:reach]]
        slopes = [(e - clean) / r for r, (_, e) in zip(ratios, known[1:reach], strict=True)]
        start = x * (then / now) + (1 - then / now) * clean
        x = _bent(start, slopes, unipc_weights(ratios, h, scale), scale)
        if i + 1 < count:
            found = denoise(x, At(then, (i + 1) / count))
            weights = unipc_weights([*ratios, 1.0], h, scale)
            x = _bent(start, [*slopes, found - clean], weights, scale)
            known = [(then, found), *known][:order]
        yield Step(i, count, x, known[0][1], then)


def unipc_weights(ratios: list[float], h: float, scale: float) -> list[float]:
    """How much each difference counts: Zhao et al. 2023, eq. 9, as a small linear system.

    `ratios` are the places of the differences in units of the step `h`, `scale` is B(h).
    """
    if len(ratios) < 2:
        return [0.5] * len(ratios)  # exact enough for one difference, and what the authors use
    phi, factorial, wanted = math.expm1(-h) / -h - 1, 1, []
    for k in range(1, len(ratios) + 1):
        wanted.append(-phi * factorial / scale)
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    powers = np.array([[r**k for r in ratios] for k in range(len(ratios))])
    solved: list[float] = np.linalg.solve(powers, np.array(wanted)).tolist()
    return solved


def _bent(start: Tensor, slopes: list[Tensor], weights: list[float], scale: float) -> Tensor:
    """`start` moved by the weighted differences."""
    for slope, weight in zip(slopes, weights, strict=True):
        start = start + (scale * weight) * slope
    return start


def lcm(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Multistep consistency sampling, Song et al. 2023, algorithm 1; for LCM models.

    Their boundary scaling differs from 1 by less than 1e-5 at every level, and is left out.
    """
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        x = clean + then * noise(x) if then > 0 else clean
        yield Step(i, count, x, clean, then)


def walk(sigmas: Tensor) -> Iterator[tuple[int, int, float, float]]:
    """(index, count, noise level, next noise level) of every step; equal levels are one."""
    pairs = [(now, then) for now, then in pairwise(sigmas.tolist()) if now != then]
    for i, (now, then) in enumerate(pairs):
        yield i, len(pairs), now, then


def ancestral(now: float, then: float, eta: float) -> tuple[float, float]:
    """(level to go down to, noise to add there) so that the noise adds up to `then`."""
    up = min(then, eta * math.sqrt(max(then**2 * (now**2 - then**2), 0)) / now)
    return math.sqrt(then**2 - up**2), up


SAMPLERS: dict[str, Sampler] = {
    function.__name__: function
    for function in (euler, euler_ancestral, heun, dpmpp_2m, dpmpp_2m_sde, ddim, unipc, lcm)
}

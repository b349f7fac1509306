"""Samplers that look again within a step, and go by the estimates they found.

As in `exponential`, `h` is the step in the logarithm of 1 / sigma, and with noise drawn on the way
a step counts as `(1 + eta) * h` long. Stages lie at shares of `h`.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.noise import Noise
from darkroom.sampling.samplers.step import Step, ancestral, look, toward, walk


def dpmpp_2s(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """DPM-Solver++(2S), Lu et al. 2022, algorithm 1, looking in the middle of the step."""
    return dpmpp_2s_ancestral(denoise, x, sigmas, noise, eta=0)


def dpmpp_2s_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """`dpmpp_2s` further down than the next level, then noise back up to it (k-diffusion)."""
    for i, count, now, then in walk(sigmas):
        seen = look(denoise, x, At(now, i / count))
        down, up = ancestral(now, then, eta)
        goal = seen.clean
        if down > 0:
            middle = math.sqrt(now * down)
            guess = toward(seen.clean, seen.x, middle / now)
            goal = look(denoise, guess, At(middle, (i + 0.5) / count)).clean
        x = toward(goal, seen.x, down / now)
        if up > 0:
            x = x + (up * s_noise) * noise(x)
        yield Step(i, count, x, seen.clean, then)


def dpmpp_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """DPM-Solver++ with noise in both stages (k-diffusion): the second estimate is gone to.

    Both stages start from the same latent, and their noise is of one Brownian path.
    """
    for i, count, now, then in walk(sigmas):
        clean = goal = denoise(x, At(now, i / count))
        if then > 0:
            start, middle, end = _halves(now, then)
            down, up = ancestral(now, middle, eta)
            guess = toward(clean, x, down / now)
            if up > 0:
                guess = guess + (s_noise * up) * noise.between(start, middle, x)
            goal = denoise(guess, At(middle, (i + 0.5) / count))
        down, up = ancestral(now, then, eta)
        x = toward(goal, x, down / now)
        if up > 0:
            x = x + (s_noise * up) * noise.between(start, end, x)
        yield Step(i, count, x, clean, then)


def _halves(now: float, then: float) -> tuple[float, float, float]:
    """`now`, the level halfway to `then`, and `then`, as A1111's arithmetic has them.

    They go through logarithms in single precision; Brownian noise depends on the last bit.
    """
    start, end = (-torch.tensor(level, dtype=torch.float32).log() for level in (now, then))
    found = torch.stack([start, start + (end - start) * 0.5, end]).neg()
    first, middle, last = (value.exp().item() for value in found)
    return first, middle, last


def seeds_2(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """SEEDS-2, Gonzalez et al. 2023: the estimate at the middle of the step is gone to."""
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        if then == 0:
            yield Step(i, count, clean, clean, then)
            return
        middle = math.sqrt(now * then)
        drawn = _drawn(noise, (now, middle), eta, like=x)
        guess = _toward(clean, x, (now, middle), eta) + s_noise * drawn
        goal = denoise(guess, At(middle, (i + 0.5) / count))
        drawn = _carried(noise, drawn, (middle, then), eta)
        x = _toward(goal, x, (now, then), eta) + s_noise * drawn
        yield Step(i, count, x, clean, then)


def seeds_3(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """SEEDS-3, Gonzalez et al. 2023: stages at a third and at two thirds."""
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        if then == 0:
            yield Step(i, count, clean, clean, then)
            return
        third, two = now ** (2 / 3) * then ** (1 / 3), now ** (1 / 3) * then ** (2 / 3)
        drawn = _drawn(noise, (now, third), eta, like=x)
        guess = _toward(clean, x, (now, third), eta) + s_noise * drawn
        slope = denoise(guess, At(third, (i + 1 / 3) / count)) - clean
        drawn = _carried(noise, drawn, (third, two), eta)
        guess = _toward(clean, x, (now, two), eta) + s_noise * drawn
        guess = guess + 2 * _sloped(now, two, eta) * slope
        slope = denoise(guess, At(two, (i + 2 / 3) / count)) - clean
        drawn = _carried(noise, drawn, (two, then), eta)
        x = _toward(clean, x, (now, then), eta) + s_noise * drawn
        x = x + 1.5 * _sloped(now, then, eta) * slope
        yield Step(i, count, x, clean, then)


def _toward(clean: Tensor, x: Tensor, stretch: tuple[float, float], eta: float) -> Tensor:
    now, then = stretch
    return toward(clean, x, (then / now) ** (1 + eta))


def _sloped(now: float, then: float, eta: float) -> float:
    """What an estimate that rises by 1 over the step adds in its course."""
    long = (1 + eta) * math.log(now / then)
    return 1 + math.expm1(-long) / long


def _drawn(noise: Noise, stretch: tuple[float, float], eta: float, *, like: Tensor) -> Tensor:
    """The noise that is drawn anew over a stretch of levels."""
    now, then = stretch
    scale = then * math.sqrt(1 - (then / now) ** (2 * eta))
    return like * 0 if scale == 0 else scale * noise.between(now, then, like)


def _carried(noise: Noise, drawn: Tensor, stretch: tuple[float, float], eta: float) -> Tensor:
    """Noise that was drawn before, at the end of a further stretch, and what is drawn over it."""
    now, then = stretch
    kept: float = (then / now) ** (1 + eta)
    return drawn * kept + _drawn(noise, stretch, eta, like=drawn)

"""Samplers that look again within a step, and go by the slopes they found.

The slope is `(x - clean) / sigma`: what `x` changes by per noise level (Karras et al. 2022, eq. 1).
"""

import math
from collections.abc import Iterator

from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.noise import Noise
from darkroom.sampling.samplers.step import CALM, Churn, Step, ancestral, walk


def heun(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, churn: Churn = CALM
) -> Iterator[Step]:
    """Karras et al. 2022, algorithm 2: second order, two calls per step but the last."""
    for i, count, now, then in walk(sigmas):
        x, high = churn(x, now, count=count, noise=noise)
        x, clean = _heun_step(denoise, x, (high, then), (i / count, (i + 0.5) / count))
        yield Step(i, count, x, clean, then)


def restart(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, s_noise: float = 1.0
) -> Iterator[Step]:
    """Xu et al. 2023: Heun, and where `sigmas` rise, noise up to the higher level."""
    reached = math.inf
    for i, count, now, then in walk(sigmas):
        if now > reached:
            x = x + (s_noise * math.sqrt(now**2 - reached**2)) * noise(x)
        x, clean = _heun_step(denoise, x, (now, then), (i / count, (i + 0.5) / count))
        reached = then
        yield Step(i, count, x, clean, then)


def _heun_step(
    denoise: Denoiser, x: Tensor, levels: tuple[float, float], progress: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """One step from the first of `levels` to the second: the new `x`, and the estimate."""
    now, then = levels
    clean = denoise(x, At(now, progress[0]))
    slope = (x - clean) / now
    guess = x + slope * (then - now)
    if then > 0:
        end = (guess - denoise(guess, At(then, progress[1]))) / then
        guess = x + (slope + end) * ((then - now) / 2)
    return guess, clean


def heunpp2(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, churn: Churn = CALM
) -> Iterator[Step]:
    """Heun that also looks at the level after the next (Heun++ 2, from the FastSampling project).

    The later slopes count as much as their noise levels beside the first of all: three calls, two
    in the step before the last, one in the last.
    """
    steps = list(walk(sigmas))
    top = sigmas[0].item()
    for i, count, now, then in steps:
        x, high = churn(x, now, count=count, noise=noise)
        clean = denoise(x, At(high, i / count))
        slopes, guess = [(x - clean) / high], x
        ahead = [level for *_, level in steps[i : i + 2] if level > 0]
        ahead = ahead[: count - 1 - i]  # the last level is only gone to
        for stage, level in enumerate(ahead, 1):
            guess = guess + slopes[-1] * (level - (high if stage == 1 else ahead[stage - 2]))
            seen = denoise(guess, At(level, (i + stage / 3) / count))
            slopes.append((guess - seen) / level)
        weights = [level / (top * len(slopes)) for level in ahead]
        mean = slopes[0] * (1 - sum(weights))
        for weight, slope in zip(weights, slopes[1:], strict=True):
            mean = mean + weight * slope
        x = x + mean * (then - high)
        yield Step(i, count, x, clean, then)


def dpm_2(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, churn: Churn = CALM
) -> Iterator[Step]:
    """DPM-Solver-2, Lu et al. 2022, algorithm 1, as k-diffusion has it: by the middle's slope."""
    for i, count, now, then in walk(sigmas):
        x, high = churn(x, now, count=count, noise=noise)
        x, clean = _middle_step(denoise, x, (high, then), (i / count, (i + 0.5) / count))
        yield Step(i, count, x, clean, then)


def dpm_2_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """`dpm_2` further down than the next level, then noise back up to it (k-diffusion)."""
    for i, count, now, then in walk(sigmas):
        down, up = ancestral(now, then, eta)
        x, clean = _middle_step(denoise, x, (now, down), (i / count, (i + 0.5) / count))
        if up > 0:
            x = x + (up * s_noise) * noise(x)
        yield Step(i, count, x, clean, then)


def _middle_step(
    denoise: Denoiser, x: Tensor, levels: tuple[float, float], progress: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """One step by the slope at the geometric middle: the new `x`, and the estimate."""
    now, then = levels
    clean = denoise(x, At(now, progress[0]))
    slope = (x - clean) / now
    if then > 0:
        middle = math.sqrt(now * then)
        guess = x + slope * (middle - now)
        slope = (guess - denoise(guess, At(middle, progress[1]))) / middle
    return x + slope * (then - now), clean

"""Samplers that look once per step and remember nothing."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.noise import Noise
from darkroom.sampling.predict import NoiseTable
from darkroom.sampling.samplers.step import CALM, Churn, Step, ancestral, look, toward, walk


def euler(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, churn: Churn = CALM
) -> Iterator[Step]:
    """Karras et al. 2022, algorithm 2 without its correction."""
    for i, count, now, then in walk(sigmas):
        x, high = churn(x, now, count=count, noise=noise)
        seen = look(denoise, x, At(high, i / count))
        x = toward(seen.clean, seen.x, then / high)
        yield Step(i, count, x, seen.clean, then)


def euler_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Euler further down than the next level, then noise back up to it (k-diffusion).

    It is the generalised DDIM of Song et al. 2020, eq. 12, with the latents scaled by sqrt(alpha);
    at `eta` 1 it is DDPM (Ho et al. 2020).
    """
    for i, count, now, then in walk(sigmas):
        seen = look(denoise, x, At(now, i / count))
        down, up = ancestral(now, then, eta)
        x = toward(seen.clean, seen.x, down / now)
        if up > 0:
            x = x + (up * s_noise) * noise(x)
        yield Step(i, count, x, seen.clean, then)


def ddim(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, eta: float = 0.0
) -> Iterator[Step]:
    """Song et al. 2020, eq. 12; in these coordinates ancestral Euler, deterministic at `eta` 0."""
    return euler_ancestral(denoise, x, sigmas, noise, eta=eta)


def lcm(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Multistep consistency sampling, Song et al. 2023, algorithm 1; for LCM models.

    Their boundary scaling differs from 1 by less than 1e-5 at every level, and is left out.
    """
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        x = clean + then * noise(x) if then > 0 else clean
        yield Step(i, count, x, clean, then)


def tcd(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, eta: float = 0.3
) -> Iterator[Step]:
    """Strategic stochastic sampling, Zheng et al. 2024; for TCD models.

    Down to (1 - `eta`) of the next level's time, then noise back up to it. The times are those of
    Stable Diffusion, which all TCD models are made from.
    """
    table = NoiseTable.stable_diffusion()
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        down = then
        if then > 0 and eta > 0:
            time = torch.tensor([max(1 - eta, 0.0) * table.time(then)])
            down = min(table.level(time).item(), then)
        x = toward(clean, x, down / now)
        if down < then:
            x = x + math.sqrt(then**2 - down**2) * noise(x)
        yield Step(i, count, x, clean, then)

"""Denoisers whose answers are known, and noise that can be followed through a sampler."""

import math

import torch
from torch import Tensor

from darkroom.sampling import At

MEAN, STD = 1.3, 0.7


def gaussian(x: Tensor, at: At) -> Tensor:
    """The exact denoiser of latents drawn from N(MEAN, STD²)."""
    return (x * STD**2 + MEAN * at.sigma**2) / (STD**2 + at.sigma**2)


def centred(x: Tensor, at: At) -> Tensor:
    """The exact denoiser of N(0, STD²): linear, so that variances can be followed."""
    return x * STD**2 / (STD**2 + at.sigma**2)


def centred_consistency(x: Tensor, at: At) -> Tensor:
    """Where the exact path from `x` ends: what a consistency model of N(0, STD²) has learnt."""
    return x * STD / math.hypot(STD, at.sigma)


def gaussian_path(x: Tensor, high: float, low: float) -> Tensor:
    """Where the exact deterministic path from `x` at noise level `high` is at `low`."""
    return MEAN + (x - MEAN) * (math.hypot(STD, low) / math.hypot(STD, high))


def mixture(x: Tensor, at: At) -> Tensor:
    """The exact denoiser of three equal bumps: smooth, and not linear."""
    centres = torch.tensor([-1.0, 0.5, 1.5], dtype=x.dtype)
    variance = 0.3**2 + at.sigma**2
    share = torch.softmax(-((x[..., None] - centres) ** 2) / (2 * variance), -1)
    return (share * (x[..., None] * 0.3**2 + centres * at.sigma**2) / variance).sum(-1)


class Traced:
    """Noise whose k-th draw is 1 in column k and 0 elsewhere.

    A linear sampler's result then holds the weight of every draw, and the sum of their squares is
    the variance of the result: no Monte Carlo. Brownian increments are sums of such draws, so that
    those which share a stretch share its noise.
    """

    def __init__(self) -> None:
        self.draws = 0
        self._path: dict[float, Tensor] = {}

    def first(self, like: Tensor) -> Tensor:
        return self(like)

    def __call__(self, like: Tensor) -> Tensor:
        self.draws += 1
        column = torch.zeros_like(like)
        column[..., self.draws % like.shape[-1]] = 1
        return column

    def between(self, sigma: float, sigma_next: float, like: Tensor) -> Tensor:
        start, end = self._at(sigma, like), self._at(sigma_next, like)
        return (end - start) / math.sqrt(sigma - sigma_next)

    def _at(self, sigma: float, like: Tensor) -> Tensor:
        if not self._path:
            self._path = {sigma: torch.zeros_like(like)}
        if sigma not in self._path:
            lowest = min(self._path)
            assert sigma < lowest, "samplers only ask on the way down"
            step = math.sqrt(lowest - sigma) * self(like)
            self._path[sigma] = self._path[lowest] + step
        return self._path[sigma]


def falling(steps: int, high: float = 10.0, low: float = 0.05) -> Tensor:
    """Noise levels evenly in the logarithm: (steps + 1,), ending above 0."""
    return torch.logspace(math.log10(high), math.log10(low), steps + 1, dtype=torch.float64)


def last(steps):
    *_, step = steps
    return step

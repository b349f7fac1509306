"""Multistep samplers that go by the estimates of the last steps (exponential integrators).

In the comments `h` is the step in the logarithm of 1 / sigma. With noise drawn on the way the step
counts as `(1 + eta) * h` long: the stochastic equations of Lu et al. 2022 (DPM-Solver++), section
5, where `eta` 0 is the deterministic path.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.noise import Noise
from darkroom.sampling.samplers.quadrature import Numbers, integral, lagrange
from darkroom.sampling.samplers.step import Look, Step, look, walk

# How the estimate bends over a step of effective length `long`, as an addition to the newest one.
# `steps` are the lengths of this step and those before, `known` the estimates; newest first.
Bend = Callable[[float, Sequence[float], Sequence[Tensor]], Tensor]


def dpmpp_2m(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2; first order where it starts and ends in 0."""
    return _multistep(denoise, x, sigmas, noise, bend=_midpoint)


def dpmpp_2m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M), Lu et al. 2022, section 5, midpoint form; noise from Brownian paths."""
    return _multistep(denoise, x, sigmas, noise, bend=_midpoint, eta=eta, s_noise=s_noise)


def dpmpp_2m_sde_heun(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """`dpmpp_2m_sde` with the slope integrated exactly."""
    return _multistep(denoise, x, sigmas, noise, bend=_slope, eta=eta, s_noise=s_noise)


def dpmpp_3m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """The same with a parabola through three estimates (k-diffusion)."""
    return _multistep(denoise, x, sigmas, noise, bend=_parabola, eta=eta, s_noise=s_noise)


def dpmpp_3m(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """`dpmpp_3m_sde` without noise."""
    return _multistep(denoise, x, sigmas, noise, bend=_parabola)


def res_multistep(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Refined exponential solver, Zhang et al. 2023, the multistep form of second order."""
    return _multistep(denoise, x, sigmas, noise, bend=_slope)


def _multistep(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    bend: Bend,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """One look per step; the first step, and one that ends in 0, are of first order."""
    steps: list[float] = []
    known: list[Tensor] = []
    for i, count, now, then in walk(sigmas):
        seen = look(denoise, x, At(now, i / count))
        h = math.log(now / then) if then > 0 else math.inf
        steps, known = [h, *steps][:3], [seen.plain, *known][:3]
        goal = seen.clean
        if i > 0 and then > 0:
            goal = goal + bend(h * (1 + eta), steps, known)
        x = _decayed(seen, goal, now, then, eta=eta)
        if then > 0 and eta > 0:
            x = x + (s_noise * then * math.sqrt(-math.expm1(-2 * eta * h))) * noise.between(
                now, then, x
            )
        yield Step(i, count, x, seen.clean, then)


def _decayed(seen: Look, goal: Tensor, now: float, then: float, *, eta: float) -> Tensor:
    """The exact step to `then` if the estimate were `goal` all the way."""
    kept: float = (then / now) ** (1 + eta)
    return kept * seen.x + (1 - kept) * goal


def _midpoint(long: float, steps: Sequence[float], known: Sequence[Tensor]) -> Tensor:
    """As if the estimate were everywhere what it will be in the middle of the step."""
    return (steps[0] / steps[1] / 2) * (known[0] - known[1])


def _slope(long: float, steps: Sequence[float], known: Sequence[Tensor]) -> Tensor:
    """A straight line through two estimates."""
    return (steps[0] / steps[1] * _phi(long)[0]) * (known[0] - known[1])


def _parabola(long: float, steps: Sequence[float], known: Sequence[Tensor]) -> Tensor:
    """A parabola through three estimates; a straight line as long as there are two."""
    if len(known) < 3:
        return _slope(long, steps, known)
    near, far = steps[1] / steps[0], steps[2] / steps[0]
    last, before = (known[0] - known[1]) / near, (known[1] - known[2]) / far
    curve = (last - before) / (near + far)
    first, second = _phi(long)
    return first * (last + near * curve) - second * curve


def _phi(long: float) -> tuple[float, float]:
    """What a slope and a curve of the estimate add, as a share of the step's own weight."""
    whole = -math.expm1(-long)
    first = 1 - whole / long
    return first / whole, (first / long - 0.5) / whole


def sa_solver(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    order: int = 3,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """SA-Solver, Xue et al. 2023: stochastic Adams predictor and corrector.

    `eta` is the square of their tau. The corrector sees the prediction's estimate, so that a step
    costs one call, and is one order above the predictor. Noise is drawn once for both.
    """
    known: list[tuple[float, Tensor]] = []  # (log of 1 / sigma, estimate), newest first
    for i, count, now, then in walk(sigmas):
        if not known:
            known = [(-math.log(now), denoise(x, At(now, 0.0)))]
        clean = known[0][1]
        if then == 0:
            yield Step(i, count, clean, clean, then)
            return
        h = math.log(now / then)
        start = x * (then / now) ** (1 + eta)
        if eta > 0:
            scale = s_noise * then * math.sqrt(-math.expm1(-2 * eta * h))
            start = start + scale * noise.between(now, then, x)
        x = start + _weighted(known[:order], now, then, eta)
        if i + 1 < count:
            found = (-math.log(then), denoise(x, At(then, (i + 1) / count)))
            x = start + _weighted([found, *known[:order]], now, then, eta)
            known = [found, *known][: order + 1]
        yield Step(i, count, x, clean, then)


def _weighted(known: Sequence[tuple[float, Tensor]], now: float, then: float, eta: float) -> Tensor:
    """What the polynomial through the known estimates adds over the step: Xue et al. 2023."""
    places = [place for place, _ in known]
    start, end = -math.log(now), -math.log(then)

    def weight(j: int) -> float:
        return integral(
            lambda u: (1 + eta) * np.exp((1 + eta) * (u - end)) * lagrange(places, j, u), start, end
        )

    total = known[0][1] * weight(0)
    for j, (_, clean) in enumerate(known[1:], 1):
        total = total + weight(j) * clean
    return total


def er_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    order: int = 3,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """ER-SDE-Solver, Cui et al. 2023, with the fifth of their noise scale functions."""
    known: list[tuple[float, Tensor]] = []  # (noise level, estimate), newest first
    for i, count, now, then in walk(sigmas):
        clean = denoise(x, At(now, i / count))
        known = [(now, clean), *known][: min(order, 3)]
        if then == 0:
            yield Step(i, count, clean, clean, then)
            return
        kept = _restless(then) / _restless(now)
        x = kept * x + (1 - kept) * clean
        for power, slope in enumerate(_differences(known), 1):
            x = x + _er_weight(now, then, power) * slope
        if (up := then**2 - (now * kept) ** 2) > 0 and s_noise > 0:
            x = x + (s_noise * math.sqrt(up)) * noise(x)
        yield Step(i, count, x, clean, then)


def _restless(sigma: float) -> float:
    """Their phi: how much of the latent is noise that will be drawn anew."""
    return sigma * (math.exp(sigma**0.3) + 10)


def _er_weight(now: float, then: float, power: int) -> float:
    """The integral of a difference's polynomial over the step: Cui et al. 2023."""

    def spread(u: Numbers) -> Numbers:
        sigma = np.exp(u)  # evenly in the logarithm: `then` may be hundreds of times below `now`
        found: Numbers = (sigma - now) ** (power - 1) / (np.exp(sigma**0.3) + 10)
        return found

    gathered = integral(spread, math.log(then), math.log(now))
    return (then - now) ** power / power + _restless(then) * gathered


def _differences(known: Sequence[tuple[float, Tensor]]) -> Iterator[Tensor]:
    """The estimate's first and second difference by noise level."""
    if len(known) < 2:
        return
    (now, clean), (last, previous) = known[:2]
    slope = (clean - previous) / (now - last)
    yield slope
    if len(known) == 3:
        before, earlier = known[2]
        yield (slope - (previous - earlier) / (last - before)) / ((now - before) / 2)

"""Multistep samplers that go by the slopes of the last steps (Adams and Bashforth's method).

The slope is `(x - clean) / sigma`. They differ in how slopes are weighed, and agree in all else.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.noise import Noise
from darkroom.sampling.samplers.quadrature import Numbers, integral, lagrange
from darkroom.sampling.samplers.step import Step, look, walk

# (levels that slopes are known at, newest first; the level to go to) -> a weight for each
Weigh = Callable[[Sequence[float], float], Sequence[float]]
Clock = Callable[[Numbers], Numbers]

# For steps of equal length: 1, 2, 3 and 4 slopes, newest first.
_EVEN = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
REACH = 4  # slopes


def lms(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Linear multistep (k-diffusion): slopes are a polynomial of the noise level, down to 0."""
    return _adams(denoise, x, sigmas, weigh=_over(_level, to_zero=True))


def ipndm_v(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Zhang and Chen 2022 with steps of their true length: `lms` with a plain last step to 0."""
    return _adams(denoise, x, sigmas, weigh=_over(_level))


def ipndm(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Zhang and Chen 2022: weighed as if all steps were of equal length."""
    return _adams(denoise, x, sigmas, weigh=_evenly)


def deis(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, order: int = 3
) -> Iterator[Step]:
    """Zhang and Chen 2022, tAB-DEIS: slopes are a polynomial of the diffusion's time."""
    return _adams(denoise, x, sigmas, weigh=_over(_diffusion_time), reach=order)


def plms(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise) -> Iterator[Step]:
    """Pseudo linear multistep, Liu et al. 2022, as latent-diffusion has it: the first step is
    Heun's, and takes a second call."""
    return _adams(denoise, x, sigmas, weigh=_evenly, improved=True)


def gradient_estimation(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise, *, gamma: float = 2.0
) -> Iterator[Step]:
    """Permenter and Yuan 2023: past the newest slope, away from the one before."""

    def weigh(levels: Sequence[float], then: float) -> Sequence[float]:
        mix = (1.0,) if len(levels) == 1 or then == 0 else (gamma, 1 - gamma)
        return [(then - levels[0]) * share for share in mix]

    return _adams(denoise, x, sigmas, weigh=weigh, reach=2)


def _adams(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    weigh: Weigh,
    reach: int = REACH,
    improved: bool = False,
) -> Iterator[Step]:
    """Go by the weighted slopes of up to `reach` steps; `improved` corrects the first step."""
    known: list[tuple[float, Tensor]] = []  # (level, slope), newest first
    for i, count, now, then in walk(sigmas):
        seen = look(denoise, x, At(now, i / count))
        slope = (seen.x - seen.clean) / now
        known = [(now, slope), *known][:reach]
        if improved and i == 0 and then > 0:
            guess = x + slope * (then - now)
            end = (guess - denoise(guess, At(then, 0.5 / count))) / then
            x = x + (slope + end) * ((then - now) / 2)
        else:
            weights = weigh([level for level, _ in known], then)
            x = seen.x
            for weight, (_, past) in zip(weights, known, strict=False):
                x = x + weight * past
        yield Step(i, count, x, seen.clean, then)


def _evenly(levels: Sequence[float], then: float) -> Sequence[float]:
    shares = _EVEN[0 if then == 0 else len(levels) - 1]
    return [(then - levels[0]) * share for share in shares]


def _over(clock: Clock, *, to_zero: bool = False) -> Weigh:
    """Integrate the polynomial of `clock` through the slopes; the last step to 0 by one slope."""

    def weigh(levels: Sequence[float], then: float) -> Sequence[float]:
        if then == 0 and not to_zero:
            return [-levels[0]]
        places = clock(np.array(levels)).tolist()

        def weight(index: int) -> float:
            return integral(lambda u: lagrange(places, index, clock(u)), levels[0], then)

        return [weight(index) for index in range(len(levels))]

    return weigh


def _level(sigma: Numbers) -> Numbers:
    return sigma


# The variance-preserving diffusion (Song et al. 2020, appendix B) that reaches these noise levels
# at times 0.001 and 1; the authors' choice, and ComfyUI's.
_LOW, _HIGH, _FIRST = 0.002, 80.0, 1e-3
_SLOPE = 2 * (np.log1p(_LOW**2) / _FIRST - np.log1p(_HIGH**2)) / (_FIRST - 1)
_START = np.log1p(_HIGH**2) - _SLOPE / 2


def _diffusion_time(sigma: Numbers) -> Numbers:
    found: Numbers = (np.sqrt(_START**2 + 2 * _SLOPE * np.log1p(sigma**2)) - _START) / _SLOPE
    return found

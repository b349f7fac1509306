"""DPM-Solver in single steps of order 1 to 3, with a budget of calls or with an error allowed.

Lu et al. 2022, algorithms 1, 2 and 3, and k-diffusion's noise on top: a step goes further down than
its end, then noise brings it back up. A slope is `(x - clean) / sigma`. By themselves these two
stop at the model's lowest noise level, above 0; `sigmas` that end in 0 get a plain last step.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.noise import Noise
from darkroom.sampling.samplers.step import Step, ancestral

_FIRST_LENGTH = 0.05  # in the logarithm of the noise level
_SAFETY = 0.81  # a try whose next step would be shorter than this share is not kept
_MOST_STEPS = 1000  # where rounding hides the error, steps do not get shorter than this
_CLOSE = 1e-5  # of the end, in the logarithm


def group_orders(calls: int) -> list[int]:
    """How `calls` network calls are spent: steps of order 3, and one or two shorter at the end."""
    rest = calls % 3
    return [3] * (calls // 3) + [rest] if rest else [3] * (calls // 3 - 1) + [2, 1]


def group_levels(high: float, low: float, calls: int) -> list[float]:
    """The noise levels of `dpm_fast`: groups of one length in the logarithm, evenly filled."""
    orders = group_orders(calls)
    shares = [(k + j / order) / len(orders) for k, order in enumerate(orders) for j in range(order)]
    return [high * (low / high) ** share for share in shares] + [low]


def dpm_fast(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """DPM-Solver-fast, Lu et al. 2022; `sigmas` (calls + 1,) as of `group_levels`.

    A Step is a network call: within a group its `x` is the guess that the next call will see.
    """
    levels = torch.unique_consecutive(sigmas).tolist()
    count = len(levels) - 1
    to_zero = levels[-1] == 0
    orders = (group_orders(count - to_zero) if count > to_zero else []) + [1] * to_zero
    ends = [0]
    for order in orders:
        ends.append(ends[-1] + order)
    for start, end in pairwise(ends):
        now, then = levels[start], levels[end]
        down, up = _reach(now, then, eta, least=levels[-1])
        progress = [index / count for index in range(start, end)]
        for index, stage in enumerate(_stages(denoise, x, (now, down), progress), start):
            level, reached, clean = stage
            if index + 1 < end:
                yield Step(index, count, reached, clean, level)
        x = reached + (up * s_noise) * noise(x) if up > 0 else reached
        yield Step(end - 1, count, x, clean, then)


def dpm_adaptive(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    eta: float = 1.0,
    rtol: float = 0.05,
    atol: float = 0.0078,
) -> Iterator[Step]:
    """Orders 2 and 3 from the same three calls; their difference sets the step length.

    Only the ends of `sigmas` count. The error is that of all pictures together, as in k-diffusion,
    so a picture of a batch is not what it would be alone.
    """
    high, low = sigmas[0].item(), sigmas[sigmas > 0][-1].item()
    whole, to_zero = math.log(high / low), sigmas[-1].item() == 0
    length = _StepLength(1.5 if eta > 0 else 3.0, least=whole / _MOST_STEPS)
    now, index, previous = high, 0, x
    while (left := math.log(now / low)) > _CLOSE:
        then = max(low, now * math.exp(-length.now))
        down, up = _reach(now, then, eta, least=low)
        rough, fine, clean = _both_orders(denoise, x, (now, down), 1 - left / whole)
        allowed = (torch.maximum(rough.abs(), previous.abs()) * rtol).clamp(min=atol)
        if not length.accepts(((rough - fine) / allowed).square().mean().sqrt().item()):
            continue
        previous, x, now = rough, fine, then
        if up > 0:
            x = x + up * noise(x)
        left = math.log(now / low)
        expected = math.ceil(left / length.now) if left > _CLOSE else 0
        yield Step(index, index + 1 + expected + to_zero, x, clean, then)
        index += 1
    if to_zero:
        x = denoise(x, At(now, 1 - 1 / (index + 1)))
        yield Step(index, index + 1, x, x, 0.0)


class _StepLength:
    """How long the next step shall be: Söderlind's control of the error by its newest value."""

    def __init__(self, order: float, *, least: float) -> None:
        self.now = _FIRST_LENGTH  # in the logarithm of the noise level
        self._order = order
        self._least = least

    def accepts(self, error: float) -> bool:
        """Whether a step with that share of the error allowed is kept; sets the next length."""
        if not math.isfinite(error):
            return True  # shorter steps do not mend it
        wanted = (error + 1e-8) ** (-1 / self._order)
        factor = 1 + math.atan(wanted - 1)  # no sudden change
        shortest = self.now <= self._least
        self.now = max(self.now * factor, self._least)
        return factor >= _SAFETY or shortest


def _both_orders(
    denoise: Denoiser, x: Tensor, ends: tuple[float, float], progress: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The step in order 2 and in order 3, from the same three calls, and the first estimate."""
    now, then = ends
    first, second, third = _stages(denoise, x, ends, [progress] * 3)
    level, guess, clean = first
    base, slope = (x - clean) / now, (guess - second[2]) / level
    rough = x + (then - now) * (base + 1.5 * (slope - base))
    return rough, third[1], clean


def _stages(
    denoise: Denoiser, x: Tensor, ends: tuple[float, float], progress: list[float]
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """One step: (level, `x` there, estimate) after each call. As many calls as `progress`: 1 to 3.

    The calls lie evenly in the logarithm; the last `x` is the result, at the second of `ends`.
    """
    now, then = ends
    order = len(progress)
    clean = denoise(x, At(now, progress[0]))
    base = (x - clean) / now
    if order == 1:
        yield then, x + (then - now) * base, clean
        return
    first = now * (then / now) ** (1 / order)
    guess = x + (first - now) * base
    yield first, guess, clean
    clean = denoise(guess, At(first, progress[1]))
    slope = (guess - clean) / first
    if order == 2:
        yield then, x + (then - now) * slope, clean
        return
    second = now * (then / now) ** (2 / 3)
    guess = _line(x, base, 2 * (slope - base), (now, second))
    yield second, guess, clean
    clean = denoise(guess, At(second, progress[2]))
    slope = (guess - clean) / second
    yield then, _line(x, base, 1.5 * (slope - base), (now, then)), clean


def _line(x: Tensor, base: Tensor, rise: Tensor, ends: tuple[float, float]) -> Tensor:
    """`x` at the second of `ends` when the slope goes from `base` to `base + rise` on the way."""
    now, then = ends
    long = math.log(now / then)
    return x + (then - now) * base - then * (math.expm1(long) / long - 1) * rise


def _reach(now: float, then: float, eta: float, *, least: float) -> tuple[float, float]:
    """`ancestral`, but never further down than `least`."""
    down = max(ancestral(now, then, eta)[0], least)
    return down, math.sqrt(max(then**2 - down**2, 0))

"""UniPC, Zhao et al. 2023: multistep predictor and corrector on the estimate.

`h` is the step in the logarithm of 1 / sigma; a difference is that of an older estimate from the
newest, by its distance in steps.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from darkroom.core.sampler_options import Variant
from darkroom.sampling.denoiser import At, Denoiser
from darkroom.sampling.noise import Noise
from darkroom.sampling.samplers.step import Step, walk


def unipc(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise,
    *,
    order: int = 3,
    variant: Variant = "bh1",
    lower_order_final: bool = True,
) -> Iterator[Step]:
    """Zhao et al. 2023, algorithms 5 and 6.

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
        ratios = [math.log(now / sigma) / h for sigma, _ in known[1:reach]]
        slopes = [(e - clean) / r for r, (_, e) in zip(ratios, known[1:reach], strict=True)]
        start = x * (then / now) + (1 - then / now) * clean
        x = _bent(start, slopes, unipc_weights(ratios, h, variant))
        if i + 1 < count:
            found = denoise(x, At(then, (i + 1) / count))
            weights = unipc_weights([*ratios, 1.0], h, variant, corrects=True)
            x = _bent(start, [*slopes, found - clean], weights)
            known = [(then, found), *known][:order]
        yield Step(i, count, x, known[0][1], then)


def unipc_weights(
    ratios: Sequence[float], h: float, variant: Variant, *, corrects: bool = False
) -> list[float]:
    """How much each difference counts; `ratios` are their places in units of the step `h`."""
    if variant == "vary_coeff":
        return _varying(ratios, h, corrects)
    scale = h if variant == "bh1" else -math.expm1(-h)
    if len(ratios) < 2:
        return [0.5 * scale] * len(ratios)  # exact enough, and what the authors use
    factorials = [math.factorial(k) for k in range(1, len(ratios) + 1)]
    wanted = [phi * f for phi, f in zip(_phis(h, len(ratios)), factorials, strict=True)]
    powers = np.array([[r**k for r in ratios] for k in range(len(ratios))])
    solved: list[float] = np.linalg.solve(powers, np.array(wanted)).tolist()
    return solved


def _varying(ratios: Sequence[float], h: float, corrects: bool) -> list[float]:
    """Weights without a B(h), Zhao et al. 2023, UniPC_v, as in the authors' code.

    There the corrector takes the newest difference into the last power only.
    """
    count = len(ratios)
    if count == 0:
        return []
    factorials = [math.factorial(k) for k in range(1, count + 1)]
    rows = np.array([[r**k / f for k, f in enumerate(factorials)] for r in ratios])
    phis = np.array(_phis(h, count))
    inverse = np.linalg.inv(rows)  # row k: how the differences make the k-th derivative
    if not corrects:
        solved: list[float] = (phis @ inverse).tolist()
        return solved
    older: list[float] = (phis[: count - 1] @ inverse[: count - 1, :-1]).tolist()
    return [*older, float(phis[-1] * inverse[max(count - 2, 0), -1])]


def _phis(h: float, count: int) -> list[float]:
    """The integral over the step of each power of the way, over its factorial.

    With the sign that suits the estimate, where the paper writes the noise's.
    """
    phi, factorial, found = math.expm1(-h) / -h - 1, 1, []
    for k in range(1, count + 1):
        found.append(-phi)
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    return found


def _bent(start: Tensor, slopes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """`start` moved by the weighted differences."""
    for slope, weight in zip(slopes, weights, strict=True):
        start = start + weight * slope
    return start

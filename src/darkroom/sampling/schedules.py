"""How noise levels are spaced: pure functions of the model's noise table and the step count.

    schedule(table, steps, options) -> sigmas

`sigmas` is float64 (steps + 1,), falling, ending in 0; `kl_optimal` alone ends above it, and
`ddim_uniform` may be longer. The numbers are rounded as A1111's are (single precision), because
Brownian noise depends on the last bit. `levels` makes the walk of one run from a schedule.
"""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from darkroom.core.errors import BadRequest
from darkroom.core.sampler_options import Family, ScheduleOptions
from darkroom.sampling.predict import NoiseTable
from darkroom.sampling.schedule_table import ALIGN_YOUR_STEPS, ALIGN_YOUR_STEPS_32, GITS, Listed

PLAIN = ScheduleOptions()


class Schedule(Protocol):
    """Spaces noise levels: `(table, steps, options) -> sigmas (steps + 1,)`."""

    def __call__(
        self, table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN, /
    ) -> Tensor: ...


def karras(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Karras et al. 2022, eq. 5: evenly in the `rho`-th root."""
    return karras_between(*_ends(table, options), steps, rho=options.rho or 7.0)


def karras_between(high: float, low: float, steps: int, *, rho: float = 7.0) -> Tensor:
    """`karras` from `high` to `low`, then 0: (steps + 1,)."""
    low, high = low ** (1 / rho), high ** (1 / rho)
    return _ended((high + torch.linspace(0, 1, steps) * (low - high)) ** rho)


def exponential(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Evenly in the logarithm."""
    high, low = _ends(table, options)
    return _ended(torch.linspace(math.log(high), math.log(low), steps).exp())


def polyexponential(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Evenly in the `rho`-th root of the logarithm's share (k-diffusion)."""
    high, low = _ends(table, options)
    shares = torch.linspace(1, 0, steps) ** (options.rho or 1.0)
    return _ended((shares * (math.log(high) - math.log(low)) + math.log(low)).exp())


def uniform(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Evenly in time, first and last level included."""
    return _ended(table.level(torch.linspace(len(table.sigmas) - 1, 0, steps)))


def normal(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """`uniform` between the ends that are asked for."""
    return _ended(table.level(torch.linspace(*_end_indices(table, options), steps)))


def sgm_uniform(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Evenly in time, the lowest level left out (Stability's generative-models)."""
    return _ended(table.level(torch.linspace(*_end_indices(table, options), steps + 1)[:-1]))


def simple(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Every so many-th level of the table (ComfyUI)."""
    stride = len(table.sigmas) / steps
    return _ended(torch.stack([table.sigmas[-1 - int(i * stride)] for i in range(steps)]))


def turbo(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """The last level of each of `steps` equal parts of the table, as SD-Turbo was trained."""
    count = len(table.sigmas)
    indices = [max(round(k * count / steps - 1), 0) for k in range(steps, 0, -1)]
    return _ended(table.sigmas[indices])


def ddim_uniform(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Every so many-th level from the second; where that does not come out even, some more."""
    count = len(table.sigmas)
    return _ended(table.sigmas[1 :: max(count // steps, 1)].flip(0))


def timesteps(table: NoiseTable, steps: int) -> Tensor:
    """The rising table indices of DDIM, every so many-th from 1: at least `steps` of them."""
    count = len(table.sigmas)
    indices = {min(index + 1, count - 1) for index in range(0, count, max(count // steps, 1))}
    return torch.tensor(sorted(indices))


def kl_optimal(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Evenly in the arc tangent, Sabour et al. 2024; ends at the lowest level."""
    return _arc(table, steps + 1, options).double()


def kl_optimal_to_zero(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """`kl_optimal` with the lowest level one step from the end, then 0 (ComfyUI)."""
    return _ended(_arc(table, steps, options))


def _arc(table: NoiseTable, count: int, options: ScheduleOptions) -> Tensor:
    high, low = (torch.tensor(end).atan() for end in _ends(table, options))
    shares = torch.arange(count) / max(count - 1, 1)
    return (shares * low + (1 - shares) * high).tan()


def beta(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Quantiles of a beta distribution over the noise levels: A1111 1.10's `beta_times`."""
    high, low = _ends(table, options)
    shares = _beta_quantiles(1 - torch.linspace(0, 1, steps, dtype=torch.float64), options)
    return _ended(low + shares * (high - low))


def beta_times(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Quantiles of a beta distribution over time, dense at both ends (Lee et al. 2024; ComfyUI)."""
    shares = _beta_quantiles(1 - torch.arange(steps, dtype=torch.float64) / steps, options)
    return _ended(table.sigmas[(shares * (len(table.sigmas) - 1)).round().long()])


def _beta_quantiles(places: Tensor, options: ScheduleOptions) -> Tensor:
    from scipy.special import betaincinv

    shapes = options.beta_alpha or 0.6, options.beta_beta or 0.6
    return torch.from_numpy(betaincinv(*shapes, places.numpy()))


def linear_quadratic(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Half the steps evenly over the first 2.5 %, the rest a parabola with the same slope (Mochi).

    Shares of the highest level are taken off.
    """
    taken, linear = 0.025, steps // 2
    if linear == 0:
        return _ended(torch.tensor([table.high]))
    slope, rest = taken / linear, steps - linear
    curve = (1 - taken - slope * rest) / rest**2
    done = torch.arange(steps, dtype=torch.float64)
    past = (done - linear).clamp(min=0)
    return _ended(table.high * (1 - slope * done - curve * past**2))


def align_your_steps(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Sabour et al. 2024: the list for the kind of model."""
    return _listed(ALIGN_YOUR_STEPS, steps, options)


def align_your_steps_32(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """The same from the list for 32 steps."""
    return _listed(ALIGN_YOUR_STEPS_32, steps, options)


def gits(table: NoiseTable, steps: int, options: ScheduleOptions = PLAIN) -> Tensor:
    """Chen et al. 2024 (GITS): where the paths of samples bend."""
    return _listed(GITS, steps, options)


def _listed(lists: Mapping[Family, Listed], steps: int, options: ScheduleOptions) -> Tensor:
    """A list stretched to `steps` values, evenly in the logarithm between its own, then 0."""
    known = lists[options.family or "sd1"]
    if steps == len(known):
        return _ended(torch.tensor(known))
    places = np.linspace(0, len(known) - 1, steps)
    return _ended(torch.from_numpy(np.exp(np.interp(places, range(len(known)), np.log(known)))))


def ddim_steps(table: NoiseTable, times: Tensor, whole: bool, options: ScheduleOptions) -> Tensor:
    """The levels at the indices `times` (n,) themselves: (n,), ending above 0."""
    return table.sigmas[times].flip(0).double()


def unipc_steps(table: NoiseTable, times: Tensor, whole: bool, options: ScheduleOptions) -> Tensor:
    """From the highest of `times` (n,) or of the table to the lowest, as `skip` says: (n + 1,).

    Between the levels, time is linear in the logarithm of alpha (Lu et al. 2022, DPM-Solver).
    """
    start = len(table.sigmas) - 1 if whole else int(times[-1])
    steps = len(times) + 1
    if options.skip == "logSNR":
        high, low = table.sigmas[[start, 0]].double().log()
        even: Tensor = torch.linspace(high.item(), low.item(), steps, dtype=torch.float64)
        return even.exp()
    indices = torch.linspace(start, 0, steps).double()
    if options.skip == "time_quadratic":  # in the authors' time, which starts at 1
        indices = torch.linspace((start + 1) ** 0.5, 1, steps, dtype=torch.float64) ** 2 - 1
        indices = indices.clamp(0, start)
    logs = -torch.log1p(table.sigmas.double() ** 2) / 2
    found = torch.lerp(logs[indices.floor().long()], logs[indices.ceil().long()], indices.frac())
    return torch.expm1(-2 * found).sqrt()


def _ends(table: NoiseTable, options: ScheduleOptions) -> tuple[float, float]:
    """The highest and the lowest level above 0; BadRequest when that is no way down."""
    high, low = options.sigma_max or table.high, options.sigma_min or table.low
    if low >= high:
        raise BadRequest(
            f"the schedule would go up, from noise level {high:.4g} to {low:.4g}",
            hint=f"This model's own levels go from {table.low:.3g} to {table.high:.3g}.",
        )
    return high, low


def _end_indices(table: NoiseTable, options: ScheduleOptions) -> tuple[float, float]:
    """The same as fractional table indices."""
    _ends(table, options)
    last = len(table.sigmas) - 1
    return (
        table.index(options.sigma_max) if options.sigma_max else last,
        table.index(options.sigma_min) if options.sigma_min else 0,
    )


def _ended(sigmas: Tensor) -> Tensor:
    """Falling levels (n,), single precision, then 0: (n + 1,) float64."""
    return torch.cat([sigmas.float(), torch.zeros(1)]).double()


Spacing = Callable[[NoiseTable, Tensor, bool, ScheduleOptions], Tensor]

SCHEDULES: dict[str, Schedule] = {
    function.__name__: function
    for function in (
        *(karras, exponential, polyexponential, uniform, normal, sgm_uniform, simple, turbo),
        *(ddim_uniform, kl_optimal, kl_optimal_to_zero, beta, beta_times, linear_quadratic),
        *(align_your_steps, align_your_steps_32, gits),
    )
}
SPACINGS: dict[str, Spacing] = {
    function.__name__: function for function in (ddim_steps, unipc_steps)
}

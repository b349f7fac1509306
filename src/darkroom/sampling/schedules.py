"""Noise levels: how a schedule spaces them, and which of them a run walks.

A schedule is `(table, steps) -> sigmas`: float64 (steps + 1,), falling, ending in 0. The numbers
are rounded as A1111's are (single precision), because Brownian noise depends on the last bit.
`levels` makes the walk of one run from a schedule: all of it, or for image-to-image its tail.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.core.sampler_table import SamplerSpec, SchedulerSpec, settle
from darkroom.sampling.predict import NoiseTable

Schedule = Callable[[NoiseTable, int], Tensor]
Spacing = Callable[[NoiseTable, Tensor, bool], Tensor]

_MOST = 0.999  # A1111 reads a denoising strength above this as this


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """The walk of one run."""

    sigmas: Tensor  # (steps + 1,) float64, falling; one value alone is a run without steps
    start: float  # noise level at which clean latent and noise are mixed; infinity: noise alone
    span: tuple[float, float]  # lowest positive and highest level of the whole schedule
    preserving: bool = False  # starts and ends with unit variance instead of at `sigmas`


def levels(
    sampler: SamplerSpec,
    scheduler: SchedulerSpec,
    table: NoiseTable,
    steps: int,
    *,
    strength: float | None = None,
    exact: bool = False,
) -> Levels:
    """The walk of `sampler` in `steps` steps, spaced by `scheduler`.

    `strength` (0 to 1) is image-to-image's; None is text-to-image. `exact` as in `img2img_steps`.
    Take `table` from `table_for`.
    """
    planned, kept = (steps, steps) if strength is None else img2img_steps(steps, strength, exact)
    if planned == 0:
        return Levels(sigmas=torch.zeros(1).double(), start=0.0, span=(table.low, table.high))
    if sampler.spacing is not None:
        return _timestep_levels(SPACINGS[sampler.spacing], table, planned, kept)
    schedule = SCHEDULES[settle(sampler, scheduler).function]
    whole = schedule(table, planned + sampler.discard_penultimate)
    if sampler.discard_penultimate:
        whole = torch.cat([whole[:-2], whole[-1:]])
    walk = tail(whole, planned, kept)
    positive = whole[whole > 0]
    span = (positive.min().item(), positive.max().item())
    return Levels(sigmas=walk, start=walk[0].item(), span=span)


def img2img_steps(steps: int, strength: float, exact: bool = False) -> tuple[int, int]:
    """A1111's step counts for image-to-image: (steps to plan, steps to keep but one).

    By default a share of `steps` is done. `exact` (the hires pass, and A1111's option
    img2img_fix_steps) plans so many that `steps` are left; strength 0 then leaves none.
    """
    share = min(strength, _MOST)
    if exact:
        return (int(steps / share) if share > 0 else 0), steps - 1
    return steps, int(share * steps)


def tail(sigmas: Tensor, planned: int, kept: int) -> Tensor:
    """The last `kept` + 1 of the `planned` steps: where image-to-image starts on the way down."""
    return sigmas[max(planned - kept - 1, 0) :]


def timesteps(table: NoiseTable, steps: int) -> Tensor:
    """The rising table indices of DDIM, every so many-th from 1: at least `steps` of them."""
    count = len(table.sigmas)
    indices = {min(index + 1, count - 1) for index in range(0, count, max(count // steps, 1))}
    return torch.tensor(sorted(indices))


def _timestep_levels(spacing: Spacing, table: NoiseTable, planned: int, kept: int) -> Levels:
    """The walk of DDIM and kin: from noise alone, or for image-to-image from index `kept`."""
    times = timesteps(table, planned)
    whole = kept == planned
    start = math.inf if whole else table.sigmas[times[kept]].item()
    walked = times if whole else times[:kept]
    # With nothing to walk, what was noised is the result, as in A1111.
    sigmas = spacing(table, walked, whole) if len(walked) else torch.tensor([start]).double()
    span = (sigmas.min().item(), sigmas.max().item())
    return Levels(sigmas=sigmas, start=start, span=span, preserving=True)


def karras(table: NoiseTable, steps: int, *, rho: float = 7.0) -> Tensor:
    """Karras et al. 2022, eq. 5: evenly in the `rho`-th root."""
    low, high = table.low ** (1 / rho), table.high ** (1 / rho)
    return _ended((high + torch.linspace(0, 1, steps) * (low - high)) ** rho)


def exponential(table: NoiseTable, steps: int) -> Tensor:
    """Evenly in the logarithm."""
    return _ended(torch.linspace(math.log(table.high), math.log(table.low), steps).exp())


def uniform(table: NoiseTable, steps: int) -> Tensor:
    """Evenly in time, first and last level included; A1111's "Normal" is the same."""
    return _ended(table.level(torch.linspace(len(table.sigmas) - 1, 0, steps)))


def sgm_uniform(table: NoiseTable, steps: int) -> Tensor:
    """Evenly in time, the lowest level left out (Stability's generative-models)."""
    return _ended(table.level(torch.linspace(len(table.sigmas) - 1, 0, steps + 1)[:-1]))


def simple(table: NoiseTable, steps: int) -> Tensor:
    """Every so many-th level of the table (ComfyUI)."""
    stride = len(table.sigmas) / steps
    return _ended(torch.stack([table.sigmas[-1 - int(i * stride)] for i in range(steps)]))


def beta(table: NoiseTable, steps: int, *, alpha: float = 0.6, tilt: float = 0.6) -> Tensor:
    """Quantiles of a beta distribution, dense at both ends (Lee et al. 2024; A1111 1.10's form)."""
    from scipy.special import betaincinv

    places = 1 - torch.linspace(0, 1, steps, dtype=torch.float64)
    shares = betaincinv(alpha, tilt, places.numpy())
    return _ended(table.low + torch.from_numpy(shares) * (table.high - table.low))


def ddim_steps(table: NoiseTable, times: Tensor, whole: bool) -> Tensor:
    """The levels at the indices `times` (n,) themselves: (n,), ending above 0."""
    return table.sigmas[times].flip(0).double()


def unipc_steps(table: NoiseTable, times: Tensor, whole: bool) -> Tensor:
    """Evenly in time, from the highest of `times` (n,) or of the table to the lowest: (n + 1,).

    Between the levels, time is linear in the logarithm of alpha (Lu et al. 2022, DPM-Solver).
    """
    start = len(table.sigmas) - 1 if whole else int(times[-1])
    indices = torch.linspace(start, 0, len(times) + 1).double()
    logs = -torch.log1p(table.sigmas.double() ** 2) / 2
    found = torch.lerp(logs[indices.floor().long()], logs[indices.ceil().long()], indices.frac())
    return torch.expm1(-2 * found).sqrt()


def _ended(sigmas: Tensor) -> Tensor:
    """Falling levels (n,), single precision, then 0: (n + 1,) float64."""
    return torch.cat([sigmas.float(), torch.zeros(1)]).double()


SCHEDULES: dict[str, Schedule] = {
    function.__name__: function
    for function in (karras, exponential, uniform, sgm_uniform, simple, beta)
}
SPACINGS: dict[str, Spacing] = {
    function.__name__: function for function in (ddim_steps, unipc_steps)
}

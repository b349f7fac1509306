"""Which noise levels a run walks: all of a schedule, its tail, or what the sampler makes of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.core.sampler_options import ScheduleOptions
from darkroom.core.sampler_table import SamplerSpec, SchedulerSpec, Walk, settle
from darkroom.sampling.predict import NoiseTable
from darkroom.sampling.samplers.dpm_solver import group_levels
from darkroom.sampling.schedules import (
    PLAIN,
    SCHEDULES,
    SPACINGS,
    karras_between,
    timesteps,
)

_MOST = 0.999  # A1111 reads a denoising strength above this as this


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """The walk of one run."""

    # float64, falling; one value alone is a run without steps. Where it rises, noise is added up to
    # the higher level (Restart), and that is no step.
    sigmas: Tensor
    start: float  # noise level at which clean latent and noise are mixed; infinity: noise alone
    span: tuple[float, float]  # lowest positive and highest level of the whole schedule
    preserving: bool = False  # starts and ends with unit variance instead of at `sigmas`
    counted: bool = True  # False: the sampler goes from end to end in steps of its own

    @property
    def steps(self) -> int | None:
        """How many steps it takes; None where only the sampling will tell."""
        return int((self.sigmas.diff() < 0).sum()) if self.counted else None


def levels(
    sampler: SamplerSpec,
    scheduler: SchedulerSpec,
    table: NoiseTable,
    steps: int,
    *,
    strength: float | None = None,
    exact: bool = False,
    options: ScheduleOptions = PLAIN,
) -> Levels:
    """The walk of `sampler` in `steps` steps, spaced by `scheduler`.

    `strength` (0 to 1) is image-to-image's; None is text-to-image. `exact` as in `img2img_steps`.
    Take `table` from `table_for`.
    """
    planned, kept = (steps, steps) if strength is None else img2img_steps(steps, strength, exact)
    if planned == 0:
        return Levels(sigmas=torch.zeros(1).double(), start=0.0, span=(table.low, table.high))
    if sampler.spacing is not None:
        return _timestep_levels(sampler.spacing, table, (planned, kept), options)
    whole = _whole(sampler, scheduler, table, planned, options=options)
    walk = tail(whole, planned, kept)
    positive = whole[whole > 0]
    span = (positive.min().item(), positive.max().item())
    walk = _WALKS[sampler.walk](walk, table, strength is None)
    start = math.inf if options.sgm_noise and strength is None else walk[0].item()
    return Levels(sigmas=walk, start=start, span=span, counted=sampler.walk != "adaptive")


def _whole(
    sampler: SamplerSpec,
    scheduler: SchedulerSpec,
    table: NoiseTable,
    steps: int,
    *,
    options: ScheduleOptions,
) -> Tensor:
    """The schedule that is walked in whole by text-to-image."""
    schedule = SCHEDULES[settle(sampler, scheduler).function]
    discard = sampler.discard_penultimate or bool(options.discard_penultimate)
    if not discard or sampler.spaces_itself:
        return schedule(table, steps, options)
    whole = schedule(table, steps + 1, options)
    return torch.cat([whole[:-2], whole[-1:]])


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


def _timestep_levels(
    spacing: str, table: NoiseTable, counts: tuple[int, int], options: ScheduleOptions
) -> Levels:
    """The walk of DDIM and kin: from noise alone, or for image-to-image from the index kept.

    `counts` are the steps that are planned and those that are kept.
    """
    planned, kept = counts
    times = timesteps(table, planned)
    whole = kept == planned
    start = math.inf if whole else table.sigmas[times[kept]].item()
    walked = times if whole else times[:kept]
    # With nothing to walk, what was noised is the result, as in A1111.
    sigmas = torch.tensor([start]).double()
    if len(walked):
        sigmas = SPACINGS[spacing](table, walked, whole, options)
    span = (sigmas.min().item(), sigmas.max().item())
    return Levels(sigmas=sigmas, start=start, span=span, preserving=True)


def _as_it_is(walk: Tensor, table: NoiseTable, whole: bool) -> Tensor:
    return walk


def _restarted(walk: Tensor, table: NoiseTable, whole: bool) -> Tensor:
    """Xu et al. 2023: from near 0.1 back up to near 2, once from 20 steps on and twice from 36.

    The numbers are A1111's. The steps that the restarts take are taken off the first way down.
    """
    steps = len(walk) - 1
    if steps < 20:
        return walk
    times, each = (2, steps // 4) if steps >= 36 else (1, 9)
    ends = walk[0].item(), walk[-2].item()
    base = karras_between(*ends, steps - each * times)
    low, high = (int((base - level).abs().argmin()) for level in (0.1, 2.0))
    if not high < low:
        return base
    again = karras_between(base[high].item(), base[low].item(), each + 1)[:-1]
    return torch.cat([base[: low + 1], *[again] * times, base[low + 1 :]])


def _ends_for(walk: Tensor, table: NoiseTable, whole: bool) -> tuple[float, float]:
    """Where DPM-Solver starts and stops: the model's ends, or those of the cut schedule."""
    if whole:
        return table.high, table.low
    high, low = walk[0].item(), walk[-2].item()
    return (high, low) if low < high else (high, min(table.low, high / 2))


def _budget(walk: Tensor, table: NoiseTable, whole: bool) -> Tensor:
    high, low = _ends_for(walk, table, whole)
    return torch.tensor(group_levels(high, low, len(walk) - 1), dtype=torch.float64)


def _ends_alone(walk: Tensor, table: NoiseTable, whole: bool) -> Tensor:
    return torch.tensor(_ends_for(walk, table, whole), dtype=torch.float64)


_WALKS: dict[Walk, Callable[[Tensor, NoiseTable, bool], Tensor]] = {
    "tail": _as_it_is,
    "restart": _restarted,
    "fast": _budget,
    "adaptive": _ends_alone,
}

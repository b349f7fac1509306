"""What can be set on a sampler and on a schedule, and what of it has an effect; no torch.

None means: as the sampler or the schedule is by itself. Which of them takes an option stands in the
`takes` of its row in `core.sampler_table`. `notes` says in words what would silently do nothing.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from darkroom.core.errors import BadRequest
from darkroom.core.sampler_table import AUTOMATIC, SamplerSpec, SchedulerSpec, settle

Variant = Literal["bh1", "bh2", "vary_coeff"]
Skip = Literal["time_uniform", "time_quadratic", "logSNR"]
Family = Literal["sd1", "sdxl", "svd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerOptions:
    """How a sampler walks. BadRequest for a value that no sampler can work with."""

    eta: float | None = None  # share of the noise that is taken off and drawn anew; 0: none
    s_churn: float | None = None  # Karras et al. 2022, algorithm 2: noise added before each step,
    s_tmin: float | None = None  # from this noise level
    s_tmax: float | None = None  # to this one; 0 means without end, as in A1111
    s_noise: float | None = None  # scale of all noise that is added
    order: int | None = None
    variant: Variant | None = None  # of UniPC: its B(h), or coefficients that vary
    lower_order_final: bool | None = None  # of UniPC
    rtol: float | None = None  # of DPM adaptive: error allowed per step, relative
    atol: float | None = None  # and absolute

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """How noise levels are spaced. BadRequest for a value that no schedule can work with."""

    sigma_min: float | None = None  # lowest noise level above 0, instead of the model's
    sigma_max: float | None = None  # highest
    rho: float | None = None  # how much the steps crowd at the low end (Karras, Polyexponential)
    beta_alpha: float | None = None  # the two shapes of the beta distribution (Beta)
    beta_beta: float | None = None
    family: Family | None = None  # kind of model whose list Align Your Steps takes; None: sd1
    discard_penultimate: bool | None = None  # leave out the last level above 0
    skip: Skip | None = None  # how UniPC spaces its own steps
    sgm_noise: bool | None = None  # start from sqrt(1 + sigma²) times noise instead of sigma times

    def __post_init__(self) -> None:
        _check(self)
        if self.sigma_min and self.sigma_max and self.sigma_min >= self.sigma_max:
            raise BadRequest(
                f"sigma_min {self.sigma_min:g} is not below sigma_max {self.sigma_max:g}",
                hint="Stable Diffusion's own levels go from 0.029 to 14.6.",
            )


Options = SamplerOptions | ScheduleOptions

_LEVEL = (0.0, math.inf)
BOUNDS: Mapping[str, tuple[float, float]] = {  # inclusive
    "eta": (0, 10),
    "s_churn": (0, 1e6),
    "s_tmin": _LEVEL,
    "s_tmax": _LEVEL,
    "s_noise": (0, 10),
    "order": (1, 50),
    "rtol": (1e-6, 1e3),
    "atol": (1e-6, 1e3),
    "sigma_min": (1e-4, 1e4),
    "sigma_max": (1e-4, 1e4),
    "rho": (0.05, 100),  # below, the levels between pass what a number can be
    "beta_alpha": (0.01, 100),
    "beta_beta": (0.01, 100),
}
# Values that change nothing on any sampler, which other programs send along all the same.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "s_churn": (0,),
    "s_tmin": (0,),
    "s_tmax": (0, math.inf),
    "s_noise": (1,),
    "discard_penultimate": (False,),
    "sgm_noise": (False,),
}
_CHURN = ("s_tmin", "s_tmax", "s_noise")  # where a sampler takes s_churn, these belong to it


def given(options: Options) -> dict[str, object]:
    """The options that are set."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {name: value for name, value in values.items() if value is not None}


def notes(
    sampler: SamplerSpec,
    scheduler: SchedulerSpec,
    *,
    steps: int,
    options: SamplerOptions | None = None,
    spacing: ScheduleOptions | None = None,
) -> list[str]:
    """Sentences on everything that would silently have no effect, for text-to-image."""
    return [
        *_walk_notes(sampler, scheduler, steps),
        *_sampler_notes(sampler, options or SamplerOptions(), steps),
        *_schedule_notes(sampler, scheduler, spacing or ScheduleOptions()),
    ]


def _walk_notes(sampler: SamplerSpec, scheduler: SchedulerSpec, steps: int) -> Iterator[str]:
    name = sampler.name
    if sampler.spaces_itself and scheduler.name != AUTOMATIC:
        yield f"{name} spaces its own steps: the scheduler {scheduler.name} has no effect"
    if sampler.spacing is not None and steps == 1:
        yield f"{name} needs 2 steps or more: one step leaves noise"
    if sampler.walk == "adaptive":
        yield f"{name} finds its own number of steps: {steps} has no effect"
    if sampler.walk == "fast" and steps < sampler.least_steps:
        yield f"{name} needs {sampler.least_steps} steps or more to take all noise off"
    if sampler.walk == "restart" and steps < sampler.least_steps:
        yield f"{name} restarts from {sampler.least_steps} steps on; with fewer it is Heun"


def _sampler_notes(sampler: SamplerSpec, options: SamplerOptions, steps: int) -> Iterator[str]:
    silent = not adds_noise(sampler, options, steps=steps)
    for name, value in _effective(options).items():
        if name not in sampler.takes:
            yield f"{sampler.name} has no {name}: it has no effect"
        elif name in _CHURN and "s_churn" in sampler.takes and not options.s_churn:
            yield f"{sampler.name} adds no noise without s_churn: {name} {value:g} has no effect"
        elif name == "s_noise" and silent:
            yield f"{sampler.name} adds no noise on this way: s_noise has no effect"
    if sampler.most_order is not None and (options.order or 0) > sampler.most_order:
        yield f"{sampler.name} looks back {sampler.most_order} steps at most: order is that"


def adds_noise(sampler: SamplerSpec, options: SamplerOptions, *, steps: int) -> bool:
    """Whether the walk draws noise after its first one."""
    if sampler.walk == "restart" and steps < sampler.least_steps:
        return False
    if "eta" in sampler.takes:
        eta = float(sampler.stochastic) if options.eta is None else options.eta
        return eta > 0
    return bool(options.s_churn) if "s_churn" in sampler.takes else sampler.stochastic


def _schedule_notes(
    sampler: SamplerSpec, scheduler: SchedulerSpec, spacing: ScheduleOptions
) -> Iterator[str]:
    used = settle(sampler, scheduler)
    taken = {*sampler.schedule_takes, *(() if sampler.spaces_itself else used.takes)}
    for name in _effective(spacing):
        if name not in taken:
            who = sampler.name if sampler.spaces_itself else f"the scheduler {used.name}"
            yield f"{who} has no {name}: it has no effect"


def _effective(options: Options) -> dict[str, object]:
    """The options that are set to something which could matter."""
    return {
        name: value for name, value in given(options).items() if value not in _NEUTRAL.get(name, ())
    }


def _check(options: Options) -> None:
    for name, value in given(options).items():
        low, high = BOUNDS.get(name, (-math.inf, math.inf))
        if isinstance(value, int | float) and not low <= value <= high:
            raise BadRequest(
                f"{name} {value:g} is out of range",
                hint=f"It lies between {low:g} and {high:g}.",
            )

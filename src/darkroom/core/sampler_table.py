"""The samplers and schedulers by name, as A1111, its peers and their users know them; no torch.

A row is all that a sampler needs besides its function in `darkroom.sampling.samplers`, and all that
a scheduler needs besides its function in `darkroom.sampling.schedules`. Names are found whatever
their case and separators, in A1111's, k-diffusion's, ComfyUI's, InvokeAI's and diffusers' spelling,
and as A1111 wrote them before 1.9, both in one ("DPM++ 2M Karras"). `fold` brings the spellings
together, so that a row lists as aliases only what A1111 calls it and what differs by more.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

from darkroom.core.errors import UnknownName

AUTOMATIC = "Automatic"
MAX_NAME = 200  # characters; no name is longer, and a hostile one costs nothing

# How the walk of a run is made of the schedule, in darkroom.sampling.levels:
# the schedule or its tail; the same with stretches walked again; a budget of network calls between
# its ends; its ends alone.
Walk = Literal["tail", "restart", "fast", "adaptive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSpec:
    """A way to space the noise levels."""

    name: str
    function: str  # in darkroom.sampling.schedules
    aliases: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()  # of ScheduleOptions
    about: str = ""  # one line for the docs
    rho: float | None = None  # what it takes for `rho` by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSpec:
    """A way to walk down the noise levels."""

    name: str
    function: str  # in darkroom.sampling.samplers
    aliases: tuple[str, ...] = ()
    scheduler: str = "Uniform"  # what "Automatic" means
    # Of convergence for a smooth denoiser, once under way: of the path, or of the variance where
    # noise is drawn (DPM fast: of the path without noise). None where that is not defined.
    order: int | None
    calls: int = 1  # network calls per step; a last step that ends in 0 has one
    stochastic: bool = False  # draws noise on the way
    brownian: bool = False  # and that noise belongs to the noise levels, not to the steps
    discard_penultimate: bool = (
        False  # one step more is planned, and the last level above 0 left out
    )
    # DDIM and kin: how their own schedule is spaced (in darkroom.sampling.schedules), whatever
    # scheduler is asked for. They start from noise alone and stop above 0. None for all others.
    spacing: str | None = None
    trained_levels: int | None = None  # a distilled model knows only so many noise levels
    walk: Walk = "tail"
    least_steps: int = 1  # with fewer it is not itself; `core.sampler_options.notes` says how
    takes: tuple[str, ...] = ()  # of SamplerOptions
    # CFG++ (Chung et al. 2024): the noise of a step is the unconditional estimate's. The sampler
    # wants both estimates, and the guidance scale is divided by `scale_divisor`.
    paired: bool = False
    scale_divisor: float = 1.0
    ensd: bool = False  # A1111 writes "ENSD" down for it
    most_order: int | None = None  # of those that take `order`: more of it is as much
    alone: bool = False  # its steps depend on the whole batch: give it one picture at a time

    @property
    def prompt_calls(self) -> int:
        """Network calls that a step in a prompt counts for; A1111 doubles second-order samplers."""
        return self.calls if self.walk in ("tail", "restart") else 1

    @property
    def spaces_itself(self) -> bool:
        """Whether a scheduler that is asked for has no effect, in text-to-image."""
        return self.spacing is not None or self.walk in ("fast", "adaptive")

    @property
    def schedule_takes(self) -> tuple[str, ...]:
        """The ScheduleOptions that belong to the sampler, whatever the scheduler."""
        if self.spacing is not None:
            return ("skip",) if self.spacing == "unipc_steps" else ()
        return ("sgm_noise",) if self.spaces_itself else ("sgm_noise", "discard_penultimate")


CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")
RENOISE = ("eta", "s_noise")

SAMPLERS: tuple[SamplerSpec, ...] = (
    SamplerSpec(
        name="DPM++ 2M",
        function="dpmpp_2m",
        aliases=("k_dpmpp_2m", "DPMSolverMultistepScheduler"),
        scheduler="Karras",
        order=2,
    ),
    SamplerSpec(
        name="DPM++ SDE",
        function="dpmpp_sde",
        aliases=("k_dpmpp_sde", "DPMSolverSDEScheduler"),
        scheduler="Karras",
        order=2,
        calls=2,
        stochastic=True,
        brownian=True,
        takes=RENOISE,
    ),
    SamplerSpec(
        name="DPM++ 2M SDE",
        function="dpmpp_2m_sde",
        aliases=("k_dpmpp_2m_sde",),
        scheduler="Exponential",
        order=2,
        stochastic=True,
        brownian=True,
        takes=RENOISE,
    ),
    SamplerSpec(
        name="DPM++ 2M SDE Heun",
        function="dpmpp_2m_sde_heun",
        aliases=("k_dpmpp_2m_sde_heun",),
        scheduler="Exponential",
        order=2,
        stochastic=True,
        brownian=True,
        takes=RENOISE,
    ),
    SamplerSpec(
        name="DPM++ 2S a",
        function="dpmpp_2s_ancestral",
        aliases=("k_dpmpp_2s_a", "dpmpp_2s_ancestral"),
        scheduler="Karras",
        order=2,
        calls=2,
        stochastic=True,
        takes=RENOISE,
        ensd=True,
    ),
    SamplerSpec(
        name="DPM++ 3M SDE",
        function="dpmpp_3m_sde",
        aliases=("k_dpmpp_3m_sde",),
        scheduler="Exponential",
        order=2,
        stochastic=True,
        brownian=True,
        discard_penultimate=True,
        takes=RENOISE,
    ),
    SamplerSpec(
        name="Euler a",
        function="euler_ancestral",
        aliases=("k_euler_a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler"),
        order=1,
        stochastic=True,
        takes=RENOISE,
        ensd=True,
    ),
    SamplerSpec(
        name="Euler",
        function="euler",
        aliases=("k_euler", "EulerDiscreteScheduler"),
        order=1,
        takes=CHURN,
    ),
    SamplerSpec(name="LMS", function="lms", aliases=("k_lms", "LMSDiscreteScheduler"), order=4),
    SamplerSpec(
        name="Heun",
        function="heun",
        aliases=("k_heun", "HeunDiscreteScheduler"),
        order=2,
        calls=2,
        takes=CHURN,
    ),
    SamplerSpec(
        name="DPM2",
        function="dpm_2",
        aliases=("k_dpm_2", "kdpm_2", "KDPM2DiscreteScheduler"),
        scheduler="Karras",
        order=2,
        calls=2,
        discard_penultimate=True,
        takes=CHURN,
    ),
    SamplerSpec(
        name="DPM2 a",
        function="dpm_2_ancestral",
        aliases=("k_dpm_2_a", "dpm_2_ancestral", "kdpm_2_a", "KDPM2AncestralDiscreteScheduler"),
        scheduler="Karras",
        order=2,
        calls=2,
        stochastic=True,
        discard_penultimate=True,
        takes=RENOISE,
        ensd=True,
    ),
    SamplerSpec(
        name="DPM fast",
        function="dpm_fast",
        aliases=("k_dpm_fast",),
        order=3,
        stochastic=True,
        walk="fast",
        takes=RENOISE,
        ensd=True,
    ),
    SamplerSpec(
        name="DPM adaptive",
        function="dpm_adaptive",
        aliases=("k_dpm_ad", "k_dpm_adaptive"),
        order=None,
        calls=3,
        stochastic=True,
        walk="adaptive",
        takes=("eta", "rtol", "atol"),
        ensd=True,
        alone=True,
    ),
    SamplerSpec(
        name="Restart",
        function="restart",
        aliases=("restart",),
        scheduler="Karras",
        order=2,
        calls=2,
        stochastic=True,
        walk="restart",
        least_steps=20,
        takes=("s_noise",),
    ),
    SamplerSpec(
        name="DDIM",
        function="ddim",
        aliases=("ddim", "ddim_v3", "DDIMScheduler"),
        order=1,
        spacing="ddim_steps",
        least_steps=2,
        takes=("eta",),
    ),
    SamplerSpec(
        name="DDIM CFG++",
        function="ddim",
        aliases=("ddim_cfgpp",),
        order=1,
        spacing="ddim_steps",
        least_steps=2,
        takes=("eta",),
        paired=True,
        scale_divisor=12.5,
    ),
    SamplerSpec(
        name="PLMS",
        function="plms",
        aliases=("plms", "pndm", "PNDMScheduler"),
        order=2,
        spacing="ddim_steps",
        least_steps=2,
    ),
    SamplerSpec(
        name="UniPC",
        function="unipc",
        aliases=("unipc", "uni_pc", "UniPCMultistepScheduler"),
        order=4,
        spacing="unipc_steps",
        least_steps=2,
        takes=("order", "variant", "lower_order_final"),
        most_order=6,
    ),
    SamplerSpec(
        name="LCM",
        function="lcm",
        aliases=("k_lcm", "LCMScheduler"),
        order=None,
        stochastic=True,
        trained_levels=50,
    ),
    # What the peers added.
    SamplerSpec(
        name="HeunPP2",
        function="heunpp2",
        aliases=("Heun++ 2",),
        order=1,
        calls=3,
        takes=CHURN,
    ),
    SamplerSpec(name="IPNDM", function="ipndm", aliases=("IPNDMScheduler",), order=2),
    SamplerSpec(name="IPNDM_V", function="ipndm_v", order=4),
    SamplerSpec(
        name="DEIS",
        function="deis",
        aliases=("DEISMultistepScheduler",),
        order=3,
        takes=("order",),
        most_order=4,
    ),
    SamplerSpec(
        name="DDPM",
        function="euler_ancestral",
        aliases=("DDPMScheduler",),
        order=1,
        stochastic=True,
        takes=("s_noise",),
    ),
    SamplerSpec(
        name="ER-SDE",
        function="er_sde",
        aliases=("er_sde_solver",),
        scheduler="Karras",
        order=2,
        stochastic=True,
        takes=("order", "s_noise"),
        most_order=3,
    ),
    SamplerSpec(
        name="SA-Solver",
        function="sa_solver",
        aliases=("SASolverScheduler",),
        scheduler="Karras",
        order=2,
        stochastic=True,
        brownian=True,
        takes=("eta", "order", "s_noise"),
        most_order=4,
    ),
    SamplerSpec(
        name="Res Multistep",
        function="res_multistep",
        scheduler="Karras",
        order=2,
    ),
    SamplerSpec(name="Gradient Estimation", function="gradient_estimation", order=1),
    SamplerSpec(
        name="SEEDS 2",
        function="seeds_2",
        scheduler="Karras",
        order=2,
        calls=2,
        stochastic=True,
        brownian=True,
        takes=RENOISE,
    ),
    SamplerSpec(
        name="SEEDS 3",
        function="seeds_3",
        scheduler="Karras",
        order=2,
        calls=3,
        stochastic=True,
        brownian=True,
        takes=RENOISE,
    ),
    SamplerSpec(
        name="TCD",
        function="tcd",
        aliases=("TCDScheduler",),
        scheduler="Simple",
        order=None,
        stochastic=True,
        trained_levels=50,
        takes=("eta",),
    ),
    SamplerSpec(
        name="DPM++ 2S",
        function="dpmpp_2s",
        aliases=("DPMSolverSinglestepScheduler",),
        scheduler="Karras",
        order=2,
        calls=2,
    ),
    SamplerSpec(name="DPM++ 3M", function="dpmpp_3m", scheduler="Exponential", order=2),
    SamplerSpec(name="Euler CFG++", function="euler", order=1, takes=CHURN, paired=True),
    SamplerSpec(
        name="Euler a CFG++",
        function="euler_ancestral",
        order=1,
        stochastic=True,
        takes=RENOISE,
        paired=True,
    ),
    SamplerSpec(
        name="DPM++ 2M CFG++", function="dpmpp_2m", scheduler="Karras", order=2, paired=True
    ),
    SamplerSpec(
        name="DPM++ 2S a CFG++",
        function="dpmpp_2s_ancestral",
        scheduler="Karras",
        order=2,
        calls=2,
        stochastic=True,
        takes=RENOISE,
        paired=True,
    ),
    SamplerSpec(
        name="Res Multistep CFG++",
        function="res_multistep",
        scheduler="Karras",
        order=2,
        paired=True,
    ),
    SamplerSpec(
        name="Gradient Estimation CFG++", function="gradient_estimation", order=1, paired=True
    ),
)

ENDS = ("sigma_min", "sigma_max")

SCHEDULERS: tuple[SchedulerSpec, ...] = (
    # The sampler's own: `resolve_scheduler`.
    SchedulerSpec(
        name=AUTOMATIC, function="", about="what suits the sampler; the table above says which"
    ),
    SchedulerSpec(name="Uniform", function="uniform", about="evenly in the network's time"),
    SchedulerSpec(
        name="Karras",
        function="karras",
        aliases=("k",),
        takes=(*ENDS, "rho"),
        rho=7.0,
        about="more steps where little noise is left: the usual choice",
    ),
    SchedulerSpec(
        name="Exponential",
        function="exponential",
        takes=ENDS,
        about="evenly in the logarithm; more steps still at low noise",
    ),
    SchedulerSpec(
        name="Polyexponential",
        function="polyexponential",
        takes=(*ENDS, "rho"),
        rho=1.0,
        about="Exponential with a bend; the same at rho 1",
    ),
    SchedulerSpec(
        name="SGM Uniform",
        function="sgm_uniform",
        aliases=("SGMUniform", "trailing"),
        takes=ENDS,
        about="Uniform without the lowest level: for Lightning, Turbo and other distilled models",
    ),
    SchedulerSpec(
        name="KL Optimal",
        function="kl_optimal",
        takes=ENDS,
        about="evenly in the arc tangent; stops at the lowest level above 0",
    ),
    SchedulerSpec(
        name="Align Your Steps",
        function="align_your_steps",
        aliases=("align_your_steps_11", "ays", "ays_11"),
        takes=("family",),
        about="a list found by optimisation for each kind of model; good from 10 steps",
    ),
    SchedulerSpec(
        name="Align Your Steps GITS",
        function="gits",
        aliases=("ays_gits", "gits"),
        takes=("family",),
        about="the same with the list of GITS",
    ),
    SchedulerSpec(
        name="Align Your Steps 32",
        function="align_your_steps_32",
        aliases=("ays_32",),
        takes=("family",),
        about="the same with a list for 32 steps",
    ),
    SchedulerSpec(name="Simple", function="simple", about="every so many-th level of the model"),
    SchedulerSpec(
        name="Normal", function="normal", takes=ENDS, about="Uniform that heeds the ends given"
    ),
    SchedulerSpec(
        name="DDIM",
        function="ddim_uniform",
        aliases=("ddim_uniform",),
        about="DDIM's own levels, for other samplers; may be a step longer",
    ),
    SchedulerSpec(
        name="Beta",
        function="beta",
        takes=(*ENDS, "beta_alpha", "beta_beta"),
        about="dense at both ends",
    ),
    SchedulerSpec(
        name="Turbo",
        function="turbo",
        aliases=("sd_turbo",),
        about="the levels SD-Turbo was made for",
    ),
    SchedulerSpec(
        name="Linear Quadratic",
        function="linear_quadratic",
        about="half the steps at high noise (made for video models)",
    ),
    SchedulerSpec(
        name="KL Optimal (ComfyUI)",
        function="kl_optimal_to_zero",
        takes=ENDS,
        about="KL Optimal that ends in 0",
    ),
    SchedulerSpec(
        name="Beta (ComfyUI)",
        function="beta_times",
        takes=("beta_alpha", "beta_beta"),
        about="Beta over the network's time instead of the noise",
    ),
)

Spec = TypeVar("Spec", bound=SamplerSpec | SchedulerSpec)


def find_sampler(name: str) -> tuple[SamplerSpec, SchedulerSpec | None]:
    """The sampler of that name, and the scheduler where the name holds one; else UnknownName."""
    words = fold(name).split() if len(name) <= MAX_NAME else []
    samplers, schedulers = by_name(SAMPLERS), by_name(SCHEDULERS)
    for split in range(len(words), 0, -1):
        sampler = samplers.get(" ".join(words[:split]))
        scheduler = schedulers.get(" ".join(words[split:]))
        if sampler and (scheduler or split == len(words)):
            return sampler, scheduler
    raise UnknownName("sampler", name, names(SAMPLERS))


def find_scheduler(name: str) -> SchedulerSpec:
    """The scheduler of that name; else UnknownName."""
    scheduler = by_name(SCHEDULERS).get(fold(name)) if len(name) <= MAX_NAME else None
    if scheduler is None:
        raise UnknownName("scheduler", name, names(SCHEDULERS))
    return scheduler


def resolve_scheduler(sampler: str, scheduler: str) -> SchedulerSpec:
    """What text-to-image will really use: "Automatic" stays for a sampler that spaces itself."""
    row = find_sampler(sampler)[0]
    return (
        find_scheduler(AUTOMATIC) if row.spaces_itself else settle(row, find_scheduler(scheduler))
    )


def settle(sampler: SamplerSpec, scheduler: SchedulerSpec) -> SchedulerSpec:
    """The row whose function makes the levels, of a sampler that does not make them itself."""
    if sampler.spacing is not None:
        return find_scheduler(AUTOMATIC)
    return find_scheduler(sampler.scheduler) if scheduler.name == AUTOMATIC else scheduler


def by_name(specs: tuple[Spec, ...]) -> dict[str, Spec]:
    """Every folded name and alias."""
    return {fold(name): spec for spec in specs for name in (spec.name, *spec.aliases)}


def names(specs: tuple[Spec, ...]) -> list[str]:
    """Every name as it is written, and the aliases that `fold` does not make of it."""
    return [
        name
        for spec in specs
        for name in (spec.name, *spec.aliases)
        if name == spec.name or fold(name) != fold(spec.name)
    ]


# What one program writes and another does not, brought together in this order.
_SPELLINGS = (
    (re.compile(r"\+\+"), "pp "),  # "DPM++2M", "CFG++"
    (re.compile(r"[\s_\-]+"), " "),
    (re.compile(r"^(k|sample) (?=\S)"), ""),  # k-diffusion's, and its functions'
    (re.compile(r"\bancestral\b"), "a"),
    (re.compile(r"\b(dpm|seeds|heunpp) (?=\d)"), r"\1"),  # "dpm_2" is "DPM2"
    (re.compile(r"\bcfg pp\b"), "cfgpp"),
    (re.compile(r" gpu\b"), ""),  # ComfyUI's "…_gpu": where the noise is drawn
)


@lru_cache(maxsize=1024)  # every name is asked for again and again
def fold(name: str) -> str:
    """A name without what people vary: case, separators, and the habits of each program."""
    folded = name.casefold().strip()
    for pattern, replacement in _SPELLINGS:
        folded = pattern.sub(replacement, folded)
    return folded.strip()


def split_sampler_name(data: Any) -> Any:
    """Read "DPM++ 2M Karras" as a sampler and a scheduler, as older tools write it.

    `data` are untrusted fields of a request; other than a mapping with a sampler is given back.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("sampler"), str):
        return data
    sampler, scheduler = find_sampler(data["sampler"])
    found = {**data, "sampler": sampler.name}
    asked = fold(str(found.get("scheduler") or AUTOMATIC)[:MAX_NAME])
    if scheduler is not None and asked == fold(AUTOMATIC):
        found["scheduler"] = scheduler.name
    return found

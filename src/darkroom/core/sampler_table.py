"""The samplers and schedulers by name, as A1111 and its users know them; no torch.

A row is all that a sampler needs besides its function in `darkroom.sampling.samplers`, and all that
a scheduler needs besides its function in `darkroom.sampling.schedules`. Names are found whatever
their case, in A1111's, k-diffusion's and ComfyUI's spelling, and as A1111 wrote them before 1.9,
both in one ("DPM++ 2M Karras").
"""

from dataclasses import dataclass
from typing import TypeVar

from darkroom.core.errors import UnknownName

AUTOMATIC = "Automatic"
MAX_NAME = 200  # characters; no name is longer, and a hostile one costs nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSpec:
    """A way to space the noise levels."""

    name: str
    function: str  # in darkroom.sampling.schedules
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSpec:
    """A way to walk down the noise levels."""

    name: str
    function: str  # in darkroom.sampling.samplers
    aliases: tuple[str, ...] = ()
    scheduler: str = "Uniform"  # what "Automatic" means
    # Of convergence for a smooth denoiser: of the path, or of the distribution where noise is
    # drawn. None where that is not defined.
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


SAMPLERS: tuple[SamplerSpec, ...] = (
    SamplerSpec(
        name="DPM++ 2M",
        function="dpmpp_2m",
        aliases=("k_dpmpp_2m", "dpmpp_2m"),
        scheduler="Karras",
        order=2,
    ),
    SamplerSpec(
        name="DPM++ 2M SDE",
        function="dpmpp_2m_sde",
        aliases=("k_dpmpp_2m_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
        scheduler="Exponential",
        order=2,
        stochastic=True,
        brownian=True,
    ),
    SamplerSpec(
        name="Euler a",
        function="euler_ancestral",
        aliases=("k_euler_a", "k_euler_ancestral", "euler_ancestral"),
        order=1,
        stochastic=True,
    ),
    SamplerSpec(name="Euler", function="euler", aliases=("k_euler",), order=1),
    SamplerSpec(name="Heun", function="heun", aliases=("k_heun",), order=2, calls=2),
    SamplerSpec(name="DDIM", function="ddim", order=1, spacing="ddim_steps"),
    SamplerSpec(
        name="UniPC", function="unipc", aliases=("uni_pc",), order=3, spacing="unipc_steps"
    ),
    SamplerSpec(
        name="LCM",
        function="lcm",
        aliases=("k_lcm",),
        order=None,
        stochastic=True,
        trained_levels=50,
    ),
)

SCHEDULERS: tuple[SchedulerSpec, ...] = (
    SchedulerSpec(name=AUTOMATIC, function=""),  # the sampler's own: `resolve_scheduler`
    SchedulerSpec(name="Uniform", function="uniform"),
    SchedulerSpec(name="Karras", function="karras"),
    SchedulerSpec(name="Exponential", function="exponential"),
    SchedulerSpec(name="SGM Uniform", function="sgm_uniform", aliases=("SGMUniform",)),
    SchedulerSpec(name="Simple", function="simple"),
    SchedulerSpec(name="Normal", function="uniform"),
    SchedulerSpec(name="Beta", function="beta"),
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
    scheduler = by_name(SCHEDULERS).get(fold(name))
    if scheduler is None:
        raise UnknownName("scheduler", name, names(SCHEDULERS))
    return scheduler


def resolve_scheduler(sampler: str, scheduler: str) -> SchedulerSpec:
    """What will really be used: "Automatic" stays only for a sampler with a spacing of its own."""
    return settle(find_sampler(sampler)[0], find_scheduler(scheduler))


def settle(sampler: SamplerSpec, scheduler: SchedulerSpec) -> SchedulerSpec:
    """`resolve_scheduler` for rows instead of names."""
    if sampler.spacing is not None:
        return find_scheduler(AUTOMATIC)
    return find_scheduler(sampler.scheduler) if scheduler.name == AUTOMATIC else scheduler


def by_name(specs: tuple[Spec, ...]) -> dict[str, Spec]:
    """Every folded name and alias."""
    return {fold(name): spec for spec in specs for name in (spec.name, *spec.aliases)}


def names(specs: tuple[Spec, ...]) -> list[str]:
    """Every name and alias as it is written."""
    return [name for spec in specs for name in (spec.name, *spec.aliases)]


def fold(name: str) -> str:
    """A name without what people vary: case, and what separates the words."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())

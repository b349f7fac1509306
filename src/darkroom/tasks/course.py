"""A request as the values of one denoising loop."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from darkroom.core.model import Arch
from darkroom.core.request import MAX_SEED, ResolvedRequest
from darkroom.core.sampler_options import Family, SamplerOptions, ScheduleOptions
from darkroom.core.sampler_table import find_sampler, find_scheduler
from darkroom.engine.engine import Engine
from darkroom.engine.models import Model
from darkroom.sampling import Course, Guidance, Seeds, Variation, levels, sampler_for
from darkroom.weights.topology import FACTOR

FAMILIES: Mapping[Arch, Family] = {Arch.SD1: "sd1", Arch.SDXL: "sdxl", Arch.SVD: "svd"}


def sampler_options(request: ResolvedRequest) -> SamplerOptions:
    """What the request sets on its sampler."""
    return SamplerOptions(
        eta=request.eta,
        s_churn=request.s_churn,
        s_tmin=request.s_tmin,
        s_tmax=request.s_tmax,
        s_noise=request.s_noise,
        order=request.unipc_order,
        variant=request.unipc_variant,
        lower_order_final=request.unipc_lower_order_final,
    )


def schedule_options(request: ResolvedRequest) -> ScheduleOptions:
    """What the request sets on its schedule; what is left open, the model says."""
    return ScheduleOptions(
        sigma_min=request.sigma_min,
        sigma_max=request.sigma_max,
        rho=request.rho,
        beta_alpha=request.beta_alpha,
        beta_beta=request.beta_beta,
        skip=request.unipc_skip_type,
        sgm_noise=request.sgm_noise,
        discard_penultimate=request.discard_penultimate,
    )


def course_of(
    engine: Engine,
    model: Model,
    request: ResolvedRequest,
    *,
    images: range,
    check: Callable[[Tensor], None] | None = None,
) -> Course:
    """The run that makes some pictures of `request`; `check` sees every estimate."""
    sampler, _ = find_sampler(request.sampler)
    return Course(
        sampler=sampler_for(sampler, sampler_options(request)),
        levels=levels(
            sampler,
            find_scheduler(request.scheduler),
            engine.table(model, request),
            steps=request.steps,
            options=replace(schedule_options(request), family=FAMILIES.get(model.card.arch)),
        ),
        shape=(
            len(images),
            model.vae.dims.latent_channels,
            request.height // FACTOR,
            request.width // FACTOR,
        ),
        seeds=_seeds(request, images),
        check=check,
    )


def seed_of(request: ResolvedRequest, image: int) -> int:
    """The seed of a picture; those of one variation share theirs, as in A1111."""
    return request.seed if request.variation_strength else _counted(request.seed, image)


def variation_seed_of(request: ResolvedRequest, image: int) -> int | None:
    """The seed of the noise that is mixed into a picture, if one is."""
    if not request.variation_strength or request.variation_seed is None:
        return None
    return _counted(request.variation_seed, image)


def guidance_of(request: ResolvedRequest) -> Guidance:
    """How strictly the prompt is followed, and where on the way."""
    sampler, _ = find_sampler(request.sampler)
    return Guidance(
        scale=request.cfg_scale / sampler.scale_divisor,
        rescale=request.cfg_rescale,
        window=(request.guidance_start, request.guidance_end),
        skip_early=request.skip_early_cfg,
        skip_below=request.ngms,
        paired=sampler.paired,
    )


def _seeds(request: ResolvedRequest, images: range) -> Seeds:
    variation = None
    if request.variation_strength:
        seeds = tuple(variation_seed_of(request, image) or 0 for image in images)
        variation = Variation(seeds=seeds, strength=request.variation_strength)
    return Seeds(
        values=tuple(seed_of(request, image) for image in images),
        source=request.rng,
        variation=variation,
        resize_from=_resize_from(request),
        ensd=request.ensd,
    )


def _resize_from(request: ResolvedRequest) -> tuple[int, int] | None:
    """Height and width, in latent pixels, of the picture whose noise is used."""
    width, height = request.seed_resize_width, request.seed_resize_height
    if width is None and height is None:
        return None
    return (height or request.height) // FACTOR, (width or request.width) // FACTOR


def _counted(seed: int, image: int) -> int:
    return (seed + image) % (MAX_SEED + 1)

"""A request as the values of one denoising loop."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from darkroom.core.model import Arch
from darkroom.core.request import ResolvedRequest
from darkroom.core.sampler_options import Family, SamplerOptions, ScheduleOptions
from darkroom.core.sampler_table import find_sampler, find_scheduler
from darkroom.engine.engine import Engine
from darkroom.engine.models import Model
from darkroom.sampling import Course, Guidance, levels, sampler_for
from darkroom.tasks.seeds import seeds_of
from darkroom.tasks.start import NOTHING, Start
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
    start: Start = NOTHING,
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
            strength=start.strength,
            exact=start.exact,
            options=replace(schedule_options(request), family=FAMILIES.get(model.card.arch)),
        ),
        shape=(
            len(images),
            model.vae.dims.latent_channels,
            request.height // FACTOR,
            request.width // FACTOR,
        ),
        seeds=seeds_of(request, images),
        clean=start.clean,
        mask=start.mask,
        mix=start.mix,
        noise_scale=start.noise_scale,
        extra_noise=start.extra_noise,
        spread=start.spread,
        check=check,
    )


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
        image_scale=1 if request.init is None else request.init.image_cfg_scale,
    )

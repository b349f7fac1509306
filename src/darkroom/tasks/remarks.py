"""Words for every setting of a request that would otherwise silently do nothing."""

from collections.abc import Iterator

from darkroom.core.model import Variant
from darkroom.core.prompt import Part, networks, parts
from darkroom.core.request import ResolvedRequest
from darkroom.core.sampler_options import adds_noise, notes
from darkroom.core.sampler_table import find_sampler, find_scheduler
from darkroom.tasks.canvas import gives_back
from darkroom.tasks.course import sampler_options, schedule_options
from darkroom.tasks.hires import LATENT

LEAST_FOR_LATENTS = 0.5  # strength of a second run: enlarged latents are blurred below it


def without_effect(request: ResolvedRequest, variant: Variant) -> list[str]:
    """The settings of `request` that have no effect on a model of this variant, a sentence each."""
    return [*_of_run(request), *_of_picture(request, variant), *_of_hires(request)]


def _of_picture(request: ResolvedRequest, variant: Variant) -> Iterator[str]:
    """What does nothing with the picture to begin with."""
    init = request.init
    if init is None:
        return
    usual = type(init).model_fields
    if variant is not Variant.EDIT and init.image_cfg_scale != usual["image_cfg_scale"].default:
        yield "image_cfg_scale has no effect: the model is none that edits pictures by words"
    if variant is Variant.EDIT and 0 < init.strength < 1:
        yield (
            f"strength {init.strength:g}: an edit model sees the picture by itself, and follows its"
            " instruction best at strength 1"
        )
    if init.strength > 0 or request.hires is not None:
        return
    names = ("exact_steps", "noise_multiplier", "extra_noise")
    idle = [name for name in names if getattr(init, name) != usual[name].default]
    yield from (f"{name} has no effect at strength 0" for name in idle)
    if not (request.detail or request.restore):
        yield _at_strength_0(request)


def _at_strength_0(request: ResolvedRequest) -> str:
    """What becomes of a picture without a step: see `canvas`."""
    if gives_back(request):
        return "strength 0 gives the picture back: no step is made"
    return "at strength 0 no step is made: the new part is what it would begin with"


def _of_hires(request: ResolvedRequest) -> Iterator[str]:
    """What does nothing with the second run."""
    hires, refiner = request.hires, request.refiner
    if hires is None:
        if refiner is not None and refiner.on != type(refiner).model_fields["on"].default:
            yield "refiner_on has no effect without a second run (hires)"
        return
    sized = hires.width is not None or hires.height is not None
    if sized and hires.scale != type(hires).model_fields["scale"].default:
        yield "hires_scale has no effect beside a width or height"
    if hires.strength == 0:
        yield "at hires_strength 0 the second run only enlarges: no step is left for it"
    elif hires.upscaler.casefold() in LATENT and hires.strength < LEAST_FOR_LATENTS:
        yield (
            f"hires_upscaler {hires.upscaler} at hires_strength {hires.strength:g} leaves the"
            " picture blurred: give 0.5 or more, or an upscaler of pixels such as auto"
        )


def _of_run(request: ResolvedRequest) -> list[str]:
    """What does nothing with the sampler, the guidance and the seeds."""
    sampler, _ = find_sampler(request.sampler)
    options = sampler_options(request)
    said = notes(
        sampler,
        find_scheduler(request.scheduler),
        steps=request.steps,
        options=options,
        spacing=schedule_options(request),
    )
    unguided = request.cfg_scale == 1 and not sampler.paired
    composed = parts(networks(request.prompt)[0])
    if unguided and request.negative_prompt and composed == (Part(composed[0].text),):
        said.append("without guidance (cfg_scale 1) the negative prompt has no effect")
    if request.variation_seed is not None and not request.variation_strength:
        said.append("variation_seed has no effect without variation_strength")
    drawn = adds_noise(sampler, options, steps=request.steps)
    if request.ensd and (sampler.brownian or not drawn):
        said.append(f"{sampler.name} draws no noise from the seed on its way: ensd has no effect")
    names = ("skip_early_cfg", "ngms", "cfg_rescale", "guidance_start", "guidance_end")
    changed = [
        name for name in names if getattr(request, name) != type(request).model_fields[name].default
    ]
    if unguided:
        said += [f"without guidance {name} has no effect" for name in changed]
    elif request.guidance_start >= request.guidance_end or request.skip_early_cfg == 1:
        said.append("no step is left for guidance: the negative prompt has no effect")
    return said

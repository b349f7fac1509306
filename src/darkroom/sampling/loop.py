"""The one denoising loop, and the plain values that tell it what to do.

    sampler, _ = find_sampler("DPM++ 2M")                         # core.sampler_table
    scheduler = find_scheduler("Automatic")
    table = table_for(sampler, NoiseTable.stable_diffusion())
    course = Course(
        sampler=sampler_for(sampler),
        levels=levels(sampler, scheduler, table, steps=20),
        shape=(2, 4, 64, 64),
        seeds=Seeds(values=(7, 8)),
    )
    for step in sample(guide(cond, uncond, 7.0), course, empty):
        ...                                                       # step.clean is the preview
    latent = step.x

Stopping is to leave the `for`. A course is a value: sampling it again gives the same bits.
Shape letters as in `denoiser`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

from torch import Tensor

from darkroom.sampling.denoiser import At, Denoiser, Held, Mix, Wrapper, evenly, stack
from darkroom.sampling.levels import Levels
from darkroom.sampling.noise import Seeds
from darkroom.sampling.samplers import Sampler, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A run after sampler, noise levels, seeds and sizes have been decided."""

    sampler: Sampler
    levels: Levels  # where it starts, and the noise levels it walks
    shape: tuple[int, int, int, int]  # (B or F, C, H, W)
    seeds: Seeds  # one per image
    clean: Tensor | None = None  # (B or 1, C, H, W) to start from; None starts from nothing
    mask: Tensor | None = None  # (B or 1, 1, H, W) in [0, 1]; 1 repaints, 0 keeps `clean`
    mix: Mix = evenly  # what grey in the mask means
    noise_scale: float = 1.0  # of the first noise: A1111's noise multiplier for image-to-image
    extra_noise: float = 0.0  # and so much of it on top, at the first noise level
    spread: Wrapper | None = None  # tiles or windows
    check: Callable[[Tensor], None] | None = None  # sees every estimate; raises to stop

    @property
    def steps(self) -> int | None:
        """How many steps the sampler takes, which for DDIM and some others is not what was asked.

        None: it finds its own number (DPM adaptive); `Step.count` then says what it expects.
        """
        return self.levels.steps


def sample(denoise: Denoiser, course: Course, empty: Tensor) -> Iterator[Step]:
    """txt2img, img2img and inpainting: they differ in where they start and what they hold.

    `denoise` is the guided denoiser; `empty` (1, C or 1, 1, 1) is the latent of nothing, and gives
    dtype and device. Always yields at least one step; the `x` of the last one is the result.
    """
    noise = course.seeds.start(course.levels.span)
    clean = (empty if course.clean is None else course.clean).expand(course.shape)
    first = noise.first(clean) * course.noise_scale
    held = None
    if course.mask is not None:
        # Only a preserving start leaves the kept part off its noise level; see `hold`.
        noised = first if course.levels.preserving else None
        held = Held(clean, course.mask, noised, course.mix)
    denoise = numbered(stack(denoise, spread=course.spread, held=held, check=course.check))
    x = begin(clean, first, course.levels, extra=course.extra_noise)
    step = Step(-1, 0, x, clean, course.levels.sigmas[0].item())
    for step in course.sampler(denoise, x, course.levels.sigmas, noise):
        if step.index < step.count - 1:
            yield step
    yield replace(step, x=finish(step.x, course.levels, held))


def numbered(inner: Denoiser) -> Denoiser:
    """Tell `inner` how many calls of this run came before."""
    calls = count()
    return lambda x, at: inner(x, replace(at, call=next(calls)))


def begin(clean: Tensor, noise: Tensor, levels: Levels, *, extra: float = 0.0) -> Tensor:
    """The latent at the first noise level: `clean` and `noise` (B, C, H, W), mixed.

    `extra` is more of the same noise, for more detail than the picture had.
    """
    first = levels.sigmas[0].item()
    spread = math.hypot(1, first)  # standard deviation for unit-variance latents
    if math.isinf(levels.start):
        return spread * noise
    if not levels.preserving:
        return clean + (first + extra) * noise
    # A variance-preserving mix at `levels.start`, which need not be where the walk begins.
    kept = 1 / math.hypot(1, levels.start)
    return (kept * clean + (levels.start * kept + extra) * noise) * spread


def finish(x: Tensor, levels: Levels, held: Held | None) -> Tensor:
    """The result: variance-preserving runs end above 0 and are scaled; what is kept is restored."""
    if levels.preserving:
        x = x / math.hypot(1, levels.sigmas[-1].item())
    return x if held is None else held.mix(held.clean, x, held.mask, At(0.0, 1.0))

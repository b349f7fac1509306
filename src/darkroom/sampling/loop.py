"""The one denoising loop, and the plain values that tell it what to do.

    sampler, _ = find_sampler("DPM++ 2M")                         # core.sampler_table
    scheduler = find_scheduler("Automatic")
    table = table_for(sampler, NoiseTable.stable_diffusion())
    course = Course(
        sampler=SAMPLERS[sampler.function],
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

import torch
from torch import Tensor

from darkroom.sampling.denoiser import Denoiser, Held, Wrapper, stack
from darkroom.sampling.noise import Seeds
from darkroom.sampling.samplers import Sampler, Step
from darkroom.sampling.schedules import Levels


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A run after sampler, noise levels, seeds and sizes have been decided."""

    sampler: Sampler
    levels: Levels  # where it starts, and the noise levels it walks
    shape: tuple[int, int, int, int]  # (B or F, C, H, W)
    seeds: Seeds  # one per image
    clean: Tensor | None = None  # (B or 1, C, H, W) to start from; None starts from nothing
    mask: Tensor | None = None  # (B or 1, 1, H, W) in [0, 1]; 1 repaints, 0 keeps `clean`
    spread: Wrapper | None = None  # tiles or windows
    check: Callable[[Tensor], None] | None = None  # sees every estimate; raises to stop

    @property
    def steps(self) -> int:
        """How many steps the sampler walks, which for DDIM and UniPC is not what was asked."""
        return len(self.levels.sigmas) - 1


def sample(denoise: Denoiser, course: Course, empty: Tensor) -> Iterator[Step]:
    """txt2img, img2img and inpainting: they differ in where they start and what they hold.

    `denoise` is the guided denoiser; `empty` (1, C or 1, 1, 1) is the latent of nothing, and gives
    dtype and device. Always yields at least one step; the `x` of the last one is the result.
    """
    noise = course.seeds.start(course.levels.span)
    clean = (empty if course.clean is None else course.clean).expand(course.shape)
    first = noise(clean)
    held = None
    if course.mask is not None:
        # Only a preserving start leaves the kept part off its noise level; see `hold`.
        held = Held(clean, course.mask, first if course.levels.preserving else None)
    denoise = stack(denoise, spread=course.spread, held=held, check=course.check)
    x = begin(clean, first, course.levels)
    step = Step(-1, 0, x, clean, course.levels.sigmas[0].item())
    for step in course.sampler(denoise, x, course.levels.sigmas, noise):
        if step.index < step.count - 1:
            yield step
    yield replace(step, x=finish(step.x, course.levels, held))


def begin(clean: Tensor, noise: Tensor, levels: Levels) -> Tensor:
    """The latent at the first noise level: `clean` and unit `noise` (B, C, H, W), mixed."""
    first = levels.sigmas[0].item()
    if not levels.preserving:
        return clean + first * noise
    # A variance-preserving mix at `levels.start`, which need not be where the walk begins.
    kept = 1 / math.hypot(1, levels.start)
    added = 1.0 if math.isinf(levels.start) else levels.start * kept
    return (kept * clean + added * noise) * math.hypot(1, first)


def finish(x: Tensor, levels: Levels, held: Held | None) -> Tensor:
    """The result: variance-preserving runs end above 0 and are scaled; what is kept is restored."""
    if levels.preserving:
        x = x / math.hypot(1, levels.sigmas[-1].item())
    return x if held is None else torch.lerp(held.clean, x, held.mask)

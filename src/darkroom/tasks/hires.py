"""A second run on the enlarged result of the first: A1111's hires fix.

    latents = yield from second_run(passes, request, range(2), latents)

    first run ─ latents ─┬─ enlarged as latents ──────────────────┬─ noised ─ second run
                         └─ decoded, enlarged in pixels, encoded ─┘

Networks draw best at the size that they were trained at: they lay out the picture there, and fill
it with detail in a second, larger run that is not allowed to change all of it. What the second run
does not set is as in the first; its noise is of the same seeds, at its own size.
"""

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from darkroom.core.blocks import Hires, Region, Tiling
from darkroom.core.errors import BadRequest
from darkroom.core.event import Event
from darkroom.core.request import ResolvedRequest
from darkroom.engine.engine import calls_of
from darkroom.engine.seamless import AXES
from darkroom.media.fit import LEAST, MOST, fit
from darkroom.media.picture import read_picture
from darkroom.tasks.canvas import Canvas
from darkroom.tasks.enlarge import Target, enlarge
from darkroom.tasks.passes import Passes
from darkroom.tasks.regions import larger, within
from darkroom.tasks.start import start_of
from darkroom.weights.topology import FACTOR

LATENT: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "latent": ("bilinear", False),
        "latent (antialiased)": ("bilinear", True),
        "latent (bicubic)": ("bicubic", False),
        "latent (bicubic antialiased)": ("bicubic", True),
        "latent (nearest)": ("nearest", False),
        "latent (nearest-exact)": ("nearest-exact", False),
    }
)
"""What enlarges latents, by A1111's names: torch's mode of interpolation, and whether it blurs."""
STRIP = 16  # px of the opposite edge, at least, that an upscaler is shown


def target_of(request: ResolvedRequest, hires: Hires) -> Target:
    """The sizes that `hires` asks for, rounded down to multiples of 8; the middle is drawn.

    With one side the other keeps the shape of the picture; with both, what is too much is cropped.
    """
    width, height = request.width, request.height
    wide, high = hires.width, hires.height
    if wide is None and high is None:
        found = int(width * hires.scale), int(height * hires.scale)
    elif high is None or (wide is not None and width * high < height * wide):
        found = wide or 0, (wide or 0) * height // width
    else:
        found = high * width // height, high
    enlarged = _whole(found)
    size = enlarged[0] if wide is None else wide, enlarged[1] if high is None else high
    if max(enlarged) > MOST or min(size) < LEAST:
        raise BadRequest(
            f"hires would make the picture {enlarged[0]} x {enlarged[1]} pixels large",
            hint=f"Choose a size from {LEAST} to {MOST} pixels a side.",
        )
    if enlarged != size and (request.mask or request.outpaint):
        raise BadRequest(
            "the second run would crop the picture that its result is to be put back into",
            hint="Give hires a scale, or one side.",
        )
    if enlarged != size and any(region.mask for region in request.regions):
        raise BadRequest(
            "the second run would crop the picture that the mask of a region is for",
            hint="Give hires a scale, or one side.",
        )
    return Target(enlarged, size)


def _whole(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // FACTOR * FACTOR, size[1] // FACTOR * FACTOR


def hires_request(request: ResolvedRequest) -> ResolvedRequest:
    """The request of the second run of one that has `hires`; BadRequest when it is too large."""
    hires = request.hires
    if hires is None:
        return request
    target = target_of(request, hires)
    first_only = request.refiner is not None and request.refiner.on == "first"
    own = {
        **hires.changes(request.sampler),
        "width": target.size[0],
        "height": target.size[1],
        "hires": None,
        "refiner": None if first_only else request.refiner,
        "regions": tuple(_region(region, request, target) for region in request.regions),
    }
    return request.model_copy(update=own)


def _region(region: Region, request: ResolvedRequest, target: Target) -> Region:
    """A region of the first picture, where it is in the second."""
    (wide, high), (left, top, right, bottom) = target.enlarged, target.box(FACTOR)
    scale = min(wide / request.width, high / request.height)
    return within(larger(region, scale), (left / wide, top / high, right / wide, bottom / high))


def second_run(
    passes: Passes, request: ResolvedRequest, images: range, latents: Tensor | None
) -> Generator[Event, None, Tensor]:
    """The second run of `request` on what the first one made: latents (B, C, h, w).

    `latents` (B, C, H, W) are the first run's, with its checkpoint on; None where a finished
    picture stands for it (`hires.first`).
    """
    hires = request.hires
    if hires is None:
        raise ValueError("the request has no second run")
    later = hires_request(request)
    target = target_of(request, hires)
    if hires.upscaler.casefold() in LATENT:
        if latents is None:
            latents = _encoded(passes, request, [_first(passes, request, hires)])
        large = enlarged(latents, target, hires.upscaler, tiling=request.tiling)
    else:
        pictures = [*_pictures(passes, request, hires, latents)]
        del latents
        yield from passes.drain()
        large = _encoded(passes, later, pictures)
    yield from passes.drain()
    passes.on(later).fit(later)  # no rig is kept here: a refiner is to have its memory
    start = start_of(passes.rig, later, _canvas(passes, request, target), images=images)
    start = replace(
        start,
        clean=large,
        strength=hires.strength,
        exact=True,
        noise_scale=1.0,
        extra_noise=0.0,
        before=calls_of(request),
    )
    return (yield from passes.run(later, images, start, stage="hires"))


def enlarged(latents: Tensor, target: Target, upscaler: str, *, tiling: Tiling) -> Tensor:
    """Latents (B, C, H, W) enlarged by one of `LATENT`, and cropped to the target.

    A picture that wraps is enlarged with its neighbours around it, which are itself.
    """
    mode, antialias = LATENT[upscaler.casefold()]
    width, height = (side // FACTOR for side in target.enlarged)
    across, down = (3 if axis else 1 for axis in AXES[tiling])
    large = functional.interpolate(
        latents.float().repeat(1, 1, down, across),
        size=(down * height, across * width),
        mode=mode,
        antialias=antialias,
    )
    left, top, right, bottom = (side // FACTOR for side in target.box(FACTOR))
    above, before = down // 2 * height, across // 2 * width
    return large[..., above + top : above + bottom, before + left : before + right]


def _pictures(
    passes: Passes, request: ResolvedRequest, hires: Hires, latents: Tensor | None
) -> Iterator[Image.Image]:
    """The first results, enlarged in pixels and cropped to the target."""
    target = target_of(request, hires)
    rig = passes.on(request)
    rig.fit(request)
    for latent in [None] if latents is None else latents:
        passes.job.check()
        picture = _first(passes, request, hires) if latent is None else rig.decode(latent)
        around = around_of(target, picture.size, tiling=request.tiling)
        yield enlarge(
            passes.engine,
            passes.job,
            around.wrapped(picture),
            size=around.size,
            upscaler=hires.upscaler,
            say=passes.note,
        ).crop(around.box)


@dataclass(frozen=True, slots=True)
class Around:
    """What a picture that wraps is given of its opposite edges before it is enlarged."""

    margins: tuple[int, int]  # px at the left and right, and at the top and bottom
    size: tuple[int, int]  # px of all of it, enlarged
    box: tuple[int, int, int, int]  # what of that is kept, as Pillow crops

    def wrapped(self, picture: Image.Image) -> Image.Image:
        """The picture with them."""
        if not any(self.margins):
            return picture
        across, down = ((margin, margin) for margin in self.margins)
        return Image.fromarray(np.pad(np.asarray(picture), (down, across, (0, 0)), mode="wrap"))


def around_of(target: Target, size: tuple[int, int], *, tiling: Tiling) -> Around:
    """Nothing where it does not wrap; else strips that are whole pixels when enlarged too."""
    margins, grown = [0, 0], [0, 0]
    for axis, wraps in enumerate(AXES[tiling]):
        if wraps:
            side, large = size[axis], target.enlarged[axis]
            unit = side // math.gcd(side, large)
            margins[axis] = -(-STRIP // unit) * unit
            grown[axis] = margins[axis] * large // side
    (width, height), (left, top, right, bottom) = target.enlarged, target.box(FACTOR)
    across, down = grown
    whole = width + 2 * across, height + 2 * down
    box = left + across, top + down, right + across, bottom + down
    return Around((margins[0], margins[1]), whole, box)


def _first(passes: Passes, request: ResolvedRequest, hires: Hires) -> Image.Image:
    """The finished picture that stands for the first run, at its size."""
    picture = read_picture(passes.job.pictures(hires.first or ""))
    size = request.width, request.height
    if picture.size != size:
        asked, found = ("{} x {}".format(*each) for each in (size, picture.size))
        passes.note(f"the first picture is {found} and is fitted into {asked} pixels")
    return fit(picture, size, "crop")


def _encoded(passes: Passes, request: ResolvedRequest, pictures: list[Image.Image]) -> Tensor:
    """Pictures of the request's size as latents (B, C, H, W) of its checkpoint."""
    rig = passes.on(request)
    rig.fit(request)
    return torch.cat([rig.encode(picture) for picture in pictures])


def _canvas(passes: Passes, request: ResolvedRequest, target: Target) -> Canvas | None:
    """What the request begins with, at the size of the second run."""
    canvas = passes.canvas(request)
    if canvas is None:
        return None

    def large(image: Image.Image) -> Image.Image:
        return fit(image, target.enlarged, "stretch").crop(target.box(FACTOR))

    mask = None if canvas.mask is None else large(canvas.mask)
    return replace(canvas, picture=large(canvas.picture), mask=mask)

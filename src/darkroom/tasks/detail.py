"""Faces, hands and the like, found in a finished picture and painted anew, large (ADetailer).

    picture = yield from detailed(passes, request, image, picture)

Each thing that a detector finds is cut out with its surroundings, painted at the size that the
network is made for, and laid back through a blurred mask: outside of it not a bit changes. The
prompts of a block may have parts for one thing after the other, the largest first: `smile [SEP]
frown`; [PROMPT] stands for the prompt of the request, [SKIP] leaves a thing as it is.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from darkroom.core.blocks import Detail, Init
from darkroom.core.event import Event
from darkroom.core.fields import MAX_SEED
from darkroom.core.model import Kind
from darkroom.core.request import ResolvedRequest
from darkroom.engine.detect import Detector, Found
from darkroom.engine.engine import Engine
from darkroom.media.mask import HALF
from darkroom.tasks.canvas import around
from darkroom.tasks.job import Job
from darkroom.tasks.passes import Passes
from darkroom.tasks.seeds import seed_of
from darkroom.tasks.start import start_of

NEXT, SKIP, SAME = "[SEP]", "[SKIP]", "[PROMPT]"
IN_HAND = "in hand"  # a picture that is no file
ALONE = {  # what of a request is not for a part of its picture
    "mask": None, "outpaint": None, "loopback": None, "hires": None, "refiner": None,
    "regions": (), "detail": (), "restore": None, "tiling": "none", "variation_strength": 0.0,
    "seed_resize_width": None, "seed_resize_height": None,
}  # fmt: skip


def detectors_of(engine: Engine, request: ResolvedRequest, job: Job) -> tuple[Detector, ...]:
    """The detectors of the request's blocks.

    BadRequest with the command to install what one needs, BadFile where its file is of no use: call
    it before anything is drawn.
    """
    return tuple(
        engine.detector(block.detector, job.cards.get((Kind.DETECTOR, block.detector)))
        for block in request.detail
    )


def detailed(
    passes: Passes, request: ResolvedRequest, image: int, picture: Image.Image
) -> Generator[Event, None, Image.Image]:
    """`picture`, image number `image` of `request`, with what its `detail` blocks ask for.

    The things of a picture are painted from the seeds that follow the picture's own.
    """
    seed = seed_of(request, image)
    detectors = detectors_of(passes.engine, request, passes.job)
    for block, detector in zip(request.detail, detectors, strict=True):
        if not block.strength:
            passes.note(f"detail of {block.detector} has no effect: its strength is 0")
            continue
        found = chosen(detector.find(picture, confidence=block.confidence), block, picture.size)
        if not found:
            passes.note(f"picture {image + 1}: no {block.detector} was found")
        for number, thing in enumerate(found):
            own = request_for(request, block, number)
            if own is not None:
                own = own.model_copy(update={"seed": (seed - image) % (MAX_SEED + 1)})
                stage = f"{block.detector} {number + 1} of {len(found)}"
                mask = mask_of(thing, block, picture.size)
                part = _Part(own, block, mask, stage)
                picture = yield from _painted(passes, part, image, picture)
            seed += 1
        yield from passes.drain()
    return picture


def chosen(found: list[Found], block: Detail, size: tuple[int, int]) -> list[Found]:
    """What of `found` is painted in a picture of `size`: the largest first."""
    least = block.smallest * size[0] * size[1]
    large = [thing for thing in found if thing.area > 0 and thing.area >= least]
    return sorted(large, key=lambda thing: -thing.area)[: block.most]


def mask_of(thing: Found, block: Detail, size: tuple[int, int]) -> Image.Image:
    """What is painted anew: the thing's mask, or else its box, grown ("L", of `size`)."""
    whole = Image.new("L", size)
    whole.paste(255, thing.region)
    if thing.mask is not None and (np.asarray(thing.mask) >= HALF).any():
        whole.paste(thing.mask, thing.region)
    left, top, right, bottom = thing.region
    reach = abs(block.grow) + 1  # px; beyond them nothing changes, and photos are large
    near = (
        max(0, left - reach),
        max(0, top - reach),
        min(size[0], right + reach),
        min(size[1], bottom + reach),
    )
    grown = _grown(np.asarray(whole.crop(near)) >= HALF, block.grow)
    whole.paste(Image.fromarray(np.where(grown, 255, 0).astype(np.uint8)), near)
    return whole


def request_for(request: ResolvedRequest, block: Detail, number: int) -> ResolvedRequest | None:
    """The request that paints thing `number` of a block; None if it is to be left as it is."""
    prompt = part_of(block.prompt, number, request.prompt)
    negative = part_of(block.negative_prompt, number, request.negative_prompt)
    if prompt is None:
        return None
    own = {
        **block.changes(request.sampler),
        "prompt": prompt,
        "negative_prompt": negative or "",
        "init": Init.model_validate({"image": IN_HAND, "strength": block.strength}),
    }
    return request.model_copy(update=ALONE | own)


def part_of(prompt: str | None, number: int, whole: str) -> str | None:
    """The prompt for thing `number`, the last part for those beyond; None where it is [SKIP]."""
    parts = [part.strip() for part in (prompt or "").split(NEXT)]
    part = parts[min(number, len(parts) - 1)]
    return None if part == SKIP else part.replace(SAME, whole) or whole


@dataclass(frozen=True, slots=True)
class _Part:
    """One thing to paint."""

    request: ResolvedRequest
    block: Detail
    mask: Image.Image
    stage: str


def _painted(
    passes: Passes, part: _Part, image: int, picture: Image.Image
) -> Generator[Event, None, Image.Image]:
    rig = passes.on(part.request)
    side = part.block.size or rig.model.card.native_size
    left, top, right, bottom = part.mask.getbbox() or (0, 0, *picture.size)
    request = part.request.model_copy(update={"width": side, "height": side})
    rig.fit(request)
    canvas = around(
        picture,
        part.mask,
        size=(side, side),
        padding=part.block.padding,
        blur=min(part.block.blur, right - left, bottom - top),  # or nothing is left of specks
    )
    images = range(image, image + 1)
    start = start_of(rig, request, canvas, images=images)
    latents = yield from passes.run(request, images, start, stage=part.stage)
    return canvas.back(rig.decode(latents[0]))


def _grown(flags: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """What lies within `pixels` of a part; of a negative number, what lies so deep inside it.

    The part itself where nothing lies so deep.
    """
    if pixels == 0 or flags.all():
        return flags
    if pixels > 0:
        return np.asarray(ndimage.distance_transform_edt(~flags) <= pixels, bool)
    inner = ndimage.distance_transform_edt(flags) > -pixels
    return np.asarray(inner if inner.any() else flags, bool)

"""Prompts by region: masks from boxes and pictures, and their prompts in the script of a run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from darkroom.core.blocks import Region
from darkroom.core.errors import BadRequest, shorten
from darkroom.core.prompt import networks
from darkroom.core.request import ResolvedRequest
from darkroom.engine.script import Area, Script
from darkroom.media.mask import read_mask, resized
from darkroom.sampling.regional import Place
from darkroom.weights.topology import FACTOR

Box = tuple[float, float, float, float]  # left, top, width, height: shares of the picture
Edges = tuple[float, float, float, float]  # left, top, right, bottom: shares as well
Pictures = Callable[[str], Path]
Write = Callable[[str], Script]  # a prompt, encoded for the run
Say = Callable[[str], None]
_SLACK = 1e-6  # 1/3 and 2/3, written as decimals, are no more than 1


def with_regions(
    script: Script, request: ResolvedRequest, pictures: Pictures, *, write: Write, say: Say
) -> Script:
    """`script` with the regions of `request`; `say` is told of those that have no effect.

    BadRequest when a region's prompt names a LoRA, or its mask cannot be read.
    """
    size = request.width, request.height
    areas, embeddings = [], dict.fromkeys(script.embeddings)
    for number, region in enumerate(request.regions, 1):
        if tags := networks(region.prompt)[1]:
            raise BadRequest(
                f"region {number} names {shorten(str(tags[0]))}, which would change the whole"
                " picture",
                hint="Name it in the prompt of the picture.",
            )
        mask, note = mask_of(region, size, pictures)
        if note:
            say(f"region {number}: {note}")
        if (idle := _idle(region, mask)) is not None:
            say(f"region {number} has no effect: {idle}")
            continue
        written = write(region.prompt)
        embeddings |= dict.fromkeys(written.embeddings)
        window = region.start, region.end
        place = Place(mask=mask, weight=region.weight, window=window)
        areas.append(Area(written.parts, place))
    return replace(script, areas=tuple(areas), embeddings=tuple(embeddings))


def mask_of(region: Region, size: tuple[int, int], pictures: Pictures) -> tuple[Tensor, str]:
    """The mask of a region of a picture of `size` (width, height) in latent pixels: (1, 1, H, W).

    Its border fades over `feather` pixels of the picture, half of them inside; at the edges of the
    picture nothing fades. With it come words for the user on what does not fit, or "".
    """
    if region.box is not None:
        full, note = _of_box(region.box, size)
    else:
        full, note = resized(read_mask(pictures(region.mask or "")), size)
    if region.feather > 1:
        full = full.filter(ImageFilter.BoxBlur((region.feather - 1) / 2))
    width, height = (side // FACTOR for side in size)
    small = full.resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)[None, None], note


def larger(region: Region, scale: float) -> Region:
    """The same region in a picture `scale` times larger."""
    return region.model_copy(update={"feather": round(region.feather * scale)})


def within(region: Region, part: Edges) -> Region:
    """The same region in a part of its picture."""
    if region.box is None or part == (0, 0, 1, 1):
        return region
    left, top, right, bottom = part
    x, width = _inside(region.box[0], region.box[2], start=left, end=right)
    y, height = _inside(region.box[1], region.box[3], start=top, end=bottom)
    return region.model_copy(update={"box": (x, y, width, height)})


def _inside(place: float, length: float, *, start: float, end: float) -> tuple[float, float]:
    """Place and length of a stretch in the one from `start` to `end`, as shares of that."""
    first, last = (
        min(max((edge - start) / (end - start), 0), 1) for edge in (place, place + length)
    )
    return first, last - first


def _of_box(box: Box, size: tuple[int, int]) -> tuple[Image.Image, str]:
    (left, top, width, height), (across, down) = box, size
    right, bottom = left + width, top + height
    mask = Image.new("L", size, 0)
    ends = round(right * across), round(bottom * down)
    mask.paste(255, (round(left * across), round(top * down), *ends))
    beyond = max(right, bottom) > 1 + _SLACK
    return mask, "its box goes on beyond the picture, and is cut off there" if beyond else ""


def _idle(region: Region, mask: Tensor) -> str | None:
    """Why a region does nothing, if it does nothing."""
    if not bool(mask.any()):
        return "it covers nothing of the picture"
    if region.weight == 0:
        return "its weight is 0"
    if region.start >= region.end:
        return "it ends where it starts"
    return None

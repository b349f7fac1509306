"""What a detector finds in a picture, and what detectors share: no box twice, a picture fitted.

Boxes are (left, top, right, bottom) in pixels of the picture that was looked at.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[float, float, float, float]  # px: left, top, right, bottom
Floats = NDArray[np.float32]

GREY = (114, 114, 114)  # around a picture that does not fill what a network sees


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing that was found."""

    box: Box
    score: float  # from 0 to 1
    label: str
    mask: Image.Image | None = None  # "L", as large as the region: 255 is the thing
    points: tuple[tuple[float, float], ...] = ()  # px; of faces: eyes, nose, corners of the mouth

    @property
    def area(self) -> float:
        """Pixels in the box."""
        left, top, right, bottom = self.box
        return max(0.0, right - left) * max(0.0, bottom - top)

    @property
    def region(self) -> tuple[int, int, int, int]:
        """The whole pixels that the box touches, as Pillow crops: one at least where it has area.

        Masks are of it and not of the picture: a photo may have hundreds of things.
        """
        left, top, right, bottom = self.box
        return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


class Detector(Protocol):
    """Finds one kind of thing."""

    def find(self, picture: Image.Image, *, confidence: float) -> list[Found]:
        """What is in the RGB `picture` with a score of `confidence` or more, the surest first."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A picture made as large as a network wants it, with grey around it."""

    image: Image.Image
    scale: float  # of the picture in it
    left: int  # px of grey before it
    top: int

    def back(self, points: Floats) -> Floats:
        """Points or boxes (…, 2 n) from the network's pixels to those of the picture."""
        offset = np.resize(np.array([self.left, self.top], np.float32), points.shape[-1])
        return (points - offset) / np.float32(self.scale)


def fitted(
    picture: Image.Image,
    size: tuple[int, int],
    *,
    color: tuple[int, int, int] = GREY,
    centred: bool = True,
) -> Fitted:
    """The whole picture in `size` (width, height), its aspect kept."""
    width, height = size
    scale = min(width / picture.width, height / picture.height)
    inner = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    left = (width - inner[0]) // 2 if centred else 0
    top = (height - inner[1]) // 2 if centred else 0
    image = Image.new("RGB", size, color)
    image.paste(picture.convert("RGB").resize(inner, Image.Resampling.BILINEAR), (left, top))
    return Fitted(image, scale, left, top)


def overlaps(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box (4,) with each of `boxes` (n, 4)."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    both = np.prod(np.clip(box[2:] - box[:2], 0, None)) + areas - shared
    return np.asarray(shared / np.maximum(both, 1e-9), np.float32)


def distinct(boxes: Floats, scores: Floats, *, overlap: float) -> list[int]:
    """Which of `boxes` (n, 4) to keep, the surest first: none overlaps a surer one by more.

    Greedy non-maximum suppression; `overlap` is an intersection over union.
    """
    left = np.argsort(-scores, kind="stable")
    kept = []
    while left.size:
        best, rest = int(left[0]), left[1:]
        kept.append(best)
        left = rest[overlaps(boxes[best], boxes[rest]) <= overlap]
    return kept


def box_of(values: Floats, size: tuple[int, int]) -> Box:
    """A box within a picture of `size`."""
    left, top, right, bottom = (float(value) for value in values)
    width, height = size
    return max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)

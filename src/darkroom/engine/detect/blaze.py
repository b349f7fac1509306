"""Hands and persons, found by MediaPipe's networks in a package that carries them.

V. Bazarevsky et al., "BlazePose: on-device real-time body pose tracking", 2020; F. Zhang et al.,
"MediaPipe Hands: on-device real-time hand tracking", 2020. Both look for what is rigid (a palm, the
hips) on fixed grids, and tell from points in it where the whole lies.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from darkroom.engine.detect.found import Floats, Found, box_of, distinct, fitted
from darkroom.engine.detect.runtime import Lite

OVERLAP = 0.3  # that two things may have
PALM_TO_HAND = 2.6  # times the palm's side, and half of that beyond it towards the fingers
LARGEST_LOGIT = 50.0  # scores beyond are 0 or 1 anyway


@dataclass(frozen=True, slots=True)
class Grids:
    """The places that a network answers for: (px between them, answers at each) of its grids."""

    side: int  # px of the picture it looks at
    steps: tuple[tuple[int, int], ...]
    lowest: float  # of the pixels it is given; the highest is 1

    def centres(self) -> Floats:
        """(N, 2) as shares of the side, in the order of its answers."""
        rows = []
        for step, times in self.steps:
            count = self.side // step
            axis = (np.arange(count, dtype=np.float32) + 0.5) / count
            y, x = np.meshgrid(axis, axis, indexing="ij")
            rows.append(np.stack([x, y], -1).reshape(-1, 2).repeat(times, 0))
        return np.concatenate(rows)


PALMS = Grids(192, ((8, 2), (16, 6)), 0.0)
HIPS = Grids(224, ((8, 2), (16, 2), (32, 6)), -1.0)


def decoded(boxes: Floats, logits: Floats, grids: Grids) -> tuple[Floats, Floats]:
    """Scores (N,) and points (N, P, 2) in px, the first two those of the box: centre and size."""
    points = boxes.reshape(len(boxes), -1, 2).copy()
    centres = grids.centres() * grids.side
    points[:, 0] += centres
    points[:, 2:] += centres[:, None]
    scores = 1 / (1 + np.exp(-np.clip(logits.ravel(), -LARGEST_LOGIT, LARGEST_LOGIT)))
    return np.asarray(scores, np.float32), points


def hand_around(points: Floats) -> Floats:
    """The box (4,) of a hand from its palm: centre, size, wrist … middle finger's first joint."""
    wrist, finger = points[2], points[4]
    side = float(points[1].max())
    way = (finger - wrist) / max(float(np.hypot(*(finger - wrist))), 1e-6)
    centre = points[0] + 0.5 * side * way
    half = PALM_TO_HAND * side / 2
    return np.concatenate([centre - half, centre + half]).astype(np.float32)


def body_around(points: Floats) -> Floats:
    """The box (4,) of a person: around the hips, as large as the second point is away."""
    hips, reach = points[2], points[3]
    half = float(np.hypot(*(reach - hips)))
    return np.concatenate([hips - half, hips + half]).astype(np.float32)


class Blaze:
    """One of MediaPipe's detectors; with `outline`, a second network tells what of a box it is."""

    def __init__(
        self,
        path: Path,
        grids: Grids,
        whole: Callable[[Floats], Floats],
        *,
        label: str,
        outline: Path | None = None,
    ) -> None:
        self._path, self._grids, self._whole = path, grids, whole
        self._label, self._outline = label, outline

    @cached_property
    def _finder(self) -> Lite:
        return Lite(self._path)

    @cached_property
    def _outliner(self) -> Lite | None:
        return None if self._outline is None else Lite(self._outline)

    def find(self, picture: Image.Image, *, confidence: float) -> list[Found]:
        """What was found, the surest first."""
        grids = self._grids
        fit = fitted(picture, (grids.side, grids.side), color=(0, 0, 0))
        span = np.float32((1 - grids.lowest) / 255)
        pixels = np.asarray(fit.image, np.float32)[None] * span + np.float32(grids.lowest)
        boxes, logits = self._finder.run(pixels)[:2]
        scores, points = decoded(boxes[0], logits[0], grids)
        sure = np.flatnonzero(scores >= confidence)
        wholes = [fit.back(self._whole(points[number])) for number in sure]
        if not wholes:
            return []
        kept = distinct(np.stack(wholes), scores[sure], overlap=OVERLAP)
        things = (
            Found(
                box=box_of(wholes[each], picture.size),
                score=float(scores[sure[each]]),
                label=self._label,
            )
            for each in kept
        )
        return [self._outlined(picture, thing) for thing in things if thing.area]

    def _outlined(self, picture: Image.Image, whole: Found) -> Found:
        """The thing `whole`, with its mask and the box of that where a network outlines it."""
        outliner = self._outliner
        if outliner is None:
            return whole
        crop = picture.crop(whole.region)
        seen = crop.resize((outliner.side, outliner.side), Image.Resampling.BILINEAR)
        share = outliner.run(np.asarray(seen, np.float32)[None] / np.float32(255))[0][0, ..., 0]
        part = Image.fromarray(share).resize(crop.size, Image.Resampling.BILINEAR)
        mask = Image.fromarray(np.where(np.asarray(part) > 0.5, 255, 0).astype(np.uint8))
        tight = mask.getbbox()
        if tight is None:
            return whole
        left, top, right, bottom = tight
        x, y, _, _ = whole.region
        box = x + left, y + top, x + right, y + bottom
        return replace(whole, box=box, mask=mask.crop(tight))

"""A picture put together from tiles that overlap, in memory that its size hardly matters for.

    mosaic = Mosaic((width, height), Tiling(tile=256, overlap=16), scale=2)
    for spot in mosaic.spots:                    # left to right, top to bottom
        mosaic.put(spot, enlarged(picture.crop(spot.box)))
    mosaic.pixels                                # (scale * height, scale * width, C) of 8 bits

Where tiles overlap, one fades out as the other fades in; the outermost quarter of an overlap, where
a network sees too little around a pixel, is taken from the other tile. Only one row of tiles is
held in full precision.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

UNSEEN = 0.25  # of an overlap, at each side


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How a picture is cut."""

    tile: int  # px
    overlap: int  # px, at least; tiles are spread evenly
    step: int = 1  # px; tiles begin at multiples of it

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along a side of `length` px; a short side is one tile."""
        if length <= self.tile:
            return [0]
        stride = max(self.tile - self.overlap, self.step)
        count = math.ceil((length - self.tile) / stride)
        last = length - self.tile
        return [round(last * n / count / self.step) * self.step for n in range(count)] + [last]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The rows or columns of one tile, and how much each of them counts."""

    start: int  # px of the source
    stop: int
    weights: Floats  # per pixel of the result


@dataclass(frozen=True, slots=True)
class Spot:
    """One tile."""

    across: Stretch
    down: Stretch

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in the source, as Pillow crops."""
        return self.across.start, self.down.start, self.across.stop, self.down.stop


class Mosaic:
    """Takes the tiles in the order of `spots`."""

    def __init__(
        self, size: tuple[int, int], tiling: Tiling, *, scale: int = 1, channels: int = 3
    ) -> None:
        width, height = size
        across, down = (stretches(side, tiling, scale) for side in size)
        self.spots = [Spot(column, row) for row in down for column in across]
        self.pixels: Pixels = np.empty((height * scale, width * scale, channels), np.uint8)
        self._scale, self._channels = scale, channels
        self._ends = [*(row.start for row in down[1:]), height]  # of what is final, row by row
        self._fading: Floats = self._band(0)  # what the row before leaves to the next

    def put(self, spot: Spot, tile: Floats) -> None:
        """Add a tile (h, w, C) in [0, 1]; what leaves the range is cut off."""
        left = spot.across.start * self._scale
        if left == 0:
            self._row = self._band((spot.down.stop - spot.down.start) * self._scale)
        right = left + tile.shape[1]
        self._row[:, left:right] += tile.clip(0, 1) * spot.across.weights[:, None]
        if right == self.pixels.shape[1]:
            self._finish_row(spot.down)

    def _finish_row(self, down: Stretch) -> None:
        self._row *= down.weights[:, None, None]
        self._row[: len(self._fading)] += self._fading
        top = down.start * self._scale
        done = self._ends.pop(0) * self._scale - top
        self._row[:done] *= 255
        self._row[:done] += 0.5
        self.pixels[top : top + done] = self._row[:done]
        self._fading = self._row[done:]

    def _band(self, rows: int) -> Floats:
        return np.zeros((rows, self.pixels.shape[1], self._channels), np.float32)


def stretches(length: int, tiling: Tiling, scale: int) -> list[Stretch]:
    """The tiles along one side; the weights of all that cover a pixel add up to 1."""
    starts = tiling.starts(length)
    spans = [(start, min(start + tiling.tile, length)) for start in starts]
    made = [np.ones((stop - start) * scale, np.float32) for start, stop in spans]
    for number, ((_, stop), (start, _)) in enumerate(pairwise(spans)):
        shared = (stop - start) * scale
        ramp = np.zeros(0, np.float32) if shared <= 0 else fading_in(shared)
        made[number][len(made[number]) - len(ramp) :] *= 1 - ramp
        made[number + 1][: len(ramp)] *= ramp
    return [Stretch(*span, weights) for span, weights in zip(spans, made, strict=True)]


def fading_in(count: int) -> Floats:
    """From 0 to 1 over `count` pixels, level over the first and the last quarter."""
    middle = (np.arange(count, dtype=np.float32) + 0.5) / count
    return ((middle - UNSEEN) / (1 - 2 * UNSEEN)).clip(0, 1)

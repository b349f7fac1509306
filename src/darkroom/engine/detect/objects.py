"""Things before a plain or smooth background, such as the starter's pictures: no weights at all."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from darkroom.engine.detect.found import Found, box_of
from darkroom.media.backdrop import subject

LEAST = 0.002  # of the picture; what is smaller is no thing
LOOKED_AT = 2048  # px of the longer side, at most: a border to within a few px of a photo will do


class Objects:
    """Finds what stands out from the background that a picture's border shows."""

    def find(self, picture: Image.Image, *, confidence: float) -> list[Found]:
        """Things with masks, the largest first; none where the border is not plain.

        The score is how much of its box's area a thing fills, at least a half: what was found is
        there, and a confidence above that asks for compact things.
        """
        shrink = -(-max(picture.size) // LOOKED_AT)
        found = subject(picture.reduce(shrink) if shrink > 1 else picture)
        if found is None:
            return []
        things = []
        for number, place in enumerate(ndimage.find_objects(found.parts), 1):
            own = found.parts[place] == number
            if place is None or own.sum() < LEAST * found.parts.size:
                continue
            score = 0.5 + 0.5 * float(own.mean())
            if score >= confidence:
                rows, columns = place
                edges = np.array([columns.start, rows.start, columns.stop, rows.stop], np.float32)
                box = box_of(edges * shrink, picture.size)
                thing = Found(box=box, score=score, label="object")
                things.append((int(own.sum()), replace(thing, mask=_mask(own, thing.region))))
        things.sort(key=lambda pair: -pair[0])
        return [thing for _, thing in things]


def _mask(own: NDArray[np.bool_], region: tuple[int, int, int, int]) -> Image.Image:
    left, top, right, bottom = region
    small = Image.fromarray(np.where(own, 255, 0).astype(np.uint8))
    return small.resize((right - left, bottom - top), Image.Resampling.BILINEAR)

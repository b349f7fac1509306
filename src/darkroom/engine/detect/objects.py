"""Things before a plain or smooth background, such as the starter's pictures: no weights at all."""

import numpy as np
from PIL import Image
from scipy import ndimage

from darkroom.engine.detect.found import Found
from darkroom.media.backdrop import subject

LEAST = 0.002  # of the picture; what is smaller is no thing


class Objects:
    """Finds what stands out from the background that a picture's border shows."""

    def find(self, picture: Image.Image, *, confidence: float) -> list[Found]:
        """Things with masks, the largest first; none where the border is not plain.

        The score is how much of its box's area a thing fills, at least a half: what was found is
        there, and a confidence above that asks for compact things.
        """
        found = subject(picture)
        if found is None:
            return []
        things = []
        for number, place in enumerate(ndimage.find_objects(found.parts), 1):
            own = found.parts[place] == number
            if place is None or own.sum() < LEAST * found.parts.size:
                continue
            rows, columns = place
            score = 0.5 + 0.5 * float(own.mean())
            if score >= confidence:
                mask = np.where(found.parts == number, 255, 0).astype(np.uint8)
                box = (columns.start, rows.start, columns.stop, rows.stop)
                thing = Found(box=box, score=score, label="object", mask=Image.fromarray(mask))
                things.append((int(own.sum()), thing))
        things.sort(key=lambda pair: -pair[0])
        return [thing for _, thing in things]

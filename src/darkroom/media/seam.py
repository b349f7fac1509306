"""How much one sees where new paint begins."""

import numpy as np
from PIL import Image

from darkroom.media.mask import rounded


def seam(picture: Image.Image, painted: Image.Image) -> float:
    """The mean gradient across the border of a mask by that elsewhere; 1 is no seam at all.

    A gradient is the difference of two neighbouring pixels (RGB, the mean of its channels); it
    lies across the border where one of the two is in the white of the mask `painted` ("L").
    """
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    inside = np.asarray(rounded(painted)) > 0
    across: list[np.ndarray] = []
    elsewhere: list[np.ndarray] = []
    for axis in (0, 1):
        gradient = np.abs(np.diff(pixels, axis=axis)).mean(axis=-1)
        border = np.diff(inside, axis=axis)
        across.append(gradient[border])
        elsewhere.append(gradient[~border])
    at_border, at_rest = np.concatenate(across), np.concatenate(elsewhere)
    if not at_border.size or not at_rest.size:
        return 1.0
    return float(at_border.mean() / max(float(at_rest.mean()), 1e-6))

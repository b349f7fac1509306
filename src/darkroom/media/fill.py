"""What a masked part begins with where it shall not begin with what was there."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Floats = NDArray[np.float32]

# Blurs of what is visible around the mask, the widest at the bottom, each laid on so many times
# (A1111's numbers, px): far inside the mask the wide ones show, at its border the narrow ones.
_LAYERS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))


def from_surroundings(
    picture: Image.Image, mask: Image.Image, near: Image.Image | None = None
) -> Image.Image:
    """`picture` (RGB) with the colours around the masked part spread into it.

    Where the mask is grey, both are mixed; where it is black, the picture is as it was. With
    `near` ("L") only colours from there are spread.
    """
    visible = 1 - np.asarray(mask, np.float32)[..., None] / 255
    source = visible if near is None else visible * np.asarray(near, np.float32)[..., None] / 255
    if not source.any():
        return _plain(picture)
    colors = np.asarray(picture, np.float32)
    seen = np.concatenate([colors * source, source], axis=-1)  # premultiplied RGBA
    layers = np.zeros_like(seen)
    for sigma, times in _LAYERS:
        blur = seen if sigma == 0 else _blurred(seen, sigma)
        for _ in range(times):
            layers = blur + layers * (1 - blur[..., 3:])
    mean = seen[..., :3].sum((0, 1)) / source.sum()  # what the widest blur does not reach
    spread = (layers[..., :3] + 1e-4 * mean) / (layers[..., 3:] + 1e-4)
    mixed = np.where(visible == 1, colors, spread)
    return Image.fromarray(np.rint(mixed).clip(0, 255).astype(np.uint8))


def _blurred(pixels: Floats, sigma: float) -> Floats:
    """Gaussian blur of (height, width, channels); the wide ones of a smaller copy, for speed."""
    height, width, _ = pixels.shape
    step = max(int(sigma / 8), 1)
    size = max(width // step, 1), max(height // step, 1)
    small = _resized(pixels, size, Image.Resampling.BOX)
    sigmas = sigma * size[1] / height, sigma * size[0] / width, 0
    soft = ndimage.gaussian_filter(small, sigmas, mode="nearest", truncate=3)
    return _resized(soft, (width, height), Image.Resampling.BICUBIC)


def _resized(pixels: Floats, size: tuple[int, int], how: Image.Resampling) -> Floats:
    planes = (Image.fromarray(plane) for plane in np.moveaxis(pixels, -1, 0))
    return np.stack([np.asarray(plane.resize(size, how)) for plane in planes], axis=-1)


def _plain(picture: Image.Image) -> Image.Image:
    """Nothing is visible: its mean colour everywhere."""
    mean = np.asarray(picture, np.float32).mean((0, 1))
    red, green, blue = (round(float(value)) for value in mean)
    return Image.new("RGB", picture.size, (red, green, blue))

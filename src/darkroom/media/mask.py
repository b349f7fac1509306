"""Masks: which part of a picture is painted anew. Mode "L", 255 is painted and 0 stays.

A mask comes from a file, from what is transparent in the picture, or from what was painted over it
(a sketch). It is inverted, rounded and blurred in that order, as A1111 does.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps
from scipy import ndimage

from darkroom.core.errors import BadRequest
from darkroom.media.fit import Box, Size
from darkroom.media.picture import flat, read_picture

HALF = 128  # from here on a mask is white where it is rounded
_NOISE = 24  # levels by which lossy compression may change a pixel
_NOISY = 0.2  # share of slightly changed pixels from which a sketch is taken for recompressed
_ASPECT = 1.01  # how much the sides of a mask may differ from the picture's and be the same shape


def read_mask(path: Path) -> Image.Image:
    """The mask in a file: its opacity where parts of it are transparent, else its brightness."""
    picture = read_picture(path, alpha=True)
    return picture.getchannel("A") if picture.mode == "RGBA" else picture.convert("L")


def transparent(picture: Image.Image) -> Image.Image:
    """What is transparent in an RGBA picture."""
    return ImageOps.invert(picture.getchannel("A"))


def checked(mask: Image.Image, *, invert: bool, hard: bool) -> Image.Image:
    """`mask` inverted and rounded as asked for; BadRequest where nothing of it is white."""
    mask = ImageOps.invert(mask) if invert else mask
    mask = rounded(mask) if hard else mask
    if mask.getbbox() is None:
        raise BadRequest(
            "the mask is empty: nothing of the picture would be painted",
            hint="White is painted anew and black stays; --mask-invert (mask.invert) turns that"
            " around.",
        )
    return mask


def holes(picture: Image.Image) -> Image.Image:
    """What is transparent in a picture, as its mask; BadRequest where nothing is."""
    if picture.mode != "RGBA":
        raise BadRequest(
            "nothing of the picture is transparent, so nothing of it would be painted",
            hint="Give a mask (--mask) or a sketch (--sketch), or a picture with transparent"
            " parts.",
        )
    return transparent(picture)


def painted_over(picture: Image.Image, sketch: Image.Image) -> Image.Image:
    """Where `sketch`, of the same size, differs from `picture` (both RGB): 255, else 0.

    Every difference counts, but in a sketch that was saved with loss: there only what is more than
    such noise.
    """
    change = ImageChops.difference(flat(picture), flat(sketch))
    most = ImageChops.lighter(ImageChops.lighter(*change.split()[:2]), change.getchannel(2))
    counts = most.histogram()
    if sum(counts[1 : _NOISE + 1]) <= _NOISY * sum(counts):
        return most.point(lambda value: 255 if value else 0)
    return most.filter(ImageFilter.GaussianBlur(2)).point(
        lambda value: 255 if value > _NOISE else 0
    )


def resized(mask: Image.Image, size: Size) -> tuple[Image.Image, str]:
    """`mask` in the picture's size, and a note where it had another shape ("" where not)."""
    if mask.size == size:
        return mask, ""
    aspect = mask.width * size[1] / (mask.height * size[0])
    note = ""
    if max(aspect, 1 / aspect) > _ASPECT:
        was, now = (f"{width} x {height}" for width, height in (mask.size, size))
        note = f"the mask of {was} pixels was stretched to the picture's {now}"
    return mask.resize(size, Image.Resampling.BILINEAR), note


def rounded(mask: Image.Image) -> Image.Image:
    """White from the middle on, else black."""
    return mask.point(lambda value: 255 if value >= HALF else 0)


def doubled(mask: Image.Image) -> Image.Image:
    """Twice as white: a blurred border that is white where the mask was before the blur."""
    return mask.point(lambda value: min(2 * value, 255))


def blurred(mask: Image.Image, x: float, y: float) -> Image.Image:
    """Gaussian blur with standard deviations of `x` and `y` px, cut off at 2.5 of them."""
    box = mask.getbbox()
    if box is None or not (x or y):
        return mask
    box = grown(box, radius(x) + 1, radius(y) + 1, limits=mask.size)
    part = np.asarray(mask.crop(box), np.float32)
    for axis, sigma in ((1, x), (0, y)):
        if sigma:
            part = ndimage.gaussian_filter1d(part, sigma, axis, mode="mirror", radius=radius(sigma))
    done = mask.copy()
    done.paste(Image.fromarray(np.rint(part).astype(np.uint8)), box)
    return done


def radius(sigma: float) -> int:
    """How far, in px, a blur reaches: A1111's kernel has 2 of these and 1."""
    return int(2.5 * sigma + 0.5)


def grown(box: Box, x: int, y: int, *, limits: Size) -> Box:
    """`box` with `x` and `y` px more at its sides, where the picture of size `limits` has them."""
    left, top, right, bottom = box
    width, height = limits
    return max(left - x, 0), max(top - y, 0), min(right + x, width), min(bottom + y, height)


def surroundings(box: Box, size: Size, *, padding: int, limits: Size) -> Box:
    """`box` with `padding` around it, in the shape of `size` where the picture has room for that.

    Where the box would leave the picture, of size `limits`, it is moved back into it.
    """
    left, top, right, bottom = grown(box, padding, padding, limits=limits)
    width, height = right - left, bottom - top
    if width * size[1] > height * size[0]:
        height = min(max(round(width * size[1] / size[0]), 1), limits[1])
    else:
        width = min(max(round(height * size[0] / size[1]), 1), limits[0])
    left, right = _shifted((left, right), width, limits[0])
    top, bottom = _shifted((top, bottom), height, limits[1])
    return left, top, right, bottom


def _shifted(span: tuple[int, int], length: int, limit: int) -> tuple[int, int]:
    """An interval of `length` around another one, moved so that it lies in 0..limit."""
    start, end = span
    first = start - (length - (end - start)) // 2
    first = min(max(first, 0), limit - length)
    return first, first + length


def rising(mask: Image.Image, reach: float) -> Image.Image:
    """The white of a hard mask, rising from black at its border to white at `reach` px from it."""
    far = ndimage.distance_transform_edt(np.pad(np.asarray(rounded(mask)), 1, mode="edge"))
    rise = np.minimum(far[1:-1, 1:-1] / reach, 1)
    return Image.fromarray(np.rint(255 * rise).astype(np.uint8))


def frame(size: Size, inner: Box, blur: float) -> Image.Image:
    """White around `inner`, fading to black within `blur` px inside it: what is painted around.

    A side of `inner` that is the canvas's own has nothing around it, and does not fade.
    """
    width, height = size
    left, top, right, bottom = inner
    x = _depth(width, left, right)
    y = _depth(height, top, bottom)
    depth = np.minimum(x[None, :], y[:, None])  # px inside the inner box; 0 and less outside
    white = np.clip(1 - (depth - 0.5) / max(blur, 0.5), 0, 1)
    white[depth <= 0] = 1
    return Image.fromarray(np.rint(255 * white).astype(np.uint8))


def _depth(length: int, start: int, end: int) -> NDArray[np.int64]:
    """How far inside start..end the pixels of a line lie, the first of them 1 px."""
    at = np.arange(length)
    low = at - start + 1 if start > 0 else np.full(length, length)
    high = end - at if end < length else np.full(length, length)
    return np.asarray(np.minimum(low, high))

"""The colours of one picture brought to those of another.

From the definitions: sRGB (IEC 61966-2-1) to CIE XYZ under D65 to CIE L*a*b*, with 8 bits for each
of L*, a* and b* as picture files hold them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = _TO_XYZ.sum(axis=1)  # XYZ of sRGB's white
_LAB_SCALE = np.array([255 / 100, 1, 1], np.float32)  # L* in 0..100, a* and b* around 0, to bytes
_LAB_SHIFT = np.array([0, 128, 128], np.float32)
_BEND = 6 / 29  # where the cube root of L*a*b* becomes a line
_LUMINOSITY = np.array([0.3, 0.59, 0.11], np.float32)  # W3C Compositing, section 10.1
_ROWS = 256  # of a picture that are worked on at once, to bound memory


def corrected(result: Image.Image, like: Image.Image) -> Image.Image:
    """`result` in the colours of `like` and with its own luminosity, as A1111 corrects colours."""
    matched = match_colors(result, like)
    pixels, wanted = np.asarray(result), np.asarray(matched)
    done = [
        _with_luminosity(wanted[row : row + _ROWS], pixels[row : row + _ROWS])
        for row in range(0, len(pixels), _ROWS)
    ]
    return Image.fromarray(np.concatenate(done))


def match_colors(result: Image.Image, like: Image.Image) -> Image.Image:
    """`result` with the histograms of `like` in L*, a* and b*, each by itself. Both are RGB."""
    source, template = _in_rows(to_lab, np.asarray(result)), _in_rows(to_lab, np.asarray(like))
    for channel in range(3):
        table = _matching(source[..., channel], template[..., channel])
        source[..., channel] = table[source[..., channel]]
    return Image.fromarray(_in_rows(to_rgb, source))


def to_lab(rgb: Bytes) -> Bytes:
    """L*a*b* of sRGB pixels (…, 3): L* times 255/100, a* and b* plus 128."""
    share = rgb.astype(np.float32) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (_TO_XYZ.T / _WHITE).astype(np.float32)
    bent = np.where(xyz > _BEND**3, np.cbrt(xyz), xyz / (3 * _BEND**2) + 4 / 29)
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
    return _bytes(lab * _LAB_SCALE + _LAB_SHIFT)


def to_rgb(lab: Bytes) -> Bytes:
    """sRGB of L*a*b* pixels; what sRGB cannot show is clipped."""
    values = (lab.astype(np.float32) - _LAB_SHIFT) / _LAB_SCALE
    y = (values[..., 0] + 16) / 116
    bent = np.stack([y + values[..., 1] / 500, y, y - values[..., 2] / 200], axis=-1)
    xyz = np.where(bent > _BEND, bent**3, 3 * _BEND**2 * (bent - 4 / 29))
    linear = (xyz @ (np.linalg.inv(_TO_XYZ).T * _WHITE[:, None]).astype(np.float32)).clip(0, 1)
    share = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return _bytes(share * 255)


def _matching(source: Bytes, template: Bytes) -> Bytes:
    """For each value of `source` the one that as large a share of `template` lies below."""
    shares = [np.cumsum(np.bincount(side.ravel(), minlength=256)) for side in (source, template)]
    below, wanted = (share / share[-1] for share in shares)
    there = np.unique(template)  # a value that no pixel has is between two that pixels have
    return _bytes(np.interp(below, wanted[there], there))


def _with_luminosity(colors: Bytes, lights: Bytes) -> Bytes:
    """The hue and saturation of `colors` and the luminosity of `lights` (W3C's SetLum)."""
    base = colors.astype(np.float32) / 255
    light = (lights.astype(np.float32) / 255 @ _LUMINOSITY)[..., None]
    mixed = base + (light - (base @ _LUMINOSITY)[..., None])
    least, most = mixed.min(axis=-1, keepdims=True), mixed.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        mixed = np.where(least < 0, light + (mixed - light) * light / (light - least), mixed)
        mixed = np.where(most > 1, light + (mixed - light) * (1 - light) / (most - light), mixed)
    return _bytes(mixed * 255)


def _in_rows(change: Callable[[Bytes], Bytes], pixels: Bytes) -> Bytes:
    pieces = range(0, len(pixels), _ROWS)
    return np.concatenate([change(pixels[row : row + _ROWS]) for row in pieces])


def _bytes(values: NDArray[np.floating]) -> Bytes:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)

"""What stands out from a plain or smooth background: no network, numbers only.

    subject(picture) -> Subject | None        None where the border is not plain

The background is a surface of second degree in each of OKLab's three channels (B. Ottosson, "A
perceptual color space for image processing", 2020), fitted to the border of the picture. What lies
far from it and together is the subject. Along its edge a pixel is a mixture C = aF + (1 - a)B of
the nearest colour F that is all subject and the background B, which gives the share a (the matting
equation; T. Porter, T. Duff, "Compositing digital images", 1984).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

FRAME = 0.02  # of a side: the border that is looked at
ROUNDS = 6  # of fitting and leaving out what does not fit
LEAST_PLAIN = 0.5  # of the border must fit
NOISE = 0.012  # OKLab; the least that counts as a difference is a few times that
FAR = 4.0  # times the noise of the border: certainly no background
MOST_NOISE = 0.04  # OKLab; a rougher border is not plain
SPECK = 0.0005  # of the picture; what is smaller is dust
HOLE = 0.0005  # of the picture; a larger enclosed part that looks like the background is one
EDGE = 2  # px outside the edge in which pixels may be mixtures
DEPTH = 4  # px inside it, likewise
SOLID = 0.95  # of a pixel: from here on it is all subject
SCALE = 1024  # px of the longer side at which the surface is fitted

_LMS = np.array(  # linear sRGB to the responses of the cones, Ottosson 2020
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What stands out."""

    alpha: Floats  # (H, W) in [0, 1]
    parts: NDArray[np.int32]  # (H, W): 0 is background, the others number what is apart
    fits: float  # share of the border that is background


def subject(picture: Image.Image) -> Subject | None:
    """What stands out in the RGB `picture`; None where its border is not plain."""
    rgb = np.asarray(picture.convert("RGB"), np.float32) / np.float32(255)
    lab = oklab(rgb)
    surface = _background(lab)
    if surface is None:
        return None
    model, noise, fits = surface
    distance = np.sqrt(((lab - model) ** 2).sum(-1))
    body = _body(distance, FAR * noise)
    alpha = _mixed(lab, model, body)
    return Subject(alpha, ndimage.label(body, np.ones((3, 3)))[0].astype(np.int32), fits)


def oklab(rgb: Floats) -> Floats:
    """sRGB (…, 3) in [0, 1] as lightness and two opponent colours."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear.astype(np.float32) @ _LMS.T) @ _LAB.T, np.float32)


def decontaminated(picture: Image.Image, alpha: Floats) -> Image.Image:
    """`picture` with the background's colour taken out of the pixels that are only part subject.

    They get the colour of the nearest pixel that is all subject; alpha (H, W) in [0, 1].
    """
    rgb = np.asarray(picture.convert("RGB"))
    solid = alpha > SOLID
    inner = ndimage.binary_erosion(solid, border_value=1)  # the outermost are mixtures a little
    if not inner.any() or solid.all():
        return picture.convert("RGB")
    rows, columns = ndimage.distance_transform_edt(
        ~inner, return_distances=False, return_indices=True
    )
    return Image.fromarray(np.where(solid[..., None], rgb, rgb[rows, columns]))


def _background(lab: Floats) -> tuple[Floats, float, float] | None:
    """The surface (H, W, 3) of the background, its noise, and the share of the border that it fits.

    None where there is none.
    """
    height, width = lab.shape[:2]
    y, x = np.meshgrid(_unit(height), _unit(width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], -1)
    frame = _frame(height, width)
    step = max(1, max(height, width) // SCALE)
    known, colors = terms[frame][::step], lab[frame][::step]
    # begin at the colour that most of the border has
    kept = _far(colors, np.median(colors, axis=0)[None]) < 0.1
    fit, noise = np.zeros((6, 3), np.float32), NOISE
    for _ in range(ROUNDS):
        if kept.mean() < LEAST_PLAIN:
            return None
        fit = np.linalg.lstsq(known[kept], colors[kept], rcond=None)[0]
        apart = _far(colors, known @ fit)
        noise = max(NOISE, 1.4826 * float(np.median(apart[kept])))
        kept = apart < FAR * noise
    if noise > MOST_NOISE:
        return None
    return np.asarray(terms @ fit, np.float32), noise, float(kept.mean())


def _far(colors: Floats, others: Floats) -> Floats:
    return np.asarray(np.sqrt(((colors - others) ** 2).sum(-1)), np.float32)


def _unit(count: int) -> Floats:
    return np.linspace(-1, 1, count, dtype=np.float32)


def _frame(height: int, width: int) -> Flags:
    """The border of a picture, at least one pixel wide."""
    edge = max(1, round(FRAME * min(height, width)))
    frame = np.ones((height, width), bool)
    frame[edge : height - edge, edge : width - edge] = False
    return frame


def _body(distance: Floats, far: float) -> Flags:
    """What is not background, without dust, and with what it encloses unless that is a hole."""
    body = ndimage.binary_opening(distance > far) | (distance > 2 * far)
    body = _without_small(body, SPECK * body.size)
    enclosed = ndimage.binary_fill_holes(body) & ~body
    holes = _without_small(enclosed & (distance < far / 2), HOLE * body.size)
    return np.asarray((body | enclosed) & ~holes, bool)


def _without_small(flags: Flags, least: float) -> Flags:
    """Only what hangs together in `least` pixels or more."""
    labels, count = ndimage.label(flags, np.ones((3, 3)))
    large = np.bincount(labels.ravel(), minlength=count + 1) >= max(least, 4)
    large[0] = False
    return np.asarray(large[labels], bool)


def _mixed(lab: Floats, model: Floats, body: Flags) -> Floats:
    """Shares in [0, 1]: 1 within the body, 0 away from it, and what the colours say in between.

    The colour that is all subject is looked for deeper than the edge is wide: what lies closer is
    mixed in soft pictures, and would pass for subject in the colour of the background.
    """
    alpha = body.astype(np.float32)
    deep = _deep(body)
    band = ndimage.binary_dilation(body, iterations=EDGE) & ~deep
    if not deep.any() or not band.any():
        return alpha
    rows, columns = ndimage.distance_transform_edt(
        ~deep, return_distances=False, return_indices=True
    )
    front = lab[rows[band], columns[band]]
    back = model[band]
    span, apart = front - back, lab[band] - back
    length = (span**2).sum(-1)
    share = (apart * span).sum(-1) / np.maximum(length, 1e-6)
    # where subject and background are alike, or the colour is none between them, it says nothing
    beside = ((apart - share[:, None] * span) ** 2).sum(-1)
    told = (length > (2 * NOISE) ** 2) & (beside < length / 4)
    alpha[band] = np.where(told, np.clip(share, 0, 1), alpha[band])
    return alpha


def _deep(body: Flags) -> Flags:
    """What of the body is surely no mixture; of thin parts their middle."""
    depth = ndimage.distance_transform_cdt(np.pad(body, DEPTH, mode="edge"))
    depth = depth[DEPTH:-DEPTH, DEPTH:-DEPTH]
    thickest = ndimage.maximum_filter(depth, 2 * DEPTH + 1)
    return np.asarray(body & (depth > np.minimum(DEPTH, thickest - 1)), bool)

"""Faces mended by a network made for that, and laid back where they were.

    picture = restored(engine, job, request.restore, picture)

Such networks were trained on faces of one size that look straight at the camera, eyes and mouth at
fixed places (FFHQ; T. Karras et al., 2019). A face is turned and scaled to lie so, mended, and laid
back the same way through a mask with a soft border: outside of it not a bit changes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from darkroom.core.blocks import Restore
from darkroom.core.model import Kind
from darkroom.engine.detect import Found
from darkroom.engine.engine import Engine
from darkroom.engine.restorer import SIDE
from darkroom.tasks.job import Job

Doubles = NDArray[np.float64]
Mend = Callable[[Image.Image], Image.Image]  # 512 x 512 px each

CONFIDENCE = 0.6
TEMPLATE = np.array(  # px in the face: the eyes, the nose, the corners of the mouth
    [
        [192.98138, 239.94708],
        [318.90277, 240.19360],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
EDGE = 26  # px of the face that its mask leaves out, and over which it fades


@dataclass(frozen=True, slots=True)
class Similarity:
    """Scaling, turning and moving: x -> matrix x + offset."""

    matrix: Doubles  # (2, 2)
    offset: Doubles  # (2,)

    @property
    def scale(self) -> float:
        """How many times larger things become."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    def inverse(self) -> "Similarity":
        """The way back."""
        back = np.linalg.inv(self.matrix)
        return Similarity(np.asarray(back, np.float64), np.asarray(-back @ self.offset, np.float64))

    def __call__(self, points: Doubles) -> Doubles:
        """Points (n, 2) moved."""
        return np.asarray(points @ self.matrix.T + self.offset)

    def numbers(self) -> tuple[float, ...]:
        """As Pillow takes them."""
        (a, b), (d, e) = self.matrix.tolist()
        c, f = self.offset.tolist()
        return a, b, c, d, e, f


def restored(
    engine: Engine,
    job: Job,
    restore: Restore,
    picture: Image.Image,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> Image.Image:
    """`picture` with its faces mended; one without faces, or at visibility 0, is given back.

    `say` is told what had no effect. BadRequest with the command to install what the model needs.
    """
    if not restore.visibility:
        say("mending faces has no effect: its visibility is 0")
        return picture
    faces = engine.detector("face", None).find(picture, confidence=CONFIDENCE)
    if not faces:
        say("no face was found to mend")
        return picture
    network = engine.restorer(job.cards[Kind.RESTORER, restore.model])
    if not network.faithful and restore.fidelity != Restore.model_fields["fidelity"].default:
        say(f"fidelity has no effect: {restore.model} takes none")

    def mend(face: Image.Image) -> Image.Image:
        job.check()
        return network(face, fidelity=restore.fidelity, say=say)

    return mended(picture, faces, mend, visibility=restore.visibility)


def mended(
    picture: Image.Image, faces: list[Found], mend: Mend, *, visibility: float
) -> Image.Image:
    """`picture` (RGB) with what `mend` makes of each of its faces, `visibility` of it."""
    done = picture.convert("RGB").copy()
    for face in faces:
        way = similarity(np.array(face.points), TEMPLATE)
        laid_back(done, mend(aligned(done, way)), way, visibility=visibility)
    return done


def similarity(points: Doubles, target: Doubles) -> Similarity:
    """What brings `points` (n, 2) closest to `target` in the sense of least squares.

    S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991, equations 40 to 42, without reflections.
    """
    centre, goal = points.mean(0), target.mean(0)
    spread = ((points - centre) ** 2).sum() / len(points)
    u, sizes, v = np.linalg.svd((target - goal).T @ (points - centre) / len(points))
    sign = np.array([1.0, np.sign(np.linalg.det(u @ v)) or 1.0])
    matrix = (u * sign) @ v * (sizes * sign).sum() / max(spread, 1e-12)
    return Similarity(matrix, goal - matrix @ centre)


def aligned(picture: Image.Image, way: Similarity) -> Image.Image:
    """The face that `way` brings to the template, 512 x 512 px."""
    shrink = max(1, int(1 / way.scale))  # first, since interpolation sees a few pixels only
    small = picture.reduce(shrink) if shrink > 1 else picture
    there = Similarity(way.matrix * shrink, way.offset)
    return small.transform(
        (SIDE, SIDE),
        Image.Transform.AFFINE,
        there.inverse().numbers(),
        Image.Resampling.BICUBIC,
    )


def laid_back(
    picture: Image.Image, face: Image.Image, way: Similarity, *, visibility: float
) -> None:
    """Lay the mended `face` into `picture`, `visibility` of it, through its mask."""
    back = way.inverse()
    corners = back(np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]], np.float64))
    left, top = (max(0, int(edge)) for edge in np.floor(corners.min(0)))
    right, bottom = (
        min(side, int(edge))
        for side, edge in zip(picture.size, np.ceil(corners.max(0)), strict=True)
    )
    if right <= left or bottom <= top:
        return
    shrink = max(1, int(way.scale))
    there = Similarity(way.matrix / shrink, (way.matrix @ (left, top) + way.offset) / shrink)
    size = right - left, bottom - top

    def turned(image: Image.Image) -> Image.Image:
        small = image.reduce(shrink) if shrink > 1 else image
        return small.transform(
            size, Image.Transform.AFFINE, there.numbers(), Image.Resampling.BILINEAR
        )

    mask = turned(_mask()).point([round(visibility * value) for value in range(256)])
    picture.paste(turned(face), (left, top), mask)


def _mask() -> Image.Image:
    """White in the middle of a face, fading to black at its edges."""
    box = Image.new("L", (SIDE - 4 * EDGE, SIDE - 4 * EDGE), 255)
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(box, (2 * EDGE, 2 * EDGE))
    soft = mask.filter(ImageFilter.GaussianBlur(EDGE / 2))
    frame = Image.new("L", (SIDE - 4, SIDE - 4), 255)  # black at the very edge, whatever the blur
    border = Image.new("L", (SIDE, SIDE))
    border.paste(frame, (2, 2))
    return ImageChops.darker(soft, border)

"""Pictures of one size on a canvas of another.

Sizes are (width, height) in pixels, boxes (left, top, right, bottom). A `Placing` says where a part
of a picture lies on a canvas, and leads both ways: onto the canvas, and off it again.
"""

from dataclasses import dataclass
from math import sqrt

from PIL import Image

from darkroom.core.blocks import Resize

Size = tuple[int, int]
Box = tuple[int, int, int, int]
UNIT = 8  # px; sides of what is encoded are multiples of it
LEAST, MOST = 64, 8192  # px; of a side that is painted
ROOM = 1.6  # times the model's own area: as large may a canvas be that keeps a picture's size


@dataclass(frozen=True, slots=True)
class Placing:
    """The part `region` of a picture, resized to `scaled`, at `offset` on a canvas of `size`.

    What sticks out is cut, and what is left over is filled by the border of the part.
    """

    region: Box
    scaled: Size
    offset: tuple[int, int]  # px; below 0 it sticks out
    size: Size

    def onto(self, picture: Image.Image) -> Image.Image:
        """The canvas, in the mode of `picture`; masks ("L") without Lanczos' ringing."""
        mask = picture.mode == "L"
        how = Image.Resampling.BILINEAR if mask else Image.Resampling.LANCZOS
        part = _resized(picture, self.scaled, box=self.region, how=how)
        (x, y), (width, height), (part_width, part_height) = self.offset, self.size, part.size
        if (part.size, self.offset) == (self.size, (0, 0)):
            return part
        part = part.crop(
            (max(-x, 0), max(-y, 0), min(part_width, width - x), min(part_height, height - y))
        )
        x, y = max(x, 0), max(y, 0)
        return padded(part, (x, y, width - part.width - x, height - part.height - y))

    def off(self, canvas: Image.Image) -> Image.Image:
        """What lies on the canvas where the part does, at the part's own size.

        The canvas may have been enlarged meanwhile.
        """
        (x, y), (width, height) = self.offset, self.scaled
        across, down = canvas.width / self.size[0], canvas.height / self.size[1]
        left, top, right, bottom = self.region
        part = (x * across, y * down, (x + width) * across, (y + height) * down)
        return _resized(
            canvas, (right - left, bottom - top), box=part, how=Image.Resampling.LANCZOS
        )


def fit(picture: Image.Image, size: Size, how: Resize) -> Image.Image:
    """`picture` in another size, as A1111's resize modes make it."""
    return place((0, 0, *picture.size), size, how).onto(picture)


def place(region: Box, size: Size, how: Resize) -> Placing:
    """Where `region` lies on a canvas of `size`; all of both for "stretch" and "latent"."""
    if how in ("stretch", "latent"):
        return Placing(region, size, (0, 0), size)
    width, height = size
    part_width, part_height = region[2] - region[0], region[3] - region[1]
    wider = width * part_height > part_width * height  # the canvas, than the part
    if wider == (how == "crop"):
        scaled = width, max(part_height * width // part_width, 1)
    else:
        scaled = max(part_width * height // part_height, 1), height
    return Placing(
        region, scaled, (width // 2 - scaled[0] // 2, height // 2 - scaled[1] // 2), size
    )


def place_whole(picture: Size, size: Size) -> Placing:
    """All of a picture on a canvas, pixel by pixel where it has nearly the same size."""
    region = (0, 0, *picture)
    return (
        Placing(region, picture, (0, 0), size)
        if is_own(picture, size)
        else place(region, size, "fill")
    )


def own_size(picture: Size) -> Size:
    """The size at which a picture is worked on that keeps its own, as far as that can be."""
    width, height = (min(max(-(-side // UNIT) * UNIT, LEAST), MOST) for side in picture)
    return width, height


def is_own(picture: Size, size: Size) -> bool:
    """Whether a canvas of `size` is the picture's own: as large, in whole units."""
    return all(0 <= room - side < UNIT for room, side in zip(size, picture, strict=True))


def padded(picture: Image.Image, margins: Box) -> Image.Image:
    """`picture` with its border drawn out over `margins`: left, top, right and bottom."""
    left, top, right, bottom = margins
    if not any(margins):
        return picture
    width, height = picture.size
    wide = Image.new(picture.mode, (left + width + right, top + height + bottom))
    wide.paste(picture, (left, top))
    nearest = Image.Resampling.NEAREST
    for column, start, length in ((left, 0, left), (left + width - 1, left + width, right)):
        edge = wide.crop((column, top, column + 1, top + height))
        if length:
            wide.paste(edge.resize((length, height), nearest), (start, top))
    for row, start, length in ((top, 0, top), (top + height - 1, top + height, bottom)):
        edge = wide.crop((0, row, wide.width, row + 1))
        if length:
            wide.paste(edge.resize((wide.width, length), nearest), (0, start))
    return wide


def working_size(
    picture: Size, native: int, asked: tuple[int | None, int | None], *, keep: bool = False
) -> Size:
    """The size to paint a picture at: the width and height that were asked for, where they were.

    What is open follows the picture's aspect; both: at the area of `native` squared, or, with
    `keep` (outpainting), at the picture's own size where that is not much more than this.
    """
    (width, height), aspect = asked, picture[0] / picture[1]
    if width is not None and height is not None:
        return width, height
    if width is not None:
        return width, _side(width / aspect)
    if height is not None:
        return _side(height * aspect), height
    if keep and picture[0] * picture[1] <= ROOM * native**2 and min(picture) >= LEAST:
        return own_size(picture)
    # So long a side that the other is the least there is, at the same area.
    aspect = min(max(aspect, LEAST**2 / native**2), native**2 / LEAST**2)
    return _side(native * sqrt(aspect)), _side(native / sqrt(aspect))


def _side(length: float) -> int:
    return min(max(round(length / UNIT) * UNIT, LEAST), MOST)


def _resized(
    picture: Image.Image,
    size: Size,
    *,
    box: tuple[float, float, float, float],
    how: Image.Resampling,
) -> Image.Image:
    left, top, right, bottom = map(round, box)
    whole = all(float(side).is_integer() for side in box)
    if whole and size == (right - left, bottom - top):
        return picture.crop((left, top, right, bottom))
    return picture.resize(size, how, box=box)

"""The picture of a grid: cells in rows and columns, with what was varied written at their sides.

    sheet = draw(Labels(x=("steps: 10", "steps: 20"), y=("Euler", "DDIM")), {(0, 0, 0): path, …})

What is not there yet is an empty field. A sheet never has more than `most` pixels: where it would,
the pictures in it are scaled down, and `Sheet.notes` says so.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, PngImagePlugin

from darkroom.core.errors import BadFile
from darkroom.media.lettering import Lettering
from darkroom.media.picture import picture_size, read_picture

MOST_PIXELS = 100_000_000
KEY = "darkroom-grid"  # the text chunk with the request of a grid

Place = tuple[int, int, int]  # x, y, z, from 0
_PAPER, _EMPTY, _INK = "#ffffff", "#ececec", "#1c1b1a"
_UNKNOWN = (256, 256)  # px of a cell, before the first is there
_LEAST_LETTERS, _MOST_LETTERS = 12, 64  # px
_LETTERS_PER_CELL = 14  # the smaller side of a cell in sizes of the font


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What is written at the sides; as many as there are columns, rows and blocks."""

    x: tuple[str, ...] = ("",)
    y: tuple[str, ...] = ("",)
    z: tuple[str, ...] = ("",)
    legend: bool = True  # False: nothing is written


@dataclass(frozen=True, slots=True)
class Sheet:
    """A drawn grid."""

    image: Image.Image  # RGB
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measures:
    """Where things are, in pixels."""

    cell: tuple[int, int]
    margin: int
    left: int  # of the first column
    top: int  # of the first row, in its block
    title: int  # height of what stands above a block
    counts: tuple[int, int, int]
    lettering: Lettering

    @property
    def block(self) -> tuple[int, int]:
        """Width and height of one block, with its legend."""
        (columns, rows, _), (width, height) = self.counts, self.cell
        return (
            self.left + columns * width + (columns - 1) * self.margin,
            self.title + self.top + rows * height + (rows - 1) * self.margin,
        )

    @property
    def size(self) -> tuple[int, int]:
        width, height = self.block
        return width, self.counts[2] * (height + self.margin) - self.margin

    def corner(self, place: Place) -> tuple[int, int]:
        """Left and top of a cell."""
        x, y, z = place
        width, height = self.cell
        above = z * (self.block[1] + self.margin) + self.title + self.top
        return self.left + x * (width + self.margin), above + y * (height + self.margin)


def draw(
    labels: Labels,
    pictures: Mapping[Place, Path],
    *,
    margin: int = 0,
    most: int = MOST_PIXELS,
) -> Sheet:
    """The sheet of the `pictures` that are there; one that cannot be read is an empty field."""
    cell = _cell(pictures)
    measures = _measured(labels, cell, margin)
    scale = 1.0
    while measures.size[0] * measures.size[1] > most and min(measures.cell) > 1:
        area = measures.size[0] * measures.size[1]
        scale *= min((most / area) ** 0.5, 0.99)
        small = max(round(cell[0] * scale), 1), max(round(cell[1] * scale), 1)
        measures = _measured(labels, small, round(margin * scale))
    notes = []
    if measures.cell != cell:
        share = measures.cell[0] / cell[0]
        notes.append(f"the pictures in the grid are scaled to {share:.0%}, so that it can be held")
    if measures.lettering.missing:
        notes.append("the grid has labels with letters that no font here has; its page shows them")
    image = Image.new("RGB", measures.size, _PAPER)
    if labels.legend:
        _write(image, labels, measures)
    _paste(image, pictures, measures)
    return Sheet(image, tuple(notes))


def png(sheet: Sheet, *, parameters: str = "", grid: Mapping[str, Any] | None = None) -> bytes:
    """The file: with the settings of the first picture, and the request of the grid, inside."""
    info = PngImagePlugin.PngInfo()
    if parameters:
        info.add_text("parameters", parameters)
    if grid is not None:
        info.add_itxt(KEY, json.dumps(grid, ensure_ascii=False), zip=True)
    buffer = io.BytesIO()
    sheet.image.save(buffer, "PNG", compress_level=4, pnginfo=info)
    return buffer.getvalue()


def _cell(pictures: Mapping[Place, Path]) -> tuple[int, int]:
    """The size that holds every picture."""
    sizes = [size for path in pictures.values() if (size := _size(path)) is not None]
    if not sizes:
        return _UNKNOWN
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return picture_size(path)
    except BadFile:
        return None


def _measured(labels: Labels, cell: tuple[int, int], margin: int) -> _Measures:
    counts = len(labels.x), len(labels.y), len(labels.z)
    size = min(max(min(cell) // _LETTERS_PER_CELL, _LEAST_LETTERS), _MOST_LETTERS)
    lettering = Lettering.of(size, (*labels.x, *labels.y, *labels.z))
    bare = _Measures(
        cell=cell, margin=margin, left=0, top=0, title=0, counts=counts, lettering=lettering
    )
    if not labels.legend:
        return bare
    pad = size // 2
    widest = max(map(lettering.width, labels.y))
    left = min(widest, max(cell[0] * 3 // 4, 8 * size)) + 2 * pad if any(labels.y) else 0
    lines = max(len(lettering.wrapped(text, cell[0] - pad, _LINES)) for text in labels.x)
    top = lines * lettering.line_height + 2 * pad if lines else 0
    title = lettering.line_height + 2 * pad if any(labels.z) else 0
    return replace(bare, left=left, top=top, title=title)


_LINES = 4  # of a label, at most


def _write(image: Image.Image, labels: Labels, measures: _Measures) -> None:
    """The labels of every block."""
    pen, letters = ImageDraw.Draw(image), measures.lettering
    (width, height), pad = measures.cell, measures.lettering.size // 2
    for z, title in enumerate(labels.z):
        left, top = measures.corner((0, 0, z))
        if title:
            line = letters.wrapped(title, image.width - 2 * pad, 1)
            middle = image.width // 2
            letters.write(
                pen, (middle, top - measures.top - measures.title + pad), line, color=_INK
            )
        for x, text in enumerate(labels.x):
            lines = letters.wrapped(text, width - pad, _LINES)
            middle = measures.corner((x, 0, z))[0] + width // 2
            letters.write(pen, (middle, top - measures.top + pad), lines, color=_INK)
        for y, text in enumerate(labels.y):
            room = max(height // letters.line_height, 1)
            lines = letters.wrapped(text, max(left - 2 * pad, 1), room)
            middle = measures.corner((0, y, z))[1] + height // 2
            first = middle - len(lines) * letters.line_height // 2
            letters.write(pen, (left // 2, first), lines, color=_INK)


def _paste(image: Image.Image, pictures: Mapping[Place, Path], measures: _Measures) -> None:
    """Every cell, one picture in memory at a time."""
    full = _cell(pictures)
    columns, rows, blocks = measures.counts
    for place in ((x, y, z) for z in range(blocks) for y in range(rows) for x in range(columns)):
        left, top = measures.corner(place)
        width, height = measures.cell
        picture = _picture(pictures.get(place))
        if picture is None:
            image.paste(_EMPTY, (left, top, left + width, top + height))
            continue
        if (share := width / full[0]) < 1:
            sides = (max(round(side * share), 1) for side in picture.size)
            picture = picture.resize((next(sides), next(sides)), Image.Resampling.LANCZOS)
        shift = (width - picture.width) // 2, (height - picture.height) // 2
        image.paste(picture, (left + shift[0], top + shift[1]))


def _picture(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    try:
        return read_picture(path)
    except BadFile:
        return None

"""Contact sheets: many pictures on pages, each with its name and how it was made.

    for page in contact_sheets(paths, columns=5, rows=6): page.image, page.unread

A picture is shown whole, as large as its field allows, and never larger than it is. What cannot be
read leaves an empty field with its name.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from darkroom.core.errors import StudioError
from darkroom.media.brief import brief
from darkroom.media.lettering import Lettering
from darkroom.media.metadata import find
from darkroom.media.picture import picture_size, read_picture

PAPER, EMPTY, INK, SOFT = "#ffffff", "#ececec", "#1c1b1a", "#6d6a66"
LEAST_FIELD = 160  # px; its name would not fit otherwise
LETTERS = 13  # px of the name; what is below it is a little smaller
NAME_LINES, SETTING_LINES = 1, 2


@dataclass(frozen=True, slots=True)
class Page:
    """One sheet, and which pictures on it could not be read."""

    image: Image.Image  # RGB
    unread: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Measures of a page."""

    columns: int
    field: int  # px of a picture's longer side, at most
    margin: int = 16  # px

    @property
    def text(self) -> int:
        """Pixels below each picture."""
        return round(1.5 * LETTERS * (NAME_LINES + SETTING_LINES)) + self.margin // 2

    def size(self, count: int) -> tuple[int, int]:
        """Pixels of a page with so many pictures."""
        columns, rows = min(count, self.columns), -(-count // self.columns)
        across = columns * (self.field + self.margin) + self.margin
        return across, rows * (self.field + self.text + self.margin) + self.margin

    def corner(self, place: int) -> tuple[int, int]:
        """Left and top of the field of a picture."""
        row, column = divmod(place, self.columns)
        left = self.margin + column * (self.field + self.margin)
        return left, self.margin + row * (self.field + self.text + self.margin)


def contact_sheets(
    paths: Sequence[Path], *, columns: int = 5, rows: int = 6, field: int = 256
) -> Iterator[Page]:
    """Pages of at most `rows` rows; `field` is the side in pixels that a picture may fill."""
    layout = Layout(columns=columns, field=max(min(field, _longest(paths)), LEAST_FIELD))
    for first in range(0, len(paths), columns * rows):
        yield _page(paths[first : first + columns * rows], layout)


def _longest(paths: Iterable[Path]) -> int:
    """The longest side of any of the pictures, in pixels."""
    longest = 0
    for path in paths:
        with suppress(StudioError):
            longest = max(longest, *picture_size(path))
    return longest


def _page(paths: Sequence[Path], layout: Layout) -> Page:
    image = Image.new("RGB", layout.size(len(paths)), PAPER)
    unread = []
    for place, path in enumerate(paths):
        corner = layout.corner(place)
        picture, told = _look(path)
        if picture is None:
            unread.append(path)
        _put(image, picture, corner=corner, field=layout.field)
        _label(image, path.name, told, corner=corner, layout=layout)
    return Page(image, tuple(unread))


def _look(path: Path) -> tuple[Image.Image | None, str]:
    """The picture and its settings, as far as they can be read."""
    try:
        picture = read_picture(path)
    except StudioError as error:
        return None, str(error).replace(str(path), path.name)
    try:
        return picture, brief(find(path))
    except StudioError:  # settings that are damaged
        return picture, ""


def _put(
    image: Image.Image, picture: Image.Image | None, *, corner: tuple[int, int], field: int
) -> None:
    left, top = corner
    if picture is None:
        image.paste(EMPTY, (left, top, left + field, top + field))
        return
    if max(picture.size) > field:
        picture = ImageOps.contain(picture, (field, field), Image.Resampling.LANCZOS)
    shift = (field - picture.width) // 2, (field - picture.height) // 2
    image.paste(picture, (left + shift[0], top + shift[1]))


def _label(
    image: Image.Image, name: str, told: str, *, corner: tuple[int, int], layout: Layout
) -> None:
    pen, middle = ImageDraw.Draw(image), corner[0] + layout.field // 2
    below = corner[1] + layout.field + layout.margin // 4
    for text, size, lines, color in (
        (name, LETTERS, NAME_LINES, INK),
        (told, LETTERS - 2, SETTING_LINES, SOFT),
    ):
        letters = Lettering.of(size, (text,))
        found = letters.wrapped(text, layout.field, lines)
        letters.write(pen, (middle, below), found, color=color)
        below += letters.line_height * len(found)

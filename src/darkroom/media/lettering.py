"""Words on pictures: a font that has the letters, lines that fit, nothing that runs out of its box.

Pillow brings one font, for Latin letters. For others the fonts of the system are looked through;
where none has the letters, empty boxes are drawn and `Lettering.missing` says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

from darkroom.core.errors import printable

Font = ImageFont.FreeTypeFont
# By the names of their files, as Pillow finds them where the system keeps fonts.
_FONTS = (
    "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arialuni.ttf", "arial.ttf",
    "NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "SourceHanSans-Regular.ttc",
    "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "Hiragino Sans GB.ttc",
    "PingFang.ttc", "msyh.ttc", "YuGothM.ttc", "meiryo.ttc", "msgothic.ttc", "malgun.ttf",
    "AppleSDGothicNeo.ttc", "NanumGothic.ttf", "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf",
    "FreeSans.ttf", "segoeui.ttf",
)  # fmt: skip
_NO_LETTER = "\uffff"  # is none in any font, so every font draws its empty box
_SPACING = 1.3  # of lines, in sizes of the font


@dataclass(frozen=True, slots=True)
class Lettering:
    """One font at one size."""

    font: Font
    size: int  # px
    missing: bool = False  # whether some letters are drawn as boxes

    @classmethod
    def of(cls, size: int, texts: Iterable[str]) -> "Lettering":
        """A font of `size` pixels that has the letters of `texts`, if one is here."""
        letters = {letter for text in texts for letter in printable(text) if not letter.isspace()}
        font = _brought(size)
        if not _lacks(font, letters):
            return cls(font, size)
        best, fewest = font, _lacks(font, letters)
        for name in _FONTS:
            try:
                other = ImageFont.truetype(name, size)
            except OSError:
                continue
            if (lacking := _lacks(other, letters)) < fewest:
                best, fewest = other, lacking
            if not fewest:
                break
        return cls(best, size, missing=bool(fewest))

    @property
    def line_height(self) -> int:
        """Pixels from line to line."""
        return round(self.size * _SPACING)

    def width(self, text: str) -> int:
        """Pixels that a line takes."""
        return round(self.font.getlength(text))

    def wrapped(self, text: str, width: int, lines: int = 3) -> list[str]:
        """`text` in at most `lines` lines of `width` pixels; what is left out becomes "…"."""
        found: list[str] = []
        rest = " ".join(printable(text).split())
        while rest and len(found) < lines:
            last = len(found) == lines - 1
            line = self._fitting(rest, width)
            if last and line != rest:
                line = self._fitting(rest, width - self.width("…"), words=False).rstrip() + "…"
            found.append(line)
            rest = "" if last else rest[len(line) :].lstrip()
        return found

    def write(
        self, draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: list[str], *, color: str
    ) -> None:
        """Write centred lines, around x and from y down; `at` is (x, y)."""
        x, y = at
        for number, line in enumerate(lines):
            place = (x - self.width(line) // 2, y + number * self.line_height)
            draw.text(place, line, fill=color, font=self.font)

    def _fitting(self, text: str, width: int, *, words: bool = True) -> str:
        """The longest start of `text` that fits, of whole words if one does; a letter at least."""
        low, high = 1, min(len(text), max(width, 1))  # no letter is narrower than a pixel
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle]) <= width else (low, middle - 1)
        if not words or low == len(text) or text[low].isspace():
            return text[:low]
        return text[:low].rpartition(" ")[0] or text[:low]


def _brought(size: int) -> Font:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):  # a Pillow that was built without FreeType
        raise RuntimeError("this Pillow cannot draw letters: it was built without FreeType")
    return font


def _lacks(font: Font, letters: Iterable[str]) -> int:
    """How many of the letters the font has not."""
    box = bytes(font.getmask(_NO_LETTER))
    return sum(bytes(font.getmask(letter)) == box for letter in letters)

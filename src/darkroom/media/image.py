"""Pixels to picture files, with their recipe inside."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from darkroom.core.errors import BadRequest
from darkroom.core.recipe import Recipe
from darkroom.media.files import Format, publish, write_whole
from darkroom.media.metadata import infotext, stealth
from darkroom.media.metadata.embed import EMBED
from darkroom.media.picture import flat

_LOSSLESS = 100  # the quality at which WebP changes no pixel
_LONGEST = {"jpeg": 65_500, "webp": 16_383}  # pixels of a side; the others take all that we make


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """How a picture becomes a file."""

    format: Format = "png"
    quality: int = 90  # 1 to 100, of the formats that lose something; WebP loses nothing at 100
    metadata: bool = True  # the recipe and the infotext
    stealth: bool = False  # the infotext in the lowest bits of the alpha channel too; PNG only

    def __post_init__(self) -> None:
        """BadRequest when the choices do not go together."""
        if not 1 <= self.quality <= 100:
            raise BadRequest(f"quality must lie between 1 and 100, not at {self.quality}")
        if self.stealth and not self.metadata:
            raise BadRequest(
                "hidden metadata are metadata: image_stealth and no image_metadata contradict",
                hint="Leave one of them out.",
            )
        if self.stealth and self.format != "png":
            raise BadRequest(
                f"hidden metadata do not survive {self.format.upper()}", hint="Save as PNG."
            )


@dataclass(frozen=True, slots=True)
class Saved:
    """A picture on disk."""

    path: Path
    sha256: str  # of the whole file


def save(
    image: Image.Image, recipe: Recipe, names: Iterator[Path], *, saving: Saving | None = None
) -> Saved:
    """Write `image` with its recipe inside under the first free of `names`; PNG by default."""
    data = encode(image, recipe, saving or Saving())
    path = publish(names, data)
    return Saved(path, hashlib.sha256(data).hexdigest())


def encode(image: Image.Image, recipe: Recipe, saving: Saving) -> bytes:
    """The bytes of the file; BadRequest when the format cannot hold the picture or its recipe."""
    extra = check(image.size, recipe, saving)
    if saving.stealth:
        image = stealth.hide(image, infotext.write(recipe))
    if saving.format == "jpeg":
        image = flat(image)  # it knows nothing transparent
    buffer = io.BytesIO()
    image.save(buffer, format=saving.format.upper(), **_quality(saving), **extra)
    return buffer.getvalue()


def check(size: tuple[int, int], recipe: Recipe, saving: Saving) -> dict[str, Any]:
    """The metadata for Pillow; BadRequest as `encode`, so that it can be known beforehand."""
    if max(size) > (longest := _LONGEST.get(saving.format, max(size))):
        kind = saving.format.upper()
        raise BadRequest(f"a {kind} file has at most {longest} pixels a side", hint="Save as PNG.")
    return EMBED[saving.format](recipe) if saving.metadata else {}


def _quality(saving: Saving) -> dict[str, Any]:
    match saving.format:
        case "png":
            return {"compress_level": 4}
        case "webp" if saving.quality == _LOSSLESS:
            return {"lossless": True, "exact": True}
        case "jpeg":
            return {"quality": saving.quality, "subsampling": 0 if saving.quality >= 90 else 2}
        case "webp" | "avif":
            return {"quality": saving.quality}


def save_preview(image: Image.Image, path: Path) -> None:
    """Write a preview over the one before it; a viewer that follows the file never sees half."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    write_whole(path, buffer.getvalue())

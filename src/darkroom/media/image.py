"""Pixels to PNG files."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from darkroom.core.recipe import Recipe
from darkroom.media.files import publish, write_whole
from darkroom.media.metadata import recipe_chunk


@dataclass(frozen=True, slots=True)
class Saved:
    """A picture on disk."""

    path: Path
    sha256: str  # of the whole file


def save(image: Image.Image, recipe: Recipe, names: Iterator[Path]) -> Saved:
    """Write `image` with its recipe inside under the first free of `names`."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=recipe_chunk(recipe), compress_level=4)
    data = buffer.getvalue()
    path = publish(names, data)
    return Saved(path, hashlib.sha256(data).hexdigest())


def save_preview(image: Image.Image, path: Path) -> None:
    """Write a preview over the one before it; a viewer that follows the file never sees half."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    write_whole(path, buffer.getvalue())

"""What a finished picture carries, format by format: the infotext for others, the recipe for us.

| format | infotext | recipe |
|---|---|---|
| PNG | text chunk `parameters` | text chunk `darkroom`, compressed |
| JPEG, WebP, AVIF | EXIF UserComment, UTF-16 | XMP property `darkroom:recipe` |
| GIF | comment | no room |

Each row is a function from a recipe to what Pillow's `save` takes. No path is ever written.
"""

from collections.abc import Callable
from typing import Any

from PIL import PngImagePlugin

from darkroom.core.errors import BadRequest
from darkroom.core.recipe import Recipe
from darkroom.media.metadata import exif, infotext, ours, xmp

MAX_SEGMENT = 65_533  # bytes of a JPEG segment, by ITU T.81
_EXIF_HEAD, _XMP_HEAD = 6, 29  # bytes in front of the data in their segments

Extra = dict[str, Any]


def png(recipe: Recipe) -> Extra:
    """Text chunks; UTF-8 where Latin-1 is not enough, as A1111 does it."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", infotext.write(recipe))
    info.add_itxt(ours.KEY, recipe.model_dump_json(), zip=True)
    return {"pnginfo": info}


def exif_and_xmp(recipe: Recipe) -> Extra:
    """EXIF and XMP, of any length."""
    text = infotext.write(recipe)
    return {"exif": exif.user_comment(text), "xmp": xmp.packet(recipe.model_dump_json())}


def jpeg(recipe: Recipe) -> Extra:
    """EXIF and XMP in one segment each; BadRequest when the prompts are too long for that."""
    extra = exif_and_xmp(recipe)
    extra["exif"] = b"Exif\0\0" + extra["exif"]
    longest = max(len(extra["exif"]), len(extra["xmp"]) + _XMP_HEAD)
    if longest > MAX_SEGMENT:
        raise BadRequest(
            f"the prompts are too long for a JPEG file: {longest:,} bytes of metadata, where"
            f" {MAX_SEGMENT:,} fit",
            hint="Save as PNG, WebP or AVIF.",
        )
    return extra


def gif(recipe: Recipe) -> Extra:
    """The comment."""
    return {"comment": infotext.write(recipe).encode()}


EMBED: dict[str, Callable[[Recipe], Extra]] = {
    "png": png,
    "jpeg": jpeg,
    "webp": exif_and_xmp,
    "avif": exif_and_xmp,
    "gif": gif,
}

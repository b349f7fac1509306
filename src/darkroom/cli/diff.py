"""`darkroom diff`: what differs between two pictures."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import JSON, pass_reply
from darkroom.core.errors import BadRequest, printable
from darkroom.media.metadata import Found, find

if TYPE_CHECKING:
    from PIL import Image

    from darkroom.media.compare import Change, PixelChange

PICTURE = click.Path(path_type=Path)


@click.command()
@click.argument("first", metavar="A", type=PICTURE)
@click.argument("second", metavar="B", type=PICTURE)
@click.option(
    "-o",
    "--output",
    type=PICTURE,
    metavar="FILE.png",
    help="Save a picture of where they differ: violet a little, white most.",
)
@JSON
@pass_reply
def diff(reply: Reply, /, first: Path, second: Path, *, output: Path | None) -> None:
    """Show what differs between the pictures A and B: settings, models, versions, and pixels.

    In prompts, [-what only A says-] and {+what only B says+} are marked. Files of every program
    that `darkroom info` reads can be compared.
    """
    from darkroom.media.compare import pixel_change, recipe_changes
    from darkroom.media.picture import read_picture

    pictures = read_picture(first), read_picture(second)
    pixels = pixel_change(*pictures)
    if output is not None:
        _save_map(pictures, output)
        reply.fields["map"] = str(output)
    found = find(first), find(second)
    changes = recipe_changes(*found)
    for path, told in zip((first, second), found, strict=True):
        if told is None:
            reply.note(f"{path} says nothing about how it was made")
    sizes = tuple(each.size for each in pictures)
    if reply.as_json:
        reply.fields |= _as_json(found, changes, pixels, sizes=sizes)
        return
    rows = [*_recipe_rows(found, changes), *_pixel_rows(pixels, sizes)]
    width = max(16, *(len(printable(title)) for title, _ in rows))
    for title, value in rows:
        click.echo(f"{printable(title):{width}} {printable(value)}")


Both = tuple[Found | None, Found | None]
Sizes = tuple[tuple[int, int], ...]


def _save_map(pictures: "tuple[Image.Image, Image.Image]", output: Path) -> None:
    from darkroom.media.compare import heat_map
    from darkroom.media.files import publish

    if output.suffix.lower() != ".png":
        raise BadRequest(f"cannot write {output.name!r}", hint="Give a name that ends in .png.")
    if pictures[0].size != pictures[1].size:
        raise BadRequest(
            "pictures of different sizes have no pixels in common", hint="Leave out -o."
        )
    buffer = io.BytesIO()
    heat_map(*pictures).save(buffer, "PNG")
    publish(iter([output]), buffer.getvalue())


def _recipe_rows(found: Both, changes: "list[Change]") -> list[tuple[str, str]]:
    if None in found:
        return []
    rows = [(change.name.replace("_", " "), change.shown()) for change in changes]
    return rows or [("recipe", "the same")]


def _pixel_rows(pixels: "PixelChange | None", sizes: Sizes) -> list[tuple[str, str]]:
    told = [f"{width} x {height}" for width, height in sizes]
    if pixels is None:
        return [("size", " → ".join(told))]
    if pixels.box is None:
        return [("pixels", f"the same, all {told[0]}")]
    left, top, right, bottom = pixels.box
    return [
        ("pixels", f"{pixels.changed:.2%} of {told[0]} differ"),
        ("where", f"{right - left} x {bottom - top} at ({left}, {top})"),
        ("how far", f"{pixels.mean:.2f} of 255 on average, {pixels.largest} at most"),
        ("PSNR", f"{pixels.psnr:.1f} dB"),
    ]


def _as_json(
    found: Both, changes: "list[Change]", pixels: "PixelChange | None", *, sizes: Sizes
) -> dict[str, Any]:
    return {
        "same": bool(pixels and pixels.equal) and not changes and None not in found,
        "sizes": sizes,
        "pixels": None if pixels is None else asdict(pixels) | {"equal": pixels.equal},
        "recipe": None if None in found else [asdict(change) for change in changes],
    }

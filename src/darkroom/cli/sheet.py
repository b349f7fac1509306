"""`darkroom sheet`: contact sheets."""

import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.info import each_picture
from darkroom.cli.options import JSON, pass_reply
from darkroom.core.errors import BadRequest, printable

DEFAULT = Path("sheet.png")


@click.command()
@click.argument(
    "pictures", nargs=-1, required=True, metavar="FOLDER…", type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="SHEET.png",
    help="The sheet; further pages are called SHEET-2.png and so on.  [default: sheet.png, or the"
    " next free number]",
)
@click.option(
    "--columns",
    type=click.IntRange(1, 50),
    default=5,
    metavar="N",
    help="Pictures in a row.  [default: 5]",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 50),
    default=6,
    metavar="N",
    help="Rows on a page.  [default: 6]",
)
@click.option(
    "--field",
    type=click.IntRange(32, 1024),
    default=256,
    metavar="N",
    help="Pixels that a picture may fill.  [default: 256]",
)
@JSON
@pass_reply
def sheet(
    reply: Reply,
    /,
    pictures: tuple[Path, ...],
    *,
    output: Path | None,
    columns: int,
    rows: int,
    field: int,
) -> None:
    """Make contact sheets of the pictures in FOLDER, each with its name and its settings.

    Single pictures may be named too; they are shown in the order of the command line.
    """
    from darkroom.media.contact import contact_sheets
    from darkroom.media.files import publish

    if output is not None and output.suffix.lower() != ".png":
        raise BadRequest(f"cannot write {output.name!r}", hint="Give a name that ends in .png.")
    paths = list(each_picture(pictures))
    if not paths:
        raise BadRequest("there are no pictures in the folder", hint="Name another folder.")
    names, sheets = _names(output or DEFAULT), reply.fields.setdefault("sheets", [])
    for made in contact_sheets(paths, columns=columns, rows=rows, field=field):
        buffer = io.BytesIO()
        made.image.save(buffer, "PNG", compress_level=4)
        written = publish(iter([next(names)]) if output else names, buffer.getvalue())
        sheets.append(str(written))
        for path in made.unread:
            reply.note(f"{path} cannot be read as a picture")
        if not reply.as_json:
            click.echo(printable(str(written)))


def _names(first: Path) -> Iterator[Path]:
    """The names of the pages."""
    yield first
    yield from (first.with_stem(f"{first.stem}-{number}") for number in count(2))

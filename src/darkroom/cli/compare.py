"""`darkroom compare`: a page with pictures side by side."""

from pathlib import Path

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.info import each_picture
from darkroom.cli.options import JSON, pass_reply
from darkroom.core.errors import BadRequest, printable
from darkroom.media.metadata import find

MOST = 200  # pictures on one page


@click.command()
@click.argument(
    "pictures", nargs=-1, required=True, metavar="A B…", type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("compare.html"),
    metavar="PAGE.html",
    help="The page.  [default: compare.html]",
)
@click.option("--link", is_flag=True, help="Link the pictures instead of putting them in the page.")
@JSON
@pass_reply
def compare(reply: Reply, /, pictures: tuple[Path, ...], *, output: Path, link: bool) -> None:
    """Make a page that shows the pictures A, B and so on side by side, and what differs.

    Two pictures of one size also lie on top of each other, with a slider between them. The page is
    one file that any browser shows, without a network. Of a folder every picture is shown.

    \b
    darkroom compare before.png after.png -o slider.html
    """
    from darkroom.media.comparison import Shown, comparison
    from darkroom.media.files import publish
    from darkroom.media.picture import read_picture

    if output.suffix.lower() not in (".html", ".htm"):
        raise BadRequest(f"cannot write {output.name!r}", hint="Give a name that ends in .html.")
    paths = list(each_picture(pictures))
    if not 2 <= len(paths) <= MOST:
        hint = f"Name 2 to {MOST} pictures, or a folder of as many."
        count = "1 picture" if len(paths) == 1 else f"{len(paths)} pictures"
        raise BadRequest(f"{count} cannot be compared", hint=hint)
    shown = [Shown(path=path, picture=read_picture(path), found=find(path)) for path in paths]
    made = comparison(shown, linked_from=output.parent if link else None)
    publish(iter([output]), made.encode())
    reply.fields |= {"page": str(output), "pictures": [str(path) for path in paths]}
    if not reply.as_json:
        click.echo(printable(str(output)))

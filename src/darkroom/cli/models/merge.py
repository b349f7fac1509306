"""`darkroom models merge`: one checkpoint of two or three."""

from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.models.asked import with_library
from darkroom.cli.models.making import DTYPE, OUTPUT, shown, target_of
from darkroom.core.errors import BadRequest, shorten
from darkroom.core.model import Kind
from darkroom.library.models import Library

LEAST, MOST = -1, 2  # shares
MOST_BLOCKS = 64


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="A B [C]")
@click.option(
    "--share",
    type=float,
    default=0.5,
    show_default=True,
    help="How much of B: 0 is A alone, 1 is B (or A + B - C).",
)
@click.option(
    "--blocks",
    metavar="X,X,…",
    help="A share for each part of the UNet instead: base, the blocks in, the middle, the blocks"
    " out; 26 numbers for SD1 and SD2, 20 for SDXL.",
)
@click.option("--vae", metavar="NAME", help="VAE to bake into the new file.")
@OUTPUT
@DTYPE
@with_library
def merge(
    reply: Reply,
    library: Library,
    /,
    *,
    names: tuple[str, ...],
    share: float,
    blocks: str | None,
    **making: Any,
) -> None:
    """Merge checkpoints of one family into a new one.

    \b
    Two models    their weighted sum, A + share (B - A)
    three models  what B learned from C, added to A: A + share (B - C)
    one model     with --vae only: A with another VAE
    """
    _check("--share", (share,))
    shares, vae, dtype = _blocks(blocks), making["vae"], making["dtype"]
    if not 1 <= len(names) <= 3 or (len(names) == 1 and vae is None):
        raise BadRequest("merge takes two or three checkpoints", hint="Or one, with --vae.")
    cards = [library.find(name) for name in names]
    target = target_of(making["output"], Path(cards[0].path), "-merged")
    baked = None if vae is None else library.find_of(Kind.VAE, vae)
    from darkroom.jobs.workshop import merge as work  # imports torch: seconds

    how = {"share": share, "blocks": shares, "dtype": dtype, "vae": baked}
    shown(reply, lambda tell: work(cards, target, tell=tell, **how))


def _blocks(text: str | None) -> tuple[float, ...]:
    """The numbers in "0,0.5,1"; BadRequest when one is none or out of range."""
    if text is None:
        return ()
    parts = text.replace(",", " ").split()
    try:
        numbers = tuple(float(part) for part in parts[:MOST_BLOCKS])
    except ValueError:
        raise BadRequest(f"--blocks must be numbers, not {shorten(text)!r}") from None
    _check("--blocks", numbers)
    return numbers


def _check(flag: str, shares: tuple[float, ...]) -> None:
    """BadRequest unless all are numbers in range; "nan" is none."""
    if not all(LEAST <= share <= MOST for share in shares):
        raise BadRequest(f"{flag} must lie between {LEAST} and {MOST}")

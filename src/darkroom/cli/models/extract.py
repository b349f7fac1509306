"""`darkroom models extract-lora`: what one checkpoint learned over another, as a LoRA."""

from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.models.asked import with_library
from darkroom.cli.models.making import OUTPUT, shown, target_of
from darkroom.library.models import Library

RANK = click.IntRange(1, 1024)


@click.command("extract-lora")
@click.argument("tuned")
@click.argument("base")
@click.option(
    "--rank", type=RANK, default=32, show_default=True, help="Rank of linear layers: size, detail."
)
@click.option(
    "--conv-rank",
    type=click.IntRange(0, 1024),
    default=0,
    show_default=True,
    help="Rank of convolutions; 0 leaves them out.",
)
@click.option("--texts/--no-texts", default=True, help="The text encoders too.  [default: on]")
@OUTPUT
@with_library
def extract_lora(
    reply: Reply, library: Library, /, *, tuned: str, base: str, output: str | None, **how: Any
) -> None:
    """Write what the checkpoint TUNED learned over BASE as a LoRA.

    The LoRA works in A1111, Forge and ComfyUI too. Both checkpoints must be of one family.
    """
    cards = library.find(tuned), library.find(base)
    target = target_of(output, Path(cards[0].path), "-lora")
    named = {"rank": how["rank"], "conv_rank": how["conv_rank"], "texts": how["texts"]}
    from darkroom.jobs.workshop import extract_lora as work  # imports torch: seconds

    shown(reply, lambda tell: work(*cards, target, how=named, tell=tell))

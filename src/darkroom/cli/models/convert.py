"""`darkroom models convert` and `prune`: the same model as one safetensors file."""

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.models.asked import with_library
from darkroom.cli.models.making import DTYPE, OUTPUT, shown, target_of
from darkroom.library.models import Library


@click.command()
@click.argument("name")
@OUTPUT
@DTYPE
@with_library
def convert(
    reply: Reply, library: Library, /, *, name: str, output: str | None, dtype: str | None
) -> None:
    """Write the model NAME as one .safetensors file.

    NAME is a .ckpt, .pt or .bin file, a folder in diffusers' layout, or a listed model. A pickle is
    read without running anything in it.
    """
    source = library.locate(name)
    target = target_of(output, source)
    from darkroom.jobs.workshop import convert as work  # imports torch: seconds

    shown(reply, lambda tell: work(source, target, dtype=dtype, tell=tell))


@click.command()
@click.argument("name")
@OUTPUT
@click.option(
    "--dtype",
    type=click.Choice(("fp16", "bf16", "fp32")),
    default="fp16",
    show_default=True,
    help="Number format of the new file.",
)
@with_library
def prune(reply: Reply, library: Library, /, *, name: str, output: str | None, dtype: str) -> None:
    """Write the checkpoint NAME without what pictures do not need.

    That is the averaged copy of its weights (EMA), what the trainer left behind, and half of the
    digits.
    """
    source = library.locate(name)
    target = target_of(output, source, "-pruned")
    from darkroom.jobs.workshop import prune as work  # imports torch: seconds

    shown(reply, lambda tell: work(source, target, dtype=dtype, tell=tell))

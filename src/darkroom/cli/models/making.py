"""What the verbs that write model files share: their options, and how they tell of their work."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkroom.cli.boundary import Reply
from darkroom.core.errors import BadRequest, printable
from darkroom.core.settings import expanded

if TYPE_CHECKING:
    from darkroom.jobs.workshop import Made, Tell

DTYPE = click.option(
    "--dtype",
    type=click.Choice(("fp32", "fp16", "bf16")),
    help="Number format of the new file.  [default: the source's own]",
)
OUTPUT = click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="The new .safetensors file, or a folder for it.  [default: beside the source]",
)


def target_of(output: str | None, source: Path, ending: str = "") -> Path:
    """Where the new file goes: beside its source, in the folder or under the name given."""
    name = f"{source.stem if source.is_file() else source.name}{ending}.safetensors"
    path = source.parent if output is None else expanded(Path(output))
    if path.is_dir():
        path /= name
    if path.suffix.lower() not in (".safetensors", ".sft"):
        raise BadRequest(
            f"{printable(path.name)} is no name for a safetensors file",
            hint="Give a name that ends in .safetensors, or a folder that is there.",
        )
    if path.exists():
        raise BadRequest(f"{path} is there already", hint="Give another name with -o.")
    return path


def shown(reply: Reply, work: Callable[["Tell"], "Made"]) -> None:
    """Do the work with a bar on a terminal, and tell of the file that came out."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True, quiet=reply.as_json)
    columns = TextColumn("working"), BarColumn(), TaskProgressColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        made = work(lambda done, total: bar.update(task, completed=done, total=total))
    for name in made.ignored:
        reply.note(f"the pickle names {name}, which was left alone")
    for text in made.notes:
        reply.note(text)
    if reply.as_json:
        record = {"path": str(made.path), "bytes": made.bytes, "tensors": made.tensors}
        more = {"left_out": made.left_out, "captured": made.captured}
        reply.fields |= record | more
        return
    click.echo(f"{made.path}  ({made.tensors:,} tensors, {made.bytes / 1e6:,.1f} MB)")
    if made.left_out:
        click.echo(
            f"left out: {made.left_out:,} tensors that no network uses (averaged copies, leftovers)"
        )
    if made.captured is not None:
        click.echo(f"holds {made.captured:.1%} of the difference in the layers that it changes")

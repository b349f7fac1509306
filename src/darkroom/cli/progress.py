"""Events of a job, shown to a person at a terminal."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from darkroom.cli.boundary import Reply
from darkroom.core.errors import StudioError, from_event, printable
from darkroom.core.event import Event


def follow(events: Iterable[Event], reply: Reply) -> None:
    """Show `events` on standard error, with a bar where it is a terminal; tell `reply` of them.

    Each picture's path goes to standard output as soon as it is saved, so that `darkroom txt2img …
    | xargs …` works; only where both are the terminal it is not said twice. With `--json` nothing
    is shown. Raises the error that a `failed` event tells of, after the last event.
    """
    console = Console(stderr=True, quiet=reply.as_json)
    seen = _is_terminal(sys.stderr)
    echo = not (reply.as_json or _is_closed(sys.stdout) or (seen and _is_terminal(sys.stdout)))
    images = reply.fields.setdefault("images", [])
    warnings = reply.fields.setdefault("warnings", [])
    failure: StudioError | None = None
    progress = _bar(console)
    with progress if seen and not reply.as_json else nullcontext():
        bar = progress.add_task("Starting", total=None, steps="", rate="")
        previewed = False
        for event in events:
            if event.kind != "preview" or (seen and not previewed):
                _show(progress, bar, event)
            previewed = previewed or event.kind == "preview"
            match event.kind:
                case "artifact":
                    images.append(event.data)
                    if echo:
                        _echo(event.data["path"])
                case "caption":
                    reply.fields.setdefault("captions", []).append(event.data)
                    if not reply.as_json:
                        of = f"{event.data['of']}: " if "of" in event.data else ""
                        click.echo(printable(f"{of}{event.data['text']}"))
                case "sheet":
                    reply.fields.setdefault("sheets", []).append(event.data["path"])
                case "warning":
                    warnings.append(event.data["text"])
                case "failed":
                    if failure is not None:  # of several, each is said
                        warnings.append(failure.sentence())
                        console.print(_note(failure.sentence()), soft_wrap=True)
                    failure = from_event(event.data)
                case _:
                    pass
    _echo_sheet(reply.fields.get("sheets", ()) if echo else ())
    if failure is not None:
        raise failure


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _bar(console: Console) -> Progress:
    """A bar of one line; where there is little room, the description is cut."""
    whole = Column(no_wrap=True)
    return Progress(
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        BarColumn(20),
        TextColumn("{task.fields[steps]}", table_column=whole),
        TextColumn("{task.fields[rate]}", table_column=whole),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        console=console,
        transient=True,
        expand=True,
        redirect_stdout=False,  # that is for the paths, in a pipe
    )


def _show(progress: Progress, bar: TaskID, event: Event) -> None:
    data = event.data
    match event.kind:
        case "started":
            # A sampler that finds its own number of steps has no total.
            total = data["images"] * data["steps"] if data["steps"] else None
            progress.update(bar, description=printable(data["model"]), total=total)
            if values := data.get("recommended"):
                told = (f"{name.replace('_', ' ')} {_plain(v)}" for name, v in values.items())
                text = f"{printable(', '.join(told))}, as the model recommends"
                progress.console.print(Text(text, "dim"), soft_wrap=True)
            for text in data.get("networks", ()):
                progress.console.print(Text(f"With {printable(text)}", "dim"), soft_wrap=True)
        case "step":
            planned = progress.tasks[bar].total  # of the first runs; there may be others
            progress.update(
                bar,
                total=None if planned is None else max(planned, data["done"]),
                completed=data["done"],
                description=_working_on(data),
                steps=f"step {data['step']}/{data['steps']}",
                rate=f"{data['rate']:.{1 if data['rate'] >= 1 else 2}f} it/s",
            )
        case "preview":
            text = f"Preview: {printable(data['path'])}"
            progress.console.print(Text(text, "dim"), soft_wrap=True)
        case "artifact":
            seed = ("" if data["seed"] is None else f"  seed {data['seed']}", "dim")
            line = Text.assemble(("Saved ", "green"), printable(data["path"]), seed)
            progress.console.print(line, soft_wrap=True)
        case "sheet":
            line = Text.assemble(("All together: ", "green"), printable(data["path"]))
            progress.console.print(line, soft_wrap=True)
        case "warning":
            progress.console.print(_note(data["text"]), soft_wrap=True)
        case "caption" if "path" in data:
            line = Text.assemble(("Saved ", "green"), printable(data["path"]))
            progress.console.print(line, soft_wrap=True)
        case "queued" | "caption" | "done" | "failed":
            pass


def _working_on(data: Mapping[str, Any]) -> str:
    stage = data.get("stage")
    return f"Picture {data['image'] + 1}" + (f", {printable(stage)}" if stage else "")


def _note(text: str) -> Text:
    return Text.assemble(("Note: ", "yellow"), printable(text))


def _echo_sheet(sheets: Iterable[str]) -> None:
    """Print the path of the picture that shows the others together, which comes last."""
    grids = [path for path in sheets if path.endswith(".png")]
    if grids:
        _echo(grids[-1])


def _echo(path: str) -> None:
    """Print a path: safe for a terminal, and to the last character for another program."""
    if _is_terminal(sys.stdout):
        click.echo(printable(path))
    else:
        click.echo(path, color=True)  # without it click drops what looks like a colour


def _is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _is_closed(stream: IO[str] | None) -> bool:
    return stream is None or stream.closed

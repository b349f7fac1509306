"""Events of a job, shown to a person at a terminal."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
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
        bar = progress.add_task("Starting", total=None, steps="", rate="", preview="")
        for event in events:
            _show(progress, bar, event)
            match event.kind:
                case "artifact":
                    images.append(event.data)
                    if echo:
                        _echo(event.data["path"])
                case "caption":
                    reply.fields.setdefault("captions", []).append(event.data)
                    if not reply.as_json:
                        click.echo(printable(event.data["text"]))
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
    if failure is not None:
        raise failure


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[steps]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[preview]}", style="dim", markup=False),
        console=console,
        transient=True,
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
                told = ", ".join(f"{name} {_plain(value)}" for name, value in values.items())
                text = f"{printable(told)}: as the model recommends"
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
                rate=f"{data['rate']:.2f} it/s",
            )
        case "preview":
            progress.update(bar, preview=f"preview: {printable(data['path'])}")
        case "artifact":
            seed = (f"  seed {data['seed']}", "dim")
            line = Text.assemble(("Saved ", "green"), printable(data["path"]), seed)
            progress.console.print(line, soft_wrap=True)
        case "sheet":
            line = Text.assemble(("All together: ", "green"), printable(data["path"]))
            progress.console.print(line, soft_wrap=True)
        case "warning":
            progress.console.print(_note(data["text"]), soft_wrap=True)
        case "queued" | "caption" | "done" | "failed":
            pass


def _working_on(data: Mapping[str, Any]) -> str:
    stage = data.get("stage")
    return f"Picture {data['image'] + 1}" + (f", {printable(stage)}" if stage else "")


def _note(text: str) -> Text:
    return Text.assemble(("Note: ", "yellow"), printable(text))


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

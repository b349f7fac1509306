"""Events of a job, shown to a person at a terminal."""

from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from darkroom.core.errors import StudioError, from_event
from darkroom.core.event import Event


def follow(events: Iterable[Event], *, quiet: bool = False) -> list[dict[str, Any]]:
    """Show `events` as a progress bar on standard error; print each picture's path as it is saved.

    Returns the data of the artifacts, and raises the error that a `failed` event tells of. Paths go
    to standard output, everything else does not, so that `darkroom txt2img … | xargs …` works.
    `quiet` shows nothing.
    """
    console = Console(stderr=True, quiet=quiet)
    saved: list[dict[str, Any]] = []
    failure: StudioError | None = None
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[steps]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[preview]}"),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("Starting", total=None, steps="", rate="", preview="")
        for event in events:
            _show(progress, bar, event)
            if event.kind == "artifact":
                saved.append(event.data)
                if not quiet:
                    click.echo(event.data["path"])
            elif event.kind == "failed":
                failure = from_event(event.data)
    if failure is not None:
        raise failure
    return saved


def _show(progress: Progress, bar: TaskID, event: Event) -> None:
    data = event.data
    match event.kind:
        case "started":
            total = data["images"] * data["steps"]
            progress.update(bar, description=data["model"], total=total)
        case "step":
            progress.update(
                bar,
                completed=data["done"],
                description=f"Picture {data['image'] + 1}",
                steps=f"step {data['step']}/{data['steps']}",
                rate=f"{data['rate']:.2f} it/s",
            )
        case "preview":
            progress.update(bar, preview=f"preview: {data['path']}")
        case "artifact":
            progress.console.print(
                f"[green]Saved[/] seed {data['seed']}, {data['seconds']:.1f} s", highlight=False
            )
        case "warning":
            progress.console.print(f"[yellow]Note:[/] {_plain(data['text'])}", highlight=False)
        case "queued" | "done" | "failed":
            pass


def _plain(text: str) -> str:
    return text.replace("[", "\\[")

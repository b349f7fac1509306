"""`darkroom models pull`: fetch a model from Hugging Face, Civitai or a link."""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich import progress as rich_progress
from rich.console import Console

from darkroom.cli.boundary import Reply
from darkroom.cli.models.asked import with_settings
from darkroom.core.errors import BadRequest, Cancelled, printable
from darkroom.core.model import Kind
from darkroom.core.settings import Settings, expanded
from darkroom.library.download import (
    Choice,
    Guard,
    Notice,
    Plan,
    Progress,
    Pulled,
    Puller,
    Sites,
    Web,
)
from darkroom.library.download.pull import FOLDERS
from darkroom.library.models import Library

LINE_S = 5.0  # seconds between lines on progress, where there is no terminal
KINDS = {kind.value.replace(" ", "-").lower(): kind for kind in FOLDERS if kind is not Kind.UNKNOWN}
_FOLDER_KINDS = {folder: kind for kind, folder in FOLDERS.items()}  # taken too, as in "loras"
_USES = {
    Kind.CHECKPOINT: 'darkroom txt2img --model "{}" …',
    Kind.VAE: 'darkroom txt2img --vae "{}" …',
    Kind.PREVIEW: 'darkroom txt2img --preview "{}" …',
    Kind.LORA: "<lora:{}:1> in a prompt",
    Kind.HYPERNETWORK: "<hypernet:{}:1> in a prompt",
    Kind.EMBEDDING: "{} in a prompt",
}


@click.command()
@click.argument("source")
@click.option("--file", default="", help="One file, of a page that has several.")
@click.option("--name", default="", help="What to call it here.  [default: as its page does]")
@click.option("--kind", default="", help="What it is, if it is not what it looks like: lora, vae …")
@click.option("--revision", default="", help="Branch, tag or commit on Hugging Face.")
@click.option("--full", is_flag=True, help="Of a folder, full precision instead of half.")
@click.option("--sha256", default="", help="What the file must hash to; 10 digits are enough.")
@click.option(
    "--to", metavar="FOLDER", help="Where to put it.  [default: models in the data folder]"
)
@click.option("--dry-run", is_flag=True, help="Only say what would be fetched.")
@with_settings
def pull(
    reply: Reply,
    settings: Settings,
    /,
    source: str,
    *,
    to: str | None,
    dry_run: bool,
    **chosen: Any,
) -> None:
    """Fetch a model from Hugging Face, Civitai or a link.

    SOURCE is owner/name (or owner/name:file) on Hugging Face, civitai:NUMBER, the link of a page on
    either site, or the link of a file. What was interrupted goes on when you say the same again.

    For models that want a login, set HF_TOKEN or CIVITAI_API_TOKEN.
    """
    sites = Sites.of(os.environ)
    catalogue = Library.of(settings).catalogue
    web, models = Web(_guard(), sites.tokens), settings.data_dir / "models"
    puller = Puller(web, sites, models, catalogue=catalogue)
    plan = puller.plan(source, _choice(chosen))
    folder = expanded(Path(to)) if to else None
    if dry_run:
        _show_plan(reply, plan, puller.target(plan, to=folder))
        return
    pulled = _follow(puller.pull(plan, to=folder), reply)
    _show(reply, pulled)


def _guard() -> Guard:
    return Guard()


def _choice(chosen: dict[str, Any]) -> Choice:
    named, sha256 = chosen.pop("kind").strip().lower(), chosen.pop("sha256").strip().lower()
    kind = KINDS.get(named) or _FOLDER_KINDS.get(named)
    if named and kind is None:
        raise BadRequest(f"there is no kind {named[:40]!r}", hint=f"Kinds: {', '.join(KINDS)}.")
    if sha256 and not (10 <= len(sha256) <= 64 and set(sha256) <= set("0123456789abcdef")):
        raise BadRequest("--sha256 takes 10 to 64 hexadecimal digits")
    return Choice(kind=kind, sha256=sha256, **chosen)


def _show_plan(reply: Reply, plan: Plan, target: Path | None) -> None:
    for note in plan.notes:
        reply.note(note)
    files = [
        {"name": file.name or plan.name, "bytes": file.size or file.about, "sha256": file.sha256}
        for file in plan.files
    ]
    if reply.as_json:
        kind = plan.kind.value if plan.kind else None
        reply.fields |= {"source": plan.source, "name": plan.name, "kind": kind, "files": files}
        reply.fields["path"] = str(target) if target else None
        return
    where = target or "the folder of its kind, which its first bytes tell"
    click.echo(printable(f"{plan.source}: {_size(plan.size)}, to {where}"))
    for file in files:
        click.echo(printable(f"  {file['name'] or '(as the server says)'}  {_size(file['bytes'])}"))


def _size(count: Any) -> str:
    if count is None:
        return "size unknown"
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _show(reply: Reply, pulled: Pulled) -> None:
    if reply.as_json:
        reply.fields |= {
            "path": str(pulled.path),
            "kind": pulled.kind.value,
            "label": pulled.label,
            "bytes": pulled.bytes,
            "sha256": pulled.sha256,
            "already": pulled.already,
            "triggers": list(pulled.triggers),
        }
        return
    what = "Here already" if pulled.already else "Saved"
    click.echo(printable(f"{what}: {pulled.path}" + (f" ({pulled.label})" if pulled.label else "")))
    if pulled.triggers:
        click.echo(printable(f"Trigger words: {', '.join(pulled.triggers)}"))
    if use := _USES.get(pulled.kind):
        click.echo(printable(f"Use it: {use.format(pulled.path.stem)}"))


def _follow(steps: Iterable[Progress | Notice | Pulled], reply: Reply) -> Pulled:
    """Show the steps on standard error, as a bar or as lines; what was pulled at last."""
    seen = sys.stderr is not None and sys.stderr.isatty() and not reply.as_json
    show = _Bar() if seen else _Lines(quiet=reply.as_json)
    try:
        with show:
            for step in steps:
                match step:
                    case Progress():
                        show.progress(step)
                    case Notice():
                        show.note(reply, step.text)
                    case Pulled():
                        return step
    except KeyboardInterrupt:
        raise Cancelled("stopped", hint="What came is kept: the same command goes on.") from None
    raise AssertionError("a pull ends with what was pulled")


class _Lines:
    """Progress where there is no terminal: a line every few seconds."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._began = self._told = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def progress(self, step: Progress) -> None:
        """One line, if the last one is some time ago."""
        now = time.monotonic()
        if self._first is None or step.done < self._first:  # what was there is not of this run
            self._first, self._began = step.done, now
        if self._quiet or now - self._told < LINE_S:
            return
        self._told = now
        rate = (step.done - self._first) / max(now - self._began, 1e-9)
        told = f"{_size(step.done)} of {_size(step.total)}, {rate / 1e6:,.1f} MB/s"
        if step.total is not None and rate:
            told += f", {(step.total - step.done) / rate:,.0f} s left"
        click.echo(printable(f"{step.name}: {told}"), err=True)

    def note(self, reply: Reply, text: str) -> None:
        """One line."""
        reply.note(text)


class _Bar:
    """Progress on a terminal."""

    def __init__(self) -> None:
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.DownloadColumn(),
            rich_progress.TransferSpeedColumn(),
            rich_progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
        )
        self._task = self._bar.add_task("Asking", total=None)

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def progress(self, step: Progress) -> None:
        """Move the bar."""
        description = printable(step.name or "Fetching")[:40]
        self._bar.update(self._task, description=description, completed=step.done, total=step.total)

    def note(self, reply: Reply, text: str) -> None:
        """A line above the bar."""
        reply.fields.setdefault("warnings", []).append(text)
        self._bar.console.print(f"Note: {printable(text)}", markup=False, soft_wrap=True)

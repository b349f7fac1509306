"""`darkroom doctor`: is everything in order, and if not, what to do."""

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from darkroom import __version__
from darkroom.cli.boundary import FAILED, Reply
from darkroom.cli.options import DEVICE_FLAGS, JSON, flags, given, pass_reply
from darkroom.core.errors import OutputError, StudioError, printable
from darkroom.core.settings import Configured, Settings
from darkroom.library.listing import STARTER
from darkroom.library.models import Library
from darkroom.media.files import try_folder
from darkroom.media.left_behind import left_behind

MARKS = {"ok": "ok  ", "warning": "note", "error": "FAIL"}
LITTLE = 1 << 30  # bytes free on a disk
MOST_BAD = 5  # models that cannot be used, each with a row of its own
Row = tuple[str, str, str]  # level, text, hint


@click.command()
@JSON
@flags(Settings, DEVICE_FLAGS)
@pass_reply
def doctor(reply: Reply, /, **values: Any) -> None:
    """Check device, versions, disk and models, and say what to do about each problem."""
    settings, rows = _settings(given(values))
    for check in (_folders, _unfinished, _inputs, _models, _device):
        rows += _guarded(check, settings)
    if reply.as_json:
        reply.json([{"level": level, "text": text, "hint": hint} for level, text, hint in rows])
    else:
        python = f"Python {platform.python_version()}, {platform.platform()}"
        click.echo(f"Darkroom {__version__}, {python}")
        for level, text, hint in rows:
            click.echo(f"  {MARKS[level]}  {printable(f'{text}. {hint}' if hint else text)}")
    if any(level == "error" for level, _, _ in rows):
        sys.exit(FAILED)


def _guarded(check: Callable[[Settings], list[Row]], settings: Settings) -> list[Row]:
    try:
        return check(settings)
    except StudioError as error:
        return [_failed(error)]
    except OSError as error:
        return [("error", f"{error.filename}: {error.strerror}", "Check who may read it.")]


def _failed(error: StudioError) -> Row:
    return ("error", str(error), error.hint)


def _settings(flags: dict[str, Any]) -> tuple[Settings, list[Row]]:
    """The settings; where they cannot be read the defaults, so that the rest is looked at too."""
    try:
        configured = Configured.load_here(flags)
    except StudioError as error:
        try:
            return Settings.model_validate({}), [_failed(error)]
        except StudioError:  # no home folder, so no place for our own data
            return Settings.model_validate({"data_dir": "darkroom-data"}), [_failed(error)]
    changed = [
        f"{name} = {_told(getattr(configured.values, name))} ({source})"
        for name, source in configured.sources.items()
        if source != "default"
    ]
    text = f"settings: {'; '.join(changed) or 'all at their defaults'}"
    return configured.values, [("ok", text, "")]


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _folders(settings: Settings) -> list[Row]:
    return [
        _folder("pictures", settings.outputs_dir.absolute(), variable="DARKROOM_OUTPUTS_DIR"),
        _folder("own data", settings.data_dir.absolute(), variable="DARKROOM_DATA_DIR"),
    ]


def _folder(what: str, folder: Path, *, variable: str) -> Row:
    try:
        free = try_folder(folder)
    except OutputError as error:
        return ("error", f"{what}: {error}", f"Set {variable} to a folder that can be written.")
    text = f"{what} go to {folder}"
    if free is None:
        return ("ok", text, "")
    text = f"{text} ({free / 1e9:,.1f} GB free)"
    return ("ok", text, "") if free > LITTLE else ("warning", text, "Make some room.")


def _unfinished(settings: Settings) -> list[Row]:
    left = list(left_behind(settings.unfinished_dir))
    if not left:
        return []
    return [("warning", f"{len(left)} unfinished picture(s)", "Run `darkroom recover`.")]


def _inputs(settings: Settings) -> list[Row]:
    folder = settings.data_dir / "inputs"
    sizes = [path.stat().st_size for path in folder.glob("*/*") if path.is_file()]
    if not sizes:
        return []
    kept = f"{len(sizes):,} picture(s) that were handed in: {sum(sizes) / 1e6:,.1f} MB in {folder}"
    return [("ok", f"{kept}; `redo` and `recover` need them", "")]


def _models(settings: Settings) -> list[Row]:
    found = Library.of(settings).list()
    usable = [item.name for item in found if item.usable]
    rows: list[Row] = [("ok", f"{len(usable)} model(s): {', '.join(usable[:5])}", "")]
    bad = [item for item in found if item.problem]
    bad.sort(key=lambda item: (item.name != STARTER, item.facts.bytes > 0))  # folders have no size
    for item in bad[:MOST_BAD]:
        level = "error" if item.name == STARTER else "warning"
        rows.append((level, f"{item.name} cannot be used: {item.problem}", ""))
    if more := len(bad[MOST_BAD:]):
        hint = "`darkroom models list --problems` says why."
        rows.append(("warning", f"{more:,} more cannot be used", hint))
    return rows


def _device(settings: Settings) -> list[Row]:
    try:
        from darkroom.jobs.checkup import checkup  # imports torch
    except (ImportError, OSError) as error:
        hint = "Delete the folder .venv beside ./darkroom and start again; it is made anew."
        return [("error", f"PyTorch cannot be loaded: {error}", hint)]
    return checkup(settings)

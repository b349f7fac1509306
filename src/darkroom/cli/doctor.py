"""`darkroom doctor`: is everything in order, and if not, what to do."""

import json
import platform
import shutil
import sys
from typing import Any

import click

from darkroom import __version__
from darkroom.cli.boundary import FAILED, sentences
from darkroom.cli.models import library
from darkroom.cli.options import flags, given
from darkroom.core.settings import Configured, Settings

FLAGS = ("device", "dtype", "threads", "models_dirs", "data_dir")
MARKS = {"ok": "ok  ", "warning": "note", "error": "FAIL"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@flags(Settings, FLAGS)
def doctor(as_json: bool, **values: Any) -> None:
    """Check device, versions, disk and models, and say what to do about each problem."""
    with sentences(as_json=as_json):
        configured = Configured.load_here(given(values))
        findings = [*_settings(configured), *_disk(configured.values), *_models(values)]
        from darkroom.jobs.checkup import checkup  # imports torch

        findings += checkup(configured.values)
    rows = [{"level": level, "text": text, "hint": hint} for level, text, hint in findings]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
    else:
        click.echo(
            f"Darkroom {__version__}, Python {platform.python_version()}, {platform.platform()}"
        )
        for row in rows:
            hint = f" {row['hint']}" if row["hint"] else ""
            click.echo(f"  {MARKS[row['level']]}  {row['text']}{hint}")
    if any(row["level"] == "error" for row in rows):
        sys.exit(FAILED)


Row = tuple[str, str, str]  # level, text, hint


def _settings(configured: Configured) -> list[Row]:
    changed = [
        f"{name} = {getattr(configured.values, name)} ({source})"
        for name, source in configured.sources.items()
        if source != "default"
    ]
    return [("ok", f"settings: {'; '.join(changed) or 'all at their defaults'}", "")]


def _disk(settings: Settings) -> list[Row]:
    rows: list[Row] = []
    for title, folder in (("pictures", settings.outputs_dir), ("own data", settings.data_dir)):
        there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free
        level, hint = ("ok", "") if free > 1 << 30 else ("warning", "Make some room.")
        rows.append((level, f"{title} go to {folder.absolute()} ({free / 1e9:,.1f} GB free)", hint))
    left = sorted((settings.data_dir / "unfinished").glob("*.latent.safetensors"))
    if left:
        rows.append(("warning", f"{len(left)} unfinished picture(s)", "Run `darkroom recover`."))
    return rows


def _models(values: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    found = library({name: values[name] for name in ("models_dirs", "data_dir")}).list()
    usable = [item.name for item in found if item.card]
    rows.append(("ok", f"{len(usable)} model(s): {', '.join(usable[:5])}", ""))
    for item in found:
        if item.problem:
            level = "error" if item.name == "starter" else "warning"
            rows.append((level, f"model {item.name} cannot be used: {item.problem}", ""))
    return rows

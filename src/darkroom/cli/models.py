"""`darkroom models`: what can be used here."""

from dataclasses import asdict
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import JSON, MODEL_FLAGS, flags, given, pass_reply
from darkroom.core.errors import printable
from darkroom.core.model import ModelCard
from darkroom.core.settings import Configured, Settings
from darkroom.library.models import Found, Library


@click.group(invoke_without_command=True, short_help="List the models here, or show one.")
@JSON
@flags(Settings, MODEL_FLAGS)
@click.pass_context
def models(context: click.Context, /, **values: Any) -> None:
    """List the models on this machine, or show one."""
    context.obj = Library.of(Configured.load_here(given(values)).values)
    if context.invoked_subcommand is None:
        context.invoke(list_models)


@models.command("list")
@JSON
@click.pass_obj
@pass_reply
def list_models(reply: Reply, library: Library, /) -> None:
    """List the models on this machine."""
    found = library.list()
    if reply.as_json:
        reply.json([_record(item) for item in found])
        return
    width = max(len(printable(item.name)) for item in found)
    for item in found:
        click.echo(f"{printable(item.name):{width}}  {printable(_summary(item))}")


@models.command()
@click.argument("name")
@JSON
@click.pass_obj
@pass_reply
def show(reply: Reply, library: Library, /, name: str) -> None:
    """Show what is known about the model NAME (a name, the start of a hash, or a path)."""
    card = library.find(name)
    if reply.as_json:
        reply.json(asdict(card))
        return
    for title, value in _rows(card):
        click.echo(f"{printable(title):12} {printable(value)}")


def _record(item: Found) -> dict[str, Any]:
    record: dict[str, Any] = {"name": item.name, "path": str(item.path), "problem": item.problem}
    if (detected := item.detected) is None:
        return record
    names = ("kind", "arch", "variant", "prediction", "native_size")
    known = {"bytes": item.bytes, "sha256": item.sha256, "recommended": item.recommended}
    return record | {name: getattr(detected, name) for name in names} | known


def _summary(item: Found) -> str:
    if (detected := item.detected) is None:
        return f"cannot be used: {item.problem}"
    size = f"{item.bytes / 1e6:,.0f} MB"
    parts = [f"{detected.arch} {detected.kind}", f"{detected.native_size} px", size]
    return ", ".join([*parts, item.sha256[:10]] if item.sha256 else parts)


def _rows(card: ModelCard) -> list[tuple[str, str]]:
    rows = [
        ("name", card.name),
        ("kind", f"{card.arch} {card.kind} ({card.variant}, {card.prediction} prediction)"),
        ("size", f"{card.bytes / 1e6:,.1f} MB; made for {card.native_size} px"),
        ("sha256", card.sha256),
        ("path", card.path),
    ]
    numbers = [f"{k} {v:g}" for k, v in card.recommended.items() if not isinstance(v, str)]
    if numbers:
        rows.append(("recommended", ", ".join(numbers)))
    for key, value in card.metadata.items():
        rows.append((key.removeprefix("modelspec.")[:30], " ".join(value.split())[:100]))
    return rows

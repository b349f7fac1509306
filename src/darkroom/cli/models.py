"""`darkroom models`: what can be used here."""

import json
from dataclasses import asdict
from typing import Any

import click

from darkroom.cli.boundary import sentences
from darkroom.cli.options import flags, given
from darkroom.core.model import ModelCard
from darkroom.core.settings import Configured, Settings
from darkroom.library.hashes import HashBook
from darkroom.library.models import Found, Library

FLAGS = ("models_dirs", "data_dir")


def library(values: dict[str, Any]) -> Library:
    """The library that the settings describe."""
    settings = Configured.load_here(given(values)).values
    return Library(settings.model_folders(), HashBook(settings.data_dir / "library.sqlite"))


@click.group(invoke_without_command=True, short_help="List the models here, or show one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@flags(Settings, FLAGS)
@click.pass_context
def models(context: click.Context, /, as_json: bool, **values: Any) -> None:
    """List the models on this machine, or show one."""
    context.obj = values
    if context.invoked_subcommand is None:
        _list(values, as_json)


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_models(values: dict[str, Any], as_json: bool) -> None:
    """List the models on this machine."""
    _list(values, as_json)


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(values: dict[str, Any], name: str, as_json: bool) -> None:
    """Show what is known about the model NAME (a name, the start of a hash, or a path)."""
    with sentences(as_json=as_json):
        card = library(values).find(name)
        if as_json:
            click.echo(json.dumps(asdict(card), ensure_ascii=False))
            return
        for title, value in _rows(card):
            click.echo(f"{title:12} {value}")


def _list(values: dict[str, Any], as_json: bool) -> None:
    with sentences(as_json=as_json):
        found = library(values).list()
        if as_json:
            rows = [
                {"name": f.name, "path": str(f.path), "problem": f.problem}
                | ({"card": asdict(f.card)} if f.card else {})
                for f in found
            ]
            click.echo(json.dumps(rows, ensure_ascii=False))
            return
        width = max(len(f.name) for f in found)
        for item in found:
            click.echo(f"{item.name:{width}}  {_summary(item)}")


def _summary(item: Found) -> str:
    if item.card is None:
        return f"cannot be used: {item.problem}"
    card = item.card
    size = f"{card.bytes / 1e6:,.0f} MB"
    return f"{card.arch} {card.kind}, {card.native_size} px, {size}, {card.sha256[:10]}"


def _rows(card: ModelCard) -> list[tuple[str, str]]:
    rows = [
        ("name", card.name),
        ("kind", f"{card.arch} {card.kind} ({card.variant}, {card.prediction} prediction)"),
        ("size", f"{card.bytes / 1e6:,.1f} MB; made for {card.native_size} px"),
        ("sha256", card.sha256),
        ("path", card.path),
    ]
    if card.recommended:
        rows.append(
            (
                "recommended",
                ", ".join(
                    f"{k} {v:g}" for k, v in card.recommended.items() if not isinstance(v, str)
                ),
            )
        )
    for key, value in card.metadata.items():
        rows.append((key.removeprefix("modelspec.")[:30], " ".join(value.split())[:100]))
    return rows

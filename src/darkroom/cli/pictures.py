"""Verbs that start from a file: `info`, `redo` and `recover`."""

import json
from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import sentences
from darkroom.cli.models import library
from darkroom.cli.options import flags, given
from darkroom.cli.running import run, stop_flag
from darkroom.core.errors import BadRequest
from darkroom.core.recipe import Recipe
from darkroom.core.request import ImageRequest
from darkroom.core.settings import Configured, Settings
from darkroom.media.metadata import read_recipe

SETTING_FLAGS = ("device", "dtype", "threads", "models_dirs", "data_dir", "preview_seconds")
OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A file name that ends in .png, or a folder.  [default: outputs/<date>/]",
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the whole recipe as JSON.")
def info(file: Path, as_json: bool) -> None:
    """Show the recipe inside the picture FILE."""
    with sentences(as_json=as_json):
        recipe = read_recipe(file)
        if as_json:
            click.echo(recipe.model_dump_json())
            return
        for title, value in _rows(recipe):
            click.echo(f"{title:16} {value}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@OUTPUT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of paths.")
@flags(Settings, SETTING_FLAGS)
def redo(file: Path, output: Path | None, as_json: bool, **values: Any) -> None:
    """Make the picture FILE again from the recipe inside it.

    With the same model, device and versions the pixels are the same to the last bit; what differs
    is said first. The new picture never replaces the old one.
    """
    with sentences(as_json=as_json):
        recipe = read_recipe(file)
        settings = Configured.load_here(given(values))
        request = _again(recipe, values)
        saved = run(request, settings, output=output, quiet=as_json)
        if as_json:
            click.echo(json.dumps({"images": saved}, ensure_ascii=False))


@click.command()
@OUTPUT
@flags(Settings, SETTING_FLAGS)
def recover(output: Path | None, **values: Any) -> None:
    """Finish pictures that were sampled but never saved.

    A run that is killed while it decodes leaves the finished latent in the data folder; this
    makes the picture from it.
    """
    with sentences():
        from darkroom.cli.progress import follow
        from darkroom.jobs.worker import Worker

        settings = Configured.load_here(given(values))
        with stop_flag() as stop:
            saved = follow(Worker(settings.values).recover(output=output, stop=stop.is_set))
        if not saved:
            click.echo("Nothing to recover.", err=True)


def _again(recipe: Recipe, values: dict[str, Any]) -> ImageRequest:
    """The request of the picture, with its model looked up by hash before it is by name."""
    request = recipe.again()
    places = {name: values[name] for name in ("models_dirs", "data_dir")}
    for used in recipe.models:
        card = library(places).find_hash(used.sha256)
        if card is not None:
            return request.model_copy(update={"model": card.sha256})
        hint = f"Its sha256 starts with {used.sha256[:10]}; put the file into a model folder."
        try:
            library(places).find(request.model)
        except BadRequest as error:
            raise BadRequest(f"the model {used.name!r} is not here", hint=hint) from error
        click.echo(
            f"Note: the model {used.name!r} here is another file than the one that made this"
            " picture; the result will differ.",
            err=True,
        )
    return request


def _rows(recipe: Recipe) -> list[tuple[str, str]]:
    request = recipe.request.model_dump(exclude={"kind", "seed", "count", "model"})
    rows = [(name.replace("_", " "), str(value)) for name, value in request.items()]
    rows.append(("seed", str(recipe.seed)))
    rows += [(used.role, f"{used.name} ({used.sha256[:10]})") for used in recipe.models]
    rows.append(("device", recipe.device))
    rows.append(("versions", ", ".join(f"{k} {v}" for k, v in recipe.versions.items())))
    return rows

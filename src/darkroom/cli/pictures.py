"""Verbs that start from a file: `info`, `redo` and `recover`."""

from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import JSON, OUTPUT, SETTING_FLAGS, flags, given, pass_reply
from darkroom.cli.running import run, work
from darkroom.core.errors import BadRequest, printable
from darkroom.core.recipe import Recipe
from darkroom.core.request import ImageRequest
from darkroom.core.settings import Configured, Settings
from darkroom.library.models import Library
from darkroom.media.metadata import read_recipe


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@JSON
@pass_reply
def info(reply: Reply, /, file: Path) -> None:
    """Show the recipe inside the picture FILE."""
    recipe = read_recipe(file)
    if reply.as_json:
        reply.json(recipe.model_dump(mode="json"))
        return
    for title, value in _rows(recipe):
        click.echo(f"{printable(title):16} {printable(value)}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def redo(reply: Reply, /, file: Path, output: str | None, **values: Any) -> None:
    """Make the picture FILE again from the recipe inside it.

    With the same model, device and versions the pixels are the same to the last bit; what differs
    is said first. The new picture never replaces the old one.
    """
    recipe = read_recipe(file)
    settings = Configured.load_here(given(values)).values
    request = _again(recipe, Library.of(settings), reply)
    run(request, settings, output=output, reply=reply, like=recipe)


@click.command()
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def recover(reply: Reply, /, output: str | None, **values: Any) -> None:
    """Finish pictures that were sampled but never saved.

    A run that is killed while it decodes leaves the finished latent in the data folder; this
    makes the picture from it.
    """
    settings = Configured.load_here(given(values)).values
    if any(settings.unfinished_dir.glob("*/*.safetensors")):
        work(lambda worker, **where: worker.recover(**where), settings, output=output, reply=reply)
    elif reply.as_json:
        reply.json({"images": [], "warnings": []})
    else:
        click.echo("Nothing to recover.", err=True)


def _again(recipe: Recipe, library: Library, reply: Reply) -> ImageRequest:
    """The request of the picture, with its model looked up by hash before it is by name.

    A picture may come from a stranger: what it says is looked up, and never opened as a path.
    """
    request = recipe.again()
    hint = "Put the file into a model folder; `darkroom models` lists what is there."
    if not recipe.models:
        raise BadRequest("the recipe does not say which model made the picture", hint=hint)
    used = recipe.models[0]  # one checkpoint, so far
    card = library.find_hash(used.sha256, likely=used.name)
    if card is None:
        card = library.find_listed(used.name)
        if card is None:
            what = f"the model {used.name!r} is not here"
            raise BadRequest(what, hint=f"Its sha256 starts with {used.sha256[:10]}. {hint}")
        reply.note(
            f"the model {used.name!r} here is another file than the one that made this picture;"
            " the result will differ"
        )
        return request.model_copy(update={"model": card.name})
    listed = library.find_listed(card.name)
    known = listed is not None and listed.path == card.path
    return request.model_copy(update={"model": card.name if known else card.sha256})


def _rows(recipe: Recipe) -> list[tuple[str, str]]:
    request = recipe.request.model_dump(exclude={"kind", "seed", "count", "model"})
    rows = [(name.replace("_", " "), str(value)) for name, value in request.items()]
    rows.append(("seed", str(recipe.seed)))
    rows += [(used.role, f"{used.name} ({used.sha256[:10]})") for used in recipe.models]
    rows.append(("device", recipe.device))
    rows.append(("versions", ", ".join(f"{k} {v}" for k, v in recipe.versions.items())))
    return rows

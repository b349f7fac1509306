"""Our own files: the recipe, whole, beside the infotext that other programs read."""

from pathlib import Path

from darkroom.core.errors import BadFile, BadRequest
from darkroom.core.recipe import Recipe
from darkroom.media.metadata import infotext, xmp
from darkroom.media.metadata.carried import Carried, carried_by
from darkroom.media.metadata.found import Found, FoundModel

KEY = "darkroom"  # of the text chunk in a PNG


def read_recipe(path: Path) -> Recipe:
    """The recipe in the picture at `path`; BadFile says why there is none."""
    carried = carried_by(path)
    text = _stored(carried)
    if text is None and carried.refused is not None:
        raise carried.refused
    if text is None:
        raise BadFile(f"{path} holds no Darkroom recipe", hint="Was it made by another tool?")
    return Recipe.from_json(text)


def read(carried: Carried) -> Found | None:
    """What our own file says; None when the recipe is missing or damaged."""
    text = _stored(carried)
    if text is None:
        return None
    try:
        return of_recipe(Recipe.from_json(text))
    except BadRequest:  # damaged, or made by a newer Darkroom
        return None


def of_recipe(recipe: Recipe) -> Found:
    """A recipe as what could have been found in a stranger's file."""
    said = infotext.read(infotext.write(recipe))
    return Found(
        source="darkroom",
        prompt=said.prompt,
        negative_prompt=said.negative_prompt,
        settings=said.settings,
        models=tuple(
            FoundModel.of(used.role, used.name, hash=used.sha256) for used in recipe.models
        ),
        recipe=recipe,
    )


def _stored(carried: Carried) -> str | None:
    for key in (KEY, xmp.RECIPE):
        if (text := carried.texts.get(key)) is not None:
            return text
    whole = carried.documents.get("text", {})
    return carried.texts["text"] if {"format", "request", "seed"} <= whole.keys() else None

"""What tasks on finished pictures have in common: what was said before, and how one is saved."""

import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from darkroom.core.errors import BadFile
from darkroom.core.event import Event
from darkroom.core.model import ModelCard
from darkroom.core.processing import CutoutRequest, UpscaleRequest
from darkroom.core.recipe import Recipe, Role
from darkroom.engine.engine import Engine
from darkroom.media.image import check, save
from darkroom.media.metadata import Found, find, infotext
from darkroom.media.picture import flat
from darkroom.tasks.job import Job
from darkroom.tasks.used import made_on, used

OPAQUE = ("jpeg",)  # formats without transparency

Used = list[tuple[Role, ModelCard]]


def said_by(path: Path) -> Found | None:
    """What a picture says about how it was made; None where that is nothing, or unreadable."""
    try:
        return find(path)
    except BadFile:
        return None


def infotext_of(found: Found | None) -> str:
    """The same as A1111's infotext; "" for nothing."""
    if found is None:
        return ""
    if found.recipe is not None:
        return infotext.write(found.recipe)
    return infotext.compose(found.prompt, found.negative_prompt, found.settings)


def recipe_of(
    engine: Engine,
    request: UpscaleRequest | CutoutRequest,
    cards: Used,
    *,
    found: Found | None,
    seed: int = 0,
) -> Recipe:
    """The recipe of a picture made of a finished one."""
    return Recipe(
        request=request,
        image=0,
        seed=seed,
        models=tuple(dict.fromkeys(used(role, card) for role, card in cards)),
        source=infotext_of(found),
        **made_on(engine.device, {}),
    )


def saved(job: Job, picture: Image.Image, recipe: Recipe, *, began: float) -> Iterator[Event]:
    """Write the picture, then tell of it, and that this was all."""
    saving = job.output.saving
    if picture.has_transparency_data and saving.format in OPAQUE:
        yield Event("warning", {"text": "JPEG knows no transparency: what was so is white"})
        picture = flat(picture.convert("RGBA"))
    check(picture.size, recipe, saving)
    names = job.output.place.names(recipe.seed, single=True)
    file = save(picture, recipe, names, saving=saving)
    seconds = time.monotonic() - began
    told = {
        "image": 0,
        "path": str(file.path),
        "seed": recipe.seed if getattr(recipe.request, "paint", None) else None,
        "sha256": file.sha256,
        "seconds": seconds,
    }
    yield Event("artifact", told)
    yield Event("done", {"images": 1, "seconds": seconds})

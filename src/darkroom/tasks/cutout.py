"""A picture without its background: transparent, on a colour, or the mask alone."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor
from scipy import ndimage

from darkroom.core.errors import BadRequest, shorten
from darkroom.core.event import Event
from darkroom.core.model import Kind, ModelCard
from darkroom.core.packaged import packaged
from darkroom.core.processing import AUTO, CutoutRequest
from darkroom.engine.engine import Engine
from darkroom.engine.segmenter import Segmenter
from darkroom.media.backdrop import decontaminated, subject
from darkroom.media.picture import read_picture
from darkroom.tasks.finished import Used, recipe_of, said_by, saved
from darkroom.tasks.job import Job

Floats = NDArray[np.float32]

PLAIN, NETWORK = "plain", "u2netp"
MOSTLY = 0.8  # of the border: where less is background, it is perhaps none


@dataclass(frozen=True, slots=True)
class Cut:
    """How much of each pixel is subject, and what said so."""

    alpha: Floats  # (H, W) in [0, 1]
    by: str
    note: str = ""  # for the user


def cutout(engine: Engine, request: CutoutRequest, *, job: Job) -> Iterator[Event]:
    """Cut the subject out of the picture of `request`, and save that."""
    began = time.monotonic()
    path = job.pictures(request.image)
    color = _color(request.background)
    picture = read_picture(path)
    for text in (*job.notes, *_without_effect(request)):
        yield Event("warning", {"text": text})
    job.check()
    card = job.cards.get((Kind.SEGMENTER, request.model))
    cut = cut_of(picture, request.model, card)
    if cut.note:
        yield Event("warning", {"text": cut.note})
    alpha = feathered(cut.alpha, request.feather)
    job.check()
    if not alpha.any():
        yield Event("warning", {"text": "nothing stood out from the background"})
    made = _made(picture, alpha, color, mask_only=request.mask_only)
    cards: Used = [] if card is None else [("segmenter", card)]
    recipe = recipe_of(engine, request, cards, found=said_by(path))
    yield from saved(job, made, recipe, began=began)


def cut_of(picture: Image.Image, model: str, card: ModelCard | None) -> Cut:
    """What of `picture` is subject, by the model of that name or the file of `card`.

    "auto" takes what needs no network where the border is plain, else a network. BadRequest with
    the command to install what is missing.
    """
    if card is not None:
        return Cut(Segmenter(Path(card.path))(picture), card.name)
    name = model.casefold()
    found = subject(picture) if name in (AUTO, PLAIN) else None
    if found is not None and (name == PLAIN or found.fits >= MOSTLY or not _here(NETWORK)):
        return Cut(found.alpha, PLAIN, "" if found.fits >= MOSTLY else _doubt(found.fits))
    if name == PLAIN:
        hint = f"Give --model {NETWORK}, a network that tells subjects from any background."
        raise BadRequest("the picture's border is no plain or smooth background", hint=hint)
    row = packaged(Kind.SEGMENTER, NETWORK if name == AUTO else name)
    if row is None:
        raise BadRequest(f"there is no model {shorten(model)!r} that tells the background")
    try:
        (file,) = row.paths()
    except BadRequest as error:
        if name != AUTO:
            raise
        why = f"the picture's border is no plain or smooth background, and {error}"
        raise BadRequest(why, hint=error.hint) from None
    return Cut(Segmenter(file)(picture), row.name)


def _here(network: str) -> bool:
    """Whether a network and what runs it are installed."""
    row = packaged(Kind.SEGMENTER, network)
    try:
        return row is not None and bool(row.paths())
    except BadRequest:
        return False


def _doubt(fits: float) -> str:
    return (
        f"only {fits:.0%} of the picture's border is one plain or smooth background, and all else"
        f" was taken for the subject; --model {NETWORK} tells subjects from any background"
    )


def feathered(alpha: Floats, pixels: int) -> Floats:
    """`alpha` with an edge that fades over `pixels`: 0 is hard, 1 as it was found."""
    if pixels == 0:
        return np.asarray(alpha >= 0.5, np.float32)
    if pixels == 1:
        return alpha
    return np.asarray(ndimage.gaussian_filter(alpha, pixels / 2, mode="nearest"), np.float32)


def _made(
    picture: Image.Image, alpha: Floats, color: tuple[int, int, int] | None, *, mask_only: bool
) -> Image.Image:
    """What is saved: the mask, the subject on nothing, or on a colour."""
    mask = Image.fromarray(np.rint(alpha * 255).astype(np.uint8))
    if mask_only:
        return mask
    subject_alone = decontaminated(picture, alpha)
    if color is None:
        subject_alone.putalpha(mask)
        return subject_alone
    return Image.composite(subject_alone, Image.new("RGB", picture.size, color), mask)


def _color(name: str | None) -> tuple[int, int, int] | None:
    """A colour by its name or number, as CSS has it; BadRequest where it is none."""
    if name is None:
        return None
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        hint = "Give a name such as white, or a number such as #ff8800."
        raise BadRequest(f"{shorten(name)!r} is no colour", hint=hint) from None


def _without_effect(request: CutoutRequest) -> Iterator[str]:
    if request.mask_only and request.background is not None:
        yield "background has no effect: the mask alone is saved"

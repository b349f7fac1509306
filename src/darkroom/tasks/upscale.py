"""A larger picture: enlarged by a filter or a network, detail painted in, faces mended.

enlarged ─ a second upscaler mixed in ─ cropped ─ painted ─ faces ─ saved, with what it said before
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL import Image, ImageChops

from darkroom.core.errors import BadRequest
from darkroom.core.event import Event
from darkroom.core.model import Kind, ModelCard
from darkroom.core.processing import UpscaleRequest
from darkroom.core.recipe import Recipe
from darkroom.engine.engine import Engine
from darkroom.engine.mosaic import Tiling
from darkroom.media.metadata import Found
from darkroom.media.picture import read_picture
from darkroom.tasks.enlarge import FILTERS, Target, card_of, check_size, enlarge, too_small
from darkroom.tasks.finished import Used, recipe_of, said_by, saved
from darkroom.tasks.fitting import with_room
from darkroom.tasks.job import Job, drained
from darkroom.tasks.paint import painted, settled
from darkroom.tasks.restore import restored


def target_of(request: UpscaleRequest, size: tuple[int, int]) -> Target:
    """The sizes that `request` asks for of a picture of `size`; BadRequest when they are too large.

    One side alone keeps the picture's shape. Both together are filled and what is too much is
    cropped, or without `crop` the picture is fitted into them.
    """
    width, height = size
    asked = request.width, request.height
    ratios = [wanted / side for wanted, side in zip(asked, size, strict=True) if wanted]
    factor = (max(ratios) if request.crop else min(ratios)) if ratios else request.scale
    enlarged = max(round(width * factor), 1), max(round(height * factor), 1)
    check_size(enlarged)
    if None in asked or not request.crop:
        return Target(enlarged, enlarged)
    return Target(enlarged, (asked[0] or enlarged[0], asked[1] or enlarged[1]))


def upscale(engine: Engine, request: UpscaleRequest, *, job: Job) -> Iterator[Event]:
    """Enlarge the picture of `request`; it is on disk before its artifact event."""
    path = job.pictures(request.image)
    picture = uncoloured(read_picture(path, alpha=True))
    run = _Upscale(engine, request, job, picture, said_by(path))
    yield run.started()
    yield from run.drain()
    picture = yield from run.made()
    yield from saved(job, picture, run.recipe(), began=run.began)


def uncoloured(picture: Image.Image) -> Image.Image:
    """RGB and RGBA as L and LA where there is no colour in it: a network would tint it."""
    red, green, blue, *_ = picture.split()
    if any(ImageChops.difference(red, other).getbbox() for other in (green, blue)):
        return picture
    return picture.convert("LA" if picture.mode == "RGBA" else "L")


@dataclass(slots=True)
class _Upscale:
    """One request on its way."""

    engine: Engine
    request: UpscaleRequest
    job: Job
    picture: Image.Image
    found: Found | None
    began: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        request = self.request
        if request.overlap > request.tile // 2:
            raise BadRequest(
                f"tiles of {request.tile} px cannot share {request.overlap} px",
                hint=f"Give an overlap of {request.tile // 2} at most, or larger tiles.",
            )
        for name in self.networks:
            card_of(name, self.job)
        if request.paint is not None:
            paint = settled(request.paint, self.card, self.found)
            self.request = request.model_copy(update={"paint": paint})
        self.notes += [*self.job.notes, *self._without_effect()]

    @property
    def card(self) -> ModelCard:
        """The checkpoint that paints."""
        cards = {n: c for (kind, n), c in self.job.cards.items() if kind is Kind.CHECKPOINT}
        name = self.request.paint.model if self.request.paint else None
        if not cards:
            raise BadRequest("painting detail needs a checkpoint", hint="Name one: --paint-model.")
        return cards[name] if name in cards else next(iter(cards.values()))

    @property
    def target(self) -> Target:
        return target_of(self.request, self.picture.size)

    def started(self) -> Event:
        width, height = self.target.size
        paint = self.request.paint
        told: dict[str, Any] = {
            "images": 1,
            "steps": 0 if paint is None else paint.steps,
            "width": width,
            "height": height,
            "model": self.request.upscaler,
            "device": self.engine.device.name,
            "plan": f"tiles of {self.request.tile} px",
            "networks": [],
            "recommended": {},
        }
        return Event("started", told)

    def made(self) -> Generator[Event, None, Image.Image]:
        """The finished picture."""
        request, target = self.request, self.target
        picture = self._enlarged(request.upscaler)
        if request.second is not None and request.second_visibility:
            other = self._enlarged(request.second)
            picture = Image.blend(picture, other, request.second_visibility)
        yield from self.drain()
        picture = picture.crop(target.box()) if target.size != target.enlarged else picture
        alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
        if request.paint is not None:
            colours = picture.convert("RGB")
            picture = yield from painted(
                self.engine, self.job, request.paint, card=self.card, picture=colours
            )
        if request.restore is not None:
            self.job.check()
            colours = picture.convert("RGB")
            say = self.notes.append
            mend = partial(restored, self.engine, self.job, request.restore, colours, say=say)
            picture = with_room(self.engine, mend, say=say)
            yield from self.drain()
        if alpha is not None:
            picture.putalpha(alpha)
        return picture

    def recipe(self) -> Recipe:
        request = self.request
        cards: Used = [("upscaler", card_of(name, self.job)) for name in self.networks]
        if request.restore is not None:
            cards.append(("restorer", self.job.cards[Kind.RESTORER, request.restore.model]))
        seed = 0
        if request.paint is not None:
            cards.append(("paint", self.card))
            seed = request.paint.seed or 0
        return recipe_of(self.engine, request, cards, found=self.found, seed=seed)

    def drain(self) -> Iterator[Event]:
        return drained(self.notes)

    @property
    def networks(self) -> list[str]:
        """The upscalers that are no filters."""
        names = (self.request.upscaler, self.request.second)
        return [name for name in names if name is not None and name.casefold() not in FILTERS]

    def _enlarged(self, upscaler: str) -> Image.Image:
        return enlarge(
            self.engine,
            self.job,
            self.picture,
            size=self.target.enlarged,
            upscaler=upscaler,
            tiling=Tiling(tile=self.request.tile, overlap=self.request.overlap),
            say=self.notes.append,
        )

    def _without_effect(self) -> Iterator[str]:
        """Words for every setting that does nothing here."""
        request, fields = self.request, UpscaleRequest.model_fields
        changed = {name for name in fields if getattr(request, name) != fields[name].default}
        sides = bool(request.width), bool(request.height)
        idle = {
            "tile": "" if self.networks else "without a network",
            "overlap": "" if self.networks else "without a network",
            "second_visibility": "" if request.second else "without a second upscaler",
            "scale": "beside a width or a height" if any(sides) else "",
            "crop": "" if all(sides) else "without both a width and a height",
        }
        yield from (f"{n} has no effect {why}" for n, why in idle.items() if why and n in changed)
        if self.networks and not too_small(self.picture.size, self.target.enlarged):
            yield "the picture is not made larger: upscalers have no effect, Lanczos is used"

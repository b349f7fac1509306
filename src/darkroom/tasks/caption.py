"""A picture in words."""

import time
from collections.abc import Iterator

from darkroom.core.event import Event
from darkroom.core.model import Kind
from darkroom.core.processing import CaptionRequest
from darkroom.engine.caption import OURS, Caption, Captioner, Tags
from darkroom.engine.engine import Engine
from darkroom.media.picture import read_picture
from darkroom.tasks.fitting import with_room
from darkroom.tasks.job import Job


def caption(engine: Engine, request: CaptionRequest, *, job: Job) -> Iterator[Event]:
    """Describe the picture of `request`; what it says is the `caption` event."""
    began = time.monotonic()
    picture = read_picture(job.pictures(request.image))
    job.check()
    card = None if request.model in OURS else job.cards[Kind.CAPTIONER, request.model]
    notes: list[str] = []

    def said() -> tuple[Captioner, Caption]:
        captioner = engine.captioner(card)
        return captioner, captioner.describe(
            picture, threshold=request.threshold, most=request.most, check=job.check
        )

    captioner, found = with_room(engine, said, say=notes.append)
    for text in (*job.notes, *_without_effect(request, captioner), *notes, *found.notes):
        yield Event("warning", {"text": text})
    told = {
        "image": 0,
        "text": found.text,
        "tags": _rows(found.tags),
        "heads": {name: _rows(tags[: request.most]) for name, tags in found.heads.items()},
    }
    yield Event("caption", told)
    yield Event("done", {"images": 1, "seconds": time.monotonic() - began})


def _rows(tags: Tags) -> list[list[str | float]]:
    """As JSON has them."""
    return [list(tag) for tag in tags]


def _without_effect(request: CaptionRequest, captioner: Captioner) -> Iterator[str]:
    """Words for every setting that does nothing with this captioner."""
    if captioner.tags:
        return
    for name in ("threshold", "most"):
        if getattr(request, name) != CaptionRequest.model_fields[name].default:
            yield f"{name} has no effect: {request.model!r} writes a sentence, not tags"

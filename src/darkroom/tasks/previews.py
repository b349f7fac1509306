"""The picture so far, shown in a file while a job runs, for a small share of its time.

    previews = Previews(engine, job, say=passes.note)
    yield from previews.of(image, step.clean[0], rig)

How they are made is decided for each model that takes over. What fails (no room, no numbers) gives
way to the colours of the latent: a preview never ends a job.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor

from darkroom.core.errors import BadFile, NotFinite, OutOfMemory, OutputError
from darkroom.core.event import Event
from darkroom.engine.engine import Engine
from darkroom.engine.preview import by_matrix, smaller
from darkroom.media.image import save_preview
from darkroom.tasks.job import PREVIEW_SHARE, Job
from darkroom.tasks.rig import Rig

SMALL = 32 * 32  # latent pixels; a tiny decoder needs no trial for so few
LEAST, PART = 4, 8  # a trial is a PART of each side, and at least so many latent pixels

Say = Callable[[str], None]


@dataclass(slots=True)
class _Painter:
    """One way to make previews of one model."""

    model: str  # its SHA-256
    paint: Callable[[Tensor, Rig], Tensor]  # (C, h, w) to (H, W, 3) uint8
    free: int  # latent pixels up to which it is not tried out first
    who: str = ""  # what it is called where it costs too much; "" where nobody asked for it


class Previews:
    """The previews of one job; `say` is told of what goes wrong, once."""

    def __init__(self, engine: Engine, job: Job, *, say: Say) -> None:
        self._engine, self._job, self._say = engine, job, say
        self._path = job.previews
        self._painter: _Painter | None = None

    def of(self, image: int, clean: Tensor, rig: Rig) -> Iterator[Event]:
        """Show the estimate `clean` (C, h, w) of picture number `image`, if it is time."""
        if self._path is None or not self._job.clock.due(0):
            return
        painter = self._chosen(rig)
        if not self._affordable(painter, clean, rig):
            return
        try:
            self._show(painter, clean, rig, into=self._path)
        except OutputError as error:
            self._path = None
            yield Event("warning", {"text": f"no previews: {error}"})
            return
        yield Event("preview", {"image": image, "path": str(self._path)})

    def _show(self, painter: _Painter, clean: Tensor, rig: Rig, *, into: Path) -> None:
        began = time.monotonic()
        pixels = self._painted(painter, clean, rig)
        save_preview(Image.fromarray(pixels.numpy()), into)
        self._job.clock.made(time.monotonic() - began, _area(clean))

    def _affordable(self, painter: _Painter, clean: Tensor, rig: Rig) -> bool:
        """Whether there is time for a picture of this size; a costly painter is tried out first."""
        clock, size = self._job.clock, _area(clean)
        if size > painter.free:
            painter.free = size
            height, width = (max(LEAST, side // PART) for side in clean.shape[-2:])
            part = clean[:, :height, :width]
            began = time.monotonic()
            self._painted(painter, part, rig)
            clock.spend(time.monotonic() - began, _area(part))
            if painter.who and not clock.due(size):
                share = f"{100 * PREVIEW_SHARE:.0f} %"
                cost = f"{painter.who} takes about {clock.cost(size):.2g} s for a preview"
                self._say(f"{cost}: one comes when that is {share} of the time so far")
        return clock.due(size)

    def _painted(self, painter: _Painter, clean: Tensor, rig: Rig) -> Tensor:
        try:
            return painter.paint(clean, rig)
        except (OutOfMemory, NotFinite) as error:
            self._give_way(painter, str(error))
        return painter.paint(clean, rig)

    def _give_way(self, painter: _Painter, why: str) -> None:
        self._engine.device.empty_cache()
        self._say(f"{why}; previews show the colours of the latent instead")
        painter.paint, painter.who = _by_matrix, ""

    def _chosen(self, rig: Rig) -> _Painter:
        card = rig.model.card
        if self._painter is None or self._painter.model != card.sha256:
            began = time.monotonic()
            self._painter = self._made(rig)
            self._job.clock.spend(time.monotonic() - began)
        return self._painter

    def _made(self, rig: Rig) -> _Painter:
        asked, card = self._job.previewing, rig.model.card
        if asked.method == "full":
            paint = partial(_by_vae, say=self._say)
            return _Painter(card.sha256, paint, free=0, who="the VAE")
        painter = _Painter(card.sha256, _by_matrix, free=1 << 62)
        if (found := asked.decoder_for(card)) is not None:
            try:
                decoder = self._engine.preview_decoder(found)
            except (BadFile, OutOfMemory) as error:
                self._give_way(painter, str(error))
            else:
                painter = _Painter(card.sha256, lambda clean, _rig: decoder(clean), free=SMALL)
        return painter


def _by_matrix(clean: Tensor, rig: Rig) -> Tensor:
    return by_matrix(clean, rig.model.preview)


def _by_vae(clean: Tensor, rig: Rig, *, say: Say) -> Tensor:
    return smaller(rig.engine.decode(rig.model, clean, plan=rig.fitting.plan, say=say))


def _area(clean: Tensor) -> int:
    return clean.shape[-2] * clean.shape[-1]

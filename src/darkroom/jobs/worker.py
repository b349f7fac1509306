"""The worker: one device, one job at a time. The only place here that imports torch.

Everything that a job needs is made here and passed in. A failure becomes a `failed` event, so
that whoever listens (a terminal now, a server's supervisor later) is told in words.
"""

import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from darkroom.core.errors import StudioError
from darkroom.core.event import Event
from darkroom.core.recipe import resolve
from darkroom.core.request import Request
from darkroom.core.settings import Settings
from darkroom.engine.device import choose_device
from darkroom.engine.engine import Engine
from darkroom.engine.latent_file import SUFFIX, load_latent
from darkroom.library.hashes import HashBook
from darkroom.library.models import Library
from darkroom.media.files import Place, write_whole
from darkroom.media.image import save
from darkroom.tasks import Job, PreviewClock, generate


class Worker:
    """Runs requests in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
        device = choose_device(settings.device)
        if settings.dtype != "auto":
            device = replace(device, dtype=getattr(torch, settings.dtype))
        self.library = Library(
            settings.model_folders(), HashBook(settings.data_dir / "library.sqlite")
        )
        budget = int(settings.cache_gb * 2**30) or device.memory().total // 2
        self.engine = Engine(device, cache_bytes=budget)

    @property
    def unfinished(self) -> Path:
        """Folder of latents that have not become pictures yet."""
        return self._settings.data_dir / "unfinished"

    def run(
        self,
        request: Request,
        *,
        output: Path | None = None,
        stop: Callable[[], bool] = bool,
    ) -> Iterator[Event]:
        """Run `request`, numbering its events; the last one is `done` or `failed`."""
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        for seq, event in enumerate(self._guarded(name, request, output=output, stop=stop)):
            yield replace(event, job=name, seq=seq)

    def _guarded(
        self, name: str, request: Request, *, output: Path | None, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        try:
            card = self.library.find(request.model)
            place = Place.chosen(output, self._settings.outputs_dir, request.count)
            place.prepare()
            model = self.engine.model(card)
            job = self._job(name, place, stop)
            yield from generate(self.engine, model, resolve(request, card), job=job)
        except StudioError as error:
            yield _failed(error)
        except Exception as error:  # noqa: BLE001 - the process boundary: nobody above could tell the user
            yield _failed(self._unforeseen(name, error))

    def recover(
        self, *, output: Path | None = None, stop: Callable[[], bool] = bool
    ) -> Iterator[Event]:
        """Make the pictures whose latents were left behind; those that cannot be made stay."""
        for path in sorted(self.unfinished.glob(f"*{SUFFIX}")):
            if stop():
                return
            try:
                yield self._recovered(path, output)
            except StudioError as error:
                yield Event("warning", {"text": f"{path.name}: {error.sentence()}"})

    def _recovered(self, path: Path, output: Path | None) -> Event:
        latent, recipe = load_latent(path)
        card = next(filter(None, (self.library.find_hash(m.sha256) for m in recipe.models)), None)
        model = self.engine.model(card or self.library.find(recipe.request.model))
        place = Place.chosen(output, self._settings.outputs_dir, recipe.request.count)
        place.prepare()
        plan = self.engine.plan(model, recipe.request)
        notes: list[str] = []
        pixels = self.engine.decode(model, latent, plan=plan, say=notes.append)
        saved = save(Image.fromarray(pixels.numpy()), recipe, place.names(recipe.seed, single=True))
        path.unlink()
        return Event("artifact", {"path": str(saved.path), "seed": recipe.seed, "seconds": 0.0})

    def _job(self, name: str, place: Place, stop: Callable[[], bool]) -> Job:
        every = self._settings.preview_seconds
        return Job(
            id=name,
            place=place,
            unfinished=self.unfinished,
            previews=self._settings.data_dir / "previews" / f"{name}.png" if every else None,
            clock=PreviewClock(every),
            stop=stop,
        )

    def _unforeseen(self, name: str, error: Exception) -> StudioError:
        """An error of ours: the traceback goes to a file, and the user is told where it is."""
        path = self._settings.data_dir / "logs" / f"{name}.txt"
        text = "".join(traceback.format_exception(error))
        hint = f"Please report it with {path}."
        try:
            write_whole(path, text.encode())
        except StudioError:
            hint = "Please report it with the command you ran."
        return StudioError(f"Darkroom made a mistake: {type(error).__name__}: {error}", hint=hint)


def _failed(error: StudioError) -> Event:
    told = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
    return Event("failed", told)

"""The worker: one device, one job at a time. The only place here that imports torch.

Everything that a job needs is made here and passed in. A failure becomes a `failed` event, so
that whoever listens (a terminal now, a server's supervisor later) is told in words.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from darkroom.core.errors import BadFile, StudioError
from darkroom.core.event import Event
from darkroom.core.model import Kind
from darkroom.core.recipe import Recipe, resolve
from darkroom.core.request import Request
from darkroom.core.settings import Settings
from darkroom.engine.engine import Engine
from darkroom.engine.latent_file import load_latent
from darkroom.engine.shelf import Shelf
from darkroom.jobs.checkup import device_for
from darkroom.jobs.mistake import mistake
from darkroom.library.models import Library
from darkroom.library.prompts import embeddings_of, styles_of, wildcards_of
from darkroom.library.tags import files_for, remarks, unclear, vae_for
from darkroom.media.files import Place
from darkroom.media.image import Saving
from darkroom.media.left_behind import left_behind
from darkroom.tasks import Fitting, Job, Output, PreviewClock, Wording, finish, generate


class Worker:
    """Runs requests in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        device = device_for(settings)
        self.library = Library.of(settings)
        budget = int(settings.cache_gb * 2**30) or device.memory().total // 2
        self.engine = Engine(device, cache_bytes=budget)
        self._known_shelf: Shelf | None = None

    @property
    def unfinished(self) -> Path:
        """Folder of latents that have not become pictures yet."""
        return self._settings.unfinished_dir

    def run(
        self,
        request: Request,
        *,
        output: Path | None = None,
        stop: Callable[[], bool] = bool,
        like: Recipe | None = None,
    ) -> Iterator[Event]:
        """Run `request`, numbering its events; the last one is `done` or `failed`.

        `like` is the recipe that is made again; what differs from it is said in warnings.
        """
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        events = self._run(name, request, output=output, stop=stop, like=like)
        for seq, event in enumerate(self._guarded(name, events)):
            yield replace(event, job=name, seq=seq)

    def recover(
        self, *, output: Path | None = None, stop: Callable[[], bool] = bool
    ) -> Iterator[Event]:
        """Make the pictures whose latents were left behind; those that cannot be made stay.

        Each failure is an event of its own, and the others go on.
        """
        for number, path in enumerate(left_behind(self.unfinished)):
            if stop():
                return
            where = self._output(output, 1 if number == 0 else 2)
            for event in self._guarded(path.parent.name, self._recovered(path, where)):
                if event.kind == "failed":
                    event.data["text"] = f"{path}: {event.data['text']}"
                yield replace(event, job=path.parent.name)

    def _run(
        self,
        name: str,
        request: Request,
        *,
        output: Path | None,
        stop: Callable[[], bool],
        like: Recipe | None,
    ) -> Iterator[Event]:
        card = self.library.find(request.model)
        vae = vae_for(self.library, card, request.vae)
        resolved = resolve(request, card, vae)
        wording = Wording(styles_of(self._settings), wildcards_of(self._settings))
        wording.check(resolved)
        asked = wording.wishes(resolved)
        files = files_for(self.library, card, asked)
        where = self._output(output, request.count)
        where.place.prepare()
        model = self.engine.model(card, vae)
        every = self._settings.preview_seconds
        job = Job(
            id=name,
            output=where,
            unfinished=self.unfinished / name,
            previews=self._settings.data_dir / "previews" / f"{name}.png" if every else None,
            clock=PreviewClock(every),
            shelf=self._shelf(),
            wording=wording,
            files=files,
            notes=(
                *unclear(self.library, Kind.CHECKPOINT, request.model, card=card),
                *unclear(self.library, Kind.VAE, request.vae, card=vae),
                *remarks(self.library, asked, files),
            ),
            stop=stop,
        )
        yield from generate(self.engine, model, resolved, job=job, like=like)

    def _output(self, target: Path | None, pictures: int) -> Output:
        """Where `-o` and the settings say that pictures go, and as what."""
        settings = self._settings
        suffix = f".{settings.image_format}".replace("jpeg", "jpg")
        place = Place.chosen(target, settings.outputs_dir, pictures, suffix=suffix)
        saving = Saving(
            format=place.format,
            quality=settings.image_quality,
            metadata=settings.image_metadata,
            stealth=settings.image_stealth,
        )
        return Output(place, saving)

    def _shelf(self) -> Shelf:
        """The embeddings that are here now; the same object while they are the same files."""
        files = embeddings_of(self._settings)
        if self._known_shelf is None or self._known_shelf.files != files:
            self._known_shelf = self.engine.shelf(files)
        return self._known_shelf

    def _recovered(self, path: Path, output: Output) -> Iterator[Event]:
        latent, recipe = load_latent(path)
        hashes = (self.library.find_hash(used.sha256) for used in recipe.used("checkpoint"))
        card = next(filter(None, hashes), None) or self.library.find(recipe.request.model)
        vaes = [self.library.find_of(Kind.VAE, used.sha256) for used in recipe.used("vae")]
        output.place.prepare()
        model = self.engine.model(card, *vaes[:1])
        if latent.shape[0] != model.vae.dims.latent_channels:
            raise BadFile(f"a latent of {latent.shape[0]} channels is not one of this model's")
        fitting = Fitting(self.engine, model, self.engine.plan(model, recipe.request))
        for event in finish(fitting, latent, recipe, output=output, began=time.monotonic()):
            if event.kind == "artifact":
                path.unlink()
            yield event

    def _guarded(self, name: str, events: Iterator[Event]) -> Iterator[Event]:
        """`events`, with whatever goes wrong as a last event `failed`."""
        try:
            yield from events
        except StudioError as error:
            yield _failed(error)
        except Exception as error:  # noqa: BLE001 - the process boundary: nobody else could tell the user
            yield _failed(mistake(error, self._settings.data_dir / "logs" / f"{name}.txt"))


def _failed(error: StudioError) -> Event:
    told = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
    return Event("failed", told)

"""The worker: one device, one job at a time. The only place here that imports torch.

Everything that a job needs is made here and passed in. A failure becomes a `failed` event, so
that whoever listens (a terminal now, a server's supervisor later) is told in words.
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

from darkroom.core.errors import BadFile, BadRequest, StudioError
from darkroom.core.event import Event
from darkroom.core.fields import Parsed
from darkroom.core.model import Kind
from darkroom.core.processing import CaptionRequest, CutoutRequest, UpscaleRequest
from darkroom.core.recipe import Recipe
from darkroom.core.request import ImageRequest
from darkroom.core.series import BatchRequest, GridRequest, Request
from darkroom.core.settings import Settings
from darkroom.engine.engine import Engine
from darkroom.engine.latent_file import load_latent
from darkroom.engine.shelf import Shelf
from darkroom.jobs.checkup import device_for
from darkroom.jobs.intake import Intake, cards_of, finishing, kept, models_of, settled
from darkroom.jobs.leftovers import Leftovers
from darkroom.jobs.mistake import mistake
from darkroom.library.models import Library
from darkroom.library.named import named_again
from darkroom.library.previews import previewing_of
from darkroom.library.prompts import embeddings_of, styles_of, wildcards_of
from darkroom.library.tags import files_for, remarks
from darkroom.media.files import Place
from darkroom.media.image import Saving
from darkroom.media.inputs import Inputs
from darkroom.media.left_behind import left_behind
from darkroom.media.picture import read_picture
from darkroom.tasks import Job, Output, PreviewClock, Wording, finish, generate
from darkroom.tasks.passes import opened

R = TypeVar("R", bound=Parsed)
Stop = Callable[[], bool]


class Worker:
    """Runs requests in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        device = device_for(settings)
        self.library = Library.of(settings)
        self.inputs = Inputs(settings.data_dir / "inputs")
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
        output: Path | Place | None = None,
        stop: Stop = bool,
        like: Recipe | None = None,
    ) -> Iterator[Event]:
        """Run `request`, numbering its events; the last one is `done` or `failed`.

        `output` is what `-o` says, or a place that was chosen already. `like` is the recipe that is
        made again; what differs from it is said in warnings.
        """
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        events = self._run(name, request, output=output, stop=stop, like=like)
        for seq, event in enumerate(self._guarded(name, events)):
            yield replace(event, job=name, seq=seq)

    def keep(self, picture: Image.Image) -> str:
        """Put a picture that is no file into the store; what requests call it by."""
        with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
            path = Path(folder) / "picture.png"
            picture.save(path, compress_level=1)
            return self.inputs.keep(str(path))

    def place(self, output: Path | Place | None, pictures: int = 1) -> Place:
        """Where so many pictures go by what `-o` says; a place that was chosen already stays."""
        if isinstance(output, Place):
            return output
        suffix = f".{self._settings.image_format}".replace("jpeg", "jpg")
        return Place.chosen(output, self._settings.outputs_dir, pictures, suffix=suffix)

    def recover(self, *, output: Path | None = None, stop: Stop = bool) -> Iterator[Event]:
        """Make the pictures whose latents were left behind; those that cannot be made stay.

        Each failure is an event of its own, and the others go on.
        """
        for number, path in enumerate(left_behind(self.unfinished)):
            if stop():
                return
            job = self._job(path.parent.name, output, stop, pictures=1 if number == 0 else 2)
            for event in self._guarded(path.parent.name, self._recovered(path, job)):
                if event.kind == "failed":
                    event.data["text"] = f"{path}: {event.data['text']}"
                yield replace(event, job=path.parent.name)

    def _run(
        self,
        name: str,
        request: Request,
        *,
        output: Path | Place | None,
        stop: Stop,
        like: Recipe | None,
    ) -> Iterator[Event]:
        match request:
            case ImageRequest():
                job = self._job(name, output, stop, pictures=request.count)
                yield from self._image(request, job, like)
            case UpscaleRequest() | CutoutRequest() | CaptionRequest():
                yield from self._finished(request, self._job(name, output, stop))
            case GridRequest() | BatchRequest():
                from darkroom.jobs.series import run_series

                leftovers = Leftovers(self.unfinished)
                for event in run_series(self, request, output=output, stop=stop):
                    if event.kind == "artifact":
                        leftovers.made(Path(event.data["path"]))
                    yield event

    def _image(self, request: ImageRequest, job: Job, like: Recipe | None) -> Iterator[Event]:
        """Pictures from a prompt."""
        found = models_of(request, self.library)
        request = self._kept(request)
        resolved = settled(request, found, self._size_of)
        wording = Wording(styles_of(self._settings), wildcards_of(self._settings))
        wording.check(resolved)
        asked = wording.wishes(resolved)
        if found.card is None:
            raise BadRequest("a picture needs a model")
        files = files_for(self.library, found.card, asked)
        job = self._with(job, found)
        job.output.place.prepare()
        job = replace(
            job,
            wording=wording,
            files=files,
            notes=(*job.notes, *remarks(self.library, asked, files)),
        )
        yield from generate(  # the model has no name here: the task may let it go
            self.engine,
            self.engine.model(found.card, found.vae),
            resolved,
            job=job,
            like=like,
        )

    def _finished(
        self, request: UpscaleRequest | CutoutRequest | CaptionRequest, job: Job
    ) -> Iterator[Event]:
        """What is done to a finished picture."""
        found = models_of(request, self.library)
        request = self._kept(request)
        job = self._with(job, found)
        match finishing(request, found):
            case UpscaleRequest() as asked:
                from darkroom.tasks.upscale import upscale

                job.output.place.prepare()
                yield from upscale(self.engine, asked, job=job)
            case CutoutRequest() as asked:
                from darkroom.tasks.cutout import cutout

                job.output.place.prepare()
                yield from cutout(self.engine, asked, job=job)
            case CaptionRequest() as asked:
                from darkroom.tasks.caption import caption

                yield from caption(self.engine, asked, job=job)

    def _job(self, name: str, output: Path | Place | None, stop: Stop, *, pictures: int = 1) -> Job:
        """A job with what every task is given."""
        settings = self._settings
        every = 0.0 if settings.preview == "off" else settings.preview_seconds
        previewing = previewing_of(self.library, settings.preview if every else "off")
        return Job(
            id=name,
            output=self._output(output, pictures),
            unfinished=self.unfinished / name,
            previews=settings.data_dir / "previews" / f"{name}.png" if every else None,
            clock=PreviewClock(every),
            previewing=previewing,
            shelf=self._shelf(),
            pictures=self.inputs.path,
            keep=self.inputs.keep,
            stop=stop,
        )

    def _with(self, job: Job, found: Intake) -> Job:
        """The job with its models; BadRequest where they have no such previews as were asked for.

        What sees latents are the checkpoint, and those that take over from it.
        """
        cards, notes, settings = cards_of(found), self._notes(found), self._settings
        if settings.preview not in ("auto", "off") and not settings.preview_seconds:
            notes = *notes, f"preview {settings.preview} does nothing: preview_seconds is 0"
        if found.card is not None:
            job.previewing.check(found.card)
            others = (card for (kind, _), card in cards.items() if kind is Kind.CHECKPOINT)
            for card in dict.fromkeys((found.card, *others)):
                notes = *notes, *job.previewing.notes(card)
        return replace(job, cards=cards, notes=notes)

    def _kept(self, request: R) -> R:
        """The request with its pictures in the store."""
        self.inputs.notes.clear()
        return kept(request, self.inputs.keep)

    def _notes(self, found: Intake) -> tuple[str, ...]:
        """On the models that were found, and on the pictures that were kept."""
        return *found.notes, *self.inputs.notes

    def _size_of(self, ref: str) -> tuple[int, int]:
        return read_picture(self.inputs.path(ref)).size

    def _output(self, target: Path | Place | None, pictures: int) -> Output:
        """Where `-o` and the settings say that pictures go, and as what."""
        settings, place = self._settings, self.place(target, pictures)
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

    def _recovered(self, path: Path, job: Job) -> Iterator[Event]:
        latent, recipe = load_latent(path)
        request = recipe.drawn
        hashes = (self.library.find_hash(used.sha256) for used in recipe.used("checkpoint"))
        card = next(filter(None, hashes), None) or self.library.find(request.model)
        vaes = [self.library.find_of(Kind.VAE, used.sha256) for used in recipe.used("vae")]
        job.output.place.prepare()
        model = self.engine.model(card, *vaes[:1])
        if latent.shape[0] != model.vae.dims.latent_channels:
            raise BadFile(f"a latent of {latent.shape[0]} channels is not one of this model's")
        job = replace(job, cards=named_again(self.library, recipe))
        if request.detail:  # which runs the network once more, with what the prompts name
            wished = job.wording.wishes(request)
            job = replace(job, files=files_for(self.library, card, wished))
        else:
            request = request.model_copy(update={"prompt": "", "negative_prompt": ""})
        with opened(self.engine, model, request, job=job, like=recipe) as passes:
            for event in finish(passes, latent, recipe, began=time.monotonic()):
                if event.kind == "artifact":
                    path.unlink()
                yield event

    def _guarded(self, name: str, events: Iterator[Event]) -> Iterator[Event]:
        """`events`, with whatever goes wrong as a last event `failed`."""
        try:
            with (
                self.engine.device.guard()
            ):  # for what no stage expects: a picture of 200 million px
                yield from events
        except StudioError as error:
            yield _failed(error)
        except Exception as error:  # noqa: BLE001 - the process boundary: nobody else could tell the user
            yield _failed(mistake(error, self._settings.data_dir / "logs" / f"{name}.txt"))


def _failed(error: StudioError) -> Event:
    told = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
    return Event("failed", told)

"""Pictures from a prompt, or from a prompt and a picture; every result on disk at once.

    first run ─ second run (hires) ─ latent on disk ─ decoded ─ put back ─ faces ─ details ─ saved

What stands behind the latent on the disk depends on the recipe and on files alone, so that
`finish` makes the same picture of it after a kill.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from PIL import Image
from torch import Tensor

from darkroom.core.errors import StudioError
from darkroom.core.event import Event
from darkroom.core.recipe import DEFAULTS, Recipe
from darkroom.core.request import ResolvedRequest
from darkroom.engine.engine import Engine
from darkroom.engine.models import Model
from darkroom.media.image import check, save
from darkroom.tasks.canvas import Canvas
from darkroom.tasks.detail import detailed, detectors_of
from darkroom.tasks.fitting import with_room
from darkroom.tasks.hires import hires_request, second_run
from darkroom.tasks.job import Job
from darkroom.tasks.loopback import round_of
from darkroom.tasks.passes import Passes, opened
from darkroom.tasks.remarks import without_effect
from darkroom.tasks.restore import restored
from darkroom.tasks.seeds import seed_of, variation_seed_of
from darkroom.tasks.start import NOTHING, Start, start_of, taken
from darkroom.tasks.unfinished import Unfinished, save_or_say
from darkroom.tasks.unfinished import opened as kept
from darkroom.tasks.used import files_of, made_on, others_of
from darkroom.tasks.wording import template_of


def generate(
    engine: Engine,
    model: Model,
    request: ResolvedRequest,
    *,
    job: Job,
    like: Recipe | None = None,
) -> Iterator[Event]:
    """Run `request`; every picture is on disk before its artifact event.

    `like` is the recipe that is made again: its plan is kept, and what differs is said first.
    """
    first, _ = job.wording.of_picture(request, 0)
    with (
        kept(job.unfinished) as unfinished,
        opened(engine, model, first, job=job, like=like) as passes,
    ):
        detectors_of(engine, first, job)  # before anything is drawn
        del model  # `passes` has it, and lets it go where another is to have its memory
        passes.rig.fitting.check()
        run = _Run(passes, request, unfinished)
        passes.notes += [*job.notes, *without_effect(request, passes.card.variant)]
        if like is not None:
            passes.notes += like.differences(run.first())
        yield run.started()
        yield from passes.drain()
        try:
            while run.done < run.total:
                yield from run.next_batch()
        finally:
            if job.previews is not None:
                with suppress(OSError):
                    job.previews.unlink(missing_ok=True)
        yield Event("done", {"images": run.done, "seconds": time.monotonic() - run.began})


def finish(
    passes: Passes,
    latent: Tensor | None,
    recipe: Recipe,
    *,
    number: int = 0,
    single: bool = True,
    began: float,
) -> Iterator[Event]:
    """Make the picture of a latent (C, H, W) and save it; the last event is its artifact.

    Without a latent it is the picture that the request begins with. It is picture `number` of the
    job, its only one if `single`, and `began` is when work on it began, on the monotonic clock.
    """
    request, job = recipe.drawn, passes.job
    canvas = passes.canvas(request)
    last = hires_request(request)
    bare = last.model_copy(update={"prompt": ""})  # no network of a prompt is for the VAE
    passes.on(bare).fit(bare)
    picture = _pixels(passes, request, latent, canvas)
    if request.restore is not None:
        mend = partial(restored, passes.engine, job, request.restore, picture, say=passes.note)
        say = passes.notes.append
        picture = with_room(passes.engine, mend, model=passes.rig.model, say=say)
    yield from passes.drain()
    passes.used.clear()
    picture = yield from detailed(passes, request, recipe.image, picture)
    models = tuple(dict.fromkeys((*recipe.models, *passes.used)))
    plan = recipe.plan | passes.record(last)
    recipe = recipe.model_copy(update={"plan": plan, "models": models})
    names = job.output.place.names(recipe.seed, single=single and request.count == 1)
    saved = save(picture, recipe, names, saving=job.output.saving)
    told = {
        "image": number,
        "path": str(saved.path),
        "seed": recipe.seed,
        "sha256": saved.sha256,
        "seconds": time.monotonic() - began,
    }
    yield Event("artifact", told)


def _pixels(
    passes: Passes, request: ResolvedRequest, latent: Tensor | None, canvas: Canvas | None
) -> Image.Image:
    """The picture of a latent, put back into the one that it was made of."""
    if latent is not None:
        made = passes.rig.decode(latent)
        if canvas is None:
            return made
        return canvas.back(made, only=taken(passes.rig, request, canvas, latent))
    if canvas is None:
        raise ValueError("neither a latent nor a picture")
    return canvas.back(canvas.picture)


def _untouched(request: ResolvedRequest) -> bool:
    """Whether the picture to begin with is the result of the first run, to the last bit."""
    return request.init is not None and request.init.strength == 0 and request.hires is None


def _steps(passes: Passes, request: ResolvedRequest) -> int | None:
    """The steps of one picture in all its runs, but for what is found in it; None: it will tell."""
    init, hires = request.init, request.hires
    starts = []
    if hires is None or hires.first is None:
        first = Start(strength=init.strength, exact=init.exact_steps) if init else NOTHING
        starts.append((request, first))
    if hires is not None:
        starts.append((hires_request(request), Start(strength=hires.strength, exact=True)))
    counts = [passes.course(each, range(1), start).steps for each, start in starts]
    return None if None in counts else sum(filter(None, counts))


@dataclass(slots=True)
class _Run:
    """One request on its way."""

    passes: Passes
    request: ResolvedRequest
    unfinished: Unfinished
    done: int = 0  # pictures on disk
    began: float = field(default_factory=time.monotonic)

    @property
    def job(self) -> Job:
        return self.passes.job

    @property
    def total(self) -> int:
        """How many pictures it will be."""
        return self.request.count * self.rounds

    @property
    def rounds(self) -> int:
        """How many pictures each of those that were asked for becomes."""
        return self.request.loopback.loops if self.request.loopback else 1

    def started(self) -> Event:
        request, passes = self.request, self.passes
        fitting = passes.rig.fitting
        told = {
            "images": self.total,
            "steps": _steps(passes, request),
            "width": request.width,
            "height": request.height,
            "model": passes.rig.model.card.name,
            "device": passes.engine.device.name,
            "plan": fitting.plan.describe(),
            "networks": list(passes.rig.networks.said),
            "recommended": self._recommended(),
        }
        return Event("started", told)

    def _recommended(self) -> dict[str, float | str]:
        """What the model recommends and the request has, where that is not the usual."""
        told = self.passes.rig.model.card.recommended.items()
        usual = {name: field.default for name, field in type(self.request).model_fields.items()}
        return {
            name: value
            for name, value in told
            if getattr(self.request, name, None) == value != (usual | DEFAULTS).get(name)
        }

    def first(self) -> Recipe:
        """What the first picture will be made of."""
        request, _ = self.job.wording.of_picture(self.request, 0)
        self.passes.script(request)
        return self.recipe(request, 0)

    def next_batch(self) -> Iterator[Event]:
        """Make the next pictures: as many as the plan takes at a time, or the rounds of one."""
        request, batch = self._next_pictures()
        if request.loopback is None:
            yield from self._made(request, batch)
        else:
            yield from self._looped(request, batch.start)

    def _made(self, request: ResolvedRequest, images: range) -> Iterator[Event]:
        """Sample some pictures of one wording, and finish them one by one."""
        passes, began = self.passes, time.monotonic()
        if _untouched(request):
            yield from self._saved(request, images)
            return
        passes.used.clear()
        latents = yield from self._runs(request, images)
        recipes = [self.recipe(request, image) for image in images]
        for latent, recipe in zip(latents, recipes, strict=True):
            if (note := save_or_say(self.unfinished, latent, recipe)) is not None:
                passes.notes.append(note)
        for latent, recipe in zip(latents, recipes, strict=True):
            yield from self._finished(latent, recipe, began)
            self.done, began = self.done + 1, time.monotonic()

    def _runs(self, request: ResolvedRequest, images: range) -> Generator[Event, None, Tensor]:
        """The latents (B, C, h, w) of some pictures, after their second run if they have one."""
        passes, hires = self.passes, request.hires
        latents = None
        if hires is None or hires.first is None:
            canvas = self._canvas(request)
            start = start_of(passes.on(request), request, canvas, images=images)
            latents = yield from passes.run(request, images, start)
            if hires is None:
                return latents
        return (yield from second_run(passes, request, images, latents))

    def _saved(self, request: ResolvedRequest, images: range) -> Iterator[Event]:
        """The picture to begin with as the result of each first run."""
        for image in images:
            yield from self._finished(None, self.recipe(request, image), time.monotonic())
            self.done += 1

    def _looped(self, request: ResolvedRequest, image: int) -> Iterator[Event]:
        """Rounds of image-to-image, each an ordinary request that begins with the last result."""
        loopback, init = request.loopback, request.init
        if loopback is None or init is None:
            return
        source, seed = init.image, seed_of(request, image)
        for index in range(loopback.loops):
            own = round_of(request, index, source=source, seed=seed)
            for event in self._made(own, range(1)):
                yield event  # first: it is there, whatever comes of the next round
                if event.kind == "artifact" and index + 1 < loopback.loops:
                    source = self.job.keep(event.data["path"])

    def _next_pictures(self) -> tuple[ResolvedRequest, range]:
        """The next pictures of one wording, and the request with that wording."""
        first = self.done // self.rounds
        most = min(first + self.passes.rig.fitting.plan.batch, self.request.count)
        request, said = self.job.wording.of_picture(self.request, first)
        self.passes.note(*said)
        last = hires_request(request)
        size = last.width, last.height
        check(size, self.recipe(request, first), self.job.output.saving)
        end = first + 1
        while end < most and self.job.wording.of_picture(self.request, end)[0] == request:
            end += 1
        return request, range(first, end)

    def _canvas(self, request: ResolvedRequest) -> Canvas | None:
        canvas = self.passes.canvas(request)
        if canvas is not None:
            self.passes.note(*canvas.notes)
        return canvas

    def _finished(self, latent: Tensor | None, recipe: Recipe, began: float) -> Iterator[Event]:
        try:
            with self.passes.engine.device.guard():
                events = finish(
                    self.passes,
                    latent,
                    recipe,
                    number=self.done,
                    single=self.total == 1,
                    began=began,
                )
                for event in events:
                    if event.kind == "artifact":  # before it is told: a listener may leave then
                        self.unfinished.done(recipe.image)
                    yield event
        except StudioError as error:
            if self.unfinished.kept(recipe.image):
                cure = "`darkroom recover` makes the picture from it, with -o elsewhere too."
                error.hint = f"{error.hint} What was sampled is kept: {cure}".lstrip()
            raise

    def recipe(self, request: ResolvedRequest, image: int) -> Recipe:
        """What picture `image` is made of, with the plan of the moment."""
        passes = self.passes
        named = others_of(request, self.job)
        return Recipe(
            request=request,
            image=image,
            seed=seed_of(request, image),
            variation_seed=variation_seed_of(request, image),
            template=template_of(self.request, request),
            models=tuple(dict.fromkeys((*files_of(passes.card, passes.vae), *named, *passes.used))),
            **made_on(passes.engine.device, passes.record(hires_request(request))),
        )

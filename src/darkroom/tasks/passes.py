"""The sampling runs of one job: everything between a request and its latents.

    with opened(engine, model, request, job=job) as passes:
        latents = yield from passes.run(request, range(2))                      # text to image
        latents = yield from passes.run(larger, range(2), start, stage="hires")

A picture takes one run or several: a second one on the enlarged result, one for each face. They all
come through `Passes.run`, so that each is shown, can be stopped, is guarded against numbers that
overflow, and is tried again in a smaller way when memory runs out.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from darkroom.core.errors import OutOfMemory
from darkroom.core.event import Event
from darkroom.core.model import Kind, ModelCard
from darkroom.core.recipe import Recipe, UsedModel
from darkroom.core.request import ResolvedRequest
from darkroom.engine.engine import Engine
from darkroom.engine.models import Model
from darkroom.engine.plan import Plan, Record
from darkroom.engine.run import Frame
from darkroom.engine.script import Script
from darkroom.sampling import Course, Denoiser, Step, sample
from darkroom.tasks.canvas import Canvas, canvas_of
from darkroom.tasks.course import course_of, guidance_of
from darkroom.tasks.fitting import Use
from darkroom.tasks.job import Job, drained
from darkroom.tasks.networks import worn
from darkroom.tasks.previews import Previews
from darkroom.tasks.refiner import refined, refiner_notes
from darkroom.tasks.regions import with_regions
from darkroom.tasks.rig import Rig
from darkroom.tasks.start import NOTHING, Start


@contextmanager
def opened(
    engine: Engine, model: Model, request: ResolvedRequest, *, job: Job, like: Recipe | None = None
) -> Iterator["Passes"]:
    """The runs of `job` on `model`; at the end of the block it has its own weights again.

    `like` is the recipe that is made again, whose plan is kept.
    """
    passes = Passes(engine, model, job, record={} if like is None else like.plan)
    del model  # it is to go where a refiner takes over
    try:
        passes.begin(request)
        yield passes
    finally:
        passes.close()


class Passes:
    """The runs of one job, on one checkpoint at a time. `rig` is the one that is on."""

    def __init__(self, engine: Engine, model: Model, job: Job, *, record: Record) -> None:
        self.engine, self.job, self._record = engine, job, record
        self.notes: list[str] = []  # for the user, since the last `drain`
        self.used: dict[UsedModel, None] = {}  # what prompts named, since it was cleared
        self._said: set[str] = set()  # notes that are not said again
        self.card, self.vae = model.card, model.vae_card  # those of the first run
        self._model: Model | None = model
        self._rig: Rig | None = None
        self._plans: dict[Use, Plan] = {}
        self._canvas: tuple[ResolvedRequest, Canvas | None] | None = None  # the latest
        self._worn = ExitStack()
        self._walked = 0  # steps of all pictures in the runs before this one
        self._previews = Previews(engine, job, say=self.note)

    @property
    def rig(self) -> Rig:
        """The one that is on."""
        if self._rig is None:
            raise ValueError("no checkpoint is on")
        return self._rig

    def begin(self, request: ResolvedRequest) -> None:
        """Put on the request's own checkpoint, and what its prompt names."""
        model, self._model = self._model, None
        self._put_on(model or self.engine.model(self.card, self.vae), request)

    def close(self) -> None:
        """Take everything off."""
        self._worn.close()

    def on(self, request: ResolvedRequest) -> Rig:
        """The rig of the request's checkpoint; another one's networks are taken off first."""
        card = self._card_of(request.model)
        if self._rig is None or card.sha256 != self._rig.model.card.sha256:
            self._worn.close()
            self._rig = None  # so that there is room for the other
            vae = self.vae if card.arch is self.card.arch else None
            self._put_on(self.engine.model(card, vae), request)
        return self.rig

    def run(
        self,
        request: ResolvedRequest,
        images: range,
        start: Start = NOTHING,
        *,
        stage: str = "",
    ) -> Generator[Event, None, Tensor]:
        """One run for each picture of `images`: latents (B, C, h, w).

        When memory runs out it is tried again with fewer at a time; OutOfMemory when that is no
        more possible. `stage` is what is shown of it: "hires", "face 1 of 2".
        """
        plan = self.on(request).fit(request).plan
        made: list[Tensor] = []
        first = images.start
        while first < images.stop:
            self.on(request).fitting.plan = plan  # not the rig: a refiner is to have its memory
            batch = range(first, min(first + plan.batch, images.stop))
            rows = start.rows(batch.start - images.start, batch.stop - images.start)
            try:
                made.append((yield from self._sampled(request, batch, rows, stage=stage)))
            except OutOfMemory as error:
                plan = self._smaller(request, plan, error)
                yield from self.drain()
                continue
            first = batch.stop
        return torch.cat(made)

    def record(self, request: ResolvedRequest) -> Record:
        """The plan of a run of `request`, and what differs in the plans of other sizes."""
        size = request.width, request.height, request.tiling
        made = (plan for use, plan in self._plans.items() if use[1:] == size)
        main = next(made, None) or self.rig.fit(request).plan
        told: Record = {name: value for name, value in self._record.items() if " " in name}
        for plan in self._plans.values():
            if plan.size != main.size:
                told |= plan.beside(main)
        return told | main.record()

    def canvas(self, request: ResolvedRequest) -> Canvas | None:
        """What `request` begins with, in pixels; made once for pictures that differ in prompts."""
        unworded = request.model_copy(update={"prompt": "", "negative_prompt": ""})
        if self._canvas is None or self._canvas[0] != unworded:
            self._canvas = unworded, canvas_of(request, self.job.pictures)
        return self._canvas[1]

    def note(self, *said: str) -> None:
        """Tell the user once of what stays the same from picture to picture."""
        self.notes += [text for text in dict.fromkeys(said) if text not in self._said]
        self._said.update(said)

    def drain(self) -> Iterator[Event]:
        """The notes as warnings."""
        return drained(self.notes)

    def course(self, request: ResolvedRequest, images: range, start: Start = NOTHING) -> Course:
        """The values of one run."""
        return course_of(
            self.engine,
            self.rig.model,
            request,
            images=images,
            start=start,
            check=lambda _estimate: self.job.check(),
        )

    def script(self, request: ResolvedRequest, *, before: int = 0) -> Script:
        """The prompts of `request`, encoded, with its networks on the model.

        What they name counts as used. `before` as in `Start`.
        """
        networks = self.rig.networks
        networks.wear(request.prompt)

        def write(text: str) -> Script:
            return self.engine.script(
                self.rig.model,
                request.model_copy(update={"prompt": text}),
                shelf=networks.shelf,
                say=self.note,
                before=before,
            )

        script = write(request.prompt)
        if request.regions:
            script = with_regions(script, request, self.job.pictures, write=write, say=self.note)
        self.used |= dict.fromkeys((*networks.used, *script.embeddings))
        return script

    def _smaller(self, request: ResolvedRequest, plan: Plan, error: OutOfMemory) -> Plan:
        fitting = self.on(request).fitting
        fitting.plan = plan
        fitting.shrink(error, plan.smaller_sampling())
        return fitting.plan

    def _put_on(self, model: Model, request: ResolvedRequest) -> None:
        networks = self._worn.enter_context(
            worn(self.engine, model, files=self.job.files, shelf=self.job.shelf)
        )
        networks.wear(request.prompt)  # before the plan is made: what it takes is no longer free
        self._rig = Rig(
            self.engine,
            model,
            networks,
            notes=self.notes,
            record=self._record,
            plans=self._plans,
        )
        self.rig.fit(request)

    def _card_of(self, name: str) -> ModelCard:
        return self.card if name == self.card.name else self.job.cards[Kind.CHECKPOINT, name]

    def _sampled(
        self, request: ResolvedRequest, batch: range, start: Start, *, stage: str
    ) -> Generator[Event, None, Tensor]:
        course = self.course(request, batch, start)
        self.note(*refiner_notes(request, course.levels, self.rig.model, card_of=self._card_of))
        denoise = self._denoiser(request, batch, start)
        empty = torch.zeros(1, 1, 1, 1, device=self.engine.device.torch)
        began = time.monotonic()
        with self.engine.device.guard():
            for step in sample(denoise, course, empty):
                yield from self.drain()
                yield self._stepped(batch, step, time.monotonic() - began, stage=stage)
                yield from self._previews.of(batch.start, step.clean[0], self.rig)
        self._walked += step.count * len(batch)
        return step.x

    def _denoiser(self, request: ResolvedRequest, batch: range, start: Start) -> Denoiser:
        """The guided denoiser of one run."""
        engine, model = self.engine, self.rig.model
        frame = Frame(
            table=engine.table(model, request),
            batch=len(batch),
            split=self.rig.fitting.plan.split_guidance,
            beside=start.beside,
            tiling=request.tiling,
        )
        denoise = engine.denoiser(
            model,
            self.script(request, before=start.before),
            guidance_of(request),
            frame=frame,
            say=self.notes.append,
        )
        denoise = self.rig.networks.over_time(denoise)
        return refined(
            denoise,
            request,
            self.rig.model,
            card_of=self._card_of,
            build=lambda later: self._successor(later, batch, start),
        )

    def _successor(self, request: ResolvedRequest, batch: range, start: Start) -> Denoiser:
        plan = self.rig.fitting.plan  # which a run keeps, and its refiner heeds
        fitting = self.on(request).fit(request)
        fitting.plan = fitting.plan.as_recorded(plan.record())
        return self._denoiser(request, batch, start)

    def _stepped(self, batch: range, step: Step, seconds: float, *, stage: str) -> Event:
        number = step.index + 1
        told = {
            "image": batch.start,
            "stage": stage,
            "step": number,
            "steps": step.count,
            "done": self._walked + number * len(batch),
            "rate": number / max(seconds, 1e-9),
        }
        return Event("step", told)

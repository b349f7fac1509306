"""Text to image: the one loop for each batch of pictures, and every result on disk at once."""

import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from darkroom.core.errors import OutOfMemory, OutputError
from darkroom.core.event import Event
from darkroom.core.recipe import Recipe, UsedModel
from darkroom.core.request import MAX_SEED, ResolvedRequest
from darkroom.core.sampler_table import AUTOMATIC, find_sampler
from darkroom.engine.engine import Engine
from darkroom.engine.latent import preview
from darkroom.engine.models import Model
from darkroom.engine.plan import Plan
from darkroom.engine.versions import versions
from darkroom.media.files import Place
from darkroom.media.image import save, save_preview
from darkroom.sampling import Course, Step, sample
from darkroom.tasks.course import course_of
from darkroom.tasks.fitting import Fitting
from darkroom.tasks.job import Job
from darkroom.tasks.unfinished import Unfinished, opened, save_or_say
from darkroom.weights.topology import FACTOR


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
    plan = engine.plan(model, request)
    if like is not None:
        plan = _as_before(plan, like)
    fitting = Fitting(engine, model, plan)
    fitting.check()
    with opened(job.unfinished) as unfinished:
        run = _Run(fitting, request, job, unfinished)
        fitting.notes += _without_effect(request)
        if like is not None:
            fitting.notes += like.differences(run.recipe(0))
        yield run.started()
        yield from fitting.drain()
        try:
            while run.done < request.count:
                yield from run.next_batch()
        finally:
            if job.previews is not None:
                with suppress(OSError):
                    job.previews.unlink(missing_ok=True)
        yield Event("done", {"images": run.done, "seconds": time.monotonic() - run.began})


def finish(
    fitting: Fitting, latent: Tensor, recipe: Recipe, *, place: Place, began: float
) -> Iterator[Event]:
    """Decode a latent (C, H, W) and save the picture; the last event is its artifact.

    `began` is when work on the picture began, on the monotonic clock.
    """
    pixels = fitting.decode(latent)
    yield from fitting.drain()
    recipe = recipe.model_copy(update={"plan": recipe.plan | fitting.plan.record()})
    names = place.names(recipe.seed, single=recipe.request.count == 1)
    saved = save(Image.fromarray(pixels.numpy()), recipe, names)
    told = {
        "image": recipe.image,
        "path": str(saved.path),
        "seed": recipe.seed,
        "sha256": saved.sha256,
        "seconds": time.monotonic() - began,
    }
    yield Event("artifact", told)


def _as_before(plan: Plan, like: Recipe) -> Plan:
    """The plan with the choices that `like` records, as far as they can matter to a bit."""
    split, tile = like.plan.get("split_guidance"), like.plan.get("tile")
    return replace(
        plan,
        split_guidance=plan.split_guidance or split is True,
        tile=tile if plan.tile is None and isinstance(tile, int) and tile >= FACTOR else plan.tile,
    )


def _without_effect(request: ResolvedRequest) -> list[str]:
    """Words for every setting of the request that would otherwise silently do nothing."""
    sampler, _ = find_sampler(request.sampler)
    notes = []
    if sampler.spacing is not None and request.scheduler != AUTOMATIC:
        notes.append(
            f"{sampler.name} spaces its own steps: the scheduler {request.scheduler} has no effect"
        )
    if sampler.spacing is not None and request.steps == 1:
        notes.append(f"{sampler.name} needs 2 steps or more: one step leaves noise")
    if request.cfg_scale == 1 and request.negative_prompt:
        notes.append("without guidance (cfg_scale 1) the negative prompt has no effect")
    return notes


@dataclass(slots=True)
class _Run:
    """One request on its way."""

    fitting: Fitting
    request: ResolvedRequest
    job: Job
    unfinished: Unfinished
    done: int = 0  # pictures on disk
    previewing: bool = True
    began: float = field(default_factory=time.monotonic)

    def started(self) -> Event:
        request, fitting = self.request, self.fitting
        told = {
            "images": request.count,
            "steps": self._course(range(1)).steps,
            "width": request.width,
            "height": request.height,
            "model": fitting.model.card.name,
            "device": fitting.engine.device.name,
            "plan": fitting.plan.describe(),
        }
        return Event("started", told)

    def next_batch(self) -> Iterator[Event]:
        """Sample as many pictures as the plan takes at a time, and finish them one by one."""
        fitting = self.fitting
        batch = range(self.done, min(self.done + fitting.plan.batch, self.request.count))
        began = time.monotonic()
        try:
            latents = yield from self._sampled(batch)
        except OutOfMemory as error:
            fitting.shrink(error, fitting.plan.smaller_sampling())
            yield from fitting.drain()
            return
        recipes = [self.recipe(image) for image in batch]
        for latent, recipe in zip(latents, recipes, strict=True):
            if (note := save_or_say(self.unfinished, latent, recipe)) is not None:
                fitting.notes.append(note)
        for latent, recipe in zip(latents, recipes, strict=True):
            yield from self._finished(latent, recipe, began)
            self.done, began = self.done + 1, time.monotonic()

    def _sampled(self, batch: range) -> Generator[Event, None, Tensor]:
        fitting = self.fitting
        course, device = self._course(batch), fitting.engine.device
        denoise = fitting.engine.denoiser(
            fitting.model,
            self.request,
            plan=fitting.plan,
            batch=len(batch),
            say=fitting.notes.append,
        )
        empty = torch.zeros(1, 1, 1, 1, device=device.torch)
        began = time.monotonic()
        with device.guard():
            for step in sample(denoise, course, empty):
                yield from fitting.drain()
                yield self._stepped(batch, step, time.monotonic() - began)
                yield from self._preview(batch.start, step)
        return step.x

    def _course(self, batch: range) -> Course:
        fitting = self.fitting
        return course_of(
            fitting.engine,
            fitting.model,
            self.request,
            seeds=tuple(self._seed(image) for image in batch),
            check=lambda _estimate: self.job.check(),
        )

    def _seed(self, image: int) -> int:
        return (self.request.seed + image) % (MAX_SEED + 1)

    def _stepped(self, batch: range, step: Step, seconds: float) -> Event:
        number = step.index + 1
        told = {
            "image": batch.start,
            "step": number,
            "steps": step.count,
            "done": batch.start * step.count + number * len(batch),
            "rate": number / max(seconds, 1e-9),
        }
        return Event("step", told)

    def _preview(self, image: int, step: Step) -> Iterator[Event]:
        path = self.job.previews
        if path is None or not self.previewing or not self.job.clock.due():
            return
        began = time.monotonic()
        pixels = preview(step.clean[0], self.fitting.model.preview)
        try:
            save_preview(Image.fromarray(pixels.numpy()), path)
        except OutputError as error:
            self.previewing = False
            yield Event("warning", {"text": f"no previews: {error}"})
            return
        self.job.clock.made(time.monotonic() - began)
        yield Event("preview", {"image": image, "path": str(path)})

    def _finished(self, latent: Tensor, recipe: Recipe, began: float) -> Iterator[Event]:
        try:
            yield from finish(self.fitting, latent, recipe, place=self.job.place, began=began)
        except (OutputError, OutOfMemory) as error:
            if self.unfinished.kept(recipe.image):
                cure = "`darkroom recover` makes the picture from it, with -o elsewhere too."
                error.hint = f"What was sampled is kept: {cure}"
            raise
        self.unfinished.done(recipe.image)

    def recipe(self, image: int) -> Recipe:
        """What picture `image` is made of, with the plan of the moment."""
        fitting = self.fitting
        card, device = fitting.model.card, fitting.engine.device
        plan: dict[str, int | str | bool | None] = fitting.plan.record()
        if device.kind == "cpu":
            plan["threads"] = torch.get_num_threads()
        return Recipe(
            request=self.request,
            image=image,
            seed=self._seed(image),
            models=(UsedModel(name=card.name, sha256=card.sha256),),
            device=f"{device.kind} {str(device.dtype).removeprefix('torch.')}",
            plan=plan,
            versions=versions(),
        )

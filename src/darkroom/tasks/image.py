"""Text to image: the one loop for each batch of pictures, and every result on disk at once."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from darkroom.core.errors import OutOfMemory
from darkroom.core.event import Event
from darkroom.core.recipe import Recipe, UsedModel
from darkroom.core.request import MAX_SEED, ResolvedRequest
from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler
from darkroom.engine.engine import Engine
from darkroom.engine.latent import FACTOR, preview
from darkroom.engine.latent_file import SUFFIX, save_latent
from darkroom.engine.models import Model
from darkroom.engine.plan import Plan
from darkroom.engine.versions import versions
from darkroom.media.image import save, save_preview
from darkroom.sampling import SAMPLERS, Course, Seeds, Step, levels, sample, table_for
from darkroom.tasks.job import Job


def generate(
    engine: Engine, model: Model, request: ResolvedRequest, *, job: Job
) -> Iterator[Event]:
    """Run `request`; every picture is on disk before its artifact event."""
    job.place.prepare()
    run = _Run(engine, model, request, job, engine.plan(model, request))
    yield run.started()
    if (note := _ignored_scheduler(request)) is not None:
        yield Event("warning", {"text": note})
    try:
        while run.done < request.count:
            yield from run.next_batch()
    finally:
        if job.previews is not None:
            job.previews.unlink(missing_ok=True)
    yield Event("done", {"images": run.done, "seconds": run.seconds})


@dataclass(slots=True)
class _Run:
    """One request on its way."""

    engine: Engine
    model: Model
    request: ResolvedRequest
    job: Job
    plan: Plan
    done: int = 0  # pictures on disk
    notes: list[str] = field(default_factory=list)  # what the guards said since the last event
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def started(self) -> Event:
        request = self.request
        told = {
            "images": request.count,
            "steps": request.steps,
            "width": request.width,
            "height": request.height,
            "model": self.model.card.name,
            "device": self.engine.device.name,
            "plan": self.plan.describe(),
        }
        return Event("started", told)

    def next_batch(self) -> Iterator[Event]:
        """Sample as many pictures as the plan takes at a time, and finish them one by one."""
        batch = range(self.done, min(self.done + self.plan.batch, self.request.count))
        began = time.monotonic()
        try:
            latents = yield from self._sampled(batch)
        except OutOfMemory as error:
            self._shrink(error, self.plan.smaller_sampling())
            yield from self._drain()
            return
        for image, latent in zip(batch, latents, strict=True):
            yield from self._finished(image, latent, began)
            self.done, began = image + 1, time.monotonic()

    def _sampled(self, batch: range) -> Generator[Event, None, Tensor]:
        course = self._course(batch)
        denoise = self.engine.denoiser(
            self.model, self.request, plan=self.plan, batch=len(batch), say=self.notes.append
        )
        empty = torch.zeros(1, 1, 1, 1, device=self.engine.device.torch)
        began = time.monotonic()
        with self.engine.device.guard():
            for step in sample(denoise, course, empty):
                yield from self._drain()
                yield self._stepped(batch, step, time.monotonic() - began)
                if (path := self.job.previews) is not None and self.job.clock.due():
                    yield self._preview(batch.start, step, path)
        return step.x

    def _course(self, batch: range) -> Course:
        request = self.request
        sampler, _ = find_sampler(request.sampler)
        table = table_for(sampler, self.model.table)
        scheduler = find_scheduler(request.scheduler)
        return Course(
            sampler=SAMPLERS[sampler.function],
            levels=levels(sampler, scheduler, table, steps=request.steps),
            shape=(
                len(batch),
                self.model.networks.detected.vae.latent_channels,
                request.height // FACTOR,
                request.width // FACTOR,
            ),
            seeds=Seeds(values=tuple(self._seed(image) for image in batch)),
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

    def _preview(self, image: int, step: Step, path: Path) -> Event:
        began = time.monotonic()
        pixels = preview(step.clean[0], self.model.preview)
        save_preview(Image.fromarray(pixels.numpy()), path)
        self.job.clock.made(time.monotonic() - began)
        return Event("preview", {"image": image, "path": str(path)})

    def _finished(self, image: int, latent: Tensor, began: float) -> Iterator[Event]:
        """Decode and save one picture; its latent stays on disk until the picture is there."""
        recipe = self._recipe(image)
        kept = self.job.unfinished / f"{self.job.id}-{image}{SUFFIX}"
        save_latent(latent, recipe, kept)
        pixels = self._decoded(latent)
        yield from self._drain()
        names = self.job.place.names(recipe.seed, single=self.request.count == 1)
        saved = save(Image.fromarray(pixels.numpy()), recipe, names)
        kept.unlink(missing_ok=True)
        told = {
            "image": image,
            "path": str(saved.path),
            "seed": recipe.seed,
            "sha256": saved.sha256,
            "seconds": time.monotonic() - began,
        }
        yield Event("artifact", told)

    def _decoded(self, latent: Tensor) -> Tensor:
        while True:
            try:
                return self.engine.decode(self.model, latent, plan=self.plan, say=self.notes.append)
            except OutOfMemory as error:
                self._shrink(error, self.plan.smaller_decoding())

    def _shrink(self, error: OutOfMemory, plan: Plan | None) -> None:
        """Go on with a smaller `plan`; without one the error is final."""
        if plan is None:
            error.hint = "Choose a smaller width and height, or close other programs."
            raise error
        self.plan = plan
        self.engine.make_room(self.model.card)
        self.notes.append(f"memory ran out; trying again with {plan.describe()}")

    def _drain(self) -> Iterator[Event]:
        while self.notes:
            yield Event("warning", {"text": self.notes.pop(0)})

    def _recipe(self, image: int) -> Recipe:
        card, device = self.model.card, self.engine.device
        return Recipe(
            request=self.request,
            image=image,
            seed=self._seed(image),
            models=(UsedModel(name=card.name, sha256=card.sha256),),
            device=f"{device.kind} {str(device.dtype).removeprefix('torch.')}",
            plan=self.plan.record(),
            versions=versions(),
        )


def _ignored_scheduler(request: ResolvedRequest) -> str | None:
    """Words for a setting that would otherwise silently do nothing."""
    sampler, _ = find_sampler(request.sampler)
    if sampler.spacing is None or request.scheduler == AUTOMATIC:
        return None
    return f"{sampler.name} spaces its own steps: the scheduler {request.scheduler} has no effect"

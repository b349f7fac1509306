"""Text to image: the one loop for each batch of pictures, and every result on disk at once."""

import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from darkroom.core.errors import BadRequest, OutOfMemory, OutputError
from darkroom.core.event import Event
from darkroom.core.prompt import Part, networks, parts
from darkroom.core.recipe import DEFAULTS, Recipe, UsedModel
from darkroom.core.request import ResolvedRequest
from darkroom.core.sampler_options import adds_noise, notes
from darkroom.core.sampler_table import find_sampler, find_scheduler
from darkroom.engine.engine import Engine
from darkroom.engine.latent import preview
from darkroom.engine.models import Model
from darkroom.engine.plan import Plan
from darkroom.engine.run import Frame
from darkroom.engine.script import Script
from darkroom.engine.versions import versions
from darkroom.media.image import check, save, save_preview
from darkroom.sampling import Course, Step, sample
from darkroom.tasks.course import (
    course_of,
    guidance_of,
    sampler_options,
    schedule_options,
    seed_of,
    variation_seed_of,
)
from darkroom.tasks.fitting import Fitting
from darkroom.tasks.job import Job, Output
from darkroom.tasks.networks import Networks, worn
from darkroom.tasks.unfinished import Unfinished, opened, save_or_say
from darkroom.tasks.wording import template_of
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
    first, _ = job.wording.of_picture(request, 0)
    with (
        opened(job.unfinished) as unfinished,
        worn(engine, model, files=job.files, shelf=job.shelf) as networks,
    ):
        networks.wear(first.prompt)  # before the plan is made: what it takes is no longer free
        plan = engine.plan(model, request)
        if like is not None:
            plan = _as_before(plan, like)
        fitting = Fitting(engine, model, plan)
        fitting.check()
        run = _Run(fitting, request, job, unfinished, networks)
        fitting.notes += [*job.notes, *_without_effect(request)]
        if like is not None:
            fitting.notes += like.differences(run.first())
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
    fitting: Fitting, latent: Tensor, recipe: Recipe, *, output: Output, began: float
) -> Iterator[Event]:
    """Decode a latent (C, H, W) and save the picture; the last event is its artifact.

    `began` is when work on the picture began, on the monotonic clock.
    """
    pixels = fitting.decode(latent)
    yield from fitting.drain()
    recipe = recipe.model_copy(update={"plan": recipe.plan | fitting.plan.record()})
    names = output.place.names(recipe.seed, single=recipe.request.count == 1)
    saved = save(Image.fromarray(pixels.numpy()), recipe, names, saving=output.saving)
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
    options = sampler_options(request)
    said = notes(
        sampler,
        find_scheduler(request.scheduler),
        steps=request.steps,
        options=options,
        spacing=schedule_options(request),
    )
    unguided = request.cfg_scale == 1 and not sampler.paired
    composed = parts(networks(request.prompt)[0])
    if unguided and request.negative_prompt and composed == (Part(composed[0].text),):
        said.append("without guidance (cfg_scale 1) the negative prompt has no effect")
    if request.variation_seed is not None and not request.variation_strength:
        said.append("variation_seed has no effect without variation_strength")
    drawn = adds_noise(sampler, options, steps=request.steps)
    if request.ensd and (sampler.brownian or not drawn):
        said.append(f"{sampler.name} draws no noise from the seed on its way: ensd has no effect")
    names = ("skip_early_cfg", "ngms", "cfg_rescale", "guidance_start", "guidance_end")
    changed = [
        name for name in names if getattr(request, name) != type(request).model_fields[name].default
    ]
    if unguided:
        said += [f"without guidance {name} has no effect" for name in changed]
    elif request.guidance_start >= request.guidance_end or request.skip_early_cfg == 1:
        said.append("no step is left for guidance: the negative prompt has no effect")
    return said


def _files(model: Model) -> Iterator[UsedModel]:
    """The files that a model is loaded from."""
    yield UsedModel(name=model.card.name, sha256=model.card.sha256)
    if (vae := model.vae_card) is not None:
        yield UsedModel(role="vae", name=vae.name, sha256=vae.sha256)


@dataclass(slots=True)
class _Run:
    """One request on its way."""

    fitting: Fitting
    request: ResolvedRequest
    job: Job
    unfinished: Unfinished
    networks: Networks
    done: int = 0  # pictures on disk
    previewing: bool = True
    said: set[str] = field(default_factory=set)  # notes that are not said again
    embeddings: tuple[UsedModel, ...] = ()  # of the pictures of the moment
    began: float = field(default_factory=time.monotonic)

    def started(self) -> Event:
        request, fitting = self.request, self.fitting
        told = {
            "images": request.count,
            "steps": self._course(self.request, range(1)).steps,
            "width": request.width,
            "height": request.height,
            "model": fitting.model.card.name,
            "device": fitting.engine.device.name,
            "plan": fitting.plan.describe(),
            "networks": list(self.networks.said),
            "recommended": self._recommended(),
        }
        return Event("started", told)

    def _recommended(self) -> dict[str, float | str]:
        """What the model recommends and the request has, where that is not the usual."""
        told = self.fitting.model.card.recommended.items()
        usual = {name: field.default for name, field in type(self.request).model_fields.items()}
        return {
            name: value
            for name, value in told
            if getattr(self.request, name, None) == value != (usual | DEFAULTS).get(name)
        }

    def first(self) -> Recipe:
        """What the first picture will be made of."""
        request, _ = self.job.wording.of_picture(self.request, 0)
        self._script(request)
        return self.recipe(request, 0)

    def next_batch(self) -> Iterator[Event]:
        """Sample as many pictures as the plan takes at a time, and finish them one by one."""
        fitting = self.fitting
        request, batch = self._next_pictures()
        began = time.monotonic()
        try:
            latents = yield from self._sampled(request, batch)
        except OutOfMemory as error:
            fitting.shrink(error, fitting.plan.smaller_sampling())
            yield from fitting.drain()
            return
        recipes = [self.recipe(request, image) for image in batch]
        for latent, recipe in zip(latents, recipes, strict=True):
            if (note := save_or_say(self.unfinished, latent, recipe)) is not None:
                fitting.notes.append(note)
        for latent, recipe in zip(latents, recipes, strict=True):
            yield from self._finished(latent, recipe, began)
            self.done, began = self.done + 1, time.monotonic()

    def _next_pictures(self) -> tuple[ResolvedRequest, range]:
        """The next pictures of one wording, and the request with that wording."""
        first, most = self.done, min(self.done + self.fitting.plan.batch, self.request.count)
        request, said = self.job.wording.of_picture(self.request, first)
        self._note(said)
        size = request.width, request.height
        check(size, self.recipe(request, first), self.job.output.saving)
        end = first + 1
        while end < most and self.job.wording.of_picture(self.request, end)[0] == request:
            end += 1
        return request, range(first, end)

    def _note(self, said: list[str]) -> None:
        """Tell the user once of what stays the same from picture to picture."""
        self.fitting.notes += [text for text in said if text not in self.said]
        self.said.update(said)

    def _sampled(self, request: ResolvedRequest, batch: range) -> Generator[Event, None, Tensor]:
        fitting = self.fitting
        engine, model = fitting.engine, fitting.model
        course = self._course(request, batch)
        frame = Frame(
            table=engine.table(model, request),
            batch=len(batch),
            split=fitting.plan.split_guidance,
        )
        denoise = engine.denoiser(
            model,
            self._script(request),
            guidance_of(request),
            frame=frame,
            say=fitting.notes.append,
        )
        denoise = self.networks.over_time(denoise)
        empty = torch.zeros(1, 1, 1, 1, device=engine.device.torch)
        began = time.monotonic()
        with engine.device.guard():
            for step in sample(denoise, course, empty):
                yield from fitting.drain()
                yield self._stepped(batch, step, time.monotonic() - began)
                yield from self._preview(batch.start, step)
        return step.x

    def _script(self, request: ResolvedRequest) -> Script:
        """The prompts of `request`, encoded, with its networks on the model.

        These and its embeddings are those of the moment from now on.
        """
        fitting, networks = self.fitting, self.networks
        networks.wear(request.prompt)
        script = fitting.engine.script(
            fitting.model, request, shelf=networks.shelf, say=lambda text: self._note([text])
        )
        self.embeddings = script.embeddings
        return script

    def _course(self, request: ResolvedRequest, batch: range) -> Course:
        return course_of(
            self.fitting.engine,
            self.fitting.model,
            request,
            images=batch,
            check=lambda _estimate: self.job.check(),
        )

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
            for event in finish(self.fitting, latent, recipe, output=self.job.output, began=began):
                if event.kind == "artifact":  # before it is told: whoever listens may leave then
                    self.unfinished.done(recipe.image)
                yield event
        except (OutputError, OutOfMemory, BadRequest) as error:
            if self.unfinished.kept(recipe.image):
                cure = "`darkroom recover` makes the picture from it, with -o elsewhere too."
                error.hint = f"What was sampled is kept: {cure}"
            raise

    def recipe(self, request: ResolvedRequest, image: int) -> Recipe:
        """What picture `image` is made of, with the plan of the moment."""
        fitting = self.fitting
        device = fitting.engine.device
        plan: dict[str, int | str | bool | None] = fitting.plan.record()
        if device.kind == "cpu":
            plan["threads"] = torch.get_num_threads()
        return Recipe(
            request=request,
            image=image,
            seed=seed_of(request, image),
            variation_seed=variation_seed_of(request, image),
            template=template_of(self.request, request),
            models=(*_files(fitting.model), *self.networks.used, *self.embeddings),
            device=f"{device.kind} {str(device.dtype).removeprefix('torch.')}",
            plan=plan,
            versions=versions(),
        )

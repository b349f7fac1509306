"""What took part in a picture, for its recipe: files, the device, versions."""

from collections.abc import Iterator
from typing import Any

import torch

from darkroom.core.model import Kind, ModelCard
from darkroom.core.recipe import Role, UsedModel
from darkroom.core.request import ResolvedRequest
from darkroom.engine.device import Device
from darkroom.engine.plan import Record
from darkroom.engine.versions import versions
from darkroom.tasks.enlarge import FILTERS, card_of
from darkroom.tasks.hires import LATENT
from darkroom.tasks.job import Job


def files_of(card: ModelCard, vae: ModelCard | None) -> Iterator[UsedModel]:
    """The files of the checkpoint that runs first; `vae` is None where that is its own."""
    yield used("checkpoint", card)
    if vae is not None:
        yield used("vae", vae)


def others_of(request: ResolvedRequest, job: Job) -> Iterator[UsedModel]:
    """The files of every other model that the request names."""
    for role, kind, name in _named(request):
        if name is not None and (card := job.cards.get((kind, name))) is not None:
            yield used(role, card)
    if request.hires is not None:
        upscaler = request.hires.upscaler
        if upscaler.casefold() not in (*LATENT, *FILTERS):
            yield used("upscaler", card_of(upscaler, job))


def used(role: Role, card: ModelCard) -> UsedModel:
    """A file in a recipe."""
    return UsedModel(role=role, name=card.name, sha256=card.sha256)


def made_on(device: Device, plan: Record) -> dict[str, Any]:
    """The fields of a recipe that say what made it: the device, the plan on it, and versions."""
    threads = {"threads": torch.get_num_threads()} if device.kind == "cpu" else {}
    return {
        "device": f"{device.kind} {str(device.dtype).removeprefix('torch.')}",
        "plan": plan | threads,
        "versions": versions(),
    }


def _named(request: ResolvedRequest) -> Iterator[tuple[Role, Kind, str | None]]:
    if request.refiner is not None:
        yield "refiner", Kind.CHECKPOINT, request.refiner.model
    if request.hires is not None:
        yield "hires", Kind.CHECKPOINT, request.hires.model
    if request.restore is not None:
        yield "restorer", Kind.RESTORER, request.restore.model
    for block in request.detail:
        yield "detail", Kind.CHECKPOINT, block.model
        yield "detector", Kind.DETECTOR, block.detector

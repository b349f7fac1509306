"""A request as the values of one denoising loop."""

from collections.abc import Callable

from torch import Tensor

from darkroom.core.request import ResolvedRequest
from darkroom.core.sampler_table import find_sampler, find_scheduler
from darkroom.engine.engine import Engine
from darkroom.engine.models import Model
from darkroom.sampling import SAMPLERS, Course, Seeds, levels
from darkroom.weights.topology import FACTOR


def course_of(
    engine: Engine,
    model: Model,
    request: ResolvedRequest,
    *,
    seeds: tuple[int, ...],
    check: Callable[[Tensor], None] | None = None,
) -> Course:
    """The run that makes one picture of `request` per seed; `check` sees every estimate."""
    sampler, _ = find_sampler(request.sampler)
    return Course(
        sampler=SAMPLERS[sampler.function],
        levels=levels(
            sampler,
            find_scheduler(request.scheduler),
            engine.table(model, request),
            steps=request.steps,
        ),
        shape=(
            len(seeds),
            model.networks.detected.vae.latent_channels,
            request.height // FACTOR,
            request.width // FACTOR,
        ),
        seeds=Seeds(values=seeds),
        check=check,
    )

"""Another checkpoint for the last steps of a run: it takes over where little noise is left.

    notes = refiner_notes(request, course.levels, model, card_of=…)     # what has no effect
    denoise = refined(denoise, request, model, card_of=…, build=…)

The levels of noise are those that the first checkpoint was trained at. Counted from pure noise, the
refiner takes over as soon as the share `switch_at` of them is behind, as in A1111.
"""

from collections.abc import Callable, Iterator

from darkroom.core.blocks import Refiner
from darkroom.core.errors import BadRequest
from darkroom.core.model import ModelCard, Variant
from darkroom.core.prompt import networks
from darkroom.core.request import ResolvedRequest
from darkroom.engine.models import Model
from darkroom.sampling import Denoiser, Levels, NoiseTable, handover

CardOf = Callable[[str], ModelCard]  # by a name in the request
Build = Callable[[ResolvedRequest], Denoiser]


def refiner_of(request: ResolvedRequest) -> Refiner | None:
    """The refiner of the run of `request`, which is the first of two if `hires` is still in it."""
    refiner = request.refiner
    if refiner is None or (request.hires is not None and refiner.on == "second"):
        return None
    return refiner


def refined(
    denoise: Denoiser,
    request: ResolvedRequest,
    first: Model,
    *,
    card_of: CardOf,
    build: Build,
) -> Denoiser:
    """`denoise`, the run of `request` on the model `first`, until its refiner takes over.

    `build` makes the denoiser of a request with its checkpoint put on. It is called when the time
    has come, so that one checkpoint at a time is in use.
    """
    refiner = refiner_of(request)
    if refiner is None:
        return denoise
    table, later = first.table, _request(request, refiner, first.card, card_of(refiner.model))
    return handover(
        denoise, lambda: build(later), lambda at: done(at.sigma, table) >= refiner.switch_at
    )


def refiner_notes(
    request: ResolvedRequest, levels: Levels, first: Model, *, card_of: CardOf
) -> Iterator[str]:
    """Words for a refiner that does nothing, or everything, or without the prompt's networks."""
    refiner = refiner_of(request)
    if refiner is None or len(levels.sigmas) < 2:
        return
    card, name = card_of(refiner.model), refiner.model
    called = levels.sigmas[:-1] if levels.counted else levels.sigmas[levels.sigmas > 0]
    start, end = (done(called[place].item(), first.table) for place in (0, -1))
    if end < refiner.switch_at:
        yield (
            f"the refiner never takes over: it would at {refiner.switch_at:.0%} of the noise"
            f" levels, and the last step is at {end:.0%}"
        )
    elif start >= refiner.switch_at:
        yield f"the refiner takes over at the first step: all of this run is {name}'s"
    if card.arch is not first.card.arch and networks(request.prompt)[1]:
        yield f"{name} is of another family: the networks in the prompt are not put on it"


def done(sigma: float, table: NoiseTable) -> float:
    """The share of the levels of `table` that is behind, by the level nearest to `sigma`."""
    count = len(table.sigmas)
    return (count - 1 - round(table.index(sigma))) / count


def _request(
    request: ResolvedRequest, refiner: Refiner, first: ModelCard, second: ModelCard
) -> ResolvedRequest:
    """The request of the steps that the refiner does, from the file `second`."""
    if second.variant not in (Variant.BASE, first.variant):
        raise BadRequest(
            f"{second.name} is a checkpoint for {second.variant} and cannot refine what"
            f" {first.name} began",
            hint="Choose a refiner of the same kind, or one for pictures from prompts.",
        )
    fits = second.arch is first.arch  # and so does what the prompt puts on
    prompt = request.prompt if fits else networks(request.prompt)[0]
    return request.model_copy(update={"model": refiner.model, "refiner": None, "prompt": prompt})

"""Loopback: what each round of a picture does, as in A1111's script of that name.

Each round begins with the result of the one before; its seed is one more, and its strength that of
`strengths`.
"""

import math
from collections.abc import Callable, Mapping

from darkroom.core.blocks import Curve, Loopback
from darkroom.core.fields import MAX_SEED
from darkroom.core.request import ResolvedRequest

BENDS: Mapping[Curve, Callable[[float], float]] = {
    "linear": lambda share: share,
    "aggressive": lambda share: math.sin(share * math.pi / 2),
    "lazy": lambda share: 1 - math.cos(share * math.pi / 2),
}
"""The share of the way from the first strength to the last, by the share of the rounds."""


def strengths(loopback: Loopback, first: float) -> tuple[float, ...]:
    """The denoising strength of every round, from `first` to the final one along the curve."""
    last = first if loopback.final_strength is None else loopback.final_strength
    bend = BENDS[loopback.curve]
    rounds = loopback.loops
    return tuple(first + (last - first) * bend(k / (rounds - 1)) for k in range(rounds))


def round_of(request: ResolvedRequest, index: int, *, source: str, seed: int) -> ResolvedRequest:
    """The request of round `index`, from 0, of a picture with that seed.

    It begins with `source`, which from the second round on is the last result; a mask then begins
    with what was painted before.
    """
    loopback, init, mask = request.loopback, request.init, request.mask
    if loopback is None or init is None:
        return request
    strength = strengths(loopback, init.strength)[index]
    if index and mask is not None:
        mask = mask.model_copy(update={"fill": "original"})
    own = {
        "loopback": None,
        "init": init.model_copy(update={"image": source, "strength": strength}),
        "mask": mask,
        "seed": (seed + index) % (MAX_SEED + 1),
        "count": 1,
    }
    return request.model_copy(update=own)

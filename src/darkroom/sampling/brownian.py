"""A Brownian path that is a function of its seed alone.

The value at a time is found by halving the span: each midpoint is drawn from a Brownian bridge with
a seed of its own, so the path does not depend on which times are asked for, or in which order. The
numbers are those of `torchsde.BrownianTree` 0.2.6 (Li et al. 2020), which A1111 draws from; written
afresh here because that package cannot take its noise from another source.
"""

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

_DIGITS = 6  # times are rounded to these decimals, which ends the halving
_POOL = 24  # words of entropy mixed into each seed

Node = tuple[int, int]  # position among the intervals of its depth, depth


class BrownianPath:
    """Brownian motion over `span`, of the shape that `draw` gives.

    `draw(seed)` is fresh unit noise of that seed. Only the midpoints on the way to the last time
    are kept: the next time asked for is mostly near it.
    """

    def __init__(self, seed: int, span: tuple[float, float], draw: Callable[[int], Tensor]) -> None:
        self._seed = seed & 0xFFFFFFFFFFFFFFFF  # as torch reads a negative seed
        self._draw = draw
        self._low, self._high = (round(time, _DIGITS) for time in span)
        self._total = self._noise(()) * math.sqrt(span[1] - span[0])
        self._known: dict[Node, Tensor] = {}
        self._last = (self._high, self._total)

    def increment(self, start: float, end: float) -> Tensor:
        """The path at `end` minus the path at `start`."""
        return self.at(end) - self.at(start)

    def at(self, time: float) -> Tensor:
        """The path at `time`, clamped to the span; 0 at its start."""
        time = min(max(round(time, _DIGITS), self._low), self._high)
        if time != self._last[0]:
            self._last = (time, self._descend(time))
        return self._last[1]

    def _descend(self, time: float) -> Tensor:
        low, high = self._low, self._high
        below, rise = self._total * 0, self._total  # the path at `low`; its rise up to `high`
        node: Node = (0, 0)
        path: dict[Node, Tensor] = {}
        while time not in (low, high):
            middle = round((low + high) / 2, _DIGITS)
            path[node] = noise = self._known[node] if node in self._known else self._noise(node)
            width, left, right = high - low, middle - low, high - middle
            half = left * rise / width + math.sqrt(left * right / width) * noise
            if time <= middle:
                high, rise, node = middle, half, (2 * node[0], node[1] + 1)
            else:
                low, below, rise = middle, below + half, rise - half
                node = (2 * node[0] + 1, node[1] + 1)
        self._known = path
        return below if time == low else below + rise

    def _noise(self, node: tuple[int, ...]) -> Tensor:
        """The noise of an interval's midpoint; of the whole span for ()."""
        seeds = np.random.SeedSequence(self._seed, spawn_key=node, pool_size=_POOL)
        return self._draw(int(seeds.generate_state(1)[0]))

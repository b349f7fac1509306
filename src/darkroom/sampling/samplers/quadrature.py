"""Weights of multistep methods: integrals of the polynomial through what is known."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def integral(function: Callable[[Numbers], Numbers], low: float, high: float) -> float:
    """Gauss-Legendre with 24 points: exact for polynomials up to degree 47."""
    half, middle = (high - low) / 2, (high + low) / 2
    return float(half * np.dot(_WEIGHTS, function(half * _POINTS + middle)))


def lagrange(places: Sequence[float], index: int, at: Numbers) -> Numbers:
    """The polynomial that is 1 at `places[index]` and 0 at the other places."""
    found = np.ones_like(at)
    for other, place in enumerate(places):
        if other != index:
            found *= (at - place) / (places[index] - place)
    return found

"""Prompt matrix: "a cat|in a hat|at night" is a cat, and a cat with every choice of the others.

The choices of the first half of the parts go along x, those of the other half along y, as A1111
draws them.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial

from darkroom.core.axes import Data, Point, Points
from darkroom.core.errors import BadRequest
from darkroom.core.series import GridRequest

MOST_PARTS = 13  # that vary: 8,192 pictures

_BRACKETS = {"[": "]", "{": "}", "<": ">"}
_JOINED = {"comma": ", ", "space": " "}
_CHOSEN = "chosen"  # what x leaves for y, which puts both into the prompt


def matrix_axes(grid: GridRequest) -> tuple[Points, Points]:
    """The axes x and y of a prompt matrix; BadRequest where there is nothing to choose."""
    first, *others = parts(getattr(grid.base, grid.matrix_of))
    if not others:
        raise BadRequest(
            f"there is no | in the {grid.matrix_of.replace('_', ' ')}: a matrix has nothing to"
            " choose",
            hint='Write "a cat|in a hat|at night".',
        )
    if len(others) > MOST_PARTS:
        told = f"{len(others)} parts have too many choices"
        raise BadRequest(told, hint=f"Take at most {MOST_PARTS}.")
    half = (len(others) + 1) // 2
    x = (Point(_label(chosen), partial(_note, chosen)) for chosen in _choices(others[:half]))
    y = (
        Point(
            _label(chosen) if others[half:] else "",
            partial(_join, grid=grid, first=first, chosen=chosen),
        )
        for chosen in _choices(others[half:])
    )
    return Points("prompt", tuple(x)), Points("prompt", tuple(y))


def parts(text: str) -> list[str]:
    """What | separates, but not in [a|b], {a|b} or <…>."""
    found, closing = [""], ""
    for piece in re.findall(r"[][{}<>|]|[^][{}<>|]+", text):
        if piece in _BRACKETS:
            closing += _BRACKETS[piece]
        elif piece == closing[-1:]:
            closing = closing[:-1]
        if piece == "|" and not closing:
            found.append("")
        else:
            found[-1] += piece
    return [part.strip() for part in found]


def _choices(others: Sequence[str]) -> Iterator[list[str]]:
    """Every subset, in A1111's order: none, the first, the second, both, …"""
    for bits in range(2 ** len(others)):
        yield [part for number, part in enumerate(others) if bits >> number & 1]


def _label(chosen: list[str]) -> str:
    return " + ".join(chosen) or "–"


def _note(chosen: list[str], data: Data) -> None:
    data[_CHOSEN] = chosen


def _join(data: Data, *, grid: GridRequest, first: str, chosen: list[str]) -> None:
    varied = [*data.pop(_CHOSEN), *chosen]
    words = [*varied, first] if grid.matrix_at_start else [first, *varied]
    data[grid.matrix_of] = _JOINED[grid.matrix_join].join(filter(None, words))

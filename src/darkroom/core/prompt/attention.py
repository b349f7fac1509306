r"""Emphasis: `(x)` is 1.1 times as heavy, `[x]` 1.1 times lighter, `(x:1.3)` 1.3 times as heavy.

    attention("a (red:1.3) (fox)")   ->   a · 1, red · 1.3, " " · 1, fox · 1.1

As A1111 reads it. Weights multiply. What is never closed reaches to the end, and a closing bracket
too many is text; round and square brackets know nothing of each other, so `(a [b) c]` is fine. A
backslash takes the meaning from the bracket or backslash behind it and is lost elsewhere. `:w` is a
weight only between `(` and `)` and only as a plain number: `(a:1e2)` is `a:1e2` at 1.1. So is
`(a:1.2.3)`, which A1111 dies of.

A weight is the product of its factors in the order in which their brackets close, because equal
neighbours are merged and the last bit decides what is equal. That order costs depth × length, so it
is kept to `EXACT` brackets deep; below, the factors are multiplied from the outside in, which may
change the last bits.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from math import prod
from operator import itemgetter
from typing import NamedTuple

from darkroom.core.prompt.number import bounded

ROUND, SQUARE = 1.1, 1 / 1.1
EXACT = 10  # brackets deep


class Piece(NamedTuple):
    """Text of one weight."""

    text: str
    weight: float = 1.0

    @property
    def is_break(self) -> bool:
        """Whether this ends a chunk."""
        return isinstance(self, Break)


class Break(Piece):
    """The end of a chunk: for A1111 the word BREAK at -1 times the weight around it.

    A1111 sees its break in a weight of exactly -1, so in `(a BREAK b:1.2)` it reads the word.
    """

    __slots__ = ()


def attention(text: str) -> tuple[Piece, ...]:
    """The pieces of `text` with their weights, at least one.

    Neighbours of equal weight are joined, but never with a break.
    """
    runs = groupby(_weighed(text), key=itemgetter(1, 2))
    joined = (kind("".join([word[0] for word in run]), weight) for (weight, kind), run in runs)
    return tuple(joined) or (Piece(""),)


def merged(pieces: Iterable[tuple[str, float]]) -> tuple[Piece, ...]:
    """`pieces` with all neighbours of equal weight joined, as A1111 joins them: breaks too."""
    runs = groupby(pieces, key=itemgetter(1))
    return tuple(Piece("".join([text for text, _ in run]), weight) for weight, run in runs)


# Brackets, weights and escapes; what lies between them is words.
_MARK = re.compile(r"([()\[\]]|:\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)\s*\)|\\[()\[\]\\]?)")
_OPENING = re.compile(r"[(\[\\]")
_BREAK = re.compile(r"\bBREAK\b")

_Word = tuple[str, float, type[Piece]]


def _weighed(text: str) -> Iterator[_Word]:
    if not _OPENING.search(text):  # what closes nothing is text
        yield from _breaks(text, 1.0)
        return
    parts = _MARK.split(text)  # words and marks in turns
    brackets = _Brackets(len(parts))
    rounds, squares = brackets.rounds, brackets.squares
    words = []  # with the pairs around them; their factors are known at the end
    for place, part in enumerate(parts):
        word = brackets.read(part, place) if place % 2 else part or None
        if word is not None:
            words.append((word, (rounds.open, squares.open)))
    weight, at = 1.0, (0, 0)
    for word, pairs in words:
        if pairs != at:
            weight, at = brackets.weight(*pairs), pairs
        if "BREAK" in word:
            yield from _breaks(word, weight)
        else:
            yield word, weight, Piece


def _breaks(text: str, weight: float) -> Iterator[_Word]:
    """`text` split at the word BREAK, which swallows the white space around it."""
    # A pattern with that white space in it would look at a long run of it again from every place.
    *heads, tail = _BREAK.split(text)
    for place, head in enumerate(heads):
        yield head.strip() if place else head.rstrip(), weight, Piece
        yield "BREAK", -weight, Break
    yield tail.lstrip() if heads else tail, weight, Piece


class _Pairs:
    """The brackets of one kind: of each pair the pair around it, its factor, where it closes.

    Pair 0 is the outside. What is never closed closes at `end`.
    """

    def __init__(self, factor: float, end: int) -> None:
        self._factor, self._end = factor, end
        self.around, self.depth, self.factors, self.closing = [0], [0], [1.0], [end]
        self.open = 0  # the innermost open pair
        self._products = [1.0]  # from the outside in, as far as they were asked for

    def start(self) -> None:
        """Open a pair."""
        self.around.append(self.open)
        self.depth.append(self.depth[self.open] + 1)
        self.factors.append(self._factor)
        self.closing.append(self._end)
        self.open = len(self.around) - 1

    def stop(self, place: int, factor: float) -> None:
        """Close the innermost pair."""
        self.closing[self.open], self.factors[self.open] = place, factor
        self.open = self.around[self.open]

    def chain(self, pair: int) -> list[tuple[int, float]]:
        """(where it closes, factor) of `pair` and all around it, from the inside out."""
        found = []
        while pair:
            found.append((self.closing[pair], self.factors[pair]))
            pair = self.around[pair]
        return found

    def product(self, pair: int) -> float:
        """The factors of `pair` and all around it, multiplied from the outside in."""
        products = self._products
        for each in range(len(products), pair + 1):
            products.append(products[self.around[each]] * self.factors[each])
        return products[pair]


class _Brackets:
    """Round and square pairs; the unclosed close last, and of those the round ones first."""

    def __init__(self, end: int) -> None:
        self.rounds, self.squares = _Pairs(ROUND, end), _Pairs(SQUARE, end + 1)

    def read(self, mark: str, place: int) -> str | None:
        """Open or close what `mark` opens or closes; if nothing, it is text, and comes back."""
        first = mark[0]
        if first == "(":
            self.rounds.start()
        elif first == "[":
            self.squares.start()
        elif first == "]" and self.squares.open:
            self.squares.stop(place, SQUARE)
        elif first == ")" and self.rounds.open:
            self.rounds.stop(place, ROUND)
        elif first == ":" and self.rounds.open:
            self.rounds.stop(place, float(mark[1:-1].strip()))
        else:
            return mark[1:] if first == "\\" else mark
        return None

    def weight(self, inner: int, square: int) -> float:
        """The product of all factors around a word in these pairs; never infinite."""
        if self.rounds.depth[inner] + self.squares.depth[square] > EXACT:
            product = self.rounds.product(inner) * self.squares.product(square)
        else:
            chain = self.rounds.chain(inner)  # is in order already
            if square:
                chain = sorted(chain + self.squares.chain(square))
            product = prod([factor for _, factor in chain], start=1.0)
        return bounded(product)

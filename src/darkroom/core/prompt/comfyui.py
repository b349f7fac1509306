r"""ComfyUI's prompts: `(x)` is 1.1 times as heavy, `(x:1.3)` weighs 1.3.

What differs from A1111: an inner weight replaces the outer one and only the implied 1.1 multiplies;
the number may be any that Python reads; square brackets, BREAK, AND and `<lora:…>` are words; only
round brackets are escaped; a bracket that is never closed is text, and so is all behind it. A
closing bracket too many makes the next opening one text. An embedding is `embedding:name`.

A weight says how far a token goes from what the empty prompt gives at its place, in A1111 how much
its vector is multiplied by: the same words at the same weights, and a picture a little different.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator

from darkroom.core.prompt.attention import ROUND, Piece
from darkroom.core.prompt.number import bounded, finite
from darkroom.core.prompt.render import render

_MARK = re.compile(r"\\[()]|[():]")
_ESCAPED = re.compile(r"\\([()])")
_EMBEDDING = re.compile(r"(?<!\S)embedding:([^\s,]*?)(?:\.(?:pt|bin|safetensors))?(?=[\s,]|\Z)")


def from_comfyui(text: str) -> str:
    """`text`, a prompt for ComfyUI, as a prompt of ours."""
    return render((_EMBEDDING.sub(r"\1", words), w) for words, w in comfyui_pieces(text))


def comfyui_pieces(text: str) -> tuple[Piece, ...]:
    """The pieces that ComfyUI makes of `text`, each tokenized by itself."""
    return tuple(
        Piece(_ESCAPED.sub(r"\1", words), weight) for words, weight in _Groups(text).walk()
    )


class _Groups:
    """The brackets of a text: which close which, and the weights before the closing ones."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._opens: list[int] = []  # all opening brackets that can begin a group
        self._closes: dict[int, int] = {}  # where they close, if they do
        self._colons: dict[int, int] = {}  # of a closing bracket: the colon of its weight
        self._match()

    def _match(self) -> None:
        open_: list[int] = []
        missing = 0  # opening brackets, for the closing ones so far
        colon = -1  # the last one since the last bracket
        for found in _MARK.finditer(self._text):
            mark, place = found[0], found.start()
            if mark == ":":
                colon = place
            elif mark == "(":
                colon = -1
                if missing:
                    missing -= 1
                else:
                    open_.append(place)
                    self._opens.append(place)
            elif mark == ")":
                self._colons[place], colon = colon, -1
                if open_:
                    self._closes[open_.pop()] = place
                else:
                    missing += 1

    def walk(self) -> Iterator[tuple[str, float]]:
        """(words, weight) from left to right."""
        waiting = [(0, len(self._text), 1.0)]  # (start, stop, weight) of what is to come
        while waiting:
            start, stop, weight = waiting.pop()
            place = bisect_left(self._opens, start)
            group = min(self._opens[place], stop) if place < len(self._opens) else stop
            if start < group:
                yield self._text[start:group], weight
            if group == stop:
                continue
            close = self._closes.get(group, stop)
            if close >= stop:  # never closed: text, unless it ends in a bracket of its own
                close = stop - 1
                if close not in self._colons:
                    yield self._text[group:stop], weight
                    continue
            waiting.append((close + 1, stop, weight))
            waiting.append(self._inside(group, close, weight))

    def _inside(self, group: int, close: int, weight: float) -> tuple[int, int, float]:
        """What stands between the brackets at `group` and `close`, and its weight."""
        colon = self._colons[close]
        given = finite(self._text[colon + 1 : close]) if colon > group + 1 else None
        if given is None:
            return group + 1, close, bounded(weight * ROUND)
        return group + 1, colon, given

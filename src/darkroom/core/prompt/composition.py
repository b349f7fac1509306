"""`a cat AND a dog :0.5`: a picture pulled towards several prompts at once, each with a weight.

A1111's rules. Every part may end in a colon and a weight, which may be negative; white space at its
end is lost. That holds for a prompt without any AND too: `aspect 16:9` is `aspect 16` at weight 9.
"""

import re
from typing import NamedTuple

from darkroom.core.prompt.number import finite

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[-+]?(?:\d+\.?|\d*\.\d+)")


class Part(NamedTuple):
    """One prompt of a composition."""

    text: str
    weight: float = 1.0


def parts(text: str) -> tuple[Part, ...]:
    """The prompts that `text` is composed of, at least one."""
    return tuple(_part(part.rstrip()) for part in _AND.split(text))


def _part(text: str) -> Part:
    head, colon, tail = text.rpartition(":")
    number = tail.strip()
    weight = finite(number) if colon and _WEIGHT.fullmatch(number) else None
    return Part(text) if weight is None else Part(head.rstrip(), weight)

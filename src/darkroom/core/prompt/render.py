r"""Pieces back to a prompt: what brackets and words would mean is escaped, so it reads the same.

    render([("f(x) ", 1), ("sky", 1.2)])   ->   f\(x\) (sky:1.2)

A backslash breaks up what has no escape of its own: `AN\D`, `BREA\K`, `<\lora:x>`, `16:\9`. Only
`#`, which opens a comment wherever it stands, becomes `＃`; the tokenizer reads both alike.
"""

import re
from collections.abc import Iterable

from darkroom.core.prompt.attention import merged
from darkroom.core.prompt.number import written

_SPECIAL = re.compile(r"[\\()\[\]]|\b(?:AND|BREAK)\b|<(?=\w+:)|:\s*(?=[-+.\d])|#")


def render(pieces: Iterable[tuple[str, float]]) -> str:
    """The prompt of which `attention` makes `pieces`, but for empty ones."""
    return "".join(
        text if weight == 1 else f"({text}:{written(weight)})"
        for text, weight in ((escaped(text), weight) for text, weight in merged(pieces) if text)
    )


def escaped(text: str) -> str:
    """`text` as a prompt that means the same, letter for letter."""
    return _SPECIAL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    text = found[0]
    if text == "#":
        return "＃"
    place = (
        -1 if text[0] in "\\()[]AB" else len(text)
    )  # the backslash stands before the last letter
    return f"{text[:place]}\\{text[place:]}"

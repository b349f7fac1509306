r"""InvokeAI's prompts: `word++`, `word-`, `(several words)1.3`; every `+` is 1.1, every `-` 0.9.

    ("a fox", "a wolf").and()          each by itself, beside each other: `a fox BREAK a wolf`
    ("a fox", "a wolf").blend(3, 1)    a mixture: `a fox :0.75 AND a wolf :0.25`

InvokeAI mixes what the texts mean, AND mixes the pictures they lead to; it is the nearest that
there is. Nothing is near to `.swap()` and to weights in `.and()`, so they are refused. Weights
multiply; brackets without one only group, square ones are words, and `<name>` is an embedding.
"""

import re
from collections.abc import Callable

from darkroom.core.errors import BadRequest, shorten
from darkroom.core.prompt.number import finite, written
from darkroom.core.prompt.render import escaped

SIGNS = {"+": 1.1, "-": 0.9}
MOST = 99  # signs that count
_AFTER = ",.;:!?"  # may stand behind the signs of a word

_MARK = re.compile(r"(?s)\\.|\(|\)(?:\++|-+|(?:\d+(?:\.\d*)?|\.\d+)(?!\w))?|[^\\()]+|\\")
_WORDS = re.compile(r"(\s+)")
_EMBEDDING = re.compile(r"<([^<>:]+)>")
_CALL = re.compile(r"[\")]\s*\.(and|blend|swap)\(([^()]*)\)")
_QUOTED = re.compile(r'(?s)\s*"((?:[^"\\]++|\\.)*+)"\s*(?:,|\Z)')


def from_invokeai(text: str) -> str:
    """`text`, a prompt for InvokeAI, as a prompt of ours; BadRequest for what has no equivalent."""
    text = text.strip()
    if not (call := _CALL.search(text)):
        return _weighted(text)
    name, arguments = call.groups()
    if name == "swap":
        raise BadRequest(
            "there is no equivalent to InvokeAI's .swap()",
            hint='For ("cat").swap("dog") try [cat:dog:0.3], which changes over after 30 %.',
        )
    texts = _quoted(text[1 : call.start()]) if text[0] == "(" else []
    if not texts or call.end() != len(text):
        raise BadRequest(
            f"InvokeAI's .{name}() can be read only where it is the whole prompt",
            hint=f'Write ("one text", "another").{name}() and nothing around it.',
        )
    return _JOINS[name]([_weighted(each) for each in texts], arguments)


def _quoted(text: str) -> list[str]:
    """The texts in quotes of a list of them; empty if it is no such list."""
    texts, place = [], 0
    while place < len(text):
        if not (found := _QUOTED.match(text, place)):
            return []
        texts.append(found[1].replace('\\"', '"'))
        place = found.end()
    return texts


def _and(texts: list[str], arguments: str) -> str:
    if any(weight != 1 for weight in _weights(arguments)):
        raise BadRequest(
            "there is no equivalent to weights in InvokeAI's .and()",
            hint="Take them out, or give the texts themselves weights: (a fox)1.2",
        )
    return " BREAK ".join(texts)


def _blend(texts: list[str], arguments: str) -> str:
    raw = "no_normalize" in arguments
    weights = _weights(arguments.replace("no_normalize", "")) or [1.0] * len(texts)
    total = 1.0 if raw else sum(weights)
    if len(weights) != len(texts) or not total:
        raise BadRequest(
            f".blend({shorten(arguments)}) does not fit {len(texts)} texts",
            hint="Give one number for each text, not all of them 0.",
        )
    shares = (written(round(weight / total, 9)) for weight in weights)
    return " AND ".join(f"{text} :{share}" for text, share in zip(texts, shares, strict=True))


def _weights(arguments: str) -> list[float]:
    given = [word for word in arguments.replace(",", " ").split() if word]
    weights = [weight for word in given if (weight := finite(word)) is not None]
    if len(weights) < len(given):
        raise BadRequest(
            f"{shorten(arguments)!r} are no weights", hint="Write numbers, such as (0.7, 0.3)."
        )
    return weights


_JOINS: dict[str, Callable[[list[str], str], str]] = {"and": _and, "blend": _blend}


def _weighted(text: str) -> str:
    """`text` without calls; its brackets become ours, or text where they have no partner."""
    parts: list[str] = []
    open_: list[int] = []
    for found in _MARK.finditer(text):
        mark = found[0]
        if mark == "(":
            open_.append(len(parts))
            parts.append("\\(")
        elif mark[0] == ")" and open_:
            weight = _weight(mark[1:])
            parts[open_.pop()] = "(" if weight else ""
            parts.append(f":{weight})" if weight else "")
        elif mark[0] in ")\\":
            parts.append(escaped(mark.removeprefix("\\")))
        else:
            parts += map(_word, _WORDS.split(_EMBEDDING.sub(r"\1", mark)))
    return "".join(parts)


def _word(word: str) -> str:
    """One word with its signs, or white space."""
    body = word.rstrip(_AFTER)
    core = body.rstrip(body[-1]) if body[-1:] in SIGNS else ""
    if weight := core and _weight(body[len(core) :]):
        return f"({escaped(core)}:{weight}){escaped(word[len(body) :])}"
    return escaped(word)


def _weight(mark: str) -> str:
    """What a number or a row of signs weighs, as we write it; empty for nothing."""
    if mark[:1] in SIGNS:
        return written(round(SIGNS[mark[0]] ** min(len(mark), MOST), 9))
    value = finite(mark)
    return "" if value is None else written(value)

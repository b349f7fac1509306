"""Blocks that a request has a list of, each spelled as one word of the command line.

    --detail   face,strength=0.5,prompt="a smiling face"
    --region   0,0,0.5,1: a cat               left, top, width, height as shares of the picture
    --region   mask.png,weight=1.2: a cat     white is where it holds

Values with commas or colons stand in double quotes, where \\" is a quote.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from darkroom.core.blocks import Detail, Region
from darkroom.core.errors import BadRequest, UnknownName, shorten

_NAME = re.compile(r"\s*([A-Za-z_][\w-]*)\s*=\s*")
_QUOTED = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*', re.DOTALL)
_TO_COMMA = re.compile(r"[^,]*")
_TO_COLON = re.compile(r"(?:\s*[A-Za-z]:(?=[\\/]))?[^,:]*")  # but that of a drive of Windows

Fields = dict[str, Any]


def detail(text: str) -> Fields:
    """The fields of a Detail; BadRequest says what is wrong with the spelling."""
    items, _ = _split(text, "--detail", _TO_COMMA)
    bare = [value for name, value in items if not name]
    if len(bare) > 1 or not all(bare):
        raise _wrong("--detail", text, 'Write --detail face,strength=0.5,prompt="a smiling face".')
    found: Fields = {"detector": bare[0]} if bare else {}
    return found | _named(items, Detail, "--detail")


def region(text: str) -> Fields:
    """The fields of a Region; BadRequest says what is wrong with the spelling."""
    hint = 'Write --region "0,0,0.5,1: a cat" (left, top, width, height) or "mask.png: a cat".'
    items, rest = _split(text, "--region", _TO_COLON)
    bare = [value for name, value in items if not name]
    prompt = rest.removeprefix(":").strip()
    if not rest.startswith(":") or not prompt or len(bare) not in (1, 4) or not all(bare):
        raise _wrong("--region", text, hint)
    where: Fields = {"box": bare} if len(bare) == 4 else {"mask": bare[0]}
    return where | {"prompt": prompt} | _named(items, Region, "--region")


# By the field of the request.
SPELLED: Mapping[str, Callable[[str], Fields]] = MappingProxyType(
    {"detail": detail, "regions": region}
)


def _split(text: str, flag: str, plain: re.Pattern[str]) -> tuple[list[tuple[str, str]], str]:
    """The items between commas as (name or "", value), and what follows the last of them."""
    items: list[tuple[str, str]] = []
    place = 0
    while True:
        if name := _NAME.match(text, place):
            place = name.end()
        if quoted := _QUOTED.match(text, place):
            value, place = re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
        elif found := plain.match(text, place):
            value, place = found[0].strip(), found.end()
        items.append((name[1].replace("-", "_") if name else "", value))
        if text[place : place + 1] != ",":
            break
        place += 1
    rest = text[place:]
    if rest and not rest.startswith(":"):
        raise _wrong(flag, text, f"A comma is missing before {shorten(rest, 20)!r}.")
    return items, rest


def _named(items: list[tuple[str, str]], block: type[BaseModel], flag: str) -> Fields:
    return dict(_checked(items, block, flag))


def _checked(
    items: list[tuple[str, str]], block: type[BaseModel], flag: str
) -> Iterator[tuple[str, str]]:
    """The items that have a name, each of which is a field of the block and comes once."""
    seen: set[str] = set()
    for name, value in items:
        if not name:
            continue
        if name not in block.model_fields:
            raise UnknownName(f"field of {flag}", name, block.model_fields)
        if name in seen:
            raise BadRequest(f"{flag} says {name} twice")
        seen.add(name)
        yield name, value


def _wrong(flag: str, text: str, hint: str) -> BadRequest:
    return BadRequest(f"{flag} {shorten(text)!r} cannot be read", hint=hint)

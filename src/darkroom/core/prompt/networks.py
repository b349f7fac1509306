"""`<lora:name:0.8>` and its like: which extra networks to load, and how strong."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar

from darkroom.core.errors import BadRequest, shorten

_TAG = re.compile(r"<(\w+):([^>]+)>")
_NAME = re.compile(r"<(\w+):([^:>]+)")
_STRAY = re.compile(r"<\s*(?:lora|lyco|hypernet)\s*:[^\s<>]{0,40}>?")
_THEIRS = re.compile(r"(?<!\w)embedding:([^\s,()<>:]{1,60})")
_SYNTAX = re.compile(r"[()\[\]\\]")

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Network:
    """`<kind:item:item…>`; an item with one `=` is named, the others count by position."""

    kind: str
    items: tuple[str, ...]

    @property
    def name(self) -> str:
        """What to load; empty if all items are named."""
        return next(iter(self.positional), "")

    @property
    def positional(self) -> tuple[str, ...]:
        """The items without a name, the network's own first."""
        return tuple(item for item in self.items if item.count("=") != 1)

    @property
    def named(self) -> dict[str, str]:
        """The items with one; the last of a name counts."""
        return dict(item.split("=") for item in self.items if item.count("=") == 1)

    def __str__(self) -> str:
        return f"<{':'.join((self.kind, *self.items))}>"


def networks(text: str) -> tuple[str, tuple[Network, ...]]:
    """`text` without its tags, and the networks they name, in order."""
    end = text.rfind(">") + 1  # behind it, `[^>]+` would run to the end from every "<"
    found = _TAG.findall(text, 0, end)
    if not found:
        return text, ()
    named = tuple(Network(kind, tuple(items.split(":"))) for kind, items in found)
    return _TAG.sub("", text[:end]) + text[end:], named


# ---- what a tag asks for -------------------------------------------------------------------------

Role = Literal["lora", "hypernetwork"]
ROLES: Mapping[str, Role] = MappingProxyType(
    {"lora": "lora", "lyco": "lora", "hypernet": "hypernetwork"}
)
"""What the kinds of tags name; a lyco is a LoRA by the name of an old extension."""

STRONGEST = 1000
_PLACES: Mapping[Role, int] = MappingProxyType({"lora": 4, "hypernetwork": 2})  # the name's too
_KNOWN: Mapping[Role, frozenset[str]] = MappingProxyType(
    {
        "lora": frozenset({"te", "unet", "dyn", "start", "end"}),
        "hypernetwork": frozenset({"strength"}),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One network that a prompt asks for, and how strongly."""

    role: Role
    name: str
    text: float = 1.0
    unet: float = 1.0
    rank: int | None = None
    window: tuple[float, float] = (0.0, 1.0)  # shares of the run that the UNet's part is on in

    @property
    def idle(self) -> bool:
        """Whether it would change nothing."""
        return self.empty or not (self.text or self.unet)

    @property
    def empty(self) -> bool:
        """Whether its window has no length."""
        return self.window[0] >= self.window[1]


def wishes(tags: tuple[Network, ...], *, idle: bool = False) -> tuple[tuple[Wish, ...], list[str]]:
    """What the tags of a prompt ask for, in its order, and notes on what has no effect.

    `<lora:name:te:unet:dyn>`, each also by name, and `start=`, `end=`; `<hypernet:name:strength>`.
    What is left out is 1, and `unet` is `te`. A network named twice counts twice, and one of
    strength 0, or with a window of no length, not at all: only with `idle` is it given too.
    BadRequest when a number is none.
    """
    found: list[Wish] = []
    notes: list[str] = []
    for tag in tags:
        if (role := ROLES.get(tag.kind)) is None:
            notes.append(f"{_shown(tag)} has no effect: there is no such kind of network")
            continue
        wish = _wish(tag, role)
        notes += _without_effect(tag, wish)
        if idle or not wish.idle:
            found.append(wish)
    return tuple(found), notes


def _without_effect(tag: Network, wish: Wish) -> Iterator[str]:
    ignored = sorted(tag.named.keys() - _KNOWN[wish.role])
    ignored += filter(str.strip, tag.positional[_PLACES[wish.role] :])
    if ignored:
        yield f"{', '.join(map(shorten, ignored))} in {_shown(tag)} has no effect"
    if not tag.items[-1].strip():
        yield f"nothing follows the last colon of {_shown(tag)}: it is read without that colon"
    if wish.empty:
        yield f"{_shown(tag)} has no effect: it ends where it starts"


def unread(text: str) -> list[str]:
    """Notes on what `text` has, now without its tags, that looks like one and is read as words."""
    stray = _STRAY.search(text)
    theirs = dict.fromkeys(shorten(name) for name in _THEIRS.findall(text))
    notes = [f"`{stray[0]}` is read as words: a tag is written <lora:name:0.8>"] if stray else []
    return notes + [
        f"`embedding:` before {name!r} is read as a word, as in A1111: the name alone is enough"
        for name in theirs
    ]


def _wish(tag: Network, role: Role) -> Wish:
    if not tag.name.strip():
        raise BadRequest(f"{_shown(tag)} names no file", hint=_FORM)
    if role == "hypernetwork":
        strength = _item(tag, 1, "strength", kind=float, default=1.0)
        return Wish(role=role, name=tag.name.strip(), text=0.0, unet=strength)
    text = _item(tag, 1, "te", kind=float, default=1.0)
    start = _item(tag, None, "start", kind=float, default=0.0)
    end = _item(tag, None, "end", kind=float, default=1.0)
    if not (0 <= start <= 1 and 0 <= end <= 1):
        raise BadRequest(
            f"start and end in {_shown(tag)} must lie between 0 and 1",
            hint="They are shares of the steps: start=0.2:end=0.8.",
        )
    if start > end:
        raise BadRequest(
            f"{_shown(tag)} would end before it starts",
            hint="They are shares of the steps: start=0.2:end=0.8.",
        )
    rank = _item(tag, 3, "dyn", kind=int, default=0)
    if rank < 0:
        raise BadRequest(
            f"dyn in {_shown(tag)} is below 0", hint="It is a number of ranks: dyn=16."
        )
    return Wish(
        role=role,
        name=tag.name.strip(),
        text=text,
        unet=_item(tag, 2, "unet", kind=float, default=text),
        rank=rank if rank > 0 else None,
        window=(start, end),
    )


def _item(
    tag: Network, place: int | None, name: str, *, kind: Callable[[str], Number], default: Number
) -> Number:
    """The number by name or else at its place; what is empty or absent is `default`."""
    placed = tag.positional[place] if place and place < len(tag.positional) else ""
    text = tag.named.get(name, placed).strip()
    try:
        value = kind(text) if text else default
        if abs(value) <= STRONGEST:
            return value
    except ValueError:
        pass
    told = f"{shorten(text)!r} in {_shown(tag)} is no number from -{STRONGEST} to {STRONGEST}"
    raise BadRequest(told, hint=_FORM)


_FORM = "Write <lora:name:0.8>."


def _shown(tag: Network) -> str:
    return shorten(str(tag), 80)


def renamed(text: str, names: Mapping[tuple[Role, str], str]) -> str:
    """`text` with other names in its tags, where `names` has one."""

    def rename(found: re.Match[str]) -> str:
        role = ROLES.get(found[1])
        name = names.get((role, found[2].strip())) if role else None
        return found[0] if name is None else f"<{found[1]}:{name}"

    end = text.rfind(">") + 1
    return _NAME.sub(rename, text[:end]) + text[end:]


def reworded(text: str, word: str, other: str) -> str:
    """`text` with the word `other` for `word`, in whatever case; its tags stay as they are."""
    sought = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    escaped = _SYNTAX.sub(r"\\\g<0>", other)
    made, place = [], 0
    for tag in _TAG.finditer(text, 0, text.rfind(">") + 1):
        made += [sought.sub(lambda _: escaped, text[place : tag.start()]), tag[0]]
        place = tag.end()
    return "".join((*made, sought.sub(lambda _: escaped, text[place:])))

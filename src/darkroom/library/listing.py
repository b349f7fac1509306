"""Lists of the models that are there: named, filtered, in order, a page at a time.

Within a kind no two models have one name; a LoRA and a checkpoint may. What could not be read might
have been a checkpoint, so it is named among those.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from darkroom.core.errors import UnknownName
from darkroom.core.model import Arch, Kind
from darkroom.library.facts import EITHER, Found
from darkroom.library.index import Brief
from darkroom.library.survey import Item, Survey

STARTER = "starter"  # no other checkpoint is called so
UNREAD = Brief(Kind.UNKNOWN, "", True)
FAMILIES = {  # what they are called, without spaces and dots
    Arch.SD1: r"sd1[1-5x]?|1[1-5]",
    Arch.SD2: r"sd2[01x]?|2[01]",
    Arch.SDXL: r"(sd)?xl(10?)?|pony|illustrious|noobai",
    Arch.SDXL_REFINER: r"((sd)?xl)?(10)?refiner",
    Arch.SD3: r"sd3[05]?",
    Arch.FLUX: r"flux1?",
    Arch.SVD: r"svd(xt)?|stablevideodiffusion",
    Arch.OTHER: r"other",
}
_PLACES = {kind: place for place, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which models a listing shows; what is empty leaves nothing out."""

    kind: Kind | None = None
    arch: str = ""  # as `family_of` gives it
    words: tuple[str, ...] = ()  # all of them are said about the model
    problems: bool = False  # only those with any

    @property
    def partial(self) -> bool:
        """Whether what is no model at all is left out."""
        return bool(self.kind or self.arch or self.words)

    def takes(self, brief: Brief) -> bool:
        """Whether a model with this brief is shown, as far as the brief tells."""
        return (
            self.kind in (None, brief.kind)
            and (not self.arch or self.arch in brief.arch.split(EITHER))
            and (brief.troubled or not self.problems)
        )


EVERYTHING = Wanted()


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, and the number of models in all of it."""

    total: int
    items: tuple[Found, ...]
    missed: tuple[Found, ...] = ()  # folders that cannot be looked into, whether listed or not


class Entry(NamedTuple):
    """A model and its name."""

    name: str
    item: Item
    brief: Brief


def family_of(word: str) -> str:
    """The family that a word means, in whatever way it is written: "sd 1.5", "XL"."""
    plain = "".join(filter(str.isalnum, word.casefold()))
    plain = plain.replace("stablediffusion", "sd").replace("sdv", "sd").replace("xlv", "xl")
    for arch, pattern in FAMILIES.items():
        if re.fullmatch(pattern, plain):
            return arch.value
    known = [arch.value for arch in FAMILIES]
    raise UnknownName("family", word, known, hint=f"Families: {', '.join(known)}.")


def entries(survey: Survey, briefs: dict[str, Brief]) -> list[Entry]:
    """Every model that is there, named."""
    found: list[Entry] = []
    for items in survey.items.values():
        ranked = sorted(items, key=lambda item: item.rank) if len(items) > 1 else items
        found += named(ranked, lambda item: briefs.get(item.path, UNREAD))
    return found


def named(items: Iterable[Item], brief_of: Callable[[Item], Brief]) -> Iterator[Entry]:
    """Give `items`, all those of one key, their names; the first has the first claim."""
    taken: dict[Kind, set[str]] = {Kind.CHECKPOINT: {STARTER}}
    for item in items:
        brief = brief_of(item)
        names = taken.setdefault(naming(brief.kind), set())
        name = next(name for name in item.names() if name not in names)
        names.add(name)
        yield Entry(name, item, brief)


def naming(kind: Kind) -> Kind:
    """The kind among whose names a model's name must be the only one."""
    return Kind.CHECKPOINT if kind is Kind.UNKNOWN else kind


def ordered(found: Iterable[Entry], words: tuple[str, ...]) -> list[Entry]:
    """By kind and name, the starter first; of a search, those with the words in their names."""
    terms = [word.casefold() for word in words]

    def place(entry: Entry) -> tuple[bool, int, bool, str]:
        name = entry.name.casefold()
        hit = all(term in name for term in terms)
        return not hit, _PLACES[entry.brief.kind], entry.name != STARTER, name

    return sorted(found, key=place)

"""What differs between two pictures: how they were made, and their pixels.

    recipe_changes(find(first), find(second))   # [Change("seed", 1, 2)]
    pixel_change(first, second)                 # None where they are of different sizes
    heat_map(first, second)                     # where, and how much

Any program's files can be compared: settings are those of our request that the file's own mean.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from darkroom.core.fields import STORED
from darkroom.core.series import KINDS
from darkroom.media.metadata import Found, FoundModel

STRIPE = 256  # rows that are looked at together: bounds memory
MOST_WORDS = 3000  # of a prompt that are compared one by one; finding out takes their square
DIGITS = 10  # of a hash that are shown
NOTHING = "-"
_WORDS = re.compile(r"\s*(?:[^\s,]+|,)")
_ELSEWHERE = ("kind", "count", "model")  # not about one picture, or told with its hash

Box = tuple[int, int, int, int]  # px: left, top, right, bottom
Bytes = NDArray[np.uint8]


# ---- how they were made --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not the same."""

    name: str  # of a field, with those of blocks as "hires.scale"; "checkpoint", "version of torch"
    before: Any
    after: Any

    def shown(self) -> str:
        """In words: of two texts every word that went or came, of all else the two values."""
        texts = isinstance(self.before, str) and isinstance(self.after, str)
        if texts and "prompt" in self.name:
            return "".join(_marked(*piece) for piece in words(self.before, self.after))
        if isinstance(self.before, dict) or isinstance(self.after, dict):  # a block of one of them
            return f"{_block_told(self.before)} → {_block_told(self.after)}"
        return f"{_told(self.before)} → {_told(self.after)}"


_MARKS = {"both": ("", ""), "before": ("[-", "-]"), "after": ("{+", "+}")}


def _marked(how: str, words: str) -> str:
    bare = words.lstrip()
    start, end = _MARKS[how]
    return f"{words[: len(words) - len(bare)]}{start}{bare}{end}"


def recipe_changes(before: Found | None, after: Found | None) -> list[Change]:
    """What differs in settings, models and versions; nothing where one of them says nothing."""
    if before is None or after is None:
        return []
    pairs = [*_fields(before, after), *_models(before, after), *_surroundings(before, after)]
    return [Change(name, *pair) for name, pair in pairs if pair[0] != pair[1]]


Pairs = Iterator[tuple[str, tuple[Any, Any]]]


def _fields(before: Found, after: Found) -> Pairs:
    """The settings of our request, what is not said being as usual."""
    if before.kind != after.kind:
        yield "made by", (_MADE[before.kind], _MADE[after.kind])
        return
    yield from _compared(_settings(before), _settings(after), KINDS[before.kind])


_MADE = {"image": "sampling", "upscale": "upscaling", "cutout": "cutting out"}


def _settings(found: Found) -> dict[str, Any]:
    """The fields of the request that made a picture, as far as they are about it alone."""
    return {name: value for name, value in found.fields().items() if name not in _ELSEWHERE}


def _compared(
    one: Mapping[str, Any], other: Mapping[str, Any], model: type[BaseModel], *, place: str = ""
) -> Pairs:
    """The fields of a request or of one of its blocks, by their names with the block's in front.

    A block that only one of them has is told whole, by what in it is not as usual.
    """
    for name in dict.fromkeys((*one, *other)):
        field = model.model_fields.get(name)
        usual = None if field is None or field.is_required() else field.get_default()
        block = None if field is None else _block(field)
        mine, theirs = one.get(name, usual), other.get(name, usual)
        if block is None or field is None:
            yield f"{place}{name}", (mine, theirs)
        elif isinstance(usual, tuple):
            pairs = zip_longest(mine or (), theirs or ())
            for number, (first, second) in enumerate(pairs, 1):
                yield from _blocks(first, second, block, name=f"{place}{name}.{number}")
        else:
            yield from _blocks(mine, theirs, block, name=f"{place}{name}")


def _blocks(one: Any, other: Any, block: type[BaseModel], *, name: str) -> Pairs:
    if one is not None and other is not None:
        yield from _compared(one, other, block, place=f"{name}.")
    else:
        yield name, (_unusual(one, block), _unusual(other, block))


def _unusual(fields: Mapping[str, Any] | None, block: type[BaseModel]) -> dict[str, Any] | None:
    if fields is None:
        return None
    known = block.model_fields
    return {n: v for n, v in fields.items() if n not in known or v != known[n].get_default()}


def _block(field: FieldInfo) -> type[BaseModel] | None:
    """The block that a field holds, or holds a list of."""
    parts = (field.annotation, *get_args(field.annotation))
    return next((p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)), None)


def _models(before: Found, after: Found) -> Pairs:
    """Files of a role by their names where there may be several, else the one there is."""
    both = [models(each) for each in (before, after)]
    for role in dict.fromkeys((*both[0], *both[1])):
        one, other = (each.get(role, {}) for each in both)
        if max(len(one), len(other)) <= 1:
            names = [(next(iter(one), ""), next(iter(other), ""))]
        else:
            names = [(name, name) for name in dict.fromkeys((*one, *other))]
        for mine, theirs in names:
            first, second = one.get(mine), other.get(theirs)
            if not _same(first, second):
                yield role, (_file(first), _file(second))


def models(found: Found) -> dict[str, dict[str, FoundModel]]:
    """The files that took part, by role and name."""
    told = found.models
    if found.recipe is not None:
        used = found.recipe.models
        told = tuple(FoundModel(role=each.role, name=each.name, hash=each.sha256) for each in used)
    by_role: dict[str, dict[str, FoundModel]] = {}
    for each in told:
        by_role.setdefault(each.role, {})[each.name] = each
    return by_role


def _same(one: FoundModel | None, other: FoundModel | None) -> bool:
    """By the hashes, of which one may be a part of the other; by the names where one lacks it."""
    if one is None or other is None:
        return one is other
    if one.hash and other.hash:
        same = one.hash.startswith(other.hash) or other.hash.startswith(one.hash)
    else:
        same = one.name.casefold() == other.name.casefold()
    return same and one.weight == other.weight


def _file(model: FoundModel | None) -> str | None:
    if model is None:
        return None
    more = [(model.hash or "")[:DIGITS], "" if model.weight is None else f"weight {model.weight:g}"]
    told = ", ".join(filter(None, more))
    return f"{model.name} ({told})" if told else model.name


def _surroundings(before: Found, after: Found) -> Pairs:
    """Program, device, memory plan and versions; the latter three of our own files alone."""
    yield "program", (before.source, after.source)
    one, other = before.recipe, after.recipe
    if one is None or other is None:
        return
    yield "device", (one.device, other.device)
    for kind, mine, theirs in (
        ("plan: {}", one.plan, other.plan),
        ("version of {}", one.versions, other.versions),
    ):
        for name in dict.fromkeys((*mine, *theirs)):
            yield kind.format(name.replace("_", " ")), (mine.get(name), theirs.get(name))


def words(before: str, after: str) -> list[tuple[str, str]]:
    """Pieces of two texts in order: ("both" | "before" | "after", words).

    The pieces of "both" and "before" together are the first text, but for white space.
    """
    one, other = _WORDS.findall(before), _WORDS.findall(after)
    start = _shared(one, other)
    end = _shared(one[start:][::-1], other[start:][::-1])
    pieces = [("both", one[:start])]
    middle = one[start : len(one) - end], other[start : len(other) - end]
    pieces += _between(*middle)
    pieces.append(("both", one[len(one) - end :]))
    return [(how, "".join(part)) for how, part in pieces if part]


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    least = min(len(one), len(other))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), least)


def _between(one: list[str], other: list[str]) -> Iterator[tuple[str, list[str]]]:
    if max(len(one), len(other)) > MOST_WORDS:
        yield "before", one
        yield "after", other
        return
    for how, i, j, k, m in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if how == "equal":
            yield "both", one[i:j]
        else:
            yield "before", one[i:j]
            yield "after", other[k:m]


def _told(value: Any) -> str:
    """A value in words; of a picture that is named by its content, the start of that."""
    if isinstance(value, str) and value.startswith(STORED):
        return value.removeprefix(STORED)[:DIGITS]
    return NOTHING if value in (None, "", (), []) else str(value)


def _block_told(block: dict[str, Any] | None) -> str:
    if block is None:
        return "none"
    told = (f"{name.replace('_', ' ')} {_told(value)}" for name, value in block.items())
    return ", ".join(told) or "as usual"


# ---- pixels --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelChange:
    """How far two pictures of one size are apart, in steps of 8 bits."""

    largest: int  # in any channel of any pixel
    mean: float  # absolute, over all channels
    psnr: float | None  # dB; None where they are equal
    changed: float  # share of the pixels, from 0 to 1
    box: Box | None  # the least one around every changed pixel

    @property
    def equal(self) -> bool:
        """Whether not one pixel differs."""
        return self.box is None


def pixel_change(before: Image.Image, after: Image.Image) -> PixelChange | None:
    """The difference of two RGB pictures; None where they are of different sizes."""
    if before.size != after.size:
        return None
    width, height = before.size
    largest = total = changed = 0
    squares, across, down = 0, np.zeros(width, bool), np.zeros(height, bool)
    for top, apart in _stripes(before, after):
        largest = max(largest, int(apart.max()))
        total += int(apart.sum(dtype=np.int64))
        squares += int((apart.astype(np.int64) ** 2).sum())
        moved: NDArray[np.bool_] = np.any(apart, axis=-1)
        changed += int(moved.sum())
        across |= moved.any(0)
        down[top : top + len(apart)] = moved.any(1)
    values = 3 * width * height
    return PixelChange(
        largest=largest,
        mean=total / values,
        psnr=10 * math.log10(255**2 * values / squares) if squares else None,
        changed=changed / (width * height),
        box=_box(across, down) if changed else None,
    )


def _stripes(before: Image.Image, after: Image.Image) -> Iterator[tuple[int, Bytes]]:
    """How far the pixels are apart, (rows, W, 3), stripe by stripe from the top."""
    width, height = before.size
    for top in range(0, height, STRIPE):
        area = (0, top, width, min(top + STRIPE, height))
        one, other = (
            np.asarray(each.crop(area).convert("RGB"), np.int16) for each in (before, after)
        )
        yield top, np.abs(one - other).astype(np.uint8)


def _box(across: NDArray[np.bool_], down: NDArray[np.bool_]) -> Box:
    columns, rows = np.flatnonzero(across), np.flatnonzero(down)
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# Colours by how much a pixel differs, from hardly to fully.
_HEAT = np.array([(60, 20, 90), (200, 30, 60), (255, 140, 20), (255, 245, 160)], np.float32)
_DIM = 0.3  # of the picture's brightness where nothing changed


def heat_map(before: Image.Image, after: Image.Image) -> Image.Image:
    """Where two pictures of one size differ, over the dimmed first: violet hardly, white most.

    The scale is that of the square root, so that small differences are seen.
    """
    map_ = Image.new("RGB", before.size)
    grey = before.convert("L")
    for top, apart in _stripes(before, after):
        largest = apart.max(-1)
        dim = np.asarray(grey.crop((0, top, before.width, top + len(apart))), np.float32) * _DIM
        place = np.sqrt(largest / 255.0) * (len(_HEAT) - 1)
        colour = np.stack(
            [np.interp(place, range(len(_HEAT)), _HEAT[:, channel]) for channel in range(3)], -1
        )
        pixels = np.where(largest[..., None] > 0, colour, dim[..., None])
        map_.paste(Image.fromarray(pixels.astype(np.uint8)), (0, top))
    return map_

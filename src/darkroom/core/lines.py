"""A list of prompts, one a line, as A1111's "prompts from file" reads them.

    a red apple
    --prompt "a red apple" --negative_prompt "leaves" --steps 30 --cfg_scale 5 --seed 7

A line that begins with two dashes is made of settings: those of A1111's script, and every field of
our request by its name, as `--hires.strength 0.5`.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from darkroom.core.axes import field_names
from darkroom.core.errors import BadRequest, UnknownName, shorten

# A1111's tags that are called otherwise here.
_RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "sd_model": "model",
        "subseed": "variation_seed",
        "subseed_strength": "variation_strength",
        "seed_resize_from_w": "seed_resize_width",
        "seed_resize_from_h": "seed_resize_height",
        "sampler_name": "sampler",
        "batch_size": "count",
        "n_iter": "count",
    }
)
_TEXTS = ("prompt", "negative_prompt")  # which go on until the next tag, quoted or not
_WITHOUT_EFFECT: Mapping[str, str] = MappingProxyType(
    {
        "outpath_samples": "results go where -o says",
        "outpath_grids": "results go where -o says",
        "do_not_save_samples": "every picture is saved",
        "do_not_save_grid": "a batch makes no grid",
        "prompt_for_display": "it changes no picture",
    }
)
_NO = ("false", "0", "no")


@dataclass(frozen=True, slots=True)
class Line:
    """What one line asks for, by the fields of a request, dotted where they are nested."""

    fields: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())


def read_line(text: str) -> Line:
    """The fields of a line; BadRequest says what in it cannot be read."""
    text = text.strip()
    if not text.startswith("--"):
        return Line({"prompt": text})
    found: dict[str, Any] = {}
    notes: list[str] = []
    for tag, value in _tags(text):
        if tag in _WITHOUT_EFFECT:
            notes.append(f"--{tag} has no effect: {_WITHOUT_EFFECT[tag]}")
            continue
        name = _RENAMED.get(tag, tag)
        read = _READERS.get(name)
        values = {name: value} if read is None else read(value)
        if name == "count":
            values = {"count": _count(tag, value) * int(found.get("count", 1))}
        found |= values
    return Line(found, tuple(notes))


def _tags(text: str) -> list[tuple[str, str]]:
    """The tags of a line with their values, in order."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise BadRequest(
            f"{shorten(text)!r} cannot be read: a quote is not closed",
            hint="Close it, or double it.",
        ) from None
    known = {*field_names(), *_RENAMED, *_WITHOUT_EFFECT, "restore_faces", "sampler_index"}
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--") and (not found or _complete(*found[-1])):
            tag = word[2:].replace("-", "_")
            if tag not in known:
                raise UnknownName("setting", word, [f"--{name}" for name in sorted(known)])
            found.append((tag, []))
        elif found and (found[-1][0] in _TEXTS or not found[-1][1]):
            found[-1][1].append(word)
        else:
            told = f"{shorten(word)!r} belongs to no setting"
            raise BadRequest(told, hint="Write --prompt in front of it, or quotes around it.")
    missing = next((tag for tag, words in found if not words), None)
    if missing is not None:
        raise BadRequest(f"--{missing} has no value")
    return [(tag, " ".join(words)) for tag, words in found]


def _complete(tag: str, words: list[str]) -> bool:
    return bool(words) or tag in _TEXTS


def _count(tag: str, value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value[:9]) <= 10_000:
        raise BadRequest(f"--{tag} must be a number from 1 to 10,000, not {shorten(value)!r}")
    return int(value)


def _styles(value: str) -> dict[str, Any]:
    return {"styles": [style.strip() for style in value.strip("[]").split(",") if style.strip()]}


def _tiling(value: str) -> dict[str, Any]:
    known = {"true": "both", "1": "both", "yes": "both", **dict.fromkeys(_NO, "none")}
    return {"tiling": known.get(value.casefold(), value)}


def _restored(value: str) -> dict[str, Any]:
    if value.casefold() in _NO:
        return {}
    raise BadRequest("--restore_faces names no model", hint="Write --restore.model NAME.")


def _numbered(value: str) -> dict[str, Any]:
    raise BadRequest(
        f"--sampler_index {shorten(value)} names a sampler by its place in A1111's list",
        hint="Write --sampler_name and its name.",
    )


def _side(name: str, value: str) -> dict[str, Any]:
    return {} if value.startswith("-") or value == "0" else {name: value}


_READERS: Mapping[str, Callable[[str], dict[str, Any]]] = MappingProxyType(
    {
        "styles": _styles,
        "tiling": _tiling,
        "restore_faces": _restored,
        "sampler_index": _numbered,
        "seed_resize_width": lambda value: _side("seed_resize_width", value),
        "seed_resize_height": lambda value: _side("seed_resize_height", value),
    }
)

"""A1111's infotext, written as A1111 writes it and read as well as can be.

    <prompt>
    Negative prompt: <negative prompt>
    Steps: 20, Sampler: Euler a, …, Version: v1.10.1

The second line is absent when empty. A value with a comma, colon or line break is a JSON string.
A1111 takes the last line for the parameters when it holds three pairs or more, and loses them when
they are wrapped, stand one per line, follow the prompt on its line, or have other lines behind
them; all of these are read here. What a well-formed text says is the same as for A1111.

Reading takes time in proportion to the length of the text, whatever it holds.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from darkroom.core.fields import STORED
from darkroom.core.places import is_stored
from darkroom.core.recipe import Recipe
from darkroom.core.request import ResolvedRequest
from darkroom.media.metadata import detailer, finished
from darkroom.media.metadata.infotext_table import EXACT, INFORMATION, MORE_KEYS, ROWS
from darkroom.media.metadata.request_table import USUAL, is_list

NEGATIVE = "Negative prompt:"
VERSION = "Darkroom"
_LEAST = 3  # pairs that make a line one of parameters
_MAX_KEY = 200  # characters
_MAX_BROKEN = 50  # quotes and brackets without an end; behind these, they are plain text
_MAX_STARTS = 20  # lines that may be the first of the parameters, tried from the last one back
_MAX_LINES = 200  # of parameters, where each stands on a line of its own
_MAX_VALUE = 10_000  # characters of the value of one of them
_MAX_LEFT = 100  # keys in front of the one that tells where parameters stand on a line of words
_MAX_ITEMS = 5000  # between commas; the rest is passed over

_KNOWN = frozenset(
    {name for row in ROWS for name in (row.key, *row.aliases)} | INFORMATION | MORE_KEYS
)
_STEPS = re.compile(r"\s*Steps:\s*\d+\s*(?:,|$)")
_INLINE = re.compile(
    r"\bSteps:\s?\d+\s?(?:,\s?"
    r"(?:Sampler|Schedule type|Scheduler|CFG scale|Seed|Size|VAE|Model|Styles)\b|$)"
)
_KNOWN_KEY = re.compile(rf"\b(?:{'|'.join(sorted(_KNOWN, key=len, reverse=True))}):\s?")
_TEMPLATE = re.compile(r"\s*(Template|Negative Template|Used embeddings|Time taken):\s*(.*)")
_LINE = re.compile(r"\s*(\w[\w \-/]{1,80}):\s*(.*)")
_NO_KEY = re.compile(r"[^\w \-/]")
_STRING = re.compile(r'"(?:\\.|[^\\"])*"', re.DOTALL)
_LOOSE = re.compile(r'"?([^"\n]{1,300}: [0-9a-fA-F]{6,64})"?')
_PLAIN = re.compile(r'[^,:\n\r\t"][^,:\n\r\t]*')


@dataclass(frozen=True, slots=True, kw_only=True)
class Infotext:
    """What an infotext says; values are text, as written but for the quotes of JSON."""

    prompt: str = ""
    negative_prompt: str = ""
    settings: Mapping[str, str]
    hashes: tuple[str, ...] = ()  # "name: hash", which Civitai leaves without their key


def write(recipe: Recipe) -> str:
    """The infotext of `recipe`; of a finished picture behind what it said before."""
    if isinstance(recipe.request, ResolvedRequest):
        return _drawn(recipe, recipe.request)
    line = line_of(dict(finished.pairs(recipe.request)))
    if not recipe.source:
        return f"{line}, Version: {_version(recipe)}"
    return f"{recipe.source}{', ' if read(recipe.source).settings else chr(10)}{line}"


def _drawn(recipe: Recipe, request: ResolvedRequest) -> str:
    """The infotext of a picture that was made from a prompt."""
    pairs = dict(_written(_flat(request) | _of_picture(recipe)))
    version = pairs.pop("Version")
    pairs |= dict(detailer.write(request.detail)) | {"Version": version}
    text = compose(request.prompt, request.negative_prompt, pairs)
    naive = read(text)
    exact = {
        key: getattr(request, name)
        for key, name in EXACT.items()
        if getattr(naive, name) != getattr(request, name)
    }
    if not exact:
        return text
    # Last of all, and as JSON even when empty: so they are read whatever else went wrong.
    tail = ", ".join(f"{key}: {json.dumps(value)}" for key, value in exact.items())
    return f"{text}, {tail}"


def _flat(request: ResolvedRequest) -> dict[str, Any]:
    """The fields by the names of rows, those of its blocks as "hires.scale".

    Left out are those that say nothing beside the others: A1111 does not write them.
    """
    values: dict[str, Any] = {}
    for name, value in request:
        if isinstance(value, BaseModel):
            values |= {f"{name}.{key}": each for key, each in value}
        elif not is_list(name):
            values[name] = value
    init, mask, hires = request.init, request.mask, request.hires
    both = [each.strength for each in (init, hires) if each is not None]
    if both:  # of a picture and a second run, A1111 has only one at a time
        values["denoising_strength"] = both[0]
    if init is None and hires is not None:
        del values["hires.strength"]
    if hires is not None and (hires.width or hires.height):
        del values["hires.scale"]
    if mask is not None and mask.area == "whole":
        del values["mask.padding"]
    if mask is not None and mask.softness != "soft":
        values = {name: each for name, each in values.items() if not name.startswith("mask.soft")}
    if init is not None and is_stored(init.image):
        values["init_hash"] = init.image.removeprefix(STORED)
    return values


def _of_picture(recipe: Recipe) -> dict[str, Any]:
    """What rows of the table are about and the request does not say, or says of all pictures."""
    embeddings = (f"{used.name}: {used.sha256[:12]}" for used in recipe.used("embedding"))
    loras = (f"{used.name}: {used.autov3 or used.sha256[:12]}" for used in recipe.used("lora"))
    values: dict[str, Any] = {
        "seed": recipe.seed,
        "variation_seed": recipe.variation_seed,
        "lora_hashes": ", ".join(loras) or None,
        "embedding_hashes": ", ".join(embeddings) or None,
        "version": _version(recipe),
    }
    for role in ("refiner", "hires"):
        for used in recipe.used(role)[:1]:
            values[f"{role}.model"] = f"{used.name} [{used.sha256[:10]}]"
    for used in recipe.used("checkpoint")[:1]:
        values |= {"model_hash": used.sha256[:10], "model_name": used.name}
    for used in recipe.used("vae")[:1]:
        values |= {"vae_hash": used.sha256[:10], "vae_name": used.name}
    if recipe.template is not None:
        values["template"] = recipe.template.prompt or None
        values["negative_template"] = recipe.template.negative_prompt or None
    return values


def _version(recipe: Recipe) -> str:
    return f"{VERSION} {recipe.versions.get('darkroom', '')}".strip()


def compose(prompt: str, negative_prompt: str, pairs: Mapping[str, str]) -> str:
    """Prompts and pairs in A1111's form."""
    negative = f"\n{NEGATIVE} {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{line_of(pairs)}".strip()


def line_of(pairs: Mapping[str, str]) -> str:
    """Pairs as they stand in the last line."""
    return ", ".join(
        key if key == value else f"{key}: {quote(value)}" for key, value in pairs.items()
    )


def quote(value: str) -> str:
    """`value` as it stands in a line of pairs; a JSON string where it would not survive there."""
    plain = _PLAIN.fullmatch(value) is not None and value == value.strip() and value[0] not in "{["
    return value if plain else json.dumps(value, ensure_ascii=False)


def _written(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and text of every row that has something to say."""
    for row in ROWS:
        if any("." in name and name not in values for name in row.fields):
            continue  # of a block that is not there
        parts = [values.get(name) for name in row.fields]
        said = any(part != USUAL.get(name) for name, part in zip(row.fields, parts, strict=True))
        if said or (row.always and None not in parts):
            yield row.key, "x".join(map(row.write, parts))


def read(text: str) -> Infotext:
    """Prompts and settings of any infotext; a text without parameters is all prompt."""
    lines = text.strip().split("\n")
    head, pairs = _split(lines)
    prompt, negative = _prompts(head)
    settings = dict(pairs)
    hashes = tuple(settings.pop("").split("\n")) if "" in settings else ()
    for name in {each.rpartition(":")[0] for each in hashes}:
        settings.pop(name, None)
    if hashes:
        settings.setdefault("Lora hashes", ", ".join(hashes))
    found = Infotext(
        prompt=settings.pop("Exact prompt", prompt),
        negative_prompt=settings.pop("Exact negative prompt", negative),
        settings=settings,
        hashes=hashes,
    )
    return _with_first_pass(found) if "First pass size" in settings else found


def _split(lines: list[str]) -> tuple[list[str], dict[str, str]]:
    """The lines of the prompts, and the pairs behind them."""
    starts = [k for k, line in enumerate(lines) if _STEPS.match(line)]
    for start in starts[: -_MAX_STARTS - 1 : -1]:
        first = _upwards(lines, start)
        if (pairs := _block(lines[first:])) is not None:
            return lines[:first], pairs
    if (found := _inline(lines) or _anywhere(lines)) is not None:
        return found
    pairs = _pairs(lines[-1])
    if _count(pairs) >= _LEAST:
        return lines[:-1], pairs
    first = _upwards(lines, len(lines))
    if len(lines) - first >= _LEAST:
        return lines[:first], _parameters(lines[first:])
    return lines, {}


def _anywhere(lines: list[str]) -> tuple[list[str], dict[str, str]] | None:
    """Parameters that do not start with the steps: the last line that holds enough, and before."""
    start = next((k for k in reversed(range(len(lines))) if _holds_enough(lines[k])), None)
    if start is None:
        return None
    while start and _holds_enough(lines[start - 1]):
        start -= 1
    pairs = _block(lines[start:])
    return None if pairs is None else (lines[:start], pairs)


def _holds_enough(line: str) -> bool:
    return line.count(":") >= _LEAST and _known(line) >= _LEAST


def _upwards(lines: list[str], start: int) -> int:
    """Where the parameters start when each stands on a line of its own, up to `start`."""
    if start < len(lines) and len(_pairs(lines[start])) > 1:
        return start
    least = max(0, start - _MAX_LINES)
    while start > least and _starts_known(lines[start - 1]):
        start -= 1
    return start


def _block(lines: list[str]) -> dict[str, str] | None:
    """The pairs of `lines`, the first of which starts them; None when they are something else."""
    body, extra, rest = [lines[0]], dict[str, list[str]](), False
    single, last = len(_pairs(lines[0])) == 1, ""
    for line in lines[1:]:
        if found := _TEMPLATE.match(line):
            last = found[1]
            extra[last] = [found[2]]
        elif last:
            extra[last].append(line)
        elif line.startswith(NEGATIVE):
            return None
        elif body[-1].rstrip().endswith(",") or _known(line) or (single and _LINE.fullmatch(line)):
            body.append(line)
        elif line.strip():
            rest = True  # a remark behind the parameters
    pairs = _parameters(body)
    known = sum(key in _KNOWN for key in pairs)
    if _count(pairs) < _LEAST or (rest and known < _LEAST):
        return None
    return pairs | {key: "\n".join(some).strip() for key, some in extra.items()}


def _parameters(lines: list[str]) -> dict[str, str]:
    """The pairs of `lines`: one on each, where a value may hold commas; or many, wrapped anyhow.

    Of the latter a line may start in the middle of a pair.
    """
    if len(lines) > 1 and all(_known(line) <= 1 for line in lines):
        singles = (_LINE.fullmatch(line) for line in lines)
        pairs = {each[1]: _unquoted(each[2].rstrip(", \t\r")) for each in singles if each}
        return {key: value for key, value in pairs.items() if value}
    parts = [lines[0].strip()]
    for line in lines[1:]:
        whole = _starts_known(line) and not parts[-1].endswith(",")
        parts.append(("," if whole else "") + " " + line.strip())
    return _pairs("".join(parts))


def _unquoted(text: str) -> str:
    whole = _quoted(text, 0) if text.startswith('"') else None
    return whole[0] if whole and whole[1] == len(text) else text


def _starts_known(line: str) -> bool:
    return line[:_MAX_KEY].partition(":")[0].strip() in _KNOWN and ":" in line[:_MAX_KEY]


def _known(line: str) -> int:
    """How many pairs with a known key a line holds."""
    return sum(key in _KNOWN for key in _pairs(line))


def _inline(lines: list[str]) -> tuple[list[str], dict[str, str]] | None:
    """Parameters that follow the prompt on its own line."""
    line = lines[-1]
    found = next(iter(reversed([*_INLINE.finditer(line)])), None)
    if found is None:
        return None
    start = _leftwards(line, found.start())
    pairs = _pairs(line[start:])
    head = line[:start].strip().removesuffix(",")
    if not head or _known(head.partition(NEGATIVE)[0]) or _count(pairs) < _LEAST:
        return None
    before = [*lines[:-1], head]
    if not any(each.lstrip().startswith(NEGATIVE) for each in before):
        prompt, negative, words = head.partition(NEGATIVE)
        before = [*lines[:-1], prompt, *([negative + words] if negative else [])]
    return before, pairs


def _leftwards(line: str, start: int) -> int:
    """Where the pairs with known keys begin that end at `start`."""
    for found in reversed([*_KNOWN_KEY.finditer(line, 0, start)][-_MAX_LEFT:]):
        item = line[found.end() : start].rstrip()
        value = item.removesuffix(",").strip()
        if item == value or not value or NEGATIVE in value:
            break
        if len(value) > _MAX_VALUE:
            break
        if "," not in value or _is_quoted(value):
            start = found.start()
    return start


def _is_quoted(value: str) -> bool:
    whole = _quoted(value, 0) if value[0] in '"{[' else None
    return whole is not None and whole[1] == len(value)


def _prompts(lines: list[str]) -> tuple[str, str]:
    """A1111's rule: behind the first line that starts so, all is negative."""
    parts: tuple[list[str], list[str]] = ([], [])
    negative = False
    for line in lines:
        words = _bare(line)
        if words.startswith(NEGATIVE):
            negative, words = True, _bare(words[len(NEGATIVE) :])
        if words or parts[negative]:
            parts[negative].append(words)
    return "\n".join(parts[0]), "\n".join(parts[1])


def _bare(words: str) -> str:
    """Without blanks, and the mark of the order of bytes that some programs write in front."""
    return words.strip().lstrip("\ufeff").lstrip()


def _count(pairs: Mapping[str, str]) -> int:
    return len(pairs) - ("" in pairs)


def _pairs(line: str) -> dict[str, str]:
    """Key to value. Under the key "" are the quoted items without a key, one per line."""
    pairs: dict[str, str] = {}
    loose: list[str] = []
    place = broken = 0
    for _ in range(_MAX_ITEMS):
        if place >= len(line):
            break
        comma = line.find(",", place)
        comma = len(line) if comma < 0 else comma
        key, start = _key(line, place, comma)
        value, end = line[start:comma].strip(), comma
        whole = None
        if line[start : start + 1] in tuple('"{[') and broken < _MAX_BROKEN:
            whole = _quoted(line, start)
            broken += whole is None
            value, end = whole or (value, comma)
        if key and (value or whole):
            pairs[key] = value
        elif value in _KNOWN:  # A1111 writes a key that equals its value once
            pairs[value] = value
        elif not key and (found := _LOOSE.fullmatch(value)):
            loose.append(found[1])
        place = end + 1
    return pairs | ({"": "\n".join(loose)} if loose else {})


def _key(line: str, place: int, comma: int) -> tuple[str, int]:
    """The key of the item between `place` and `comma`, if it has one, and where its value starts.

    A key is what stands before the first colon, back to a character that no key has.
    """
    begin = comma - len(line[place:comma].lstrip())
    colon = line.find(":", begin, comma)
    if colon < 0 or line[begin] == '"':
        return "", begin
    key = _NO_KEY.split(line[max(begin, colon - _MAX_KEY) : colon])[-1].lstrip(" -/")
    if len(key) < 2:
        return "", begin
    start = colon + 1
    while start < len(line) and line[start] in " \t":
        start += 1
    return key, start


def _quoted(line: str, start: int) -> tuple[str, int] | None:
    """A JSON value that a comma or the end follows, and where it ends; None when it does not.

    Of a string its content is given, of anything else the text.
    """
    try:
        if line[start] == '"':
            found = _STRING.match(line, start)
            end = found.end() if found else -1
            value = json.loads(line[start:end], strict=False) if found else ""
        else:
            _, end = json.JSONDecoder().raw_decode(line, start)
            value = line[start:end]
    except (ValueError, RecursionError):
        return None
    while 0 <= end < len(line) and line[end] in " \t":
        end += 1
    return (value, end) if end == len(line) or (end > 0 and line[end] == ",") else None


def _with_first_pass(found: Infotext) -> Infotext:
    """Texts of 2022 give the final size as Size; since 2023 that is the size of the first pass.

    0x0 meant: as many pixels as 512 by 512, in steps of 64.
    """
    pattern = re.compile(r"(\d{1,5})x(\d{1,5})")
    sizes = [pattern.fullmatch(found.settings.get(key, "")) for key in ("First pass size", "Size")]
    if sizes[0] is None or sizes[1] is None:
        return found
    (first_w, first_h), (width, height) = ((int(size[1]), int(size[2])) for size in sizes if size)
    if not first_w and width and height:
        scale = math.sqrt(512 * 512 / (width * height))
        first_w, first_h = (math.ceil(scale * side / 64) * 64 for side in (width, height))
    first = {"Size": f"{first_w}x{first_h}", "Hires resize": f"{width}x{height}"}
    return replace(found, settings={**found.settings, **first})

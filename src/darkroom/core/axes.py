"""What an axis of a grid can change, and what each of its values does to a request.

    axis = read_axis(Axis(field="steps", values="10-30 (+10)"), base)
    axis.points[0].label          "steps: 10"
    axis.points[0].put(data)      data["steps"] is now 10

An axis is a field of the request by its name (`steps`, `hires.strength`, `detail.0.blur`), a name
that A1111's X/Y/Z plot has for one ("CFG Scale"), or one of a few ways of its own: search and
replace in the prompts, their order, a LoRA's strength, the size, styles.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from darkroom.core.errors import BadRequest, UnknownName, shorten
from darkroom.core.prompt.networks import ROLES, networks
from darkroom.core.ranges import MOST, decimals, integers, split
from darkroom.core.request import AUTO, BAKED, ImageRequest
from darkroom.core.sampler_table import find_sampler
from darkroom.core.series import Axis

Data = dict[str, Any]
Put = Callable[[Data], None]
LORA = "lora:"
DEFAULT = "default"  # as a value of a field that may be left open

# A1111's names, folded. Those of an empty text are no axis; those of None have no counterpart.
ALIASES: Mapping[str, str | None] = MappingProxyType(
    {
        "nothing": "",
        "seed": "seed",
        "var. seed": "variation_seed",
        "var. strength": "variation_strength",
        "steps": "steps",
        "hires steps": "hires.steps",
        "cfg scale": "cfg_scale",
        "image cfg scale": "init.image_cfg_scale",
        "prompt s/r": "prompt",
        "prompt order": "prompt order",
        "sampler": "sampler",
        "hires sampler": "hires.sampler",
        "checkpoint name": "model",
        "negative guidance minimum sigma": "ngms",
        "sigma churn": "s_churn",
        "sigma min": "s_tmin",
        "sigma max": "s_tmax",
        "sigma noise": "s_noise",
        "schedule type": "scheduler",
        "schedule min sigma": "sigma_min",
        "schedule max sigma": "sigma_max",
        "schedule rho": "rho",
        "beta schedule alpha": "beta_alpha",
        "beta schedule beta": "beta_beta",
        "eta": "eta",
        "clip skip": "clip_skip",
        "denoising": "denoising",
        "initial noise multiplier": "init.noise_multiplier",
        "extra noise": "init.extra_noise",
        "hires upscaler": "hires.upscaler",
        "cond. image mask weight": None,
        "vae": "vae",
        "styles": "styles",
        "unipc order": "unipc_order",
        "face restore": "restore.model",
        "token merging ratio": None,
        "token merging ratio high-res": None,
        "always discard next-to-last sigma": "discard_penultimate",
        "sgm noise multiplier": "sgm_noise",
        "refiner checkpoint": "refiner.model",
        "refiner switch at": "refiner.switch_at",
        "rng source": "rng",
        "fp8 mode": None,
        "size": "size",
    }
)
# Words of A1111 for values that have another name here.
_VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"vae": MappingProxyType({"automatic": AUTO, "none": BAKED})}
)
# How long it takes to go from one value to the next: the slowest changes least often.
_COSTS: Mapping[str, int] = MappingProxyType({"model": 3, "vae": 2})
_NAMED_MODELS = ("model", "upscaler", "detector")
_BOOLEANS = MappingProxyType(
    dict.fromkeys(("true", "yes", "on", "1"), True)
    | dict.fromkeys(("false", "no", "off", "0"), False)
)


@dataclass(frozen=True, slots=True)
class Point:
    """One value of an axis."""

    label: str
    put: Put  # into the fields of a request, as `ImageRequest.parse` takes them


@dataclass(frozen=True, slots=True)
class Points:
    """An axis, read."""

    title: str
    points: tuple[Point, ...]
    cost: int = 0


def read_axis(axis: Axis, base: ImageRequest) -> Points | None:
    """What the values of `axis` do; None for A1111's "Nothing".

    BadRequest (UnknownName for a field) says what cannot be read or done.
    """
    field = canonical(axis.field, base)
    if not field:
        return None
    title = axis.field.strip()
    for name, read in _OWN_WAYS.items():
        if field == name or (name == LORA and field.startswith(LORA)):
            points = read(field, axis.values, base)
            break
    else:
        points = _plain(field, title, axis.values)
    if not points:
        raise BadRequest(f"the axis {title!r} has no values", hint="Write steps=10,20,30.")
    return Points(title, points, _cost(field))


def canonical(name: str, base: ImageRequest) -> str:
    """The field that a user calls `name`; empty for none. UnknownName where there is none."""
    name = name.strip()
    folded = re.sub(r"\s+", " ", re.sub(r"^\[\w+\] ", "", name)).casefold()
    if folded.startswith(LORA):
        return LORA + name[len(LORA) :].strip()
    field = ALIASES.get(folded, folded.replace("-", "_").replace(" ", "_"))
    if field is None:
        raise BadRequest(f"{shorten(name)!r} is nothing that Darkroom has a setting for")
    return _strength(base) if field == "denoising" else field


def field_names() -> list[str]:
    """All that an axis may be called, for suggestions."""
    blocks = [
        f"{name}.{'0.' if _is_many(field.annotation) else ''}{key}"
        for name, field in ImageRequest.model_fields.items()
        if (block := _block(field.annotation)) is not None
        for key in block.model_fields
    ]
    plain = [
        name
        for name, field in ImageRequest.model_fields.items()
        if _block(field.annotation) is None and name != "kind"
    ]
    return [*plain, *blocks, *(name for name, field in ALIASES.items() if field)]


def prompts(data: Data) -> Iterator[tuple[Data, str]]:
    """Every place in the fields of a request that holds a prompt: its block and its name there."""
    blocks = (data, data.get("hires"), *data.get("regions", ()), *data.get("detail", ()))
    for block in filter(None, blocks):
        for name in ("prompt", "negative_prompt"):
            if block.get(name):
                yield block, name


# ---- fields by their names -----------------------------------------------------------------------


def _plain(field: str, title: str, values: str) -> tuple[Point, ...]:
    """The points of an axis over one field."""
    path = tuple(field.split("."))
    annotation = _annotation(path, title)
    words = _VALUES.get(field, {})
    read = [
        (words.get(str(value).casefold(), value), label)
        for value, label in _values(annotation, values, title)
    ]
    put = _put_sampler if path[-1] == "sampler" else place
    return tuple(
        Point(f"{title}: {_shown(label, path)}", partial(put, path, value)) for value, label in read
    )


def _annotation(path: tuple[str, ...], title: str) -> Any:
    """The type of the field at `path` of a request."""
    model: Any = ImageRequest
    annotation: Any = None
    many = False
    for part in path:
        if many and part.isdigit():
            many = False
            continue
        if model is None or many or part not in model.model_fields or part == "kind":
            hint = "Name a setting, such as steps, cfg_scale, sampler or hires.strength."
            if many:
                hint = f"Write {path[0]}.0.{path[-1]}: there may be several."
            raise UnknownName("axis", title, field_names(), hint=hint)
        annotation = model.model_fields[part].annotation
        model = _block(annotation)
        many = model is not None and _is_many(annotation)
    if model is not None:
        hint = f"Name a field of it: {', '.join(f'{path[0]}.{key}' for key in model.model_fields)}."
        raise BadRequest(f"{shorten(title)!r} is more than one setting", hint=hint)
    return annotation


def _values(annotation: Any, text: str, title: str) -> Iterator[tuple[Any, str]]:
    """The values in `text`, as what the field takes, and how they are shown."""
    kinds = set(_kinds(annotation))
    choices = {kind.casefold(): kind for kind in kinds if isinstance(kind, str)}
    items = split(text)
    if NoneType in kinds and DEFAULT in map(str.casefold, items):
        for item in items:
            if item.casefold() == DEFAULT:
                yield None, DEFAULT
            else:
                yield from _values(annotation, f'"{item}"' if "," in item else item, title)
    elif bool in kinds:
        yield from ((_boolean(item), item) for item in items)
    elif int in kinds or float in kinds:
        numbers = integers(text) if int in kinds else decimals(text)
        yield from (
            (number, f"{number:.10g}" if float in kinds else str(number)) for number in numbers
        )
    elif choices:
        for item in items:
            if (choice := choices.get(item.casefold().replace("_", " "))) is None:
                raise UnknownName(f"value of {title}", item, choices.values())
            yield choice, choice
    elif str in kinds and tuple not in kinds:
        yield from ((item, item) for item in items)
    else:
        raise BadRequest(f"{shorten(title)!r} cannot be an axis: its values are lists")


def _boolean(item: str) -> bool:
    if (value := _BOOLEANS.get(item.casefold())) is None:
        raise BadRequest(f"{shorten(item)!r} is neither true nor false")
    return value


def place(path: tuple[str, ...], value: Any, data: Data) -> None:
    """Put `value` where `path` leads; blocks on the way are made where they are not there."""
    block: Any = data
    for number, part in enumerate(path[:-1]):
        if part.isdigit():
            if int(part) >= len(block):
                told = f"{'.'.join(path)} is not there: the request has {len(block)} {path[0]}"
                raise BadRequest(told, hint=f"Add one, or count from {path[0]}.0.")
            block = block[int(part)]
            continue
        if block.get(part) is None:
            block[part] = [] if path[number + 1].isdigit() else {}
        block = block[part]
    if value is None:
        block.pop(path[-1], None)
    else:
        block[path[-1]] = value


def _put_sampler(path: tuple[str, ...], value: Any, data: Data) -> None:
    """A scheduler in the name ("DPM++ 2M Karras") goes before the one that the request has."""
    place(path, value, data)
    if value is not None and (scheduler := find_sampler(value)[1]) is not None:
        place((*path[:-1], "scheduler"), scheduler.name, data)


def _shown(label: str, path: tuple[str, ...]) -> str:
    """The value as the legend shows it: of a model's file its name."""
    return re.split(r"[\\/]", label)[-1] if path[-1] in (*_NAMED_MODELS, "vae") else label


def _cost(field: str) -> int:
    if field.startswith(LORA):
        return 1
    return _COSTS.get(field, 2 if field.rpartition(".")[2] in _NAMED_MODELS else 0)


def _kinds(annotation: Any) -> Iterator[Any]:
    """The plain types in an annotation, and the choices of a Literal."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin is Literal:
        yield from get_args(annotation)
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    else:
        yield origin or annotation


def _block(annotation: Any) -> type[BaseModel] | None:
    """The block that a field holds, or holds a list of."""
    parts = (annotation, *get_args(annotation))
    return next((p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)), None)


def _is_many(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


# ---- ways of their own ---------------------------------------------------------------------------


def _strength(base: ImageRequest) -> str:
    """Which strength A1111 means by its one."""
    if base.init is not None:
        return "init.strength"
    if base.hires is not None:
        return "hires.strength"
    raise BadRequest(
        "Denoising does nothing here: there is no picture to begin with and no second run",
        hint="Give a picture (--init) or turn on hires.",
    )


def _searched(_field: str, values: str, base: ImageRequest) -> tuple[Point, ...]:
    """Search and replace: the first value is looked for, and stays in the first picture."""
    words = split(values)
    data = base.model_dump(exclude_unset=True)
    if not words:
        return ()
    if not any(prompts(data)):  # nothing to search in: these are the prompts
        return tuple(Point(word, partial(place, ("prompt",), word)) for word in words)
    if not words[0] or not any(words[0] in block[name] for block, name in prompts(data)):
        raise BadRequest(
            f"Prompt S/R did not find {shorten(words[0])!r} in the prompt or the negative prompt",
            hint="The first value is what is looked for: write it as it stands in the prompt.",
        )
    return tuple(Point(word or "(nothing)", partial(_replace, words[0], word)) for word in words)


def _replace(sought: str, word: str, data: Data) -> None:
    for block, name in prompts(data):
        block[name] = block[name].replace(sought, word)


def _ordered(_field: str, values: str, base: ImageRequest) -> tuple[Point, ...]:
    """Every order of the words that are named; what stands between them stays where it is."""
    words = split(values)
    for word in words:
        if not word or word not in base.prompt:
            told = f"Prompt order did not find {shorten(word)!r} in the prompt"
            raise BadRequest(told, hint="Name words of the prompt, as they stand in it.")
    if math.factorial(min(len(words), 20)) > MOST:
        raise BadRequest(f"{len(words)} words have too many orders", hint="Name at most 7.")
    return tuple(
        Point(", ".join(order), partial(_reorder, words, order)) for order in permutations(words)
    )


def _reorder(words: list[str], order: tuple[str, ...], data: Data) -> None:
    """Where the words stand, from left to right, put those of `order`."""
    longest_first = sorted(words, key=len, reverse=True)
    sought = re.compile("|".join(map(re.escape, longest_first)))
    left = list(words)
    places: list[tuple[int, int]] = []
    for found in sought.finditer(data["prompt"]):
        if found[0] in left:  # the first time it comes
            left.remove(found[0])
            places.append(found.span())
    made, end = [], 0
    for (start, stop), word in zip(places, order, strict=False):
        made += [data["prompt"][end:start], word]
        end = stop
    data["prompt"] = "".join((*made, data["prompt"][end:]))


def _lora(field: str, values: str, base: ImageRequest) -> tuple[Point, ...]:
    name = field[len(LORA) :]
    if not name or set(name) & set(":<>"):
        raise BadRequest("the axis names no LoRA", hint='Write "lora:NAME=0, 0.5, 1".')
    del base
    return tuple(
        Point(f"{name}: {strength:g}", partial(_weigh, name, strength))
        for strength in decimals(values)
    )


def _weigh(name: str, strength: float, data: Data) -> None:
    """Change the strength in the tags of that LoRA, or add one."""
    prompt = data.get("prompt", "")
    made, found = [], False
    for piece in re.split(r"(<\w+:[^>]+>)", prompt):
        tags = networks(piece)[1]
        if tags and ROLES.get(tags[0].kind) == "lora" and tags[0].name.strip() == name:
            keep = [item for item in tags[0].items if re.match(r"\s*(dyn|start|end)\s*=", item)]
            made.append(f"<{':'.join((tags[0].kind, name, f'{strength:g}', *keep))}>")
            found = True
        else:
            made.append(piece)
    data["prompt"] = "".join(made) if found else f"{prompt}<lora:{name}:{strength:g}>"


def _sizes(_field: str, values: str, base: ImageRequest) -> tuple[Point, ...]:
    del base
    found = []
    for item in split(values):
        size = re.fullmatch(r"(\d{1,5})\s*[x×*]\s*(\d{1,5})", item, re.IGNORECASE)
        if size is None:
            raise BadRequest(f"{shorten(item)!r} is no size", hint="Write 512x768.")
        found.append(Point(f"{size[1]}×{size[2]}", partial(_resize, int(size[1]), int(size[2]))))
    return tuple(found)


def _resize(width: int, height: int, data: Data) -> None:
    data |= {"width": width, "height": height}


def _styles(_field: str, values: str, base: ImageRequest) -> tuple[Point, ...]:
    """Each value is a style, or several in quotes, besides those that the request has."""
    return tuple(
        Point(
            f"style: {item or 'none'}",
            partial(place, ("styles",), (*base.styles, *(s for s in split(item) if s != "None"))),
        )
        for item in split(values)
    )


def _optional(field: str, values: str, base: ImageRequest) -> tuple[Point, ...]:
    """Models whose block is gone without one: None is a value."""
    block = field.partition(".")[0]
    points = _plain(field, block, values)
    del base
    none = partial(place, (block,), None)
    return tuple(
        Point(point.label, none) if item.casefold() in ("none", "false") else point
        for item, point in zip(split(values), points, strict=True)
    )


_OWN_WAYS: Mapping[str, Callable[[str, str, ImageRequest], tuple[Point, ...]]] = MappingProxyType(
    {
        "prompt": _searched,
        "prompt order": _ordered,
        "prompt_order": _ordered,
        "size": _sizes,
        "styles": _styles,
        "restore.model": _optional,
        "refiner.model": _optional,
        LORA: _lora,
    }
)

"""`darkroom redo FILE`: a picture again, as its file tells it, whatever program made it."""

from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from darkroom.cli.boundary import Reply
from darkroom.cli.options import (
    JSON,
    OUTPUT,
    SETTING_FLAGS,
    Grouped,
    block_of,
    flags,
    given,
    pass_reply,
    request_of,
    slots,
)
from darkroom.cli.running import run
from darkroom.cli.spelled import SPELLED
from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.request import ImageRequest
from darkroom.core.series import KINDS, parse_request
from darkroom.core.settings import Configured, Settings

# The fields that have a flag of their own.
CHANGES = ("seed", "count", "model", "init")
FOR_SET = tuple(slot.name for slot in slots(ImageRequest, ("init",)) if slot.name != "init")
PROMPTS = frozenset({"prompt", "negative_prompt"})


@click.command(cls=Grouped)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@flags(ImageRequest, CHANGES, but=FOR_SET)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change any other field of the request, such as cfg_scale=9 or hires.scale=1.5; may be"
    " given again. Without a value the field is left open, and a block is left out.",
)
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def redo(
    reply: Reply, /, file: Path, *, changes: tuple[str, ...], output: str | None, **values: Any
) -> None:
    """Make the picture FILE again from what is written in it.

    Of a picture of ours the pixels are the same to the last bit with the same model, device and
    versions; what differs is said first, and so is what a picture from elsewhere says that has no
    counterpart here. Where it began with a picture that is not here, --init names it. The new
    picture never replaces the old one.
    """
    from darkroom.cli.info import found_in
    from darkroom.library.again import asked_again, merged
    from darkroom.library.models import Library

    found = found_in(file)
    model = KINDS[found.kind]
    asked = merged(_changes(changes, model), request_of(values))
    settings = Configured.load_here(given({name: values[name] for name in SETTING_FLAGS})).values
    library = Library.of(settings, tell=reply.note)
    fields = asked_again(found, asked=asked, settings=settings, library=library, say=reply.note)
    run(parse_request(fields), settings, output=output, reply=reply, like=found.recipe)


def _changes(words: tuple[str, ...], model: type[BaseModel]) -> dict[str, Any]:
    """`NAME=VALUE`, each a field of the request; without a value it is left open again."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        path = name.strip().replace("-", "_").split(".")
        if not equals:
            raise BadRequest(f"--set {word!r} has no value", hint="Write --set cfg_scale=9.")
        inner, place = model, found
        for block in path[:-1]:
            inner = _inner(inner, block, name.strip())
            place = place.setdefault(block, {})
        if path[-1] not in inner.model_fields:
            raise UnknownName("field", name.strip(), _names(model))
        place[path[-1]] = _value(inner, path, value)
    if PROMPTS.intersection(found):  # they are the user's own words now
        found.setdefault("dynamic_prompts", True)
    return found


def _inner(model: type[BaseModel], name: str, whole: str) -> type[BaseModel]:
    """The block that a field of `model` holds."""
    block = block_of(model.model_fields[name]) if name in model.model_fields else None
    if block is None or name in SPELLED:
        raise UnknownName("field", whole, _names(model))
    return block


def _names(model: type[BaseModel]) -> list[str]:
    """The fields of a request, those of its blocks with the block's name in front."""
    names = list(model.model_fields)
    for name, field in model.model_fields.items():
        block = block_of(field)
        if block is not None and name not in SPELLED:
            names += [f"{name}.{key}" for key in block.model_fields]
    return names


def _value(model: type[BaseModel], path: list[str], value: str) -> Any:
    """What a flag would give; an empty value is the field's default."""
    name = path[-1]
    default = model.model_fields[name].default
    if len(path) == 1 and (spelled := SPELLED.get(name)):
        return [spelled(value)] if value else []
    if isinstance(default, tuple):
        return tuple(filter(None, map(str.strip, value.split(","))))
    return value if value or name in PROMPTS else default

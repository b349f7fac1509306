"""Every dialect in the order in which they are tried, and the whole way from a file to `Found`."""

from collections.abc import Callable
from pathlib import Path

from darkroom.core.errors import BadFile
from darkroom.media.metadata import (
    a1111,
    civitai,
    comfyui,
    drawthings,
    easydiffusion,
    fooocus,
    invokeai,
    novelai,
    ours,
    stealth,
    swarmui,
)
from darkroom.media.metadata.carried import (
    STANDARD_INPUT,
    Carried,
    carried_by,
    opened,
    parse_object,
)
from darkroom.media.metadata.found import Found

Reader = Callable[[Carried], Found | None]

# What is ours, then what has a sign of its own. A graph is rich but has to be interpreted, so an
# infotext beside it goes first; any text is an infotext, so that is last among the texts.
READERS: tuple[Reader, ...] = (
    ours.read,
    swarmui.read,
    fooocus.read,
    invokeai.read,
    drawthings.read,
    novelai.read,
    civitai.read,
    easydiffusion.read,
    a1111.read,
    comfyui.read,
)
_SIDECARS = (".txt", ".json")
_INFOTEXT = "parameters"
_MAY_HIDE = ("png", "webp")


def interpret(carried: Carried) -> Found | None:
    """What the first reader that knows its own finds; None when none does."""
    return next((found for read in READERS if (found := read(carried)) is not None), None)


def find(path: Path) -> Found | None:
    """How the picture at `path` was made; `-` is standard input. None when nothing says so.

    Looked into are the texts in the file, then a `.txt` or `.json` of the same name beside it, then
    the lowest bits of its pixels. BadFile when it cannot be read, or is no picture and no text; so
    too when nothing is found and some text in it was damaged or too long.
    """
    carried = carried_by(path)
    found = interpret(carried)
    if found is None and carried.is_picture and str(path) != STANDARD_INPUT:
        found = _beside(path) or (_hidden(path) if carried.kind in _MAY_HIDE else None)
    if found is None and carried.refused is not None:
        raise carried.refused
    return found


def drawn(found: Found) -> Found | None:
    """How the picture was made before it was upscaled or cut out; None when nothing says so."""
    if found.recipe is None or found.kind == "image":
        return found
    return interpret(Carried.of("", {_INFOTEXT: found.recipe.source}))


def _beside(path: Path) -> Found | None:
    """What a file of text says; one with a prompt alone is a caption for training."""
    for suffix in _SIDECARS:
        for name in (path.with_suffix(suffix), path.with_name(path.name + suffix)):
            if not name.is_file():
                continue
            try:
                carried = carried_by(name)
            except BadFile:
                continue
            found = interpret(carried)
            if found is not None and (found.settings or found.negative_prompt):
                return found
    return None


def _hidden(path: Path) -> Found | None:
    with opened(path) as file:
        text = stealth.find(file, str(path))
    if text is None:
        return None
    document = parse_object(text) or {}
    texts = {key: value for key, value in document.items() if isinstance(value, str)}
    return interpret(Carried.of(str(path), texts or {"parameters": text}))

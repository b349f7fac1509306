"""`darkroom redo FILE`: a picture again, as its file tells it, whatever program made it."""

from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.info import found_in
from darkroom.cli.options import JSON, OUTPUT, SETTING_FLAGS, flags, given, pass_reply
from darkroom.cli.running import run
from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.model import ModelCard
from darkroom.core.request import ImageRequest
from darkroom.core.settings import Configured, Settings
from darkroom.library.models import Library
from darkroom.media.metadata import Found, FoundModel

CHANGES = ("seed", "count", "model")  # the fields that have a flag of their own
PROMPTS = frozenset({"prompt", "negative_prompt"})


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@flags(ImageRequest, CHANGES)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change any other field of the request, such as cfg_scale=9; may be given again."
    " Without a value the field is left open.",
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
    counterpart here. The new picture never replaces the old one.
    """
    found = found_in(file)
    asked = _changes(changes) | given({name: values.pop(name) for name in CHANGES})
    settings = Configured.load_here(given(values)).values
    library = Library.of(settings)
    model = asked.get("model") or _model(found, library, reply)
    request = ImageRequest.parse(found.fields() | {"model": model} | asked)
    for text in found.left_out:
        reply.note(f"not used: {text}")
    run(request, settings, output=output, reply=reply, like=found.recipe)


def _changes(words: tuple[str, ...]) -> dict[str, Any]:
    """`NAME=VALUE`, each a field of the request; without a value it is left open again."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise BadRequest(f"--set {word!r} has no value", hint="Write --set cfg_scale=9.")
        if name not in ImageRequest.model_fields:
            raise UnknownName("field", name, ImageRequest.model_fields)
        default = ImageRequest.model_fields[name].default
        if isinstance(default, tuple):
            found[name] = tuple(filter(None, map(str.strip, value.split(","))))
        else:
            found[name] = value if value or name in PROMPTS else default
    if PROMPTS.intersection(found):  # they are the user's own words now
        found.setdefault("dynamic_prompts", True)
    return found


def _model(found: Found, library: Library, reply: Reply) -> str:
    """The checkpoint of the picture as a name or hash, looked up by hash before it is by name.

    A picture may come from a stranger: what it says is looked up, and never opened as a path.
    """
    hint = "Put it into a model folder or choose another with --model; see `darkroom models`."
    used = found.checkpoint
    if used is None:
        raise BadRequest("the file does not say which model made the picture", hint=hint)
    card = library.find_hash(used.hash or "", likely=used.name)
    if card is not None:
        listed = library.find_listed(card.name)
        return card.name if listed is not None and listed.path == card.path else card.sha256
    card = library.find_listed(used.name)
    if card is None:
        told = f"Its sha256 starts with {used.hash[:10]}. {hint}" if used.hash else hint
        raise BadRequest(f"the model {used.name!r} is not here", hint=told)
    reply.note(_another(used, card))
    return card.name


def _another(used: FoundModel, card: ModelCard) -> str:
    if used.hash is None:
        return f"the file does not say which {used.name!r} made the picture; taken is {card.name}"
    return (
        f"the model {used.name!r} here is another file than the one that made this picture;"
        " the result will differ"
    )

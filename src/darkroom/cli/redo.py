"""`darkroom redo FILE`: a picture again, as its file tells it, whatever program made it."""

from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import JSON, OUTPUT, SETTING_FLAGS, flags, given, pass_reply
from darkroom.cli.running import run
from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.request import ImageRequest
from darkroom.core.settings import Configured, Settings

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
    from darkroom.cli.info import found_in
    from darkroom.library.again import asked_again
    from darkroom.library.models import Library

    found = found_in(file)
    asked = _changes(changes) | given({name: values.pop(name) for name in CHANGES})
    settings = Configured.load_here(given(values)).values
    library = Library.of(settings, tell=reply.note)
    fields = asked_again(found, asked=asked, settings=settings, library=library, say=reply.note)
    request = ImageRequest.parse(fields)
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

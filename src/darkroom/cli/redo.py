"""`darkroom redo FILE`: a picture again, as its file tells it, whatever program made it."""

from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.info import found_in
from darkroom.cli.options import JSON, OUTPUT, SETTING_FLAGS, flags, given, pass_reply
from darkroom.cli.running import run
from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.model import Kind, ModelCard
from darkroom.core.prompt import Role, renamed
from darkroom.core.request import AUTO, BAKED, ImageRequest
from darkroom.core.settings import Configured, Settings
from darkroom.library.models import Library
from darkroom.library.tags import KINDS
from darkroom.media.metadata import Found, FoundModel
from darkroom.media.metadata.found import is_model

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
    own = {
        "model": asked.get("model") or _model(found, library, reply),
        "vae": asked.get("vae") or _vae(found, library, reply),
        "prompt": _prompt(found, library, reply),
    }
    request = ImageRequest.parse(found.fields() | own | asked)
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


def _vae(found: Found, library: Library, reply: Reply) -> str:
    """The VAE of the picture as a name or hash; the checkpoint's own where it is not here."""
    used = next((each for each in found.models if each.role == "vae"), None)
    if used is None or not is_model(used.name):
        return BAKED if found.recipe is not None else AUTO
    card = _looked_up(library, Kind.VAE, used)
    if card is None:
        reply.note(f"the VAE {used.name!r} is not here; the picture is made with another")
        return AUTO
    return card.sha256


def _prompt(found: Found, library: Library, reply: Reply) -> str:
    """The prompt, with the names in its tags that the files have here.

    A file is known by its hash; only where that is not said or not here, by its name.
    """
    names: dict[tuple[Role, str], str] = {}
    for used in found.models:
        role = next((role for role in KINDS if role == used.role), None)
        if role is None or used.hash is None:
            continue
        here = _of_name(library, KINDS[role], used.name)
        card = _of_name(library, KINDS[role], used.hash)
        if card is None:
            if here is not None and found.recipe is None:
                reply.note(f"the {role} {used.name!r} here is another file; the result will differ")
        elif here is None or here.sha256 != card.sha256:
            again = _of_name(library, KINDS[role], card.name)
            same = again is not None and again.sha256 == card.sha256
            names[role, used.name] = card.name if same else card.sha256
    return renamed(found.fields().get("prompt", ""), names)


def _looked_up(library: Library, kind: Kind, used: FoundModel) -> ModelCard | None:
    """The file of that hash, else that of that name."""
    return _of_name(library, kind, used.hash or "") or _of_name(library, kind, used.name)


def _of_name(library: Library, kind: Kind, name: str) -> ModelCard | None:
    """What is listed here as `name`, or has that hash; never a path, which it may name too."""
    try:
        return None if not name or Path(name).exists() else library.find_of(kind, name)
    except (BadRequest, OSError):  # not here, or no name that a file could have
        return None


def _another(used: FoundModel, card: ModelCard) -> str:
    if used.hash is None:
        return f"the file does not say which {used.name!r} made the picture; taken is {card.name}"
    return (
        f"the model {used.name!r} here is another file than the one that made this picture;"
        " the result will differ"
    )

"""What is needed to make a picture again, among the files that are here.

    fields = asked_again(found, asked={"seed": 7}, settings=settings, library=library, say=print)
    request = parse_request(fields)

Files are known by their hashes, and only where those are not told, by their names. What a picture
says comes from a stranger: it is looked up, and never opened as a path.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom.core.errors import BadRequest
from darkroom.core.model import Kind, ModelCard
from darkroom.core.places import rename_models
from darkroom.core.prompt import Role, networks, renamed, reworded, wishes, without_comments
from darkroom.core.request import AUTO, BAKED
from darkroom.core.settings import Settings
from darkroom.library.models import BY_PATH, Library
from darkroom.library.named import ROLES, comes_along
from darkroom.library.prompts import embeddings_of
from darkroom.library.survey import split
from darkroom.library.tags import KINDS
from darkroom.media.metadata import Found, FoundModel
from darkroom.media.metadata.found import base_name, is_model
from darkroom.weights.embedding_image import own_words

Say = Callable[[str], None]

PROMPTS = ("prompt", "negative_prompt")
_NOT_IN_TAGS = frozenset(":<>=")


def asked_again(
    found: Found, *, asked: Mapping[str, Any], settings: Settings, library: Library, say: Say
) -> dict[str, Any]:
    """The fields of a request for the picture, with the names that its files have here.

    `asked` overrules what the picture says; `say` is told what will differ. BadRequest when a file
    is not here without which the picture would be another.
    """
    picture = (asked.get("init") or {}).get("image")
    own: dict[str, Any] = {}
    if found.kind == "image":
        if "prompt" not in asked:
            found = _with_tags(found, library, say)
        own = {
            "model": asked.get("model") or _model(found, library, say),
            "vae": asked.get("vae") or _vae(found, library, say),
            **_prompts(found, library, say, own=asked, settings=settings),
        }
    for text in found.not_in_request(picture):
        say(f"not used: {text}")
    whole = {name for name, value in asked.items() if not isinstance(value, Mapping)}
    said = found.fields(picture)
    fields = {name: value for name, value in said.items() if name not in whole} | own
    _name_models(fields, found, library, say=say)
    return merged(fields, asked)


def merged(fields: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` with those of `asked` over them; of a block that both have, the fields of both."""
    found = dict(fields)
    for name, value in asked.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = merged(found[name], value) if both else value
    return found


def _name_models(fields: dict[str, Any], found: Found, library: Library, *, say: Say) -> None:
    """Give the models in the blocks the names that they have here."""
    rename_models(
        fields,
        found.kind,
        lambda kind, name: _model_here(library, kind, name, found=found, say=say),
    )
    for block in ("refiner", "restore"):
        if fields.get(block) and fields[block].get("model") is None:
            fields[block] = None
    for detail in fields.get("detail") or ():
        if "detector" in detail and detail["detector"] is None:
            del detail["detector"]


def _model_here(library: Library, kind: Kind, name: str, *, found: Found, say: Say) -> str | None:
    """What a model in a block is called here; None where the picture is made without it."""
    if comes_along(kind, name):
        return name
    if found.recipe is not None:
        used = (u for u in found.recipe.models if u.name == name and ROLES.get(u.role) is kind)
        digest = next((each.sha256 for each in used), name)
        card = _of_name(library, kind, digest) or _of_name(library, kind, name)
        if card is None:
            hint = "Put it into a model folder, or choose another with --set."
            raise BadRequest(f"the {kind} {name!r} is not here", hint=hint)
        return _name_here(library, kind, card)
    digests = (each.digest for each in found.models if each.name == name and each.digest)
    cards = (_of_name(library, kind, each) for each in (*digests, name))
    card = next(filter(None, cards), None)
    if card is not None:
        return _name_here(library, kind, card)
    other, words = _instead(kind, name)
    say(f"the {kind} {name!r} is not here; {words}")
    return other


def _instead(kind: Kind, name: str) -> tuple[str | None, str]:
    """What stands for a stranger's model that is not here, in a request and in words."""
    if kind is Kind.UPSCALER:
        return AUTO, "the one that comes with the program enlarges instead"
    if kind is Kind.DETECTOR:
        known = (word for word in ("face", "hand", "person") if word in name.casefold())
        word = next(known, "face")
        return word, f"our own looks for {word}s instead"
    return None, "the picture is made without it"


def _model(found: Found, library: Library, say: Say) -> str:
    """The checkpoint of the picture as a name or hash, looked up by hash before it is by name.

    A picture may come from a stranger: what it says is looked up, and never opened as a path.
    """
    hint = "Put it into a model folder or choose another with --model; see `darkroom models`."
    used = found.checkpoint
    if used is None:
        raise BadRequest("the file does not say which model made the picture", hint=hint)
    card = library.find_hash(used.digest or "", likely=used.name)
    if card is not None:
        listed = library.find_listed(card.name)
        return card.name if listed is not None and listed.path == card.path else card.sha256
    card = library.find_listed(used.name) or library.find_listed(split(used.name)[0])
    if card is None:
        told = f"Its sha256 starts with {used.digest[:10]}. {hint}" if used.digest else hint
        raise BadRequest(f"the model {used.name!r} is not here", hint=told)
    say(_another(used, card))
    return card.name


def _vae(found: Found, library: Library, say: Say) -> str:
    """The VAE of the picture as a name or hash; the checkpoint's own where it is not here."""
    used = next((each for each in found.models if each.role == "vae"), None)
    if used is None or not is_model(used.name):
        return BAKED if found.recipe is not None else AUTO
    card = _looked_up(library, Kind.VAE, used)
    if card is None:
        say(f"the VAE {used.name!r} is not here; the picture is made with another")
        return AUTO
    return card.sha256


def _prompts(
    found: Found, library: Library, say: Say, *, own: Collection[str], settings: Settings
) -> dict[str, str]:
    """The prompts but the user's `own`, with the names that networks and embeddings have here."""
    fields = found.fields()
    told = {name: fields.get(name, "") for name in PROMPTS if name not in own}
    if "prompt" in told:
        told["prompt"] = _with_names(told["prompt"], found, library, say=say)
    words: dict[str, str] = {}
    if told:
        words = _other_words(found, library, embeddings_of(settings))
    for word, other in words.items():
        say(f"the embedding {word!r} is here as {other!r}, and stands in the prompt so")
        told = {name: reworded(text, word, other) for name, text in told.items()}
    _note_embeddings(found, library, words, say=say)
    return told


def _with_names(prompt: str, found: Found, library: Library, *, say: Say) -> str:
    """The prompt, with the names in its tags that the files have here.

    A file is known by its hash; only where that is not said or not here, by its name.
    """
    names: dict[tuple[Role, str], str] = {}
    asked, _ = wishes(networks(without_comments(prompt))[1])
    for role, name in dict.fromkeys((wish.role, wish.name) for wish in asked):
        if (digest := _digest_of(found, role, name)) is None:
            continue
        here = _of_name(library, KINDS[role], name)
        card = _of_name(library, KINDS[role], digest)
        if card is None and here is None:
            raise _gone(role, name, digest)
        if card is None:
            if found.recipe is None:
                say(f"the {role} {name!r} here is another file; the result will differ")
        elif here is None or here.sha256 != card.sha256:
            names[role, name] = _name_here(library, KINDS[role], card)
            say(f"the {role} {name!r} is here as {card.name!r}: it has the same hash")
    return renamed(prompt, names)


def _digest_of(found: Found, role: Role, name: str) -> str | None:
    """The hash of what a tag of the picture's prompt meant; a recipe knows its whole name."""
    if found.recipe is not None:
        used = (each.sha256 for each in found.recipe.used(role) if each.name == name)
        return next(used, None)
    bare = (name, base_name(name))
    told = {each.digest for each in found.models if each.role == role and each.name in bare}
    return told.pop() if len(told) == 1 else None  # two of one name: which is meant is not told


def _name_here(library: Library, kind: Kind, card: ModelCard) -> str:
    """What a tag can call the file: its name, where that means no other file, else its hash."""
    again = _of_name(library, kind, card.name) if _NOT_IN_TAGS.isdisjoint(card.name) else None
    return card.name if again is not None and again.sha256 == card.sha256 else card.sha256


def _gone(role: Role, name: str, digest: str) -> BadRequest:
    return BadRequest(
        f"the {role} {name!r} is not here",
        hint=f"Its hash starts with {digest[:10]}. Put it into a model folder (`darkroom models"
        " pull` fetches it from where it is published), or write a prompt without it:"
        " --set prompt=…",
    )


def _other_words(found: Found, library: Library, here: Mapping[str, Path]) -> dict[str, str]:
    """Embeddings of the picture that have another word here -> that word; known by their hash.

    `here` are the files by their words. A word that a file itself brings is never another.
    """
    words = {os.path.realpath(path): word for word, path in reversed([*here.items()])}
    loose, other = found.loose, {}
    for used in found.models:
        if used.role != "embedding" or used.digest is None or used in loose:
            continue
        same = _of_name(library, Kind.EMBEDDING, used.name)
        if same is not None and same.sha256.startswith(used.digest):
            continue
        card = _of_name(library, Kind.EMBEDDING, used.digest)
        word = None if card is None else words.get(card.path)
        if card and word and word != used.name and used.name not in own_words(Path(card.path)):
            other[used.name] = word
    return other


def _with_tags(found: Found, library: Library, say: Say) -> Found:
    """`found` with a tag in its prompt for every LoRA beside it that is here.

    ComfyUI and InvokeAI keep LoRAs in nodes and lists; here they act by their tags.
    """
    tags = "".join(
        f"<lora:{used.name}:te={used.weight if used.text_weight is None else used.text_weight:g}"
        f":unet={used.weight:g}>"
        for used in found.loose
        if used.role == "lora" and used.weight is not None and _NOT_IN_TAGS.isdisjoint(used.name)
        if _looked_up(library, Kind.LORA, used) is not None
    )
    if not tags or found.recipe is not None:
        return found
    say(f"added to the prompt, where such things stand here: {tags}")
    return replace(found, prompt=found.prompt + tags)


def _note_embeddings(found: Found, library: Library, other: Mapping[str, str], *, say: Say) -> None:
    """Say which of the words in the prompts are not what they were; our recipes say it later.

    Those of `other` were said already.
    """
    loose = found.loose
    for used in found.models if found.recipe is None else ():
        if used.role != "embedding" or used in loose or used.name in other:
            continue
        card = _of_name(library, Kind.EMBEDDING, used.name)
        if card is None:
            say(f"the embedding {used.name!r} is not here: its name is read as words")
        elif used.digest and not card.sha256.startswith(used.digest):
            say(f"the embedding {used.name!r} here is another file; the result will differ")


def _looked_up(library: Library, kind: Kind, used: FoundModel) -> ModelCard | None:
    """The file of that hash, else that of that name."""
    return _of_name(library, kind, used.digest or "") or _of_name(library, kind, used.name)


def _of_name(library: Library, kind: Kind, name: str) -> ModelCard | None:
    """What is listed here as `name`, or has that hash; never a path, which it may name too."""
    try:
        by_path = kind in BY_PATH and Path(name).exists()
        return None if not name or by_path else library.find_of(kind, name)
    except (BadRequest, OSError):  # not here, or no name that a file could have
        return None


def _another(used: FoundModel, card: ModelCard) -> str:
    if used.digest is None:
        return f"the file does not say which {used.name!r} made the picture; taken is {card.name}"
    return (
        f"the model {used.name!r} here is another file than the one that made this picture;"
        " the result will differ"
    )

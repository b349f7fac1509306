"""From found settings to the fields of our request.

Where the request takes not all of them at once, they are tried one after the other, so that a value
which we do not take costs no other.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.core.errors import BadRequest, UnknownName, shorten
from darkroom.core.request import ImageRequest
from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler
from darkroom.media.metadata import detailer
from darkroom.media.metadata.infotext_table import INFORMATION, ROWS, Row
from darkroom.media.metadata.request_table import USUAL, Flat, nested

# That ask for nothing.
_NOTHING = re.compile(r"|None|none|-1|Automatic|Use same .*", re.DOTALL)
_STRENGTH = "Denoising strength"
_HIRES = ("Hires upscale", "Hires resize", "Hires upscaler", "Hires steps")
# What A1111 means where a text with a second run leaves it open.
_A1111_HIRES: Flat = {"hires.upscaler": "Latent", "hires.strength": 0.7}
_FROM_A_PICTURE = ("Init image hash", "Mask blur", "Mask mode", "Masked content", "Inpaint area")
_PICTURE = ("init", "mask")  # blocks that a picture must be there for
_ITS_PICTURE = "it began with a picture that the file does not hold"
# Other programs' spellings: the prefix is an old ComfyUI's, the suffix InvokeAI's for Karras.
_OTHER_SPELLING = re.compile(r"(?:sample_)?(.*?)(_k)?", re.DOTALL)


def request_fields(
    prompt: str, negative_prompt: str, settings: Mapping[str, str], *, picture: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """What `ImageRequest.parse` takes, and in words what it does not.

    `picture` is the one to begin with, which no text holds: without it what is done to it is left
    out.
    """
    left_out: list[str] = []
    tries: list[tuple[str, Flat]] = [
        ("the prompt", {"prompt": prompt}),
        ("the negative prompt", {"negative_prompt": negative_prompt}),
        # Braces in a stranger's prompt are braces, or were chosen from already.
        ("dynamic prompts", {"dynamic_prompts": False}),
    ]
    if picture is not None:
        tries.append(("the picture", {"init.image": picture}))
    mapped = set(INFORMATION)
    for row, key, text in _present(settings, picture):
        mapped.add(key)
        told = f"{key}: {shorten(text)}"
        if picture is None and row.fields[0].partition(".")[0] in _PICTURE:
            left_out.append(f"{told} ({_ITS_PICTURE})")
            continue
        try:
            tries.append((told, _converted(row, text)))
        except (ValueError, UnknownName):
            left_out.append(told)
    prompts = {"prompt": prompt, "negative_prompt": negative_prompt}
    detail, unknown = detailer.read(settings, prompts)
    tries += [(f"ADetailer {n}", {"detail": detail[:n]}) for n in range(1, len(detail) + 1)]
    if not settings.keys().isdisjoint(_HIRES):
        said = {name for _, some in tries for name in some}
        tries += [(n, {n: value}) for n, value in _A1111_HIRES.items() if n not in said]
    fields, refused = _accepted(tries)
    if _strength_does_nothing(settings):
        mapped.add(_STRENGTH)
    known = (key for key in settings if key.startswith(detailer.PREFIX) and key not in unknown)
    mapped.update(known)
    rest = ((k, v) for k, v in settings.items() if k not in mapped and not _NOTHING.fullmatch(v))
    return fields, left_out + refused + [f"{key}: {shorten(text)}" for key, text in rest]


def _begins(settings: Mapping[str, str]) -> bool:
    """Whether the text tells that the run began with a picture."""
    mode = f"{settings.get('Operations')} {settings.get('Mode')}".casefold()
    named = any(word in mode for word in ("img2img", "inpaint", "outpaint"))
    return named or not settings.keys().isdisjoint(_FROM_A_PICTURE)


def _strength_does_nothing(settings: Mapping[str, str]) -> bool:
    """1 is a picture from noise alone; 0 is its picture again, if it has one to start from."""
    nothing = ("1", "1.0") if _begins(settings) else ("0", "0.0", "1", "1.0")
    return settings.get(_STRENGTH) in nothing


def _accepted(tries: list[tuple[str, Flat]]) -> tuple[dict[str, Any], list[str]]:
    """The fields that our request takes, and the words for those that it does not."""
    fields: Flat = {}
    for _, some in tries:
        for name, value in some.items():
            if name == "detail":
                fields[name] = value
            else:  # the scheduler in a sampler's name goes over "Automatic"
                fields.setdefault(name, value)
    if _refusal(fields) is None:
        return nested(fields), []
    taken: Flat = {}
    words = []
    for told, some in tries:
        if (why := _refusal(taken | some)) is None:
            taken = {**some, **taken, **({"detail": some["detail"]} if "detail" in some else {})}
        else:
            words.append(f"{told} ({why})")
    return nested(taken), words


def _refusal(fields: Flat) -> str | None:
    try:
        ImageRequest.parse(nested(fields))
    except BadRequest as error:
        return str(error)
    return None


def _present(settings: Mapping[str, str], picture: str | None) -> Iterator[tuple[Row, str, str]]:
    """The rows that `settings` have a value for and the request a field."""
    for row in ROWS:
        key = next((name for name in (row.key, *row.aliases) if name in settings), None)
        if key is None:
            continue
        if row.key == _STRENGTH:
            if (field := _strength_of(settings, picture)) is not None:
                yield Row(row.key, (field,), row.read), key, settings[key]
        elif USUAL.keys() >= set(row.fields) and not (
            "." in row.fields[0] and _NOTHING.fullmatch(settings[key])
        ):
            yield row, key, settings[key]


def _strength_of(settings: Mapping[str, str], picture: str | None) -> str | None:
    """What A1111's one strength is about: a picture to begin with, or the second run."""
    if picture is not None or (_begins(settings) and not _strength_does_nothing(settings)):
        return "init.strength"
    return None if settings.keys().isdisjoint(_HIRES) else "hires.strength"


def _converted(row: Row, text: str) -> Flat:
    """The fields of one row; ValueError or UnknownName when the text is not of its kind."""
    block, dot, name = row.fields[0].rpartition(".")
    if name == "sampler":
        return {f"{block}{dot}{key}": value for key, value in sampler_fields(text).items()}
    if name == "scheduler":
        return {row.fields[0]: find_scheduler(text).name}
    parts = text.split("x") if len(row.fields) > 1 else [text]
    values = zip(row.fields, (row.read(part.strip()) for part in parts), strict=True)
    return {
        name: value
        for name, value in values
        if value is not None and (value != 0 or len(parts) == 1)
    }


def sampler_fields(text: str) -> Flat:
    """Sampler, and scheduler where the name holds one; UnknownName when it is none of ours."""
    try:
        sampler, scheduler = find_sampler(text)
        name = scheduler.name if scheduler else AUTOMATIC
    except UnknownName:
        other = _OTHER_SPELLING.fullmatch(text)
        if other is None or other[1] == text:
            raise
        sampler, scheduler = find_sampler(other[1])
        name = "Karras" if other[2] else scheduler.name if scheduler else AUTOMATIC
    return {"sampler": sampler.name} | ({} if name == AUTOMATIC else {"scheduler": name})

"""From found settings to the fields of our request.

Where the request takes not all of them at once, each row of the table is tried by itself, so that
one value which we do not take costs no other.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.core.errors import BadRequest, UnknownName, shorten
from darkroom.core.request import ImageRequest
from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler
from darkroom.media.metadata.infotext_table import INFORMATION, ROWS, Row

_KNOWN = frozenset(ImageRequest.model_fields)
_NOTHING = ("", "None", "none", "-1", "Use same choices", "Automatic")  # that ask for nothing
_STRENGTH = "Denoising strength"
_FROM_A_PICTURE = ("Init image hash", "Mask blur", "Mask mode", "Masked content", "Inpaint area")
# Other programs' spellings: the prefix is an old ComfyUI's, the suffix InvokeAI's for Karras.
_OTHER_SPELLING = re.compile(r"(?:sample_)?(.*?)(_k)?", re.DOTALL)

Fields = dict[str, Any]


def request_fields(
    prompt: str, negative_prompt: str, settings: Mapping[str, str]
) -> tuple[Fields, list[str]]:
    """What `ImageRequest.parse` takes, and in words what it does not."""
    left_out: list[str] = []
    tries: list[tuple[str, Fields]] = [
        ("the prompt", {"prompt": prompt}),
        ("the negative prompt", {"negative_prompt": negative_prompt}),
        # Braces in a stranger's prompt are braces, or were chosen from already.
        ("dynamic prompts", {"dynamic_prompts": False}),
    ]
    tries = [each for each in tries if _KNOWN.issuperset(each[1])]
    mapped = set(INFORMATION)
    for row, key, text in _present(settings):
        mapped.add(key)
        try:
            tries.append((f"{key}: {shorten(text)}", _converted(row, text)))
        except (ValueError, UnknownName):
            left_out.append(f"{key}: {shorten(text)}")
    fields, refused = _accepted(tries)
    if _strength_does_nothing(settings):
        mapped.add(_STRENGTH)
    rest = ((k, v) for k, v in settings.items() if k not in mapped and v not in _NOTHING)
    return fields, left_out + refused + [f"{key}: {shorten(text)}" for key, text in rest]


def _strength_does_nothing(settings: Mapping[str, str]) -> bool:
    """1 is a picture from noise alone; 0 is its picture again, if it has one to start from."""
    starts = not settings.keys().isdisjoint(_FROM_A_PICTURE) or "img2img" in str(
        settings.get("Operations")
    )
    return settings.get(_STRENGTH) in (("1", "1.0") if starts else ("0", "0.0", "1", "1.0"))


def _accepted(tries: list[tuple[str, Fields]]) -> tuple[Fields, list[str]]:
    """The fields that our request takes, and the words for those that it does not."""
    fields: Fields = {}
    for name, value in (pair for _, some in tries for pair in some.items()):
        fields.setdefault(name, value)  # the scheduler in a sampler's name goes over "Automatic"
    if _refusal(fields) is None:
        return fields, []
    refusals = [(told, some, _refusal(some)) for told, some in tries]
    taken = {name for _, some, why in refusals if why is None for name in some}
    words = [f"{told} ({why})" for told, _, why in refusals if why is not None]
    return {name: value for name, value in fields.items() if name in taken}, words


def _refusal(fields: Fields) -> str | None:
    try:
        ImageRequest.parse(fields)
    except BadRequest as error:
        return str(error)
    return None


def _present(settings: Mapping[str, str]) -> Iterator[tuple[Row, str, str]]:
    """The rows that `settings` have a value for and the request a field."""
    for row in ROWS:
        key = next((name for name in (row.key, *row.aliases) if name in settings), None)
        if key is not None and _KNOWN.issuperset(row.fields):
            yield row, key, settings[key]


def _converted(row: Row, text: str) -> Fields:
    """The fields of one row; ValueError or UnknownName when the text is not of its kind."""
    if row.fields == ("sampler",):
        return sampler_fields(text)
    if row.fields == ("scheduler",):
        return {"scheduler": find_scheduler(text).name}
    parts = text.split("x") if len(row.fields) > 1 else [text]
    values = zip(row.fields, (row.read(part.strip()) for part in parts), strict=True)
    return {name: value for name, value in values if value != 0 or len(parts) == 1}


def sampler_fields(text: str) -> Fields:
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

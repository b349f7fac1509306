"""ADetailer's part of an infotext: the blocks of `detail`.

The keys of the second block and the further ones end in "2nd", "3rd", … as ADetailer writes them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from darkroom.core.blocks import Detail
from darkroom.media.metadata.infotext_table import bare_model, plain, whole

PREFIX = "ADetailer "
_ENDS = ("", " 2nd", " 3rd", *(f" {n}th" for n in range(4, 17)))
_KEY = re.compile(r"ADetailer (.+?)( 2nd| 3rd| \d{1,2}th)?")

# Its key -> our field, how it is read, and whether it is written where it has its usual value.
_FIELDS: Mapping[str, tuple[str, Callable[[str], Any], bool]] = MappingProxyType(
    {
        "model": ("detector", str, True),
        "prompt": ("prompt", str, False),
        "negative prompt": ("negative_prompt", str, False),
        "confidence": ("confidence", float, True),
        "mask only top k": ("most", whole, False),
        "mask only top k largest": ("most", whole, False),
        "mask min ratio": ("smallest", float, False),
        "dilate erode": ("grow", whole, True),
        "mask blur": ("blur", float, True),
        "denoising strength": ("strength", float, True),
        "inpaint padding": ("padding", whole, True),
        "inpaint width": ("size", whole, False),
        "steps": ("steps", whole, False),
        "CFG scale": ("cfg_scale", float, False),
        "checkpoint": ("model", bare_model, False),
        "sampler": ("sampler", str, False),
        "scheduler": ("scheduler", str, False),
    }
)
_OLD = ("mask only top k largest",)
# What asks for nothing more.
_SAID = frozenset({"version", "use inpaint width height", "inpaint height"})
_USUAL = {"inpaint only masked": "True"}
_SAME = re.compile(r"Use same .*", re.IGNORECASE)
_PROMPT, _EACH = "[PROMPT]", "[SEP]"
_NONE = ("None", "none", "")


def read(
    settings: Mapping[str, str], prompts: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The fields of each block, and the keys that have no counterpart here.

    `prompts` are those of the picture, by their fields: [PROMPT] in a block's stands for them.
    """
    blocks: dict[str, dict[str, Any]] = {}
    left: list[str] = []
    for key, text in settings.items():
        found = _KEY.fullmatch(key)
        if found is None or found[1].startswith("use separate") or found[1] in _SAID:
            continue
        field = _FIELDS.get(found[1])
        if field is None or (found[2] or "") not in _ENDS:
            left += [key] if text != _USUAL.get(found[1]) else []
            continue
        if _SAME.fullmatch(text):
            continue
        if field[0] in prompts and _EACH in text:  # another for each face that is found
            left.append(key)
            continue
        said = text.replace(_PROMPT, prompts.get(field[0], _PROMPT))
        try:
            blocks.setdefault(found[2] or "", {})[field[0]] = field[1](said)
        except ValueError:
            left.append(key)
    made = [blocks[end] for end in _ENDS if end in blocks]
    return [each for each in made if each.get("detector", "None") not in _NONE], left


def write(details: tuple[Detail, ...]) -> Iterator[tuple[str, str]]:
    """The keys and texts of all blocks."""
    usual = {name: field.default for name, field in Detail.model_fields.items()}
    for detail, end in zip(details, _ENDS, strict=False):
        for key, (name, _, always) in _FIELDS.items():
            value = getattr(detail, name)
            if key not in _OLD and (always or value != usual[name]):
                yield f"{PREFIX}{key}{end}", plain(value)
        yield f"{PREFIX}inpaint only masked{end}", "True"

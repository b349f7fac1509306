"""What A1111 1.10 reads into an infotext that does not say it: its defaults, and its history.

Files of older versions were made by older rules; A1111 switches those on by the version that the
text names.
"""

import re
from collections.abc import Mapping
from typing import Any

from darkroom.media.metadata.found import is_model, split_sizes
from darkroom.media.metadata.infotext_table import IMPLIED

_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:-(\d{1,6}))?(?:-.*)?")
_EMPHASIS = re.compile(r"(?<!\\)[(\[]")


def implied(settings: Mapping[str, str], prompt: str, negative_prompt: str) -> dict[str, Any]:
    """The settings that A1111 adds to those of an infotext."""
    said = {**settings, **dict(split_sizes(settings))}
    added = {key: value for key, value in IMPLIED.items() if key not in said}
    prompts = f"{prompt}\n{negative_prompt}"
    if "Emphasis" not in said and _EMPHASIS.search(prompts):
        added["Emphasis"] = "Original"
    version = _version(settings.get("Version", ""))
    if version is None:
        return added
    rules = {
        "Old prompt editing timelines": version < (1, 6, 0) and "[" in prompts,
        "Pad conds v0": version < (1, 6, 0) and said.get("Sampler") in ("DDIM", "PLMS"),
        "Downcast alphas_cumprod": version < (1, 7, 0, 225),
        "Refiner switch by sampling steps": version < (1, 8, 0)
        and is_model(settings.get("Refiner")),
    }
    return added | {key: True for key, applies in rules.items() if applies and key not in said}


def _version(text: str) -> tuple[int, ...] | None:
    """ "v1.7.0-12-g61905b06" as (1, 7, 0, 12); None for what is no version of A1111."""
    found = _VERSION.fullmatch(text[:100])
    return tuple(int(part or 0) for part in found.groups()) if found else None

"""How a picture was made, in one line."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from darkroom.media.metadata import Found

# A1111's names of settings, and how their values are said shortly.
SAID: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "Seed": "seed {}".format,
        "Steps": "{} steps".format,
        "Sampler": str,
        "CFG scale": "CFG {}".format,
        "Denoising strength": "strength {}".format,
    }
)


def brief(found: Found | None) -> str:
    """The settings that matter most, "" where nothing is known."""
    if found is None:
        return ""
    told = [say(found.settings[name]) for name, say in SAID.items() if found.settings.get(name)]
    if found.checkpoint is not None and found.checkpoint.name:
        told.append(found.checkpoint.name)
    return " · ".join(told)

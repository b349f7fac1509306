"""The checkpoints on this machine, by name, hash or path."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from darkroom.core.errors import BadFile, UnknownName
from darkroom.core.model import ModelCard
from darkroom.library.hashes import HashBook
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header

STARTER = "starter"
SUFFIXES = (".safetensors", ".sft", ".ckpt")


@dataclass(frozen=True, slots=True)
class Found:
    """A file in a model folder: a card, or the reason why it cannot be used."""

    name: str
    path: Path
    card: ModelCard | None = None
    problem: str = ""


class Library:
    """Looks for checkpoints in `folders`, besides the starter that comes with the program."""

    def __init__(self, folders: tuple[Path, ...], hashes: HashBook) -> None:
        self._folders = folders
        self._hashes = hashes

    def list(self) -> list[Found]:
        """Every model file, the starter first."""
        return [self._examine(name, path) for name, path in self._files()]

    def find(self, name: str) -> ModelCard:
        """The card of the model called `name`: a listed name, the start of a hash, or a path."""
        files = dict(self._files())
        for known, path in files.items():
            if known.casefold() == name.casefold():
                return self._card(known, path)
        if (by_hash := self.find_hash(name)) is not None:
            return by_hash
        path = Path(name).expanduser()
        if path.suffix.lower() in SUFFIXES or path.is_file():
            return self._card(path.stem, path)
        raise UnknownName(
            "model", name, files, hint="`darkroom models` lists them; a path works too."
        )

    def find_hash(self, start: str) -> ModelCard | None:
        """The model whose sha256 starts with `start` (8 digits or more), if there is one."""
        start = start.casefold()
        if len(start) < 8 or set(start) - set("0123456789abcdef"):
            return None
        for name, path in self._files():
            if self._hash(path).startswith(start):
                return self._card(name, path)
        return None

    def _files(self) -> Iterator[tuple[str, Path]]:
        yield STARTER, starter_path()
        seen = {STARTER}
        for folder in self._folders:
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    name = path.relative_to(folder).with_suffix("").as_posix()
                    if name not in seen:
                        seen.add(name)
                        yield name, path

    def _hash(self, path: Path) -> str:
        try:
            return self._hashes.sha256(path)
        except (OSError, BadFile):
            return ""

    def _examine(self, name: str, path: Path) -> Found:
        try:
            return Found(name, path, self._card(name, path))
        except BadFile as error:
            return Found(name, path, problem=error.sentence())

    def _card(self, name: str, path: Path) -> ModelCard:
        header = read_header(path)
        detected = detect(header)
        return ModelCard(
            sha256=self._hashes.sha256(path),
            path=str(path.resolve()),
            name=name,
            kind=detected.kind,
            arch=detected.arch,
            variant=detected.variant,
            prediction=detected.prediction,
            bytes=header.size,
            native_size=detected.native_size,
            recommended=_recommended(header.metadata),
            metadata=header.metadata,
        )


def starter_path() -> Path:
    """The model that comes with the program."""
    return Path(str(resources.files("darkroom") / "starter" / "starter.safetensors"))


def _recommended(metadata: Mapping[str, str]) -> dict[str, float | str]:
    """The maker's `steps` and `cfg_scale`, as far as they make sense."""
    try:
        found = json.loads(metadata.get("darkroom.recommended", "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    bounds = {"steps": (1, 500, int), "cfg_scale": (1, 100, float)}
    return {
        name: kind(found[name])
        for name, (low, high, kind) in bounds.items()
        if isinstance(found.get(name), int | float)
        and math.isfinite(found[name])
        and low <= found[name] <= high
    }

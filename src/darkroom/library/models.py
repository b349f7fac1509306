"""The checkpoints on this machine, by name, hash or path.

A listing reads headers only. A file is hashed when its card is asked for, or when it is looked for
by hash and no file whose hash is known already is the one.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain, count
from pathlib import Path

from darkroom.core.errors import BadFile, UnknownName
from darkroom.core.model import ModelCard
from darkroom.core.settings import Settings, expanded
from darkroom.library.hashes import HashBook
from darkroom.library.walk import files_below
from darkroom.weights.detect import Detected, detect
from darkroom.weights.header import Header, read_header

STARTER = "starter"
SUFFIXES = (".safetensors", ".sft", ".ckpt")  # the first has the first claim to a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file in a model folder: what its header says, or why it cannot be used."""

    name: str
    path: Path
    detected: Detected | None = None
    bytes: int = 0
    recommended: Mapping[str, float | str] = field(default_factory=dict)
    sha256: str = ""  # of the whole file, where it is known without reading it
    problem: str = ""


class Library:
    """Looks for checkpoints in `folders`, besides the starter that comes with the program.

    `own` is one more folder, which need not be there.
    """

    def __init__(
        self, folders: tuple[Path, ...], hashes: HashBook, *, own: Path | None = None
    ) -> None:
        self._folders = (*folders, own) if own else folders
        self._own = own
        self._hashes = hashes

    @classmethod
    def of(cls, settings: Settings) -> "Library":
        """The library that the settings describe."""
        book = HashBook(settings.data_dir / "library.sqlite")
        return cls(settings.models_dirs, book, own=settings.data_dir / "models")

    def list(self) -> list[Found]:
        """Every model file, the starter first, and every folder that cannot be looked into."""
        files, problems = self._survey()
        return [*(self._examine(name, path) for name, path in files.items()), *problems]

    def find(self, name: str) -> ModelCard:
        """The card of the model called `name`: a listed name, the start of a hash, or a path.

        A listed name may carry its extension; a file of that name in this folder goes first.
        """
        if (card := self.find_listed(name) or self.find_hash(name)) is not None:
            return card
        path = expanded(Path(name))
        if not _there(path):
            if path.suffix.lower() not in SUFFIXES:
                hint = "`darkroom models` lists them; a path works too."
                raise UnknownName("model", name, self._survey()[0], hint=hint)
            if (card := self.find_listed(name.removesuffix(path.suffix))) is not None:
                return card
        return self._card(self._listed_name(path), path)

    def find_listed(self, name: str) -> ModelCard | None:
        """The model listed as `name`, whatever its case, if there is one."""
        files, _ = self._survey()
        folded = {known.casefold(): known for known in reversed(files)}
        known = name if name in files else folded.get(name.casefold())
        return None if known is None else self._card(known, files[known])

    def find_hash(self, start: str, *, likely: str = "") -> ModelCard | None:
        """The model whose sha256 starts with `start` (8 digits or more), if there is one.

        The file listed as `likely` is hashed first; the other listed ones only if no file that was
        used before, from wherever, is the one.
        """
        start = start.casefold()
        if len(start) < 8 or set(start) - set("0123456789abcdef"):
            return None
        files, _ = self._survey()
        listed = list(files.items())
        first = [item for item in listed if item[0] == likely]
        before = [(path.stem, path) for path in self._hashes.places(start)]
        for group, sha256 in (
            (first, self._hash),
            (listed, self._hashes.known),
            (before, self._hashes.known),
            (listed, self._hash),
        ):
            for name, path in group:
                if sha256(path).startswith(start):
                    return self._card(name, path)
        return None

    def _survey(self) -> tuple[dict[str, Path], tuple[Found, ...]]:
        """The files by their names, and the folders that cannot be looked into."""
        errors: dict[str, OSError] = {}
        files = {STARTER: starter_path()}
        found = files_below(self._folders, SUFFIXES, errors)
        for folder, path in sorted(found, key=lambda item: _rank(item[1])):
            name = next(name for name in _names(folder, path) if name not in files)
            files[name] = path
        problems = tuple(
            Found(
                name=name, path=Path(name), problem=_FOLDERS.get(type(error), str(error.strerror))
            )
            for name, error in errors.items()
            if not (name == str(self._own) and isinstance(error, FileNotFoundError))
        )
        return files, problems

    def _listed_name(self, path: Path) -> str:
        real = os.path.realpath(path)
        files, _ = self._survey()
        return next((n for n, p in files.items() if os.path.realpath(p) == real), path.stem)

    def _hash(self, path: Path) -> str:
        try:
            return self._hashes.sha256(path)
        except BadFile:
            return ""

    def _examine(self, name: str, path: Path) -> Found:
        try:
            header, detected = _read(name, path)
        except BadFile as error:
            return Found(name=name, path=path, problem=error.sentence())
        return Found(
            name=name,
            path=path,
            detected=detected,
            bytes=header.size,
            recommended=_recommended(header.metadata),
            sha256=self._hashes.known(path),
        )

    def _card(self, name: str, path: Path) -> ModelCard:
        header, detected = _read(name, path)
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


_FOLDERS: dict[type[OSError], str] = {
    FileNotFoundError: "there is no such folder",
    NotADirectoryError: "it is a file, not a folder of models",
    PermissionError: "you may not look into this folder",
}


def _names(folder: Path, path: Path) -> Iterator[str]:
    """Names for a file, best first and without end. Each is text, as recipes need it."""
    full = path.relative_to(folder)
    short, place = full.with_suffix("").as_posix(), folder.absolute().name
    names = [short, f"{place}/{short}", f"{place}/{full.as_posix()}", str(path.absolute())]
    if path.suffix.lower() != SUFFIXES[0]:
        names.insert(1, full.as_posix())
    numbered = (f"{short} ({number})" for number in count(2))  # of names that are no text
    yield from (os.fsencode(name).decode(errors="replace") for name in chain(names, numbered))


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder that may not be looked into
        return False


def _rank(path: Path) -> int:
    return SUFFIXES.index(path.suffix.lower())


def _read(name: str, path: Path) -> tuple[Header, Detected]:
    try:
        header = read_header(path)
        return header, detect(header)
    except BadFile as error:
        if name == STARTER and path == starter_path():
            raise BadFile(str(error), hint="Install Darkroom again.") from error
        raise


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

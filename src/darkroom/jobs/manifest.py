"""What a series has made so far, in `series.json` beside its results.

The names of all results are chosen, and written down, before the first is made; none of them is
there then. So a name of the list that is there later is a result, even when the process was killed
before it could say so, and the same command makes only what is missing.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from darkroom.core.errors import BadFile, BadRequest
from darkroom.core.fields import Frozen
from darkroom.core.series import BatchRequest, GridRequest
from darkroom.media.files import write_whole

NAME = "series.json"
MOST_BYTES = 256 << 20
SHARE = 0.05  # of the running time that is spent on writing things down, at most


class Result(Frozen):
    """One file that was made."""

    file: str  # below the folder
    sha256: str = ""  # empty when it was found after a kill


class Entry(Frozen):
    """One item of a series."""

    name: str  # of its files, without an ending, below the folder
    files: tuple[Result, ...] = ()
    complete: bool = False
    request: str = ""  # sha256 of what was run for it
    error: str = ""  # why it could not be made, the last time


class _Document(Frozen):
    format: Literal[1] = 1
    kind: Literal["grid", "batch"]
    request: str  # its fingerprint
    seed: int = Field(ge=0)  # what was drawn where the request leaves it open
    sheet: str = ""
    items: dict[str, Entry] = Field(default_factory=dict)


class Seldom:
    """Lets something be done again and again for at most a share of the time."""

    def __init__(self, share: float = SHARE) -> None:
        self._share = share
        self._next = 0.0

    def due(self) -> bool:
        """Whether it may be done now."""
        return time.monotonic() >= self._next

    def took(self, seconds: float) -> None:
        """Count that it took `seconds`."""
        self._next = time.monotonic() + seconds / self._share


class Manifest:
    """The list of one series in one folder; `suffix` is that of its results, such as ".png"."""

    def __init__(self, folder: Path, document: _Document, suffix: str) -> None:
        self._folder = folder
        self._document = document
        self._suffix = suffix
        self._items = dict(document.items)
        self._taken = {entry.name.casefold() for entry in self._items.values()}
        self._seldom = Seldom()

    @classmethod
    def of(cls, folder: Path, request: GridRequest | BatchRequest, suffix: str) -> "Manifest":
        """The list in `folder`, or a new one; BadRequest where it is that of another request."""
        known = _read(folder / NAME)
        print_ = fingerprint(request)
        if known is not None and known.request != print_:
            raise BadRequest(
                f"{folder} holds a {known.kind} that was made by another request",
                hint="Choose another folder with -o, or say --fresh to begin anew in this one.",
            )
        new = _Document(kind=request.kind, request=print_, seed=secrets.randbelow(2**32))
        return cls(folder, known or new, suffix)

    @property
    def seed(self) -> int:
        """What was drawn for this series where the request leaves the seed open."""
        return self._document.seed

    @property
    def sheet(self) -> str:
        """The name of the grid's picture and page, without an ending."""
        return self._document.sheet

    def has(self, path: Path) -> bool:
        """Whether a file is a result, or is about to be one."""
        try:
            name = path.absolute().relative_to(self._folder.absolute())
        except ValueError:
            return False
        stem = name.with_suffix("").as_posix().casefold()
        return name.suffix == self._suffix and stem in self._taken

    def plan(self, names: Iterable[tuple[str, str]], *, sheet: str = "") -> None:
        """Choose a free name for every (key, wanted name), and write the list."""
        for key, wanted in names:
            if key not in self._items:
                name = next(filter(self._is_free, _numbered(wanted)))
                self._taken.add(name.casefold())
                self._items[key] = Entry(name=name)
        if sheet and not self.sheet:
            endings = (".png", ".html")
            free = (
                name
                for name in _numbered(sheet)
                if not any(os.path.lexists(self._folder / f"{name}{e}") for e in endings)
            )
            self._document = self._document.model_copy(update={"sheet": next(free)})
        self.write()

    def entry(self, key: str) -> Entry:
        """What is known of an item."""
        return self._items[key]

    def results(self, key: str, *, several: bool = False) -> tuple[Path, ...] | None:
        """The files of an item that needs nothing more; None when it is still to be made.

        `several` is for items that become more than one file.
        """
        entry = self._items[key]
        paths = tuple(self._folder / result.file for result in entry.files)
        if entry.complete and all(map(os.path.lexists, paths)):
            return paths
        there = self._folder / f"{entry.name}{self._suffix}"
        if not several and not entry.files and os.path.lexists(there):
            return (there,)  # killed before it could be written down
        return None

    def made(self, key: str, files: Iterable[tuple[Path, str]], request: str) -> None:
        """Note what an item became: its files, and their sha256."""
        results = tuple(
            Result(file=path.relative_to(self._folder).as_posix(), sha256=sha256)
            for path, sha256 in files
        )
        own = {"files": results, "complete": True, "request": request, "error": ""}
        self._note(key, own)

    def adopt(self, key: str, files: Iterable[Path]) -> None:
        """Note files that were found, if they are not noted yet."""
        if not self._items[key].complete:
            self.made(key, [(path, sha256_of(path)) for path in files], "")

    def failed(self, key: str, error: str) -> None:
        """Note why an item could not be made."""
        self._note(key, {"error": error[:500], "files": (), "complete": False})

    def write(self) -> None:
        """Write the list, whole and lasting."""
        began = time.monotonic()
        document = self._document.model_copy(update={"items": self._items})
        text = document.model_dump_json(exclude_defaults=True, indent=1)
        write_whole(self._folder / NAME, f"{text}\n".encode(), lasting=True)
        self._seldom.took(time.monotonic() - began)

    def _note(self, key: str, changed: dict[str, object]) -> None:
        self._items[key] = self._items[key].model_copy(update=changed)
        if self._seldom.due():  # a long list; what is not noted yet is found by its name
            self.write()

    def _is_free(self, name: str) -> bool:
        path = self._folder / f"{name}{self._suffix}"
        return name.casefold() not in self._taken and not os.path.lexists(path)


def sha256_of(path: Path) -> str:
    """The sha256 of a file; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def fingerprint(request: GridRequest | BatchRequest) -> str:
    """What makes a request itself: equal for equal requests."""
    fields = request.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def is_finished(folder: Path) -> bool:
    """Whether the series in `folder` has made everything; BadFile when its list is damaged."""
    known = _read(folder / NAME)
    return known is not None and all(entry.complete for entry in known.items.values())


def forget(folder: Path) -> None:
    """Put the list in `folder` aside, so that a series begins anew there; results stay."""
    path = folder / NAME
    if os.path.lexists(path):
        names = (path.with_name(f"series-{number}.json") for number in range(1, 1_000_000))
        path.rename(next(name for name in names if not os.path.lexists(name)))


def _read(path: Path) -> _Document | None:
    hint = "Say --fresh to begin anew; what was made stays."
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadFile(f"{path} is too long for a list of results", hint=hint)
        return _Document.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise BadFile(f"{path} is damaged, or another version's", hint=hint) from None


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in range(1, 1_000_000))

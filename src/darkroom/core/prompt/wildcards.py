"""Wildcard files: one option a line, for `__name__` in a prompt.

    # colours/warm.txt, for __colours/warm__ or __colours/*__
    red
    3::orange          three times as often
    {dark |}brown      may hold choices and other wildcards

Empty lines and lines that begin with `#` are left out. A name is the path below the folder, with
`/` between folders and without `.txt`. Names are looked up among the files that are there, so none
leads out of the folder; nor does a link.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from darkroom.core.errors import BadFile

MAX_BYTES = 16 << 20  # of one file

_WEIGHT = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})::")


class Line(NamedTuple):
    """One option of a wildcard."""

    file: str
    text: str
    weight: float


class Lines(NamedTuple):
    """All options of a wildcard, never none."""

    lines: tuple[Line, ...]
    sums: list[float]  # of the weights, running


class Wildcards:
    """Wildcards by name: texts as they are, files read when they are first asked for."""

    def __init__(self, files: Mapping[str, str | Path] | None = None) -> None:
        self._files = dict(files or {})
        self._found: dict[str, Lines | None] = {}

    @classmethod
    def of(cls, folders: Iterable[Path]) -> "Wildcards":
        """The `.txt` files below `folders`; of a name that is there twice the first."""
        files: dict[str, str | Path] = {}
        for folder in folders:
            if not folder.is_dir():
                raise BadFile(
                    f"{folder} is no folder", hint="Wildcards are .txt files in a folder of theirs."
                )
            root = folder.resolve()
            for path in sorted(folder.rglob("*.txt")):
                if path.is_file() and path.resolve().is_relative_to(root):
                    files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
        return cls(files)

    def __contains__(self, name: str) -> bool:
        """Whether there are files of that name; they are not read."""
        return bool(self._matching(name))

    def find(self, name: str) -> Lines | None:
        """The options of `name`, in which `*` and `?` stand for any text; None if there are none.

        BadFile if a file cannot be read.
        """
        if name not in self._found:
            lines = tuple(line for file in self._matching(name) for line in self._lines(file))
            sums = running([line.weight for line in lines])
            self._found[name] = Lines(lines, sums) if lines else None
        return self._found[name]

    def _matching(self, name: str) -> list[str]:
        if not {"*", "?"} & set(name):
            return [name] if name in self._files else []
        pattern = re.compile(translate(name))  # fnmatch's patterns take no time to fail
        return sorted(filter(pattern.match, self._files))

    def _lines(self, file: str) -> Iterator[Line]:
        text = self._files[file]
        for line in (_read(text) if isinstance(text, Path) else text).splitlines():
            if (option := line.strip()) and not option.startswith("#"):
                yield Line(file, *weighted(option))


def weighted(text: str) -> tuple[str, float]:
    """An option without its weight, and the weight: `2::red` -> ("red", 2)."""
    found = _WEIGHT.match(text)
    return (text[found.end() :], float(found[1])) if found else (text, 1.0)


def running(weights: Sequence[float]) -> list[float]:
    """The running sum of `weights`; where all are 0 they count as 1."""
    return list(accumulate(weights if any(weights) else [1.0] * len(weights)))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise BadFile(f"{path} is too large for a wildcard", hint="16 MiB are allowed.")
    return data.decode("utf-8-sig", "replace")

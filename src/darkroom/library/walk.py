"""What lies below folders that may hold links, loops, and places nobody may look into.

A folder's listing holds its names only, no sizes: so it stays true while the folder's own time of
change does, and a listing that is known already is not made again.
"""

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

UNSETTLED_NS = 3 * 10**9  # a folder that changed this lately may change again at the same time
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})
PARTIAL = (".part", ".partial", ".tmp", ".crdownload", ".download", ".incomplete", ".aria2")
MOST_DEPTH = 24  # folders within folders


@dataclass(frozen=True, slots=True)
class Folder:
    """The names in one folder, hidden and half-fetched ones left out."""

    path: str
    mtime_ns: int  # of the folder itself; 0: look again next time
    files: frozenset[str]
    below: tuple[str, ...]  # folders in it, links to folders too


def read_folder(path: str) -> Folder:
    """List one folder; OSError where that cannot be done."""
    changed = Path(path).stat().st_mtime_ns
    settled = changed if time.time_ns() - changed > UNSETTLED_NS else 0
    files: list[str] = []
    below: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower().endswith(PARTIAL):
                continue
            (below if _is_folder(entry) else files).append(entry.name)
    return Folder(path, settled, frozenset(files), tuple(sorted({*below} - SKIPPED)))


def open_file(path: Path) -> BinaryIO:
    """Open a file to read it; OSError of pipes and devices, which may have no beginning or end."""
    if not S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return path.open("rb")


def files_below(
    tops: Iterable[Path], suffixes: tuple[str, ...], errors: dict[str, OSError]
) -> Iterator[Path]:
    """Every file below `tops` with one of `suffixes`, in order."""
    seen: set[tuple[int, int]] = set()
    for top in tops:
        for folder in folders_below(top, {}, errors, seen=seen, enter=lambda each: each.below):
            for name in sorted(folder.files):
                if name.lower().endswith(suffixes):
                    yield Path(folder.path, name)


def folders_below(
    top: Path,
    known: Mapping[str, Folder],
    errors: dict[str, OSError],
    *,
    seen: set[tuple[int, int]],
    enter: Callable[[Folder], Sequence[str]],
) -> Iterator[Folder]:
    """`top` and all folders below it, in order, through links too; none is entered twice.

    Listings in `known` are taken where they are still true. A folder that cannot be looked into
    is put into `errors`. `enter` says which of a folder's own folders are looked into.
    """
    left = [(str(top), 0)]
    while left:
        path, depth = left.pop()
        try:
            status = Path(path).stat()
            if (place := (status.st_dev, status.st_ino)) in seen:
                continue
            folder = known.get(path)
            if folder is None or folder.mtime_ns != status.st_mtime_ns:
                folder = read_folder(path)
        except (OSError, ValueError) as error:  # a ValueError of a NUL in the name
            errors[path] = error if isinstance(error, OSError) else FileNotFoundError()
            continue
        seen.add(place)
        yield folder
        if depth < MOST_DEPTH:
            left += [(f"{path}{os.sep}{name}", depth + 1) for name in reversed(enter(folder))]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into a place that may not be looked into
        return False

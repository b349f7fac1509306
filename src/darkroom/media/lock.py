"""A lock on a file that ends with the process that holds it, however that ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt

    def _take(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` for the length of the block; False when another process has it.

    Whoever holds it may delete the file, for then nobody after it holds the same.
    """
    with path.open("ab") as file:
        try:
            _take(file)
        except OSError:
            yield False
        else:
            yield _is_named(file, path)


def _is_named(file: IO[bytes], path: Path) -> bool:
    """Whether `path` is still this very file: its holder before may have deleted it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False

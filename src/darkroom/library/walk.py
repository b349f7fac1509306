"""Files of a kind in folders that may hold links, loops, and folders nobody may look into."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def files_below(
    folders: Iterable[Path], suffixes: tuple[str, ...], errors: dict[str, OSError]
) -> Iterator[tuple[Path, Path]]:
    """(folder, file) of every file with one of `suffixes`, in order, through links too.

    No folder is entered twice. One that cannot be looked into is put into `errors` by its name.
    """
    seen: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        errors[str(error.filename)] = error

    for folder in folders:
        for top, below, names in os.walk(folder, onerror=note, followlinks=True):
            try:
                status = Path(top).stat()
            except OSError as error:  # gone in this very moment
                note(error)
                continue
            if (status.st_dev, status.st_ino) in seen:
                below.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            below.sort()
            paths = (Path(top, name) for name in sorted(names))
            yield from ((folder, path) for path in paths if path.suffix.lower() in suffixes)

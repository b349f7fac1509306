"""The pictures that users hand in, kept by their content, so that a recipe can be made again.

A request names a file; what runs names its content: `sha256:` and 64 digits. The file is copied to
`<folder>/ab/<sha256>.png` (or whatever it is), once, and is never changed after that. Where the
folder cannot be written, the file is read from where it is, as long as this process runs.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from darkroom.core.errors import BadRequest, TooLarge
from darkroom.core.fields import STORED
from darkroom.core.settings import expanded
from darkroom.media.picture import MOST_BYTES, SMALLER, decode, open_file

Pictures = Callable[[str], Path]  # from "sha256:…" to the file
_DIGITS = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_PIECE = 1 << 20  # bytes that are copied at once


class Inputs:
    """The store below `folder`; `notes` collects what the user should know of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._elsewhere: dict[str, Path] = {}  # by digits: what could not be copied
        self.notes: list[str] = []

    def keep(self, source: str) -> str:
        """Put the picture that `source` names into the store; its name from then on, `sha256:…`.

        A name of that kind comes back as it is, if what it names is here. BadFile of a file that
        is no picture, or a damaged one.
        """
        if source.startswith(STORED):
            self.path(source)
            return source
        path = expanded(Path(source))
        with open_file(path) as file:
            decode(file, str(path))  # before anything else is done with the request
            suffix = path.suffix.lower()
            digits = self._copied(file, suffix if _SUFFIX.fullmatch(suffix) else "")
        if digits is None:
            digits = self._remembered(path)
        return STORED + digits

    def path(self, ref: str) -> Path:
        """The file that `ref`, a `sha256:…`, names; BadRequest where it is not here any more."""
        digits = ref.removeprefix(STORED)
        if not ref.startswith(STORED) or not _DIGITS.fullmatch(digits):
            raise BadRequest(f"{ref[:80]!r} does not name a picture by its content")
        if (found := self._found(digits)) is not None:
            return found
        path = self._elsewhere.get(digits)
        if path is not None and path.is_file():
            return path
        raise BadRequest(
            f"the picture {ref[:15]}… that this begins with is not here any more",
            hint="Name the picture's file again in its place.",
        )

    def _found(self, digits: str) -> Path | None:
        with contextlib.suppress(OSError):
            return next(self._home(digits).glob(f"{digits}*"), None)
        return None

    def _home(self, digits: str) -> Path:
        return self._folder / digits[:2]

    def _copied(self, file: BinaryIO, suffix: str) -> str | None:
        """Copy an open file into the store; None where that cannot be written."""
        part = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self._folder)
            part = Path(name)
            with os.fdopen(handle, "wb") as copy:
                digits = _digest(file, copy)
            if self._found(digits) is None:
                self._home(digits).mkdir(exist_ok=True)
                part.replace(self._home(digits) / f"{digits}{suffix}")
        except OSError:
            return None
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
        return digits

    def _remembered(self, path: Path) -> str:
        """Take a file from where it is."""
        with open_file(path) as file:
            digits = _digest(file)
        self._elsewhere[digits] = path.absolute()
        note = f"{path} could not be copied to {self._folder}: once it is gone or changed, its"
        self.notes.append(f"{note} results cannot be made again")
        return digits


def _digest(file: BinaryIO, copy: BinaryIO | None = None) -> str:
    """The sha256 of an open file, copied piece by piece; TooLarge when it grew meanwhile."""
    file.seek(0)
    digest, length = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        length += len(piece)
        if length > MOST_BYTES:
            raise TooLarge(f"the picture has more than {MOST_BYTES >> 20} MiB", hint=SMALLER)
        if copy is not None:
            copy.write(piece)
    if copy is not None:
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()

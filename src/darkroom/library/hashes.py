"""The hashes by which the world knows a model file, all from one reading of it.

    sha256    64 digits of the whole file; its first 10 are AutoV2, what A1111 writes in brackets
    autov3    12 digits of what follows a safetensors header, so that edits of its metadata leave
              it alone; of any other file the first 12 of sha256
    legacy    8 digits of 64 KiB from the first MiB on: A1111's old hash (AutoV1), far from unique

A diffusers folder counts as one file: its sha256 is that of the lines `sha256  name` of its parts.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from darkroom.core.errors import BadFile

LEGACY = slice(0x100000, 0x110000)  # bytes
AUTOV2, AUTOV3, LEGACY_DIGITS = 10, 12, 8
MOST_HEADER = 100_000_000  # bytes; what claims a longer one is no safetensors file
_LENGTH = 8  # bytes of a safetensors file before its header


@dataclass(frozen=True, slots=True)
class Hashes:
    """What is known of one file; "" where nothing is."""

    sha256: str = ""
    autov3: str = ""
    legacy: str = ""

    @property
    def autov2(self) -> str:
        """The first ten digits of sha256."""
        return self.sha256[:AUTOV2]

    def __bool__(self) -> bool:
        return bool(self.sha256)

    def match(self, start: str) -> bool:
        """Whether one of them is `start`, or begins with it (of the old hash: is it)."""
        return bool(start) and (
            self.sha256.startswith(start) or start in (self.autov3, self.legacy)
        )


def hashes_of(path: Path) -> Hashes:
    """Read the whole file or folder at `path`; BadFile where that cannot be done."""
    try:
        return _folder(path) if path.is_dir() else _file(path)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from None


def legacy_of(path: Path) -> str:
    """The old hash alone, from 64 KiB of the file."""
    try:
        with path.open("rb") as file:
            return _legacy(file)
    except OSError:  # a folder, or a file that cannot be read
        return ""


def parts_of(folder: Path) -> list[Path]:
    """The files of a diffusers folder in order, hidden ones left out."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path for path in found if not any(p[0] == "." for p in path.relative_to(folder).parts)
    )


def _folder(folder: Path) -> Hashes:
    parts = ((_file(path).sha256, path.relative_to(folder)) for path in parts_of(folder))
    lines = "".join(f"{sha256}  {name.as_posix()}\n" for sha256, name in parts)
    sha256 = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
    return Hashes(sha256, sha256[:AUTOV3], sha256[:LEGACY_DIGITS])


def _file(path: Path) -> Hashes:
    with path.open("rb") as file:
        both = _Both(_data_start(file))
        hashlib.file_digest(file, lambda: both)  # type: ignore[arg-type, return-value]
        return Hashes(both.whole.hexdigest(), both.autov3, _legacy(file))


def _legacy(file: BinaryIO) -> str:
    file.seek(LEGACY.start)
    block = file.read(LEGACY.stop - LEGACY.start)
    return hashlib.sha256(block).hexdigest()[:LEGACY_DIGITS]


def _data_start(file: BinaryIO) -> int:
    """Where the data of a safetensors file begins, in bytes; 0 of any other file."""
    head = file.read(_LENGTH + 1)
    file.seek(0)
    length = int.from_bytes(head[:_LENGTH], "little")
    return _LENGTH + length if head[_LENGTH:] == b"{" and length <= MOST_HEADER else 0


class _Both:
    """A digest of all that it is fed, and of what lies behind the first `start` bytes."""

    def __init__(self, start: int) -> None:
        self.whole = hashlib.sha256()
        self._data = hashlib.sha256() if start else None
        self._left = start

    def update(self, block: memoryview) -> None:
        self.whole.update(block)
        if self._data is not None:
            skipped = min(self._left, len(block))
            self._left -= skipped
            self._data.update(block[skipped:])

    @property
    def autov3(self) -> str:
        return (self._data or self.whole).hexdigest()[:AUTOV3]

"""The hashes by which the world knows a model file, all from one reading of it.

    sha256    64 digits of the whole file; its first 10 are AutoV2, what A1111 writes in brackets
    autov3    12 digits of what follows a safetensors header, so that edits of its metadata leave
              it alone; of any other file the first 12 of sha256
    legacy    8 digits of 64 KiB from the first MiB on: A1111's old hash (AutoV1), far from unique;
              none of shorter files, which all had the same

A diffusers folder counts as one file: its sha256 is that of the lines `sha256  name` of its parts.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from darkroom.core.errors import BadFile
from darkroom.library.walk import open_file

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
        with open_file(path) as file:
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
    with open_file(path) as file:
        digest = Digest()
        hashlib.file_digest(file, lambda: digest)  # type: ignore[arg-type, return-value]
        return digest.hashes(file)


def _legacy(file: BinaryIO) -> str:
    file.seek(LEGACY.start)
    block = file.read(LEGACY.stop - LEGACY.start)
    return hashlib.sha256(block).hexdigest()[:LEGACY_DIGITS] if block else ""


def _data_start(head: bytes) -> int:
    """Where the data of a safetensors file with this head begins; 0 of any other file."""
    length = int.from_bytes(head[:_LENGTH], "little")
    return _LENGTH + length if head[_LENGTH:] == b"{" and 0 < length <= MOST_HEADER else 0


class Digest:
    """Hashes a file that it is fed from the first byte on, in pieces of any size."""

    def __init__(self) -> None:
        self._whole, self._data = hashlib.sha256(), hashlib.sha256()
        self._head = b""
        self._fed = self._start = 0  # bytes; where the data begins, if it is safetensors

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._whole.update(piece)
        if len(self._head) <= _LENGTH:
            self._head += piece[: _LENGTH + 1 - len(self._head)]
            self._start = _data_start(self._head)
        if self._start:
            self._data.update(piece[max(self._start - self._fed, 0) :])
        self._fed += len(piece)

    @property
    def sha256(self) -> str:
        """Of all that came so far."""
        return self._whole.hexdigest()

    def hashes(self, file: BinaryIO) -> Hashes:
        """All hashes of the file that was fed, which is open as `file`."""
        data = self._data if self._start else self._whole
        return Hashes(self.sha256, data.hexdigest()[:AUTOV3], _legacy(file))

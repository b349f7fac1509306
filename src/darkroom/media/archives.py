"""Members of zip and tar archives, read one at a time; nothing is ever unpacked by its own name.

Names with `..`, from the root, and links are passed over. A member larger than a picture may be is
refused, and so is an archive whose contents are endless.
"""

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from darkroom.core.errors import BadFile, TooLarge, shorten
from darkroom.media.picture import MOST_BYTES

SUFFIXES = (".zip", ".cbz", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")
MOST_MEMBERS = 100_000
MOST_IN_ALL = 256 << 30  # bytes, unpacked

_DAMAGED = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile,
    tarfile.TarError, zlib.error, LZMAError,
)  # fmt: skip


@dataclass(slots=True)
class Archives:
    """Archives that stay open while their members are read, mostly in order."""

    _open: dict[Path, zipfile.ZipFile | tarfile.TarFile] = field(default_factory=dict)

    def names(self, path: Path) -> list[str]:
        """The members that are files and safely named; BadFile when it is no archive."""
        with _explained(path):
            archive = self._archive(path)
            if isinstance(archive, zipfile.ZipFile):
                infos = archive.infolist()
                sizes = [(i.filename, i.file_size) for i in infos if not i.is_dir()]
            else:
                sizes = list(_files(archive, path))
            _bounded(path, len(sizes), sum(size for _, size in sizes))
            return [name for name, _ in sizes if is_safe(name)]

    def read(self, path: Path, member: str) -> bytes:
        """The bytes of a member; BadFile when it is damaged, TooLarge when it is too long."""
        with _explained(path, member):
            archive = self._archive(path)
            file: IO[bytes] | None
            if isinstance(archive, zipfile.ZipFile):
                file = archive.open(member)
            else:
                file = archive.extractfile(member)
            if file is None:
                raise BadFile(f"{path} has no file {shorten(member)!r}")
            with file:
                data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise TooLarge(f"{shorten(member)!r} in {path} is larger than any picture")
        return data

    def close(self) -> None:
        """Close all of them."""
        for archive in self._open.values():
            archive.close()
        self._open.clear()

    def _archive(self, path: Path) -> zipfile.ZipFile | tarfile.TarFile:
        if path not in self._open:
            is_zip = zipfile.is_zipfile(path)
            self._open[path] = zipfile.ZipFile(path) if is_zip else tarfile.open(path)  # noqa: SIM115
        return self._open[path]


def is_safe(name: str) -> bool:
    """Whether the name of a member stays inside the folder that it would be put into."""
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    return bool(parts) and ".." not in parts and not re.match(r"/|[A-Za-z]:|.*\0", plain)


def _files(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[str, int]]:
    """Names and sizes, looked at one by one: the next is only found behind all the bytes of it."""
    count = total = 0
    for member in archive:
        count, total = count + 1, total + member.size
        _bounded(path, count, total)
        if member.isreg():
            yield member.name, member.size


def _bounded(path: Path, members: int, size: int) -> None:
    if members > MOST_MEMBERS or size > MOST_IN_ALL:
        told = f"{path} holds {members:,} files of {size >> 20:,} MiB in all"
        raise TooLarge(told, hint=f"At most {MOST_MEMBERS:,} files and {MOST_IN_ALL >> 30} GiB.")


@contextmanager
def _explained(path: Path, member: str = "") -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BadFile(f"there is no file {path}", hint="Check the spelling.") from None
    except KeyError:
        raise BadFile(f"{path} has no file {shorten(member)!r}") from None
    except _DAMAGED as error:
        what = f"{shorten(member)!r} in {path}" if member else str(path)
        told = "needs a password" if "password" in str(error) else "is damaged, or no archive"
        raise BadFile(f"{what} {told}", hint="Unpack it yourself and name the folder.") from None

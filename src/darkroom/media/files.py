"""Where results go: whole or not at all, and never over something that is there.

A file is written beside its final place under a hidden name, flushed to the disk, and then
given its name by a hard link, which fails when the name is taken. So a reader never sees half a
picture, two processes never get the same name, and a kill leaves at most a hidden part file.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import count
from pathlib import Path

from darkroom.core.errors import BadRequest, OutputError

LEAST_FREE = 32 << 20  # bytes; below this a run does not start
_NUMBERED = re.compile(r"^(\d{5,})-")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pictures of one job go: a folder, or one named file."""

    folder: Path
    stem: str | None = None  # None: numbered names
    suffix: str = ".png"

    @classmethod
    def chosen(cls, target: Path | None, outputs: Path, pictures: int) -> "Place":
        """Read `-o`: a file name that ends in .png, a folder (there or not yet), or nothing."""
        if target is None:
            return cls(outputs / date.today().isoformat())
        if target.is_dir() or not target.suffix:
            return cls(target)
        if target.suffix.lower() != ".png":
            raise BadRequest(
                f"cannot write {target.name!r}: pictures are saved as PNG",
                hint="Give a name that ends in .png, or a folder.",
            )
        if pictures == 1 and target.exists():
            raise BadRequest(f"{target} exists already", hint="Choose another name.")
        return cls(target.parent, target.stem, target.suffix)

    def names(self, seed: int, *, single: bool) -> Iterator[Path]:
        """Names to try, in order."""
        if self.stem is None:
            first = 1 + max(
                (int(m[1]) for f in self._there() if (m := _NUMBERED.match(f))), default=0
            )
            yield from (self.folder / f"{n:05}-{seed}{self.suffix}" for n in count(first))
        else:
            if single:
                yield self.folder / f"{self.stem}{self.suffix}"
            yield from (self.folder / f"{self.stem}-{n}{self.suffix}" for n in count(1))

    def _there(self) -> list[str]:
        return [entry.name for entry in os.scandir(self.folder)]

    def prepare(self) -> None:
        """Make the folder and prove that it can be written, before any time is spent."""
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            free = _free_bytes(self.folder)
        if free is not None and free < LEAST_FREE:
            raise OutputError(
                f"the disk of {self.folder} is full ({free >> 20} MiB free)",
                hint="Make room, or choose another folder with -o.",
            )


def publish(names: Iterator[Path], data: bytes) -> Path:
    """Write `data` and give the file the first free of `names`."""
    target = next(names)
    with _explained(target.parent), _part(target.parent, data, lasting=True) as part:
        return _give_name(part, target, names)


def write_whole(path: Path, data: bytes, *, lasting: bool = False) -> None:
    """Write `path` over what was there, for our own state: a reader sees the old or the new.

    `lasting` waits until the disk has it, so that it also survives a power cut.
    """
    with _explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part(path.parent, data, lasting=lasting) as part:
            part.replace(path)


@contextlib.contextmanager
def _part(folder: Path, data: bytes, *, lasting: bool) -> Iterator[Path]:
    """`data` in a hidden file of `folder`, which is gone after the block if it was not moved."""
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _give_name(part: Path, target: Path, names: Iterator[Path]) -> Path:
    while True:
        try:
            os.link(part, target)
            return target
        except FileExistsError:
            target = next(names)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES):
                raise
            # No hard links here (FAT, some network drives): reserve the name, then move over it.
            with contextlib.suppress(FileExistsError):
                target.open("xb").close()
                part.replace(target)
                return target
            target = next(names)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


_CURES = {
    errno.ENOSPC: ("the disk is full", "Make room, or choose another folder with -o."),
    errno.EDQUOT: ("your disk quota is used up", "Make room, or choose another folder with -o."),
    errno.EACCES: ("you may not write there", "Choose another folder with -o."),
    errno.EPERM: ("you may not write there", "Choose another folder with -o."),
    errno.EROFS: ("it is read-only", "Choose another folder with -o."),
    errno.ENOTDIR: ("a part of its path is a file", "Choose another folder with -o."),
    errno.EEXIST: ("a part of its path is a file", "Choose another folder with -o."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one with -o."),
    errno.EFBIG: ("files may not grow that large there", "Choose another folder with -o."),
}


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why, hint = _CURES.get(error.errno or 0, (error.strerror or str(error), ""))
        raise OutputError(f"cannot write to {folder}: {why}", hint=hint) from error

"""Where results go: whole or not at all, and never over something that is there.

A file is written beside its final place under a hidden name, flushed to the disk, and then
given its name by a hard link, which fails when the name is taken. So a reader never sees half a
picture, two processes never get the same name, and a kill leaves at most a hidden part file.

Where there are no hard links (FAT, some network drives), Windows renames, which fails too when the
name is taken. Elsewhere the name is reserved by an empty hidden file `.<name>.taken` first, so no
Darkroom gets it twice. Two gaps remain there: another program that makes a file of that very name
in the microseconds between the look and the renaming loses it; and after a kill in between, the
reservation stays and that name is passed over.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import count
from pathlib import Path
from typing import Literal

from darkroom.core.errors import BadRequest, OutputError, shorten

Format = Literal["png", "jpeg", "webp", "avif"]
SUFFIXES: Mapping[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".avif": "avif",
}
LEAST_FREE = 32 << 20  # bytes; below this a run does not start
_NUMBERED = re.compile(r"^(\d{5,})-")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pictures of one job go: a folder, or one named file."""

    folder: Path
    stem: str | None = None  # None: numbered names
    suffix: str = ".png"

    @classmethod
    def chosen(
        cls, target: Path | None, outputs: Path, pictures: int, *, suffix: str = ".png"
    ) -> "Place":
        """Read `-o`: the name of a picture file, a folder (there or not yet), or nothing.

        `suffix` is that of pictures whose name is ours to choose.
        """
        if target is None:
            return cls(outputs / date.today().isoformat(), suffix=suffix)
        if "\0" in str(target):
            raise BadRequest(f"{shorten(str(target))!r} is not a file name")
        with _explained(target.parent):
            if target.is_dir() or not target.suffix:
                return cls(target, suffix=suffix)
            there = os.path.lexists(target)
        if target.suffix.lower() not in SUFFIXES:
            raise BadRequest(
                f"cannot write {target.name!r}: there is no such kind of picture",
                hint=f"Give a name that ends in {', '.join(SUFFIXES)}, or a folder.",
            )
        if pictures == 1 and there:
            raise _taken(target)
        return cls(target.parent, target.stem, target.suffix)

    @property
    def format(self) -> Format:
        """What kind of file the pictures become."""
        return SUFFIXES[self.suffix.lower()]

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
        with _explained(self.folder):
            return [path.name for path in self.folder.iterdir()]

    def prepare(self) -> None:
        """Make the folder and prove that it can be written, before any time is spent."""
        make_folder(self.folder)
        free = try_folder(self.folder)
        if free is not None and free < LEAST_FREE:
            raise OutputError(
                f"the disk of {self.folder} is full ({free >> 20} MiB free)",
                hint="Make room, or choose another folder with -o.",
            )


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, where they are not there yet."""
    with _explained(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:  # with `parents`, only a file system of another kind says so
            raise OutputError(
                f"cannot make the folder {shorten(str(folder), 300)}: none can be made there",
                hint="Choose another folder with -o.",
            ) from None


def try_folder(folder: Path) -> int | None:
    """Write a nameless file into `folder`, or where it would be made; the bytes free there."""
    with _explained(folder):
        parents = (folder.absolute(), *folder.absolute().parents)
        there = next(parent for parent in parents if os.path.lexists(parent))
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"\0")
            file.flush()
        return _free_bytes(there)


def publish(names: Iterator[Path], data: bytes) -> Path:
    """Write `data` and give the file the first free of `names`; BadRequest when none is."""
    target = next(names)
    with _explained(target.parent), _part(target.parent, data, lasting=True) as part:
        while not _give_name(part, target):
            if (other := next(names, None)) is None:
                raise _taken(target)
            target = other
        _flush_folder(target.parent)
    return target


def settle(part: Path, target: Path) -> bool:
    """Give the finished file `part` its name beside it or elsewhere on that disk.

    False when the name is taken; then `part` stays.
    """
    with _explained(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        if not _give_name(part, target):
            return False
        part.unlink(missing_ok=True)
        _flush_folder(target.parent)
        return True


def write_whole(path: Path, data: bytes, *, lasting: bool = False) -> None:
    """Write `path` over what was there, for our own state: a reader sees the old or the new.

    `lasting` waits until the disk has it, so that it also survives a power cut.
    """
    with _explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part(path.parent, data, lasting=lasting) as part:
            part.replace(path)
        if lasting:
            _flush_folder(path.parent)


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


_NO_LINKS = (
    errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL,
    errno.EMLINK,
)  # fmt: skip
_NO_LINKS_WINDOWS = (1, 50)  # ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED


def _give_name(part: Path, target: Path) -> bool:
    """Name the file; False when that name is taken."""
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError as error:
        windows = getattr(error, "winerror", None)
        if error.errno not in _NO_LINKS and windows not in _NO_LINKS_WINDOWS:
            raise
        return _rename(part, target)
    return True


def _rename(part: Path, target: Path) -> bool:
    """`_give_name` without hard links."""
    if not _renames_replace():
        try:
            part.rename(target)
        except FileExistsError:
            return False
        return True
    reserved = target.with_name(f".{target.name}.taken")
    try:
        reserved.open("xb").close()
    except FileExistsError:
        return False
    try:
        if os.path.lexists(target):
            return False
        part.rename(target)
    finally:
        reserved.unlink(missing_ok=True)
    return True


def _renames_replace() -> bool:
    return os.name != "nt"


def _flush_folder(folder: Path) -> None:
    """Wait until the disk has the names in `folder` too, where that can be asked for."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # some network drives flush files only
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _taken(target: Path) -> BadRequest:
    return BadRequest(f"{target} exists already", hint="Choose another name.")


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
    errno.ENOENT: ("the folder is gone", "Choose another folder with -o."),
    errno.EINVAL: ("that name is not possible there", "Choose another name with -o."),
    errno.EFBIG: ("files may not grow that large there", "Choose another folder with -o."),
}


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why, hint = _CURES.get(error.errno or 0, (error.strerror or str(error), ""))
        if error.errno == errno.ENOENT and folder.exists():  # a file system of another kind
            why = "files cannot be made there"
        where = shorten(str(folder), 300)
        raise OutputError(f"cannot write to {where}: {why}", hint=hint) from error

"""The models that are there and what is known of each: the folders, read through the index.

What is in the index and still true is taken from there; the rest is learnt, and kept.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from time import monotonic

from darkroom import __version__
from darkroom.core.errors import BadFile
from darkroom.core.model import Kind
from darkroom.library.examine import examine
from darkroom.library.facts import Facts
from darkroom.library.hashes import Hashes, hashes_of, parts_of
from darkroom.library.index import Brief, Index
from darkroom.library.sidecars import PICTURES, names_beside
from darkroom.library.survey import Item, Survey, survey
from darkroom.library.walk import Folder

FORMAT = 3  # counts up when other facts are learnt from the same file
KEEP_S = 1.0  # seconds of learning that an interruption may lose
State = tuple[str, int, int]
_LEARNT_BY = f"{__version__}/{FORMAT}"
_UNKNOWN = Brief(Kind.UNKNOWN, "", False)


class Catalogue:
    """Models below the folders that `tops` gives, which is asked each time."""

    def __init__(self, tops: Callable[[], Iterable[Path]], index: Index) -> None:
        self._tops = tops
        self._index = index
        self._folders: dict[str, Folder] | None = None

    def survey(self) -> Survey:
        """What is there now. Only folders that changed are listed anew."""
        known = self._index.folders() if self._folders is None else self._folders
        found = survey(self._tops(), known)
        news = [folder for folder in found.folders.values() if known.get(folder.path) != folder]
        self._index.keep_folders(news)
        self._index.forget(
            f"{folder.path}{os.sep}{name}"
            for folder in news
            if folder.path in known
            for name in known[folder.path].files - folder.files
        )
        self._folders = known | found.folders
        return found

    def news(self, items: Iterable[Item], briefs: Mapping[str, Brief]) -> list[Item]:
        """Those of `items` of which nothing is known, or what is known is true no more.

        Nobody lists a folder anew when a file in it is written over or was still being copied, so
        every file is asked for its size and time.
        """
        return [item for item in items if _changed(item, briefs.get(item.path, _UNKNOWN).stamp)]

    def learn(self, items: Iterable[Item]) -> Iterator[int]:
        """Learn the facts of `items`, and keep them as it goes; gives the number done so far."""
        kept, rows = monotonic(), []
        try:
            for number, item in enumerate(items, 1):
                with suppress(OSError, ValueError):  # gone in this very moment
                    rows.append(_row(item, _stamp(item, *_size_and_time(item.path))))
                if monotonic() - kept > KEEP_S:
                    self._index.keep_facts(rows)
                    kept, rows = monotonic(), []
                yield number
        finally:
            self._index.keep_facts(rows)

    def briefs(self) -> dict[str, Brief]:
        """The brief of every file that was ever learnt about, by its path."""
        return self._index.briefs()

    def facts(self, item: Item) -> Facts:
        """The facts of a model, learnt now if they are not known, or no longer true."""
        return self.look(item)[0]

    def look(self, item: Item) -> tuple[Facts, Hashes]:
        """The same with the hashes of the model, as far as they are known."""
        try:
            state = _state(Path(item.path))
        except (OSError, ValueError):
            return examine(item), Hashes()
        stamp, hashes = _stamp(item, *state[1:]), self._index.hashes(*state)
        if (known := self._index.facts(item.path, stamp)) is not None:
            return known, hashes
        row = _row(item, stamp)
        self._index.keep_facts([row])
        return row[-1], hashes

    def search(self, terms: Iterable[str]) -> set[str]:
        """Paths of the files about which all `terms` are said."""
        return self._index.search(terms)

    def called(self, alias: str) -> set[str]:
        """Paths of the files that were trained under this name."""
        return self._index.called(alias)

    def known_hashes(self, path: Path) -> Hashes:
        """The hashes of a file as far as they are known; it is not read."""
        with suppress(OSError):
            return self._index.hashes(*_state(path))
        return Hashes()

    def hashes(self, path: Path, *, anew: bool = False) -> Hashes:
        """All hashes of a file, from reading it unless they are known; else BadFile."""
        try:
            state = _state(path)
        except OSError as error:
            raise BadFile(f"{path} cannot be read: {error.strerror}") from None
        known = Hashes() if anew else self._index.hashes(*state)
        if known.autov3:
            return known
        found = hashes_of(path)
        with suppress(OSError):
            if _state(path) == state:  # else it changed while it was read
                self._index.keep_hashes(*state, hashes=found)
        return found

    def keep_pulled(self, path: Path, hashes: Hashes, *, url: str = "", version: str = "") -> None:
        """Remember what was hashed while it came from `url`, in the version the server told."""
        with suppress(OSError):
            self._index.keep_hashes(*_state(path), hashes=hashes)
            if version:
                self._index.keep_source(url, version, hashes.sha256)

    def pulled_from(self, url: str, version: str) -> str:
        """The sha256 of what came from `url` when it had this version; "" if nothing did."""
        return self._index.came_from(url, version) if version else ""

    def places(self, start: str) -> list[Path]:
        """Files anywhere that have a hash like `start`, as far as that is known."""
        paths = map(Path, self._index.places(start))
        return [path for path in paths if self.known_hashes(path).match(start)]


def _row(item: Item, stamp: str) -> tuple[str, str, str, Facts]:
    """What the index keeps of a model."""
    return item.path, stamp, item.path.removeprefix(item.top), examine(item)


def _changed(item: Item, stamp: str) -> bool:
    try:
        return _stamp(item, *_size_and_time(item.path)) != stamp
    except (OSError, ValueError):  # a link to nothing: there is nothing to learn
        return False


def _stamp(item: Item, size: int, mtime_ns: int) -> str:
    """What changes when the model, a file beside it or this program does."""
    beside = (_beside(item, name) for name in names_beside(item.stem, item.beside))
    stamp = "|".join((_LEARNT_BY, f"{size}:{mtime_ns}", *beside))
    return stamp if stamp.isascii() else stamp.encode(errors="replace").decode()


def _beside(item: Item, name: str) -> str:
    """A file beside the model as it stands in the stamp; pictures are never read."""
    if name.endswith(PICTURES):
        return name
    try:
        size, mtime_ns = _size_and_time(f"{item.path.rpartition(os.sep)[0]}{os.sep}{name}")
    except OSError:
        return name
    return f"{name}:{size}:{mtime_ns}"


def _state(path: Path) -> State:
    """What the hashes of a file hang on: its real path, size and time of change."""
    real = os.path.realpath(path)
    return real, *_size_and_time(real)


def _size_and_time(path: str) -> tuple[int, int]:
    """Size in bytes and time of change of a file, or of all files of a folder together."""
    status = os.stat(path)  # noqa: PTH116 - ten thousand times per listing
    if not S_ISDIR(status.st_mode):
        return status.st_size, status.st_mtime_ns
    parts = [part.stat() for part in parts_of(Path(path))]
    times = (each.st_mtime_ns for each in (status, *parts))
    return sum(each.st_size for each in parts), max(times)

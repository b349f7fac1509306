"""One file from the web into a part file: whole, or an error, and never begun anew without need.

    transfer = Transfer(web, wanted, part)
    for step in transfer.run(): ...       # Progress and Notice; the file at `part` grows meanwhile
    transfer.sha256                       # of the whole file, which is at `part` now

What a later run needs to go on stands beside the part file: its size, ETag and name. A server
is asked for the rest only if it can say that the file is still the same (RFC 9110, 13.1.5) or the
hash of the whole is known; if it sends everything instead, the file begins anew. What came is
checked against the length the server announced and the hash its page names; a file with a wrong
hash is deleted, because no part of it can be trusted.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from darkroom.core.errors import DownloadError, OutputError, shorten
from darkroom.library.download.place import header_text
from darkroom.library.download.web import Answer, Drop, Patience, Web
from darkroom.library.hashes import Digest
from darkroom.media.files import write_whole

PIECE = 1 << 20  # bytes asked for at once
TELL_S = 0.1  # seconds between two words on progress
SPARE = 64 << 20  # bytes that stay free on the disk
PROGRESS = 1 << 20  # bytes after which a connection has been of use
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file on a server."""

    url: str
    name: str = ""  # as its page calls it, unsafe; "" if only the server can say
    size: int | None = None  # bytes, exactly
    about: int | None = None  # bytes, where the page rounds
    sha256: str = ""  # 64 digits, or the first 10 or more of them; lower case
    login: str = ""  # what to do where the server wants a login


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` bytes of the file called `name` are here."""

    name: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know; the work goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of a part file."""

    etag: str = ""
    size: int | None = None
    name: str = ""  # as the server calls it

    @classmethod
    def load(cls, path: Path) -> "_State":
        """What stands at `path`; nothing, if that is not ours."""
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(path.read_bytes()[:10_000])
            match found:
                case {
                    "etag": str(etag),
                    "size": int() | None as size,
                    "name": str(name),
                }:
                    return cls(etag, size, name)
        return cls()


class Transfer:
    """Fetches `wanted` into `part`; what is there of it already is kept if it can be used."""

    def __init__(self, web: Web, wanted: Wanted, part: Path) -> None:
        self._web, self._wanted, self.part = web, wanted, part
        self._note = part.with_name(part.name + ".json")
        self.digest, self._hashed = Digest(), 0
        self._furthest = 0  # bytes that were here at once; to have less again is no progress
        self.done = 0  # bytes at `part`
        self.total = wanted.size
        self.said_name = ""  # what the server calls the file
        self.known_sha256 = wanted.sha256  # of the page, or of the server
        self.version = ""  # what changes when the file on the server does; "" if it does not say

    @property
    def sha256(self) -> str:
        """Of the bytes at `part`."""
        return self.digest.sha256

    def run(self) -> Iterator[Progress | Notice]:
        """Fetch; DownloadError when that failed for good, OutputError when the disk is at fault."""
        patience = Patience()
        while True:
            try:
                yield from self._try(patience)
            except Drop as drop:
                wait = patience.wait_s(drop)
                yield Notice(f"{drop}; trying again in {wait:.0f} s")
                self._web.sleep(wait)
            else:
                self._check_hash()
                return

    def forget(self) -> None:
        """Delete what is there; the next run begins anew."""
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.done = 0

    def _try(self, patience: Patience) -> Iterator[Progress | Notice]:
        start, state = self._usable()
        self.said_name = state.name
        if start and start == state.size:
            self.total = start
            yield from self._write(start, None, patience)
            return
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and state.etag:
            headers["If-Range"] = state.etag
        with self._web.open(self._wanted.url, headers) as answer:
            patience.worked = True
            start = self._settle(answer, start, state)
            self.version = _version(answer, self.total)
            check_room(self.part.parent, 0 if self.total is None else self.total - start)
            yield from self._write(start, answer, patience)
        if self.total is not None and self.done < self.total:
            raise Drop(f"{answer.place.host} closed the connection too early")

    def _usable(self) -> tuple[int, _State]:
        """How many bytes of the part file can be kept, and what is known of it."""
        state = _State.load(self._note)
        there = self.part.stat().st_size if self.part.exists() else 0
        same = self.known_sha256 or _is_strong(state.etag)
        fits = state.size is not None and there <= state.size
        if self._wanted.size is not None and state.size != self._wanted.size:
            fits = False
        return (there, state) if same and fits else (0, _State())

    def _settle(self, answer: Answer, start: int, state: _State) -> int:
        """Where to go on writing, from what the server answers; remembers what it says."""
        if answer.status == 206 and self._is_rest(answer, start, state):
            self.total = state.size
            return start
        if start and answer.status in (206, 412, 416):  # another file by now
            self.forget()
            raise Drop(f"the file on {answer.place.host} has changed")
        if answer.status != 200:
            raise answer.refusal(dict.fromkeys((401, 403), self._wanted.login))
        self._learn(answer)
        return 0

    def _is_rest(self, answer: Answer, start: int, state: _State) -> bool:
        """Whether a partial answer is the rest of the very file that `state` tells of."""
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        same = answer.headers.get("ETag", "") == state.etag or bool(self.known_sha256)
        fits = found and int(found[1]) == start and found[2] == str(state.size)
        return bool(start and same and fits)

    def _learn(self, answer: Answer) -> None:
        """What a whole file's headers say."""
        coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise DownloadError(
                f"{answer.place.host} sends the file packed ({shorten(coding, 20)})"
            )
        said = answer.headers.get("Content-Length", "")
        size = int(said) if said.isdecimal() and len(said) < 19 else None
        if self._wanted.size is not None and size not in (None, self._wanted.size):
            raise DownloadError(
                f"{answer.place.host} announces {size:,} bytes where its page says"
                f" {self._wanted.size:,}",
                hint="Try again later; the file may just be changing.",
            )
        self.total = self._wanted.size if size is None else size
        self.said_name = header_text(answer.headers.get_filename() or "")
        self.known_sha256 = self.known_sha256 or _linked_hash(answer)
        etag = answer.headers.get("ETag", "")
        state = _State(etag if _is_strong(etag) else "", self.total, self.said_name)
        write_whole(self._note, json.dumps(asdict(state)).encode())

    def _write(
        self, start: int, answer: Answer | None, patience: Patience
    ) -> Iterator[Progress | Notice]:
        """Append what `answer` sends to the first `start` bytes, and hash it all."""
        with _written(self.part):
            file = self.part.open("r+b" if start else "wb", buffering=0)
        with file:
            self._rehash(start)
            with _written(self.part):
                file.seek(start)
                file.truncate()
            self.done, told_at = start, 0.0
            self._furthest = max(self._furthest, start)
            while answer is not None and (piece := answer.read(PIECE)):
                with _written(self.part):
                    file.write(piece)
                self.digest.update(piece)
                self.done = self._hashed = self.done + len(piece)
                if self.done - self._furthest >= PROGRESS:
                    self._furthest = self.done
                    patience.progressed()
                if time.monotonic() - told_at >= TELL_S:
                    told_at = time.monotonic()
                    yield self._progress()
        yield self._progress()

    def _rehash(self, start: int) -> None:
        """Hash the first `start` bytes at `part`, if that is not what is hashed already."""
        if self._hashed == start:
            return
        self.digest, self._hashed = Digest(), 0
        with _written(self.part), self.part.open("rb") as file:
            while self._hashed < start:
                piece = file.read(min(PIECE, start - self._hashed))
                if not piece:
                    raise Drop("the part file has become shorter")
                self.digest.update(piece)
                self._hashed += len(piece)

    def _progress(self) -> Progress:
        return Progress(self.said_name or self._wanted.name, self.done, self.total)

    def _check_hash(self) -> None:
        if not self.sha256.startswith(self.known_sha256):
            self.forget()
            raise DownloadError(
                f"what came is not the file that its page describes: its sha256 is"
                f" {self.sha256[:12]}… and not {self.known_sha256[:12]}…",
                hint="It was deleted. Try again; if it happens twice, tell the file's owner.",
            )


def check_room(folder: Path, needed: int) -> None:
    """OutputError if the disk of `folder` has no room for `needed` bytes more."""
    with _written(folder):
        free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise OutputError(
            f"the disk of {folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are"
            " still to come",
            hint="Make room, or choose another folder with --to.",
        )


def _linked_hash(answer: Answer) -> str:
    """The sha256 by which a redirect names the file it leads to, as Hugging Face does."""
    for headers in answer.hops:
        said = headers.get("X-Linked-Etag", "").strip('"').lower()
        if _SHA256.fullmatch(said):
            return said
    return ""


def _version(answer: Answer, size: int | None) -> str:
    etag = answer.headers.get("ETag", "")
    said = etag if _is_strong(etag) else answer.headers.get("Last-Modified", "")
    return f"{said} {size}" if said else ""


def _is_strong(etag: str) -> bool:
    """Whether `etag` promises the very same bytes (RFC 9110, 8.8.3)."""
    return len(etag) > 2 and etag[0] == etag[-1] == '"'


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """What the disk refuses at `path`, in words."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write to {shorten(str(path.parent), 300)}: {error.strerror or error}",
            hint="Make room there, or choose another folder with --to.",
        ) from error

"""SHA-256 of model files, each computed once: remembered by path, size and time of change."""

import hashlib
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from darkroom.core.errors import BadFile

Key = tuple[bytes, int, int]  # path as the system has it, which may be no text; size; time


class HashBook:
    """A small table of file hashes; without a place to keep it, it still computes them."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def sha256(self, path: Path) -> str:
        """The hash of the whole file at `path`, as 64 hex digits."""
        try:
            key = _key(path)
            if known := self._recall(key):
                return known
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadFile(f"{path} cannot be read: {error.strerror}") from None
        self._remember(key, found)
        return found

    def known(self, path: Path) -> str:
        """The hash if it was computed before, else nothing; the file is not read."""
        with suppress(OSError):
            return self._recall(_key(path))
        return ""

    def places(self, start: str) -> list[Path]:
        """Files anywhere that had a hash starting with `start` and have not changed since."""
        rows: list[tuple[bytes]] = []
        with suppress(sqlite3.Error, OSError):
            if self._database.exists():
                with closing(sqlite3.connect(self._database)) as db:
                    query = "select path from file_hash where substr(sha256, 1, ?) = ?"
                    rows = db.execute(query, (len(start), start)).fetchall()
        paths = [Path(os.fsdecode(path)) for (path,) in rows]
        return [path for path in paths if self.known(path).startswith(start)]

    def _recall(self, key: Key) -> str:
        with suppress(sqlite3.Error, OSError):
            if self._database.exists():
                with closing(sqlite3.connect(self._database)) as db:
                    row = db.execute(
                        "select sha256 from file_hash where path = ? and size = ? and mtime_ns = ?",
                        key,
                    ).fetchone()
                return str(row[0]) if row else ""
        return ""

    def _remember(self, key: Key, sha256: str) -> None:
        with suppress(sqlite3.Error, OSError):  # a cache: losing it costs time only
            self._database.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._database, timeout=2)) as db, db:
                db.execute(
                    "create table if not exists file_hash"
                    " (path blob primary key, size integer, mtime_ns integer, sha256 text)"
                )
                db.execute("insert or replace into file_hash values (?, ?, ?, ?)", (*key, sha256))


def _key(path: Path) -> Key:
    path = path.resolve()
    status = path.stat()
    return os.fsencode(path), status.st_size, status.st_mtime_ns

"""SHA-256 of model files, each computed once: remembered by path, size and time of change."""

import hashlib
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from darkroom.core.errors import BadFile


class HashBook:
    """A small table of file hashes; without a place to keep it, it still computes them."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def sha256(self, path: Path) -> str:
        """The hash of the whole file at `path`, as 64 hex digits."""
        path = path.resolve()
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if known := self._recall(key):
            return known
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadFile(f"{path} cannot be read: {error.strerror}") from None
        self._remember(key, found)
        return found

    def _recall(self, key: tuple[str, int, int]) -> str | None:
        if not self._database.exists():
            return None
        with suppress(sqlite3.Error, OSError), closing(sqlite3.connect(self._database)) as db:
            row = db.execute(
                "select sha256 from file_hash where path = ? and size = ? and mtime_ns = ?", key
            ).fetchone()
            return str(row[0]) if row else None
        return None

    def _remember(self, key: tuple[str, int, int], sha256: str) -> None:
        with suppress(sqlite3.Error, OSError):  # a cache: losing it costs time only
            self._database.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._database, timeout=2)) as db, db:
                db.execute("pragma journal_mode = wal")
                db.execute(
                    "create table if not exists file_hash"
                    " (path text primary key, size integer, mtime_ns integer, sha256 text)"
                )
                db.execute("insert or replace into file_hash values (?, ?, ?, ?)", (*key, sha256))

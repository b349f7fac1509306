"""What was learnt about files, kept in one SQLite file so that it is learnt once.

    folder   the names in each folder that was looked into, true while its time of change stays
    file     the facts of a model file, true while its stamp (size, time, sidecars) stays
    hash     the hashes of a file, true while its size and time stay
    source   what came from an address (its digest: it may hold secrets), true while the server
             tells the same version

Paths are kept as the system has them, which may be no text. Everything here can be learnt again,
so nothing here is ever a reason to fail: without a place to write, memory takes its place; a
damaged file is put aside and begun anew; a locked one is done without. Several processes may
use one file at a time (WAL), and so may several threads one `Index`.
"""

import hashlib
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from darkroom.core.model import Kind
from darkroom.library.facts import Facts
from darkroom.library.hashes import Hashes
from darkroom.library.walk import Folder

WAIT_S = 5.0  # for another process that writes
MOST_TERMS = 16  # words of one search
_NAMES = ("sha256", "autov3", "legacy")

_KINDS = {kind.value: kind for kind in Kind}

T = TypeVar("T")


class Brief(NamedTuple):
    """The facts by which a listing is ordered and filtered."""

    kind: Kind
    arch: str  # "SD1", or "SD1 or SD2"
    troubled: bool  # something about the file is said in `problem` or `problems`
    stamp: str = ""  # of the file when it was learnt about


MIGRATIONS: tuple[str, ...] = (
    """
    create table folder (path blob primary key, mtime_ns integer, names text) without rowid;
    create table file (
        path blob primary key, stamp text, kind text, arch text, troubled integer,
        alias text, words text, facts text
    );
    create table hash (
        path blob primary key, size integer, mtime_ns integer,
        sha256 text, autov3 text, legacy text
    );
    create index hash_by_sha256 on hash (sha256);
    create index file_by_alias on file (alias) where alias != '';
    create table if not exists file_hash (path blob, size integer, mtime_ns integer, sha256 text);
    insert into hash select path, size, mtime_ns, sha256, '', '' from file_hash;
    drop table file_hash;
    """,
    "create table source (url text primary key, version text, sha256 text) without rowid;",
    "update hash set legacy = '' where legacy = 'e3b0c442';",  # of nothing: it names no file
)


class Index:
    """The table at `database`, made when it is first needed."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    # ---- folders

    def folders(self) -> dict[str, Folder]:
        """Every listing that is known, by the folder's path."""
        rows = self._rows("select path, mtime_ns, names from folder")
        found = {}
        for raw, mtime_ns, names in rows:
            path = os.fsdecode(raw)
            files, below = json.loads(names)
            found[path] = Folder(path, mtime_ns, frozenset(files), tuple(below))
        return found

    def keep_folders(self, folders: Iterable[Folder]) -> None:
        """Remember listings."""
        rows = [
            (os.fsencode(f.path), f.mtime_ns, json.dumps([[*f.files], f.below])) for f in folders
        ]
        self._write("insert or replace into folder values (?, ?, ?)", rows)

    # ---- facts

    def briefs(self) -> dict[str, Brief]:
        """The brief of every file whose facts are known, by its path."""
        rows = self._rows("select path, kind, arch, troubled, stamp from file")
        return {
            os.fsdecode(path): Brief(_KINDS.get(kind, Kind.UNKNOWN), arch, bool(troubled), stamp)
            for path, kind, arch, troubled, stamp in rows
        }

    def facts(self, path: str, stamp: str) -> Facts | None:
        """The facts of the file, if they are known and its stamp is still this."""
        query = "select facts from file where path = ? and stamp = ?"
        rows = self._rows(query, (os.fsencode(path), stamp))
        return Facts.of_json(rows[0][0]) if rows else None

    def keep_facts(self, rows: Iterable[tuple[str, str, str, Facts]]) -> None:
        """Remember (path, stamp, words of its name, facts) of files."""
        told = [
            (os.fsencode(path), stamp, facts.kind.value, facts.families, facts.troubled,
             _plain(facts.alias), _plain(f"{words}\n{facts.words()}"), facts.to_json())
            for path, stamp, words, facts in rows
        ]  # fmt: skip
        self._write("insert or replace into file values (?, ?, ?, ?, ?, ?, ?, ?)", told)

    def forget(self, paths: Iterable[str]) -> None:
        """Forget the facts of files that are gone; their hashes stay, for when they come back."""
        self._write("delete from file where path = ?", [(os.fsencode(path),) for path in paths])

    def called(self, alias: str) -> set[str]:
        """Files that were trained under this name, whatever its case."""
        query = "select path from file where alias = ? and alias != ''"
        return {os.fsdecode(path) for (path,) in self._rows(query, (_plain(alias),))}

    def search(self, terms: Iterable[str]) -> set[str]:
        """Files about which every one of `terms` is said somewhere, be it within a word."""
        asked = [_plain(term) for term in terms][:MOST_TERMS]
        where = " and ".join(["instr(words, ?)"] * len(asked)) or "1"
        query = f"select path from file where {where}"  # noqa: S608 - question marks only
        return {os.fsdecode(path) for (path,) in self._rows(query, asked)}

    # ---- hashes

    def hashes(self, path: str, size: int, mtime_ns: int) -> Hashes:
        """The hashes of the file in this state, as far as they are known."""
        query = f"select {', '.join(_NAMES)} from hash where path = ? and size = ? and mtime_ns = ?"  # noqa: S608
        rows = self._rows(query, (os.fsencode(path), size, mtime_ns))
        return Hashes(*rows[0]) if rows else Hashes()

    def keep_hashes(self, path: str, size: int, mtime_ns: int, *, hashes: Hashes) -> None:
        """Remember the hashes of a file in this state."""
        values = [getattr(hashes, name) for name in _NAMES]
        row = (os.fsencode(path), size, mtime_ns, *values)
        self._write("insert or replace into hash values (?, ?, ?, ?, ?, ?)", [row])

    def places(self, start: str) -> list[str]:
        """Files that had a hash like `start` when they were last read, wherever they lie."""
        query = "select path from hash where sha256 >= ? and sha256 < ? or autov3 = ? or legacy = ?"
        given = (start, f"{start}g", start, start)
        return [os.fsdecode(path) for (path,) in self._rows(query, given)]

    # ---- downloads

    def keep_source(self, url: str, version: str, sha256: str) -> None:
        """Remember what came from an address."""
        row = (_key(url), version, sha256)
        self._write("insert or replace into source values (?, ?, ?)", [row])

    def came_from(self, url: str, version: str) -> str:
        """The sha256 of what came from this address in this version; "" if nothing did."""
        query = "select sha256 from source where url = ? and version = ?"
        rows = self._rows(query, (_key(url), version))
        return str(rows[0][0]) if rows else ""

    # ---- the file

    def _rows(self, query: str, given: Sequence[object] = ()) -> list[Any]:
        nothing: list[Any] = []
        return self._run(lambda db: db.execute(query, given).fetchall(), nothing)

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute("begin immediate")
            try:
                db.executemany(statement, rows)
                db.execute("commit")
            except sqlite3.Error:
                with suppress(sqlite3.Error):
                    db.execute("rollback")
                raise

        if rows:
            self._run(write, None)

    def _run(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        with self._lock:
            try:
                return action(self._connection())
            except sqlite3.OperationalError:  # locked, full, gone: a cache may be
                return otherwise
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:
                    raise  # a mistake of ours
                self._begin_anew()
                return otherwise

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = _opened(self._database)
            weakref.finalize(self, self._db.close)
        return self._db

    def _begin_anew(self) -> None:
        if self._db is not None:
            self._db.close()
        _put_aside(self._database)
        self._db = None


def _opened(database: Path) -> sqlite3.Connection:
    """The table in its file, else a copy of it in memory, else an empty one there."""
    for _ in range(2):
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            return _migrated(_connect(str(database)))
        except (sqlite3.OperationalError, OSError):
            break
        except sqlite3.DatabaseError:
            _put_aside(database)
    return _migrated(_copied(database))


def _connect(name: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        name, timeout=WAIT_S, isolation_level=None, check_same_thread=False, uri=uri
    )


def _migrated(db: sqlite3.Connection) -> sqlite3.Connection:
    """`db` with all tables of this version, closed again where that fails."""
    try:
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        (done,) = db.execute("pragma user_version").fetchone()
        if done < len(MIGRATIONS):
            db.execute("begin immediate")
            (done,) = db.execute("pragma user_version").fetchone()  # another process was first
            for number, script in enumerate(MIGRATIONS[done:], done + 1):
                for statement in filter(str.strip, script.split(";")):
                    db.execute(statement)
                db.execute(f"pragma user_version = {number}")
            db.execute("commit")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _copied(database: Path) -> sqlite3.Connection:
    """A table in memory, with what can be read of the one in the file."""
    memory = _connect(":memory:")
    for way in ("mode=ro", "mode=ro&immutable=1"):
        with suppress(sqlite3.Error, OSError, ValueError):
            with closing(_connect(f"{database.absolute().as_uri()}?{way}", uri=True)) as db:
                db.backup(memory)
            memory.execute("select 1 from file").fetchone()
            return memory
    memory.close()
    return _connect(":memory:")


def _put_aside(database: Path) -> None:
    """Give a damaged table another name; what it held is learnt again."""
    for end in ("", "-wal", "-shm"):
        path = Path(f"{database}{end}")
        with suppress(OSError):
            path.replace(f"{database}.damaged{end}")


def _key(url: str) -> str:
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()


def _plain(said: str) -> str:
    """As it is compared: in small letters, and text whatever it is made of."""
    return said.casefold().encode(errors="replace").decode()

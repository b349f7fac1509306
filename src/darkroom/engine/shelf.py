"""Embeddings that prompts may name: found by their words, read when a prompt first does so."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.core.recipe import UsedModel
from darkroom.engine.chunks import Words
from darkroom.engine.tokenizer import Tokenizer, clean
from darkroom.weights.embedding import read_embedding

State = tuple[str, int, int]  # path, size and time of change


class Shelf:
    """The embedding files by name; their vectors stay in memory once they were read.

    Encoded prompts are kept by the identity of the `Words` that read them, so the same files give
    the same object.
    """

    def __init__(self, tokenizer: Tokenizer, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self._tokenizer = tokenizer
        self._names = Words(tokenizer, dict.fromkeys(files, (None,)))
        self._vectors: dict[tuple[State, int], Tensor] = {}
        self._words: dict[frozenset[tuple[str, State, int]], Words] = {}

    def words(
        self, texts: Iterable[str], width: int, say: Callable[[str], None]
    ) -> tuple[Words | None, tuple[UsedModel, ...]]:
        """The embeddings that `texts` name, for a text encoder of that width, and their files.

        `texts` are those that will be tokenized, without brackets and weights.

        One that cannot be used stays words, and `say` is told why.
        """
        rows: dict[str, Tensor] = {}
        states: set[tuple[str, State, int]] = set()
        for name in sorted(self._named(texts)):
            try:
                state = _state(self.files[name])
                rows[name] = self._read(name, state, width)
            except BadFile as error:
                say(f"{name!r} is read as words: {error.sentence()}")
            else:
                states.add((name, state, width))
        if not rows:
            return None, ()
        key = frozenset(states)
        if key not in self._words:
            self._words[key] = Words(
                self._tokenizer, {name: list(row) for name, row in rows.items()}
            )
        return self._words[key], tuple(_used(name, self.files[name]) for name in rows)

    def _named(self, texts: Iterable[str]) -> set[str]:
        """Every name whose tokens stand in one of `texts`."""
        found: set[str] = set()
        for text in texts:
            ids, place = self._tokenizer.encode(clean(text)), 0
            while place < len(ids):
                length, name, _ = self._names.find(ids, place) or (1, "", ())
                found |= {name} if name else set()
                place += length
        return found

    def _read(self, name: str, state: State, width: int) -> Tensor:
        if (known := self._vectors.get((state, width))) is not None:
            return known
        self._vectors[state, width] = read_embedding(self.files[name], width)
        return self._vectors[state, width]


def _state(path: Path) -> State:
    try:
        status = path.stat()
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", hint="Check the file.") from None
    return str(path), status.st_size, status.st_mtime_ns


def _used(name: str, path: Path) -> UsedModel:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return UsedModel(role="embedding", name=name, sha256=digest)

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
        self._read: dict[tuple[State, int], tuple[Tensor, UsedModel]] = {}
        self._words: dict[frozenset[tuple[str, State, int]], Words] = {}

    def words(
        self, texts: Iterable[str], width: int, say: Callable[[str], None]
    ) -> tuple[Words | None, tuple[UsedModel, ...]]:
        """The embeddings that `texts` name, for a text encoder of that width, and their files.

        `texts` are those that will be tokenized, without brackets and weights. An
        embedding that cannot be used stays words, and `say` is told why.
        """
        found: dict[tuple[str, State, int], tuple[Tensor, UsedModel]] = {}
        for name in sorted(self._named(texts)):
            try:
                state = _state(self.files[name])
                found[name, state, width] = self._file(name, state, width)
            except BadFile as error:
                say(f"{name!r} is read as words: {error.sentence()}")
        if not found:
            return None, ()
        key = frozenset(found)
        if key not in self._words:
            vectors = {name: list(rows) for (name, _, _), (rows, _) in found.items()}
            self._words[key] = Words(self._tokenizer, vectors)
        return self._words[key], tuple(used for _, used in found.values())

    def _named(self, texts: Iterable[str]) -> set[str]:
        """Every name whose tokens stand in one of `texts`."""
        encoded = (self._tokenizer.encode(clean(text)) for text in texts)
        return {name for ids in encoded for name, _ in self._names.read(ids) if name}

    def _file(self, name: str, state: State, width: int) -> tuple[Tensor, UsedModel]:
        """Vectors (n, width) of a file and what the recipe says of it, read once per state."""
        if (state, width) not in self._read:
            path = self.files[name]
            self._read[state, width] = read_embedding(path, width), _used(name, path)
        return self._read[state, width]


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

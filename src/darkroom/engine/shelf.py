"""Embeddings that prompts may name: found by their words, read when a prompt first does so.

A file's word is its name without the extension. It may bring others: a token such as `<cat-toy>`
that it was trained for, and, if it is a picture, the name its maker gave it.
"""

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.core.recipe import UsedModel
from darkroom.engine.chunks import Words
from darkroom.engine.tokenizer import Tokenizer, clean
from darkroom.weights.embedding import Vectors, aligned, read_embedding
from darkroom.weights.embedding_image import only_a_picture, own_words

State = tuple[str, int, int]  # path, size and time of change
Key = tuple[str, tuple[int, ...], State | str]  # name, widths of the text encoders, whose they are


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What stands for a name."""

    key: Key
    vectors: Vectors
    used: UsedModel | None  # for the recipe; None where no file of its own was read


class Shelf:
    """The embedding files by name; their vectors stay in memory once they were read.

    Encoded prompts are kept by the identity of the `Words` that read them, so the same files give
    the same object.
    """

    def __init__(self, tokenizer: Tokenizer, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self._tokenizer = tokenizer
        self._paths = {
            word: path for path in reversed(self.files.values()) for word in own_words(path)
        }
        self._paths |= files
        self._names = Words(tokenizer, dict.fromkeys(self._paths, ((),)))
        self._extra: Mapping[str, Sequence[Tensor | None]] = {}
        self._read: dict[Key, _Found | None] = {}
        self._words: dict[frozenset[Key], Words] = {}

    def __bool__(self) -> bool:
        """Whether there is any word to look for."""
        return bool(self._paths or self._extra)

    def with_extra(self, vectors: Mapping[str, Sequence[Tensor | None]]) -> "Shelf":
        """This shelf and more words, such as those in a LoRA, which hide files of the same name.

        Each has its vectors (n, width) for every text encoder in order, None where it has none.
        What was read stays common to both, so that equal vectors give equal `Words`.
        """
        more = copy(self)
        more._extra = {**self._extra, **vectors}
        more._names = Words(self._tokenizer, dict.fromkeys([*self._paths, *more._extra], ((),)))
        return more

    def words(
        self, texts: Iterable[str], widths: tuple[int, ...], say: Callable[[str], None]
    ) -> tuple[Words | None, tuple[UsedModel, ...]]:
        """The embeddings that `texts` name, for text encoders of these widths, and their files.

        `texts` are those that will be tokenized, without brackets and weights. An
        embedding that cannot be used stays words, and `say` is told why.
        """
        encoded = [self._tokenizer.encode(clean(text)) for text in texts]
        usable: dict[str, _Found] = {}
        unusable: set[str] = set()
        while new := sorted(self._named(encoded, unusable) - usable.keys()):
            for name in new:  # the longest that can be used counts, so look again without others
                try:
                    one = self._found(name, widths)
                except BadFile as error:
                    say(f"{name!r} is read as words: {error.sentence()}")
                    one = None
                if one is None:
                    unusable.add(name)
                else:
                    usable[name] = one
        found = {name: usable[name] for name in sorted(self._named(encoded, unusable))}
        used = (one.used for one in found.values() if one.used is not None)
        return self._words_of(found), tuple(used)

    def _named(self, encoded: Iterable[Sequence[int]], without: Container[str]) -> set[str]:
        """Every name whose tokens stand in the texts."""
        return {name for ids in encoded for name, _ in self._names.read(ids, without) if name}

    def _found(self, name: str, widths: tuple[int, ...]) -> _Found | None:
        """What stands for a name; a file is read once per state.

        None for a picture that is only a picture, as lie beside embeddings to show them.
        """
        if name in self._extra:
            vectors = aligned(self._extra[name], widths, name)
            extra = name, widths, _digest(vectors)
            return self._read.setdefault(extra, _Found(extra, vectors, None))
        path = self._paths[name]
        key = (name, widths, _state(path))
        if key not in self._read:
            self._read[key] = None if only_a_picture(path) else _read(path, key)
        return self._read[key]

    def _words_of(self, found: Mapping[str, _Found]) -> Words | None:
        if not found:
            return None
        key = frozenset(one.key for one in found.values())
        if key not in self._words:
            places = {name: list(zip(*one.vectors, strict=True)) for name, one in found.items()}
            self._words[key] = Words(self._tokenizer, places)
        return self._words[key]


def _read(path: Path, key: Key) -> _Found:
    name, widths, _ = key
    vectors = read_embedding(path, widths, name)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _Found(key, vectors, UsedModel(role="embedding", name=name, sha256=digest))


def _digest(vectors: Vectors) -> str:
    """What tells vectors from others, whoever brings them and how often."""
    digest = hashlib.sha256()
    for part in vectors:
        digest.update(part.numpy().tobytes())
    return digest.hexdigest()


def _state(path: Path) -> State:
    try:
        status = path.stat()
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", hint="Check the file.") from None
    return str(path), status.st_size, status.st_mtime_ns

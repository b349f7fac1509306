"""A prompt's tokens, cut into the pieces of 75 that CLIP reads at a time; no torch.

    text ─ core.prompt.attention ─► [Piece] ─ runs ─► [Run] ─ split ─► [Chunk]

CLIP reads 77 tokens: BOS, 75 tokens, EOS. A longer prompt is cut into chunks, each is encoded
alone, and the results are laid end to end. A chunk is filled up with EOS; it is cut after its last
comma, if one lies among its last 20 tokens, so that a phrase stays in one piece.

Tokens carry a weight (emphasis) and may carry vectors (textual inversion), one for each text
encoder of the model. An ordinary token is a run of its own; those of one embedding are one run,
which stays in one chunk.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from darkroom.core.errors import BadRequest
from darkroom.core.prompt import Piece
from darkroom.engine.tokenizer import BOS, COMMA, EOS, Tokenizer, clean

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 75  # tokens of a prompt in one chunk
BACKTRACK = 20  # tokens looked back for a comma when a chunk is full


class Token(NamedTuple):
    """One place in a chunk."""

    id: int
    weight: float = 1.0
    vectors: tuple[Tensor, ...] = ()  # (D,) per text encoder, instead of the embedding of `id`


Run = tuple[Token, ...]  # tokens that stay in one chunk, such as the vectors of one embedding
BREAK: Run = ()  # the empty run closes the chunk


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """At most 75 tokens, without BOS, EOS and padding."""

    tokens: tuple[Token, ...]

    @property
    def ids(self) -> list[int]:
        """All 77 ids, as OpenAI's CLIP is given them."""
        return self.padded(EOS)

    @property
    def end(self) -> int:
        """The place of the first EOS."""
        return len(self.tokens) + 1

    def padded(self, pad: int) -> list[int]:
        """All 77 ids, with `pad` after the first EOS."""
        ids = [token.id for token in self.tokens]
        return [BOS, *ids, EOS, *[pad] * (ROOM - len(ids))]

    @property
    def weights(self) -> list[float]:
        """All 77 weights."""
        weights = [token.weight for token in self.tokens]
        return [1.0, *weights, *[1.0] * (ROOM + 1 - len(weights))]


class Words:
    """Embeddings by the tokens of their names: found in a prompt as A1111 finds them.

    Wherever a name's tokens stand, in whatever spelling and whatever the words around them, its
    vectors stand instead; of several names that begin there the longest.
    """

    def __init__(
        self, tokenizer: Tokenizer, vectors: Mapping[str, Sequence[tuple[Tensor, ...]]]
    ) -> None:
        """`vectors`: for each name its places in order, each with one vector per text encoder."""
        self._by_first: dict[int, list[tuple[list[int], str, Run]]] = {}
        for name, rows in vectors.items():
            if ids := tokenizer.encode(clean(name)):
                run = tuple(Token(0, vectors=row) for row in rows)
                self._by_first.setdefault(ids[0], []).append((ids, name, run))
        for found in self._by_first.values():
            found.sort(key=lambda item: -len(item[0]))

    def read(self, ids: Sequence[int], without: Container[str] = ()) -> Iterator[tuple[str, Run]]:
        """`ids` in order: (name, vectors) where an embedding is named, else ("", one token).

        Names in `without` are passed over.
        """
        place = 0
        while place < len(ids):
            length, name, run = self._find(ids, place, without) or (1, "", (Token(ids[place]),))
            yield name, run
            place += length

    def _find(
        self, ids: Sequence[int], place: int, without: Container[str]
    ) -> tuple[int, str, Run] | None:
        """(tokens that the name takes, name, vectors) of the embedding named at `place`, if any."""
        for name_ids, name, run in self._by_first.get(ids[place], ()):
            if name not in without and list(ids[place : place + len(name_ids)]) == name_ids:
                return len(name_ids), name, run
        return None


def runs(tokenizer: Tokenizer, pieces: Iterable[Piece], words: Words | None = None) -> list[Run]:
    """Weighted text as runs; a break in it as BREAK."""
    made: list[Run] = []
    for piece in pieces:
        if piece.is_break:
            made.append(BREAK)
            continue
        ids = tokenizer.encode(clean(piece.text))
        if words is None:
            plain = {each: (Token(each, piece.weight),) for each in set(ids)}
            made += map(plain.__getitem__, ids)
        else:
            read = (run for _, run in words.read(ids))
            made += (tuple(token._replace(weight=piece.weight) for token in run) for run in read)
    return made


def split(runs: Iterable[Run], backtrack: int = BACKTRACK) -> tuple[list[Chunk], int]:
    """Chunks of 75, at least one, and the number of tokens as A1111 counts them.

    Every closed chunk counts 75. When token 76 arrives and a comma lies at most `backtrack` tokens
    back, what follows that comma opens the next chunk. A BREAK at the end opens none.
    """
    chunks: list[Chunk] = []
    open_: list[Token] = []
    comma = 0  # place after the last comma of the open chunk, 0 for none

    def close(end: int) -> None:
        nonlocal open_, comma
        chunks.append(Chunk(tuple(open_[:end])))
        open_, comma = open_[end:], 0

    for run in runs:
        if len(run) > ROOM:
            raise BadRequest(
                f"an embedding of {len(run)} vectors does not fit: a chunk holds {ROOM}",
                hint="Leave this embedding out of the prompt.",
            )
        is_comma = len(run) == 1 and run[0].id == COMMA
        if run == BREAK:
            close(ROOM)
        elif len(open_) == ROOM and comma and not is_comma and ROOM + 1 - comma <= backtrack:
            close(comma)
        if len(open_) + len(run) > ROOM:
            close(ROOM)
        open_ += run
        # A comma that opens a chunk is no place to cut at: it is too far back by the time.
        comma = len(open_) if is_comma else comma
    if open_ or not chunks:
        return [*chunks, Chunk(tuple(open_))], ROOM * len(chunks) + len(open_)
    return chunks, ROOM * len(chunks)

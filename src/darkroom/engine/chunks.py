"""A prompt's tokens, cut into the pieces of 75 that CLIP reads at a time; no torch.

    text ─ runs ─► [Run] ─ split ─► [Chunk]

CLIP reads 77 tokens: BOS, 75 tokens, EOS. A longer prompt is cut into chunks, each is encoded
alone, and the results are laid end to end. A chunk is filled up with EOS; it is cut after its last
comma, if one lies among its last 20 tokens, so that a phrase stays in one piece.

Tokens carry a weight (emphasis) and may carry a vector (textual inversion). Plain text makes runs
of one token of weight 1 each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from darkroom.core.errors import BadRequest
from darkroom.engine.tokenizer import BOS, COMMA, EOS, Tokenizer, clean

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 75  # tokens of a prompt in one chunk
BACKTRACK = 20  # tokens looked back for a comma when a chunk is full


class Token(NamedTuple):
    """One place in a chunk."""

    id: int
    weight: float = 1.0
    vector: Tensor | None = None  # (D,), taken instead of the embedding of `id`


Run = tuple[Token, ...]  # tokens that stay in one chunk, such as the vectors of one embedding
BREAK: Run = ()  # the empty run closes the chunk


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """At most 75 tokens, without BOS, EOS and padding."""

    tokens: tuple[Token, ...]

    @property
    def ids(self) -> list[int]:
        """All 77 ids."""
        ids = [token.id for token in self.tokens]
        return [BOS, *ids, *[EOS] * (ROOM + 1 - len(ids))]

    @property
    def weights(self) -> list[float]:
        """All 77 weights."""
        weights = [token.weight for token in self.tokens]
        return [1.0, *weights, *[1.0] * (ROOM + 1 - len(weights))]


def runs(tokenizer: Tokenizer, text: str) -> list[Run]:
    """Plain `text` as runs: every token on its own, weight 1."""
    return [(Token(index),) for index in tokenizer.encode(clean(text))]


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

"""Prompt text -> Conditioning, with CLIP as A1111 runs it.

    text ─ attention ─ runs ─ split ─► [Chunk] ─ TextEncoder ─► Conditioning ─► Encodings (cache)

The texts that one prompt has over a run (`[a:b:10]`, `[a|b]`) are a group: they get equally many
chunks, and emphasis is balanced over all of them, as in A1111.

SDXL's two text encoders read the same chunks, each is emphasised for itself, and their states are
laid side by side.

U texts of a group, N chunks of each, T tokens = 77 N, D width of a text encoder.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from darkroom.core.errors import BadFile, BadRequest, NotFinite
from darkroom.core.fields import Emphasis
from darkroom.core.prompt import Piece, attention
from darkroom.engine.chunks import ROOM, Chunk, Words, runs, split
from darkroom.engine.clip import ClipText
from darkroom.engine.conditioning import Conditioning, Encodings
from darkroom.engine.precision import widened
from darkroom.engine.tokenizer import VOCABULARY, Tokenizer
from darkroom.engine.tower import Tower

MAX_TOKENS = 75_000  # each chunk of 75 makes every attention to the text as much longer
ABSURD = 1000.0  # weight
AT_ONCE = 16  # chunks encoded in one call: bounds the memory of a very long prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How text is read. `words` are compared by identity: keep them while their files stay."""

    clip_skip: int = 1  # stop at this layer from the end; `engine.tower` says what that means
    emphasis: Emphasis = "Original"
    words: Words | None = None  # embeddings


PLAIN = Reading()


def pieces_of(text: str, emphasis: Emphasis) -> Sequence[Piece]:
    """The weighted pieces of `text` under an emphasis mode: "None" leaves its syntax in it."""
    return (Piece(text, 1.0),) if emphasis == "None" else attention(text)


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Texts that are encoded together."""

    texts: Sequence[Sequence[Chunk]]
    shares: Sequence[int]
    reading: Reading

    @property
    def padded(self) -> list[list[Chunk]]:
        """Every text with the chunks of the longest, empty ones at its end."""
        most = max(map(len, self.texts))
        return [[*text, *[Chunk(())] * (most - len(text))] for text in self.texts]

    @property
    def rows(self) -> list[Chunk]:
        """The first chunk of every text, then the second of every text, ... (N U)."""
        return [chunk for chunks in zip(*self.padded, strict=True) for chunk in chunks]

    @property
    def heaviest(self) -> float:
        """The greatest weight of any token, by its amount."""
        weights = (abs(t.weight) for text in self.texts for chunk in text for t in chunk.tokens)
        return max(weights, default=1.0)

    def emphasised(self, states: Tensor) -> Tensor:
        """States (N, U, 77, D) times their weights.

        "Original" then scales each chunk so that its mean is as before, over all texts.
        """
        rows = self.rows
        if self.reading.emphasis in ("Ignore", "None"):
            return states
        if all(token.weight == 1 for chunk in rows for token in chunk.tokens):
            return states
        weights = torch.tensor([chunk.weights for chunk in rows]).to(states)
        heavy = states * weights.view(*states.shape[:3], 1)
        if self.reading.emphasis == "No norm":
            return heavy
        share = torch.tensor(self.shares).to(states)
        before, after = ((x.mean((2, 3)) * share).sum(1) for x in (states, heavy))
        return heavy * (before / after).view(-1, 1, 1, 1)


class TextEncoder:
    """A model's CLIP text encoders with their tokenizer, and a cache of what they encoded.

    `weights` names their weights in the cache: the checkpoint's sha256 and whatever is patched in
    (a LoRA), so that an encoding never outlives the weights that made it. Who patches changes it.
    """

    def __init__(
        self,
        clips: Sequence[ClipText],
        tokenizer: Tokenizer,
        *,
        weights: str,
        cache: Encodings | None = None,
    ) -> None:
        self.weights = weights
        self._towers = [Tower(clip, place) for place, clip in enumerate(clips)]
        self._modules = nn.ModuleList(clips)
        self._tokenizer = tokenizer
        self._cache = Encodings() if cache is None else cache
        rows = min(clip.dims.vocab for clip in clips)
        if rows < VOCABULARY:  # on a GPU, an id without a row would take the process down
            raise BadFile(
                f"the text encoder knows {rows} tokens, not CLIP's {VOCABULARY}",
                hint="This is not a Stable Diffusion checkpoint.",
            )

    @property
    def layers(self) -> int:
        """How many layers the text encoder has, the shortest of several; clip_skip goes so far."""
        return min(tower.layers for tower in self._towers)

    @property
    def widths(self) -> tuple[int, ...]:
        """Length of a token's vector in each text encoder."""
        return tuple(tower.clip.dims.width for tower in self._towers)

    def encode(self, text: str, reading: Reading = PLAIN) -> Conditioning:
        """Encode one text; the empty text too."""
        return self.encode_group([text], reading)[0]

    def encode_group(self, texts: Sequence[str], reading: Reading = PLAIN) -> list[Conditioning]:
        """Encode the texts that one prompt has over a run, those of the cache excepted.

        BadRequest when all of them together have too many tokens.
        """
        self._check(reading.clip_skip)
        shares = Counter(texts)
        where = self._towers[0].clip.final_layer_norm.weight
        group = (self.weights, str(where.device), where.dtype, reading, frozenset(shares.items()))
        known = {text: self._cache.get((group, text)) for text in shares}
        found = {text: one for text, one in known.items() if one is not None}
        if len(found) < len(shares):
            read = [self.chunks(text, reading) for text in shares]
            if (tokens := sum(count for _, count in read)) > MAX_TOKENS:
                raise BadRequest(
                    f"the prompt has {tokens:,} tokens, and {MAX_TOKENS:,} is the most",
                    hint=f"Most models heed the first {ROOM} best.",
                )
            chunked = [chunks for chunks, _ in read]
            made = self.encode_chunks(chunked, reading, shares=list(shares.values()))
            found = dict(zip(shares, made, strict=True))
            for text, one in found.items():
                self._cache.put((group, text), one)
        return [found[text] for text in texts]

    def encode_negative(self, texts: Sequence[str], reading: Reading = PLAIN) -> list[Conditioning]:
        """Encode what is to be led away from; for SDXL that is zeros where every text is empty."""
        made = self.encode_group(texts, reading)
        if not any(texts) and made[0].pooled is not None:
            made = [one.zeros() for one in made]
        return [replace(one, negative=True) for one in made]

    def chunks(self, text: str, reading: Reading = PLAIN) -> tuple[list[Chunk], int]:
        """The chunks of `text` and its tokens, as A1111 counts them."""
        pieces = pieces_of(text, reading.emphasis)
        return split(runs(self._tokenizer, pieces, reading.words))

    def count(self, text: str, reading: Reading = PLAIN) -> tuple[int, int]:
        """Tokens used and room for them, as the counter beside the prompt shows: "12/75"."""
        _, used = self.chunks(text, reading)
        return used, ROOM * max(1, -(-used // ROOM))

    def encode_chunks(
        self,
        texts: Sequence[Sequence[Chunk]],
        reading: Reading = PLAIN,
        *,
        shares: Sequence[int] | None = None,
    ) -> list[Conditioning]:
        """Encode a group past the cache; again in higher precision if numbers overflow.

        `shares` says how often each text stands in the group.
        """
        self._check(reading.clip_skip)
        group = _Group(texts, shares or [1] * len(texts), reading)
        made = self._run(group)
        if not all(one.finite for one in made):
            dtype = made[0].tokens.dtype
            with widened(self._modules):
                made = [one.to(dtype) for one in self._run(group)]
            if not all(one.finite for one in made):
                if (heaviest := group.heaviest) > ABSURD:
                    raise BadRequest(
                        f"a weight of {heaviest:.4g} is more than numbers here can hold",
                        hint="Useful weights lie between 0.5 and 1.5.",
                    )
                raise NotFinite(
                    "the text encoder gives no numbers, not even in higher precision",
                    hint="Its file is probably damaged.",
                )
        return made

    def _check(self, clip_skip: int) -> None:
        if not 1 <= clip_skip <= self.layers:
            raise BadRequest(
                f"clip_skip {clip_skip} is not possible with this model",
                hint=f"Its text encoder has {self.layers} layers: choose 1 to {self.layers}.",
            )

    def _run(self, group: _Group) -> list[Conditioning]:
        with torch.no_grad():
            read = [self._states(tower, group) for tower in self._towers]
        tokens = torch.cat([states for states, _ in read], dim=-1)
        pools = next((pools for _, pools in read if pools), [])
        return [
            Conditioning(
                tokens[place : place + 1].clone(),
                tuple(len(chunk.tokens) for chunk in text),
                pools[place] if pools else None,
            )
            for place, text in enumerate(group.padded)
        ]

    def _states(self, tower: Tower, group: _Group) -> tuple[Tensor, list[Tensor]]:
        """What one text encoder makes of a group: states (U, T, D), and each text as a whole."""
        rows, texts = group.rows, len(group.texts)
        parts: list[Tensor] = []
        pools: list[Tensor] = []
        for start in range(0, len(rows), AT_ONCE):
            states, pool = tower.read(
                rows[start : start + AT_ONCE],
                clip_skip=group.reading.clip_skip,
                pooled=tower.pools and start < texts,  # first chunks stand first
            )
            parts.append(states)
            pools += [] if pool is None else pool.split(1)
        states = group.emphasised(torch.cat(parts).unflatten(0, (-1, texts)))  # (N, U, 77, D)
        return states.transpose(0, 1).flatten(1, 2), pools

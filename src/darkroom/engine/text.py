"""Prompt text -> Conditioning, with CLIP as A1111 runs it.

    text ─ attention ─ runs ─ split ─► [Chunk] ─ TextEncoder ─► Conditioning ─► Encodings (cache)

The texts that one prompt has over a run (`[a:b:10]`, `[a|b]`) are a group: they get equally many
chunks, and emphasis is balanced over all of them, as in A1111.

U texts of a group, N chunks of each, T tokens = 77 N, D width of the text encoder.
"""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.core.errors import BadFile, BadRequest, NotFinite
from darkroom.core.prompt import Piece, attention
from darkroom.core.request import Emphasis
from darkroom.engine.chunks import ROOM, Chunk, Words, runs, split
from darkroom.engine.clip import causal_mask
from darkroom.engine.precision import widened
from darkroom.engine.tokenizer import VOCABULARY, Tokenizer

MAX_TOKENS = 75_000  # each chunk of 75 makes every attention to the text as much longer
ABSURD = 1000.0  # weight
AT_ONCE = 16  # chunks encoded in one call: bounds the memory of a very long prompt


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """An encoded prompt. Cached and shared: never change its tensors in place."""

    tokens: Tensor  # (1, T, D), in the dtype and on the device of the text encoder
    counts: tuple[int, ...]  # prompt tokens in each chunk, 0 to 75
    pooled: Tensor | None = None  # (1, D)

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return self.tokens.nbytes + (self.pooled.nbytes if self.pooled is not None else 0)

    def to(self, dtype: torch.dtype) -> "Conditioning":
        """The same in another number format."""
        pooled = None if self.pooled is None else self.pooled.to(dtype)
        return Conditioning(self.tokens.to(dtype), self.counts, pooled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How text is read. `words` are compared by identity: keep them while their files stay."""

    clip_skip: int = 1  # stop at this layer from the end, and apply the final layer norm to it
    emphasis: Emphasis = "Original"
    words: Words | None = None  # embeddings
    pooled: bool = False  # the last layer's state at the first EOS is wanted as well


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


class Encodings:
    """Encoded prompts under a budget of bytes, the least recently used dropped first.

    Shared by the encoders of one device, so that it outlives the models that come and go. Not
    thread-safe, as nothing on a device is.
    """

    def __init__(self, budget: int = 64 << 20) -> None:
        self._budget = budget
        self._held: OrderedDict[Hashable, Conditioning] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> Conditioning | None:
        """What was put under `key`, if it is still here."""
        if (found := self._held.get(key)) is not None:
            self._held.move_to_end(key)
        return found

    def put(self, key: Hashable, value: Conditioning) -> None:
        """Keep `value`, unless it alone is over the budget."""
        if value.bytes > self._budget:
            return
        if (old := self._held.pop(key, None)) is not None:
            self.bytes -= old.bytes
        self._held[key] = value
        self.bytes += value.bytes
        while self.bytes > self._budget:
            self.bytes -= self._held.popitem(last=False)[1].bytes

    def clear(self) -> None:
        """Drop everything: nothing that was encoded before is given out again."""
        self._held.clear()
        self.bytes = 0


class TextEncoder:
    """A CLIP text model with its tokenizer, and a cache of what it encoded.

    `weights` names the module's weights in the cache: the checkpoint's sha256 and whatever is
    patched in (a LoRA), so that an encoding never outlives the weights that made it.
    """

    def __init__(
        self,
        module: nn.Module,
        tokenizer: Tokenizer,
        *,
        weights: str,
        cache: Encodings | None = None,
    ) -> None:
        self._module = module
        # CLIPTextModelWithProjection, and CLIPTextModel before transformers 5, hold the layers
        # one level down.
        self._text: Any = getattr(module, "text_model", module)
        self._tokenizer = tokenizer
        self._weights = weights
        self._cache = Encodings() if cache is None else cache
        rows = self._text.embeddings.token_embedding.weight.shape[0]
        if rows < VOCABULARY:  # on a GPU, an id without a row would take the process down
            raise BadFile(
                f"the text encoder knows {rows} tokens, not CLIP's {VOCABULARY}",
                hint="This is not a Stable Diffusion checkpoint.",
            )

    @property
    def layers(self) -> int:
        """How many layers the text encoder has; clip_skip goes up to this."""
        return len(self._text.encoder.layers)

    @property
    def width(self) -> int:
        """Length of a token's vector."""
        return int(self._text.embeddings.token_embedding.weight.shape[1])

    def encode(self, text: str, reading: Reading = PLAIN) -> Conditioning:
        """Encode one text; the empty text too."""
        return self.encode_group([text], reading)[0]

    def encode_group(self, texts: Sequence[str], reading: Reading = PLAIN) -> list[Conditioning]:
        """Encode the texts that one prompt has over a run, those of the cache excepted.

        BadRequest when all of them together have too many tokens.
        """
        self._check(reading.clip_skip)
        shares = Counter(texts)
        where = self._text.final_layer_norm.weight
        group = (self._weights, str(where.device), where.dtype, reading, frozenset(shares.items()))
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
        if not all(map(_finite, made)):
            dtype = made[0].tokens.dtype
            with widened(self._module):
                made = [one.to(dtype) for one in self._run(group)]
            if not all(map(_finite, made)):
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
        rows, reading = group.rows, group.reading
        parts: list[Tensor] = []
        pools: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, len(rows), AT_ONCE):
                pooled = reading.pooled and start < len(group.texts)  # first chunks stand first
                states, pool = self._forward(rows[start : start + AT_ONCE], reading, pooled)
                parts.append(states)
                pools += [] if pool is None else pool.split(1)
            states = torch.cat(parts).unflatten(0, (-1, len(group.texts)))  # (N, U, 77, D)
            states = group.emphasised(states)
        tokens = states.transpose(0, 1).flatten(1, 2)  # (U, T, D)
        return [
            Conditioning(
                tokens[place : place + 1].clone(),
                tuple(len(chunk.tokens) for chunk in text),
                pools[place] if pools else None,
            )
            for place, text in enumerate(group.padded)
        ]

    def _forward(
        self, chunks: Sequence[Chunk], reading: Reading, pooled: bool
    ) -> tuple[Tensor, Tensor | None]:
        """States (chunks, 77, D) after the final norm and, if asked for, pools (chunks, D).

        The layers that `clip_skip` leaves out do not run, unless the pools need them.
        """
        layers, norm = self._text.encoder.layers, self._text.final_layer_norm
        hidden = self._embed(chunks)
        mask = causal_mask(hidden)
        stop = len(layers) - reading.clip_skip + 1
        for layer in layers[:stop]:
            hidden = layer(hidden, mask)
        states = norm(hidden)
        if not pooled:
            return states, None
        for layer in layers[stop:]:
            hidden = layer(hidden, mask)
        ends = [len(chunk.tokens) + 1 for chunk in chunks]  # the first EOS
        pools = norm(hidden)[range(len(ends)), ends]
        projection = getattr(self._module, "text_projection", None)
        return states, pools if projection is None else projection(pools)

    def _embed(self, chunks: Sequence[Chunk]) -> Tensor:
        """Embeddings (chunks, 77, D) with positions; a token's own vector replaces its row."""
        table = self._text.embeddings.token_embedding
        ids = torch.tensor([chunk.ids for chunk in chunks], device=table.weight.device)
        embedded = table(ids)
        for row, chunk in enumerate(chunks):
            for place, token in enumerate(chunk.tokens, start=1):
                if token.vector is not None:
                    embedded[row, place] = token.vector.to(embedded)
        return self._text.embeddings(inputs_embeds=embedded)  # type: ignore[no-any-return]


def _finite(made: Conditioning) -> bool:
    tensors = [made.tokens] if made.pooled is None else [made.tokens, made.pooled]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def same_length(a: Conditioning, b: Conditioning) -> bool:
    """Whether both fit one batched call as they are."""
    return a.tokens.shape[1] == b.tokens.shape[1]

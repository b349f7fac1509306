"""Prompt text -> Conditioning, with CLIP as A1111 runs it.

    text ─ chunks.runs ─ chunks.split ─► [Chunk] ─ TextEncoder ─► Conditioning ─► Encodings (cache)

B batch (1 here), N chunks, T tokens = 77 N, D width of the text encoder.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.core.errors import BadFile, BadRequest, NotFinite
from darkroom.engine.chunks import ROOM, Chunk, runs, split
from darkroom.engine.clip import causal_mask
from darkroom.engine.precision import widened
from darkroom.engine.tokenizer import VOCABULARY, Tokenizer

AT_ONCE = 16  # chunks encoded in one call: bounds the memory of a very long prompt


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """An encoded prompt. Cached and shared: never change its tensors in place."""

    tokens: Tensor  # (B, T, D), in the dtype and on the device of the text encoder
    counts: tuple[int, ...]  # prompt tokens in each chunk, 0 to 75
    pooled: Tensor | None = None  # (B, D)

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return self.tokens.nbytes + (self.pooled.nbytes if self.pooled is not None else 0)


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

    def encode(self, text: str, *, clip_skip: int = 1, pooled: bool = False) -> Conditioning:
        """Encode plain `text`; the empty text too.

        `clip_skip` n stops at the n-th layer from the end and applies the final layer norm to it.
        `pooled` asks for the last layer's state at the first EOS as well.
        """
        self._check(clip_skip)
        where = self._text.final_layer_norm.weight
        key = (self._weights, str(where.device), where.dtype, text, clip_skip, pooled)
        if (found := self._cache.get(key)) is not None:
            return found
        chunks, _ = split(runs(self._tokenizer, text))
        made = self.encode_chunks(chunks, clip_skip=clip_skip, pooled=pooled)
        self._cache.put(key, made)
        return made

    def count(self, text: str) -> tuple[int, int]:
        """Tokens used and room for them, as the counter beside the prompt shows: "12/75"."""
        _, used = split(runs(self._tokenizer, text))
        return used, ROOM * max(1, -(-used // ROOM))

    def encode_chunks(
        self, chunks: Sequence[Chunk], *, clip_skip: int = 1, pooled: bool = False
    ) -> Conditioning:
        """Encode `chunks`, past the cache; again in higher precision if numbers overflow."""
        self._check(clip_skip)
        made = self._run(chunks, clip_skip, pooled)
        if not _finite(made):
            dtype = made.tokens.dtype
            with widened(self._module):
                wide = self._run(chunks, clip_skip, pooled)
            small = None if wide.pooled is None else wide.pooled.to(dtype)
            made = Conditioning(wide.tokens.to(dtype), wide.counts, small)
            if not _finite(made):
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

    def _run(self, chunks: Sequence[Chunk], clip_skip: int, pooled: bool) -> Conditioning:
        parts: list[Tensor] = []
        first: Tensor | None = None
        with torch.no_grad():
            for start in range(0, len(chunks), AT_ONCE):
                part = chunks[start : start + AT_ONCE]
                states, pools = self._forward(part, clip_skip, pooled and first is None)
                parts.append(_emphasise(states, part).flatten(0, 1))
                first = pools[:1] if first is None and pools is not None else first
        tokens = torch.cat(parts).unsqueeze(0)
        return Conditioning(tokens, tuple(len(chunk.tokens) for chunk in chunks), first)

    def _forward(
        self, chunks: Sequence[Chunk], clip_skip: int, pooled: bool
    ) -> tuple[Tensor, Tensor | None]:
        """States (N, 77, D) after the final norm and, if asked for, pools (N, D).

        The layers that `clip_skip` leaves out do not run, unless the pools need them.
        """
        layers, norm = self._text.encoder.layers, self._text.final_layer_norm
        hidden = self._embed(chunks)
        mask = causal_mask(hidden)
        stop = len(layers) - clip_skip + 1
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
        """Embeddings (N, 77, D) with positions; a token's own vector replaces its row."""
        table = self._text.embeddings.token_embedding
        ids = torch.tensor([chunk.ids for chunk in chunks], device=table.weight.device)
        embedded = table(ids)
        for row, chunk in enumerate(chunks):
            for place, token in enumerate(chunk.tokens, start=1):
                if token.vector is not None:
                    embedded[row, place] = token.vector.to(embedded)
        return self._text.embeddings(inputs_embeds=embedded)  # type: ignore[no-any-return]


def _emphasise(states: Tensor, chunks: Sequence[Chunk]) -> Tensor:
    """A1111's "Original" emphasis: states times weight, then each chunk's mean as it was."""
    if all(token.weight == 1 for chunk in chunks for token in chunk.tokens):
        return states
    weights = torch.tensor([chunk.weights for chunk in chunks]).to(states)
    heavy = states * weights.unsqueeze(-1)
    return heavy * (states.mean((1, 2), keepdim=True) / heavy.mean((1, 2), keepdim=True))


def _finite(made: Conditioning) -> bool:
    tensors = [made.tokens] if made.pooled is None else [made.tokens, made.pooled]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def same_length(a: Conditioning, b: Conditioning) -> bool:
    """Whether both fit one batched call as they are."""
    return a.tokens.shape[1] == b.tokens.shape[1]

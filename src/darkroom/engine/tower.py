"""One of a model's text encoders over chunks of tokens. SDXL has two, the others one.

                   state that guides the UNet                            padded with
    SD1     CLIP-L        layer -clip_skip, then the final norm           EOS
    SD2     OpenCLIP-H    the same, of 23 layers (the file has no more)   0
    SDXL    CLIP-L        layer -2 as it is                               EOS
            OpenCLIP-G    layer -2 as it is                               0
    refiner OpenCLIP-G    layer -2 as it is                               0

OpenCLIP-G also gives the text as a whole: the last layer's state at the first EOS, after the final
norm and a projection. clip_skip never changes that one. For SDXL, clip_skip 1 and 2 both are its
layer -2, as in A1111 and ComfyUI; 3 is layer -3, and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.engine.chunks import Chunk
from darkroom.engine.clip import ClipText, causal_mask
from darkroom.engine.tokenizer import EOS

PENULTIMATE = 2  # layers from the end, counted from 1
PADS = {"quick_gelu": EOS, "gelu": 0}  # OpenAI's CLIP and OpenCLIP were trained with these


@dataclass(frozen=True, slots=True, eq=False)
class Tower:
    """A text encoder, and which of a token's vectors are meant for it."""

    clip: ClipText
    place: int = 0

    @property
    def layers(self) -> int:
        """How many there are; clip_skip goes up to this."""
        return len(self.clip.encoder.layers)

    @property
    def pools(self) -> bool:
        """Whether it gives the text as a whole."""
        return self.clip.dims.penultimate and self.clip.dims.projection is not None

    def read(
        self, chunks: Sequence[Chunk], *, clip_skip: int, pooled: bool
    ) -> tuple[Tensor, Tensor | None]:
        """States (chunks, 77, D) and, if asked for, the chunks as wholes (chunks, P).

        The layers that are left out do not run, unless the wholes need them.
        """
        clip = self.clip
        skip = max(clip_skip, PENULTIMATE) if clip.dims.penultimate else clip_skip
        stop = self.layers - skip + 1
        hidden = self._embed(chunks)
        mask = causal_mask(hidden)
        for layer in clip.encoder.layers[:stop]:
            hidden = layer(hidden, mask)
        states = hidden if clip.dims.penultimate else clip.final_layer_norm(hidden)
        if not pooled:
            return states, None
        for layer in clip.encoder.layers[stop:]:
            hidden = layer(hidden, mask)
        ends = clip.final_layer_norm(hidden)[range(len(chunks)), [chunk.end for chunk in chunks]]
        return states, clip.text_projection(ends)

    def _embed(self, chunks: Sequence[Chunk]) -> Tensor:
        """Embeddings (chunks, 77, D) with positions; a token's own vector replaces its row."""
        table = self.clip.embeddings.token_embedding
        pad = PADS[self.clip.dims.activation]
        ids = torch.tensor([chunk.padded(pad) for chunk in chunks], device=table.weight.device)
        embedded = table(ids)
        for row, chunk in enumerate(chunks):
            for place, token in enumerate(chunk.tokens, start=1):
                if token.vectors:
                    embedded[row, place] = token.vectors[self.place].to(embedded)
        whole: Tensor = self.clip.embeddings(inputs_embeds=embedded)
        return whole

"""CLIP's text model, with the names of transformers' CLIPTextModel and the same numbers.

    ClipText(dims)(ids (B, T)) -> states (B, T, D)

Our own because transformers' costs 3.3 s to import (it brings torch._dynamo, generation, sharding
and quantisation) and this one nothing; and because its names changed between versions, while those
of the files, of LoRAs and of this module do not. Callers that stop early (clip skip) or bring their
own vectors run `embeddings`, `encoder.layers` with `causal_mask`, and `final_layer_norm`
themselves.

B batch, T tokens (77), D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkroom.weights.topology import TextDims


class ClipText(nn.Module):
    """The encoder; `dims.activation` tells OpenAI's CLIP (SD1) from OpenCLIP (SD2, SDXL).

    `text_projection` is there where `dims.projection` is: its result for the last state at the
    first EOS stands for the whole text. None of the methods here apply it.
    """

    def __init__(self, dims: TextDims) -> None:
        super().__init__()
        self.dims = dims
        self.embeddings = Embeddings(dims)
        self.encoder = Encoder(dims)
        self.final_layer_norm = nn.LayerNorm(dims.width)
        if dims.projection is not None:
            self.text_projection = nn.Linear(dims.width, dims.projection, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """States after the final norm."""
        hidden = self.embeddings(input_ids)
        mask = causal_mask(hidden)
        for layer in self.encoder.layers:
            hidden = layer(hidden, mask)
        states: Tensor = self.final_layer_norm(hidden)
        return states


def causal_mask(hidden: Tensor) -> Tensor:
    """(1, 1, T, T) for the scores of `hidden` (B, T, D): a token sees itself and those before."""
    length = hidden.shape[1]
    mask = torch.full((length, length), -torch.inf, dtype=hidden.dtype).triu(1)
    return mask.to(hidden.device)[None, None]


class Embeddings(nn.Module):
    """Token vectors plus position vectors."""

    def __init__(self, dims: TextDims) -> None:
        super().__init__()
        self.token_embedding = _table(dims.vocab, dims.width)
        self.position_embedding = _table(dims.positions, dims.width)

    def forward(
        self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        """Give ids (B, T), or token vectors (B, T, D) instead."""
        if inputs_embeds is None:
            inputs_embeds = self.token_embedding(input_ids)
        return inputs_embeds + self.position_embedding.weight[: inputs_embeds.shape[1]]


def _table(rows: int, width: int) -> nn.Embedding:
    """Not filled at random: on the meta device that alone would import torch._dynamo (1.7 s)."""
    table: nn.Embedding = nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)
    return table


class Encoder(nn.Module):
    """Only holds the layers, for their names."""

    def __init__(self, dims: TextDims) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(dims) for _ in range(dims.layers))


class Layer(nn.Module):
    """One transformer layer, norms first."""

    def __init__(self, dims: TextDims) -> None:
        super().__init__()
        self.self_attn = Attention(dims)
        self.layer_norm1 = nn.LayerNorm(dims.width)
        self.mlp = Feed(dims)
        self.layer_norm2 = nn.LayerNorm(dims.width)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) to the same; `mask` is added to the attention scores."""
        hidden = hidden + self.self_attn(self.layer_norm1(hidden), mask)
        out: Tensor = hidden + self.mlp(self.layer_norm2(hidden))
        return out


class Attention(nn.Module):
    """Self-attention."""

    def __init__(self, dims: TextDims) -> None:
        super().__init__()
        self.heads = dims.heads
        self.k_proj = nn.Linear(dims.width, dims.width)
        self.v_proj = nn.Linear(dims.width, dims.width)
        self.q_proj = nn.Linear(dims.width, dims.width)
        self.out_proj = nn.Linear(dims.width, dims.width)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) to the same."""
        query, key, value = (
            project(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return mixed


class Feed(nn.Module):
    """The two-layer network after the attention."""

    def __init__(self, dims: TextDims) -> None:
        super().__init__()
        self.activation = dims.activation
        self.fc1 = nn.Linear(dims.width, dims.intermediate)
        self.fc2 = nn.Linear(dims.intermediate, dims.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) to the same."""
        wide = self.fc1(hidden)
        if self.activation == "quick_gelu":
            wide = wide * torch.sigmoid(1.702 * wide)
        else:
            wide = functional.gelu(wide)
        out: Tensor = self.fc2(wide)
        return out

"""A vision transformer as timm writes it, for taggers (A. Dosovitskiy et al., arXiv 2010.11929).

    Vit(dims)(pictures (B, 3, S, S)) -> logits (B, classes)

The names are those of timm's VisionTransformer without a class token: what the patches say is
averaged, then normed. B batch, T patches, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkroom.core.errors import BadFile

# By timm's name of the architecture, before "_patch": (width, layers, heads).
SIZES: Mapping[str, tuple[int, int, int]] = {
    "vit_tiny": (192, 12, 3),
    "vit_small": (384, 12, 6),
    "vit_base": (768, 12, 12),
    "vit_large": (1024, 24, 16),
}
ACTIVATIONS = {"gelu": "none", "gelu_tanh": "tanh"}  # what torch calls the approximation
EPS = 1e-6  # of the norms
OTHER = "Vision transformers in timm's form are read, and any tagger in ONNX form."


@dataclass(frozen=True, slots=True, kw_only=True)
class Dims:
    """The size of a transformer."""

    side: int  # px of a picture
    patch: int  # px of a patch
    width: int
    layers: int
    heads: int
    classes: int
    approximation: str = "none"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """What timm's `config.json` says; BadFile when it is another network."""
        name = str(config.get("architecture"))
        size, found, rest = name.partition("_patch")
        told = config.get("model_args")
        told = told if isinstance(told, dict) else {}
        activation = told.get("act_layer", "gelu")
        fits = size in SIZES and found and told.get("class_token") is False
        if not fits or told.get("fc_norm") or activation not in ACTIVATIONS:
            raise BadFile(f"a tagger of the architecture {name!r} cannot be run", hint=OTHER)
        patch, _, side = rest.partition("_")
        width, layers, heads = SIZES[size]
        try:
            return cls(
                side=int(told.get("img_size", side)),
                patch=int(patch),
                width=width,
                layers=layers,
                heads=heads,
                classes=int(config["num_classes"]),
                approximation=ACTIVATIONS[activation],
            )
        except (ValueError, TypeError, KeyError):
            raise BadFile(f"config.json of the {name} makes no sense", hint=OTHER) from None


class Vit(nn.Module):
    """The network."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, (dims.side // dims.patch) ** 2, dims.width))
        self.patch_embed = _Patches(dims)
        self.blocks = nn.ModuleList(_Block(dims) for _ in range(dims.layers))
        self.norm = nn.LayerNorm(dims.width, eps=EPS)
        self.head = nn.Linear(dims.width, dims.classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of every class."""
        states = self.patch_embed(pictures) + self.pos_embed
        for block in self.blocks:
            states = block(states)
        logits: Tensor = self.head(self.norm(states).mean(1))
        return logits


class _Patches(nn.Module):
    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dims.width, dims.patch, dims.patch)

    def forward(self, pictures: Tensor) -> Tensor:
        patches: Tensor = self.proj(pictures).flatten(2).transpose(1, 2)  # (B, T, D)
        return patches


class _Block(nn.Module):
    """One layer, norms first."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dims.width, eps=EPS)
        self.attn = _Attention(dims)
        self.norm2 = nn.LayerNorm(dims.width, eps=EPS)
        self.mlp = _Feed(dims)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.attn(self.norm1(states))
        out: Tensor = states + self.mlp(self.norm2(states))
        return out


class _Attention(nn.Module):
    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.heads = dims.heads
        self.qkv = nn.Linear(dims.width, 3 * dims.width)
        self.proj = nn.Linear(dims.width, dims.width)

    def forward(self, states: Tensor) -> Tensor:
        three = self.qkv(states).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*three)
        mixed: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return mixed


class _Feed(nn.Module):
    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.approximation = dims.approximation
        self.fc1 = nn.Linear(dims.width, 4 * dims.width)
        self.fc2 = nn.Linear(4 * dims.width, dims.width)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(states), approximate=self.approximation))
        return out

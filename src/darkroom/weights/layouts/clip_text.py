"""CLIP text encoder: LDM files store transformers' names under a prefix.

transformers >= 5.6 dropped `text_model.` from CLIPTextModel's own names; files have it, except
very old ones, which are the second prefix.
"""

from collections.abc import Iterator

from darkroom.weights.layouts.entry import Entry, layer, same
from darkroom.weights.topology import TextDims

PREFIXES = ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.")


def clip_text(dims: TextDims) -> Iterator[Entry]:
    """Every tensor of the text encoder, without prefix on either side."""
    for name, rows in (("token", dims.vocab), ("position", dims.positions)):
        key = f"embeddings.{name}_embedding.weight"
        yield same(key, key, rows, dims.width)
    for index in range(dims.layers):
        block = f"encoder.layers.{index}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _same_layer(f"{block}.self_attn.{name}", dims.width, dims.width)
        for norm in ("layer_norm1", "layer_norm2"):
            yield from _same_layer(f"{block}.{norm}", dims.width)
        yield from _same_layer(f"{block}.mlp.fc1", dims.intermediate, dims.width)
        yield from _same_layer(f"{block}.mlp.fc2", dims.width, dims.intermediate)
    yield from _same_layer("final_layer_norm", dims.width)


def _same_layer(name: str, *weight: int) -> Iterator[Entry]:
    return layer(name, name, *weight)

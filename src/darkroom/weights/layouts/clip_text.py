"""CLIP text encoder under transformers' names, which most files have; ours are the same.

transformers >= 5.6 dropped `text_model.` from CLIPTextModel's own names. So files have it or not:
very old single files and very new diffusers folders do not, all the others do. The projection of
CLIPTextModelWithProjection lies beside `text_model.`, never in it.
"""

from collections.abc import Iterator
from dataclasses import replace

from darkroom.weights.layouts.entry import Entry, layer, same
from darkroom.weights.topology import TextDims

INNER = "text_model."
PREFIXES = ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.")
MARK = "embeddings.position_embedding.weight"
PROJECTION = "text_projection.weight"


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
    if dims.projection:
        yield same(PROJECTION, PROJECTION, dims.projection, dims.width)


def with_inner(dims: TextDims) -> Iterator[Entry]:
    """The same with `text_model.` before all names in the file but the projection's."""
    for entry in clip_text(dims):
        outer = entry.source == PROJECTION
        yield entry if outer else replace(entry, source=INNER + entry.source)


def _same_layer(name: str, *weight: int) -> Iterator[Entry]:
    return layer(name, name, *weight)

"""OpenCLIP's text encoder (SD2, SDXL's second, the refiner's) against transformers' names.

Query, key and value are one tensor in the file. The projection is stored the other way round, as
it is multiplied from the right there. SD2 carries a last layer that it never uses.
"""

from collections.abc import Iterator

from darkroom.weights.layouts.clip_text import MARK as POSITIONS
from darkroom.weights.layouts.clip_text import PROJECTION
from darkroom.weights.layouts.entry import Entry, fused, layer, same
from darkroom.weights.topology import TextDims

MARK = "positional_embedding"
BLOCK = "transformer.resblocks"


def open_clip(dims: TextDims) -> Iterator[Entry]:
    """Every tensor of the text encoder, without prefix on either side."""
    width, wide = dims.width, dims.intermediate
    yield same("token_embedding.weight", "embeddings.token_embedding.weight", dims.vocab, width)
    yield same(MARK, POSITIONS, dims.positions, width)
    for index in range(dims.layers):
        source, target = f"{BLOCK}.{index}", f"encoder.layers.{index}"
        projections = tuple(f"{target}.self_attn.{name}_proj" for name in "qkv")
        yield from fused(f"{source}.attn.in_proj", projections, width, width)
        yield from layer(f"{source}.attn.out_proj", f"{target}.self_attn.out_proj", width, width)
        yield from layer(f"{source}.ln_1", f"{target}.layer_norm1", width)
        yield from layer(f"{source}.ln_2", f"{target}.layer_norm2", width)
        yield from layer(f"{source}.mlp.c_fc", f"{target}.mlp.fc1", wide, width)
        yield from layer(f"{source}.mlp.c_proj", f"{target}.mlp.fc2", width, wide)
    yield from layer("ln_final", "final_layer_norm", width)
    if dims.projection:
        out = dims.projection
        yield Entry("text_projection", PROJECTION, (width, out), (out, width), transposed=True)

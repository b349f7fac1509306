"""UNet: the LDM layout (`model.diffusion_model.`) against diffusers' UNet2DConditionModel.

LDM numbers its blocks through: with n resnets per level, `input_blocks.0` is the first
convolution, level b starts at `input_blocks.(1 + b (n + 1))` and ends with its downsampler;
`output_blocks` count the n + 1 resnets of each level on the way up. Within a block `.0` is the
resnet, `.1` the transformer, and the upsampler comes last.
"""

from collections.abc import Iterator

from darkroom.weights.layouts.entry import Entry, layer, same, under
from darkroom.weights.topology import UNetDims

PREFIX = "model.diffusion_model."
MARK = "input_blocks.0.0.weight"

RESNET = {  # LDM name -> diffusers name
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def unet(dims: UNetDims) -> Iterator[Entry]:
    """Every tensor of the UNet, without prefix on either side."""
    base, last = dims.channels[0], len(dims.channels) - 1
    yield from layer("time_embed.0", "time_embedding.linear_1", dims.time_width, base)
    yield from layer("time_embed.2", "time_embedding.linear_2", dims.time_width, dims.time_width)
    if dims.adm:
        time = dims.time_width
        yield from layer("label_emb.0.0", "add_embedding.linear_1", time, dims.adm)
        yield from layer("label_emb.0.2", "add_embedding.linear_2", time, time)
    yield from layer("input_blocks.0.0", "conv_in", base, dims.in_channels, 3, 3)
    yield from layer("out.0", "conv_norm_out", base)
    yield from layer("out.2", "conv_out", dims.out_channels, base, 3, 3)
    for level in range(last + 1):
        yield from _down(dims, level)
        yield from _up(dims, last - level)
    mid = dims.channels[last]
    yield from _resnet(dims, "middle_block.0", "mid_block.resnets.0", mid, mid)
    yield from _attention(dims, "middle_block.1", "mid_block.attentions.0", mid, dims.mid_depth)
    yield from _resnet(dims, "middle_block.2", "mid_block.resnets.1", mid, mid)


def _down(dims: UNetDims, level: int) -> Iterator[Entry]:
    width, block = dims.channels[level], f"down_blocks.{level}"
    first = 1 + level * (dims.layers + 1)
    for index in range(dims.layers):
        source, before = f"input_blocks.{first + index}", dims.channels[max(level - 1, 0)]
        into = before if index == 0 else width
        yield from _resnet(dims, f"{source}.0", f"{block}.resnets.{index}", into, width)
        if depth := dims.depths[level]:
            target = f"{block}.attentions.{index}"
            yield from _attention(dims, f"{source}.1", target, width, depth)
    if level + 1 < len(dims.channels):
        source = f"input_blocks.{first + dims.layers}.0.op"
        yield from layer(source, f"{block}.downsamplers.0.conv", width, width, 3, 3)


def _up(dims: UNetDims, level: int) -> Iterator[Entry]:
    order = len(dims.channels) - 1 - level  # up blocks count from the lowest level
    width, block = dims.channels[level], f"up_blocks.{order}"
    below = dims.channels[min(level + 1, len(dims.channels) - 1)]
    above = dims.channels[max(level - 1, 0)]
    depth = dims.depths[level]
    for index in range(dims.layers + 1):
        source = f"output_blocks.{order * (dims.layers + 1) + index}"
        skip = above if index == dims.layers else width
        into = (below if index == 0 else width) + skip
        yield from _resnet(dims, f"{source}.0", f"{block}.resnets.{index}", into, width)
        if depth:
            target = f"{block}.attentions.{index}"
            yield from _attention(dims, f"{source}.1", target, width, depth)
    if level:
        source = f"{source}.{2 if depth else 1}.conv"
        yield from layer(source, f"{block}.upsamplers.0.conv", width, width, 3, 3)


def _resnet(dims: UNetDims, source: str, target: str, into: int, width: int) -> Iterator[Entry]:
    shapes: dict[str, tuple[int, ...]] = {
        "in_layers.0": (into,),
        "in_layers.2": (width, into, 3, 3),
        "emb_layers.1": (width, dims.time_width),
        "out_layers.0": (width,),
        "out_layers.3": (width, width, 3, 3),
    }
    if into != width:
        shapes["skip_connection"] = (width, into, 1, 1)
    for name, shape in shapes.items():
        yield from layer(f"{source}.{name}", f"{target}.{RESNET[name]}", *shape)


def _attention(dims: UNetDims, source: str, target: str, width: int, depth: int) -> Iterator[Entry]:
    project = (width, width) if dims.linear_projection else (width, width, 1, 1)
    for entry in _transformer(dims, width, depth, project):
        yield from under(f"{source}.", f"{target}.", [entry])


def _transformer(
    dims: UNetDims, width: int, depth: int, project: tuple[int, ...]
) -> Iterator[Entry]:
    """A spatial transformer; the names inside are the same on both sides."""
    yield from _same_layer("norm", width)
    yield from _same_layer("proj_in", *project)
    for index in range(depth):
        block = f"transformer_blocks.{index}"
        for attention, context in (("attn1", width), ("attn2", dims.context)):
            for name, into in (("to_q", width), ("to_k", context), ("to_v", context)):
                key = f"{block}.{attention}.{name}.weight"
                yield same(key, key, width, into)
            yield from _same_layer(f"{block}.{attention}.to_out.0", width, width)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _same_layer(f"{block}.{norm}", width)
        yield from _same_layer(f"{block}.ff.net.0.proj", 8 * width, width)
        yield from _same_layer(f"{block}.ff.net.2", width, 4 * width)
    yield from _same_layer("proj_out", *project)


def _same_layer(name: str, *weight: int) -> Iterator[Entry]:
    return layer(name, name, *weight)

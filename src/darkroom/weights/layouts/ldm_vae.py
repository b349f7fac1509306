"""VAE: the LDM layout (`first_stage_model.`) against diffusers' AutoencoderKL.

LDM numbers the decoder's levels by resolution, diffusers by order, so they run in opposite
directions; and LDM stores the attention's linear layers as 1x1 convolutions.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from darkroom.weights.layouts.entry import Entry, layer, native, same, squeezed
from darkroom.weights.topology import VaeDims

PREFIX = "first_stage_model."
MARK = "decoder.conv_in.weight"  # in LDM's names and in diffusers'
PIXELS = 3

ATTENTION = {  # LDM name -> diffusers name
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
OLD_ATTENTION = {  # diffusers' own names until 2023 -> its names since
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
HALF = re.compile(r"\.attn_1\.(q|k|v|proj_out)\.(weight|bias)$")


def vae(dims: VaeDims) -> Iterator[Entry]:
    """Every tensor of the VAE, without prefix on either side."""
    base, low, latent = dims.channels[0], dims.channels[-1], dims.latent_channels
    last = len(dims.channels) - 1
    yield from layer("encoder.conv_in", "encoder.conv_in", base, PIXELS, 3, 3)
    yield from layer("encoder.norm_out", "encoder.conv_norm_out", low)
    yield from layer("encoder.conv_out", "encoder.conv_out", 2 * latent, low, 3, 3)
    yield from layer("quant_conv", "quant_conv", 2 * latent, 2 * latent, 1, 1)
    yield from layer("post_quant_conv", "post_quant_conv", latent, latent, 1, 1)
    yield from layer("decoder.conv_in", "decoder.conv_in", low, latent, 3, 3)
    yield from layer("decoder.norm_out", "decoder.conv_norm_out", base)
    yield from layer("decoder.conv_out", "decoder.conv_out", PIXELS, base, 3, 3)
    for level in range(last + 1):
        yield from _encoder_level(dims, level)
        yield from _decoder_level(dims, level)
    yield from _middle("encoder", low)
    yield from _middle("decoder", low)


def old_vae(dims: VaeDims) -> Iterator[Entry]:
    """Every tensor of the VAE as diffusers named it until 2023."""
    olds = {f".attentions.0.{new}.": f".attentions.0.{old}." for old, new in OLD_ATTENTION.items()}
    for entry in native(vae(dims)):
        found = next((new for new in olds if new in entry.target), None)
        old = entry.target.replace(found, olds[found]) if found else entry.target
        yield replace(entry, source=old)


def half_vae(dims: VaeDims) -> Iterator[Entry]:
    """LDM's names but for the attention's linear layers, which have diffusers' names and shapes.

    Trainers of 2023 wrote such files: they translated `query`, and diffusers had begun to say
    `to_q`.
    """
    for entry in vae(dims):
        if (found := HALF.search(entry.source)) is None:
            yield entry
        else:
            source = f"{entry.source[: found.start(1)]}{ATTENTION[found[1]]}.{found[2]}"
            yield same(source, entry.target, *entry.shape)


def _encoder_level(dims: VaeDims, level: int) -> Iterator[Entry]:
    width, before = dims.channels[level], dims.channels[max(level - 1, 0)]
    source, target = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
    for index in range(dims.layers):
        into = before if index == 0 else width
        yield from _resnet(f"{source}.block.{index}", f"{target}.resnets.{index}", into, width)
    if level + 1 < len(dims.channels):
        sampler = f"{target}.downsamplers.0.conv"
        yield from layer(f"{source}.downsample.conv", sampler, width, width, 3, 3)


def _decoder_level(dims: VaeDims, level: int) -> Iterator[Entry]:
    last = len(dims.channels) - 1
    width, below = dims.channels[level], dims.channels[min(level + 1, last)]
    source, target = f"decoder.up.{level}", f"decoder.up_blocks.{last - level}"
    for index in range(dims.layers + 1):
        into = below if index == 0 else width
        yield from _resnet(f"{source}.block.{index}", f"{target}.resnets.{index}", into, width)
    if level:
        yield from layer(
            f"{source}.upsample.conv", f"{target}.upsamplers.0.conv", width, width, 3, 3
        )


def _middle(side: str, width: int) -> Iterator[Entry]:
    source, target = f"{side}.mid", f"{side}.mid_block"
    for index in (0, 1):
        names = f"{source}.block_{index + 1}", f"{target}.resnets.{index}"
        yield from _resnet(*names, width, width)
    yield from layer(f"{source}.attn_1.norm", f"{target}.attentions.0.group_norm", width)
    for name, ours in ATTENTION.items():
        names = f"{source}.attn_1.{name}", f"{target}.attentions.0.{ours}"
        yield from squeezed(*names, width, width)


def _resnet(source: str, target: str, into: int, width: int) -> Iterator[Entry]:
    yield from layer(f"{source}.norm1", f"{target}.norm1", into)
    yield from layer(f"{source}.conv1", f"{target}.conv1", width, into, 3, 3)
    yield from layer(f"{source}.norm2", f"{target}.norm2", width)
    yield from layer(f"{source}.conv2", f"{target}.conv2", width, width, 3, 3)
    if into != width:
        yield from layer(f"{source}.nin_shortcut", f"{target}.conv_shortcut", width, into, 1, 1)

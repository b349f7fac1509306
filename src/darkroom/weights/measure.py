"""Every dimension of the networks, from the shapes of an LDM checkpoint alone; no torch.

Only a few tensors are looked at; whether all the others fit is a comparison with the layout that
these dimensions call for (`detect.check`).
"""

import re
from collections.abc import Iterable

from darkroom.core.errors import BadFile
from darkroom.weights.header import Header
from darkroom.weights.layouts import clip_text, ldm_unet, ldm_vae
from darkroom.weights.topology import (
    CLIP_POSITIONS,
    CLIP_VOCABULARY,
    FACTOR,
    TextDims,
    UNetDims,
    VaeDims,
)

MAX_COUNT = 99  # levels, layers and blocks; real models stay below 50


class Measure:
    """Reads shapes and counts under one prefix of a header."""

    def __init__(self, header: Header, prefix: str) -> None:
        self.header, self.prefix = header, prefix

    def shape(self, name: str, *ranks: int) -> tuple[int, ...]:
        """The shape of a tensor that must be there with one of these numbers of dimensions."""
        shape = self.header.shape(self.prefix + name)
        if shape is None:
            raise BadFile(f"{self.header.path} is incomplete: it has no {self.prefix}{name}")
        if len(shape) not in ranks or 0 in shape:
            raise BadFile(f"{self.header.path}: {self.prefix}{name} has the wrong shape {shape}")
        return shape

    def has(self, name: str) -> bool:
        """Whether the tensor is there."""
        return self.prefix + name in self.header.tensors

    def numbers(self, pattern: str) -> list[int]:
        """The numbers that stand in place of `#` in names that begin with the pattern, sorted."""
        regex = re.compile(re.escape(self.prefix + pattern).replace(r"\#", r"(\d{1,3})(?!\d)"))
        found = {int(m[1]) for name in self.header.tensors if (m := regex.match(name))}
        return sorted(n for n in found if n <= MAX_COUNT)

    def count(self, pattern: str) -> int:
        """How many there are of a thing that is counted from 0."""
        return len(self.numbers(pattern))


def measure_unet(header: Header) -> UNetDims:
    """The UNet of an LDM checkpoint."""
    at = Measure(header, ldm_unet.PREFIX)
    blocks = at.numbers("input_blocks.#.")
    downsamplers = [n for n in blocks if at.has(f"input_blocks.{n}.0.op.weight")]
    step = downsamplers[0] if downsamplers else len(blocks)
    firsts = [1 + level * step for level in range(len(downsamplers) + 1)]
    depths = [at.count(f"input_blocks.{n}.1.transformer_blocks.#.") for n in firsts]
    middle = "middle_block.1"
    return UNetDims(
        in_channels=at.shape("input_blocks.0.0.weight", 4)[1],
        out_channels=at.shape("out.2.weight", 4)[0],
        channels=tuple(at.shape(f"input_blocks.{n}.0.in_layers.2.weight", 4)[0] for n in firsts),
        layers=step - 1,
        depths=tuple(depths),
        mid_depth=at.count(f"{middle}.transformer_blocks.#."),
        context=at.shape(f"{middle}.transformer_blocks.0.attn2.to_k.weight", 2)[1],
        linear_projection=len(at.shape(f"{middle}.proj_in.weight", 2, 4)) == 2,
    )


def measure_vae(header: Header) -> VaeDims:
    """The VAE of an LDM checkpoint."""
    at = Measure(header, ldm_vae.PREFIX)
    levels = at.count("encoder.down.#.")
    first = "encoder.down.{}.block.0.conv1.weight"
    return VaeDims(
        channels=tuple(at.shape(first.format(level), 4)[0] for level in range(levels)),
        layers=at.count("encoder.down.0.block.#."),
        latent_channels=at.shape("decoder.conv_in.weight", 4)[1],
    )


def text_prefix(header: Header) -> str | None:
    """Where the CLIP text encoder lies; None if the file has none."""
    name = "embeddings.position_embedding.weight"
    return next((p for p in clip_text.PREFIXES if p + name in header.tensors), None)


def measure_text(header: Header) -> TextDims:
    """The CLIP text encoder of an LDM checkpoint."""
    at = Measure(header, text_prefix(header) or clip_text.PREFIXES[0])
    positions, width = at.shape("embeddings.position_embedding.weight", 2)
    return TextDims(
        width=width,
        layers=at.count("encoder.layers.#."),
        intermediate=at.shape("encoder.layers.0.mlp.fc1.weight", 2)[0],
        positions=positions,
        vocab=at.shape("embeddings.token_embedding.weight", 2)[0],
    )


def check_unet(unet: UNetDims) -> str:
    """Why these dimensions make no network; empty if they do."""
    levels = range(len(unet.channels))
    deep = {depth for depth in (*unet.depths, unet.mid_depth) if depth}
    merged = (unet.channels[level] + unet.channels[max(level - 1, 0)] for level in levels)
    if not unet.layers or not unet.mid_depth:
        return "its UNet has no layers"
    if unet.depths[-1] not in (0, unet.mid_depth) or len(deep) != 1:
        return "its UNet has levels of different depth"
    if bad := _indivisible((*unet.channels, *merged), unet.groups):
        return f"{bad} UNet channels do not divide into {unet.groups} groups"
    for width, heads in zip(unet.channels, unet.heads, strict=True):
        if width % heads:
            return f"{width} UNet channels do not divide into {heads} heads"
    return ""


def check_vae(vae: VaeDims) -> str:
    """Why these dimensions make no network; empty if they do."""
    if not vae.channels or not vae.layers:
        return "its VAE has no layers"
    if bad := _indivisible(vae.channels, vae.groups):
        return f"{bad} VAE channels do not divide into {vae.groups} groups"
    return ""


def check_text(text: TextDims) -> str:
    """Why these dimensions make no network; empty if they do."""
    if text.width % text.heads:
        return f"a text width of {text.width} does not divide into {text.heads} heads"
    return ""


def check_together(unet: UNetDims, vae: VaeDims, text: TextDims) -> str:
    """Why three networks, each whole in itself, make no Stable Diffusion; empty if they do."""
    latent = vae.latent_channels
    faults = {
        f"its VAE makes pictures {vae.factor} times the size of the latent, not {FACTOR} times": (
            vae.factor != FACTOR
        ),
        f"its UNet takes {unet.in_channels} channels, its VAE has {latent}": (
            unet.in_channels != latent
        ),
        f"its UNet gives {unet.out_channels} channels, its VAE has {latent}": (
            unet.out_channels != latent
        ),
        f"its text encoder is {text.width} wide, its UNet expects {unet.context}": (
            text.width != unet.context
        ),
        f"its text encoder reads {text.positions} tokens at a time, not {CLIP_POSITIONS}": (
            text.positions != CLIP_POSITIONS
        ),
        f"its text encoder knows {text.vocab:,} tokens, CLIP has {CLIP_VOCABULARY:,}": (
            text.vocab < CLIP_VOCABULARY
        ),
    }
    return next((fault for fault, there in faults.items() if there), "")


def _indivisible(widths: Iterable[int], groups: int) -> int:
    return next((width for width in widths if width % groups), 0)

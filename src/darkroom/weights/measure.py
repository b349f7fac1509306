"""Every dimension of the networks, from the shapes in a file alone; no torch.

Only a few tensors are looked at, each under the names of the place where its network lies; whether
all the others fit is a comparison with the layout that these dimensions call for (`detect.check`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from darkroom.core.errors import BadFile
from darkroom.weights.header import Header
from darkroom.weights.layouts import clip_text
from darkroom.weights.layouts.checkpoint import Family, Place, Text
from darkroom.weights.topology import (
    CLIP_POSITIONS,
    CLIP_VOCABULARY,
    FACTOR,
    TextDims,
    UNetDims,
    VaeDims,
)

MAX_COUNT = 99  # levels, layers and blocks; real models stay below 50
EXTRA_CHANNELS = (0, 4, 5)  # that a UNet takes besides the latent: an image; a mask and an image


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetNames:
    """Where a UNet's dimensions are read; `{0}` is LDM's number of a block, `{1}` a level's."""

    conv_in: str
    conv_out: str
    adm: str
    resnet: str  # the first of a level, down to the two tensors that tell how many there are
    widths: tuple[str, str]
    attention: str
    mid: str


UNET_NAMES = {
    "ldm unet": UNetNames(
        conv_in="input_blocks.0.0.weight",
        conv_out="out.2.weight",
        adm="label_emb.0.0.weight",
        resnet="input_blocks.{0}.0.",
        widths=("in_layers.2.weight", "in_layers.0.weight"),
        attention="input_blocks.{0}.1.",
        mid="middle_block.1.",
    ),
    "diffusers unet": UNetNames(
        conv_in="conv_in.weight",
        conv_out="conv_out.weight",
        adm="add_embedding.linear_1.weight",
        resnet="down_blocks.{1}.resnets.0.",
        widths=("conv1.weight", "norm1.weight"),
        attention="down_blocks.{1}.attentions.0.",
        mid="mid_block.attentions.0.",
    ),
}
BLOCKS = ("transformer_blocks.{}.norm1.weight", "transformer_blocks.{}.attn1.to_q.weight")
CONTEXT = "transformer_blocks.0.attn2.to_k.weight"

VAE_NAMES = {  # (the first convolution of an encoder's level, the resnets of its first level)
    "ldm vae": ("encoder.down.{}.block.0.conv1.weight", "encoder.down.0.block.{}.conv1.weight"),
    "diffusers vae": (
        "encoder.down_blocks.{}.resnets.0.conv1.weight",
        "encoder.down_blocks.0.resnets.{}.conv1.weight",
    ),
}
VAE_NAMES["half ldm vae"] = VAE_NAMES["ldm vae"]
VAE_NAMES["old diffusers vae"] = VAE_NAMES["diffusers vae"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextNames:
    """Where a text encoder's dimensions are read."""

    positions: str
    tokens: str
    layers: tuple[str, str]
    intermediate: str
    projection: tuple[str, int]  # the tensor, the axis of its output


CLIP_NAMES = TextNames(
    positions=clip_text.MARK,
    tokens="embeddings.token_embedding.weight",
    layers=("encoder.layers.{}.layer_norm1.weight", "encoder.layers.{}.self_attn.q_proj.weight"),
    intermediate="encoder.layers.0.mlp.fc1.weight",
    projection=(clip_text.PROJECTION, 0),
)
OPEN_CLIP_NAMES = TextNames(
    positions="positional_embedding",
    tokens="token_embedding.weight",
    layers=(
        "transformer.resblocks.{}.ln_1.weight",
        "transformer.resblocks.{}.attn.in_proj_weight",
    ),
    intermediate="transformer.resblocks.0.mlp.c_fc.weight",
    projection=("text_projection", 1),
)
USED_LAYERS = 23  # of SD2's text encoder, which has 24


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

    def numbers(self, *patterns: str) -> list[int]:
        """The numbers for which a name of these patterns is there, sorted."""
        return [n for n in range(MAX_COUNT + 1) if any(self.has(p.format(n)) for p in patterns)]

    def count(self, *patterns: str) -> int:
        """How many there are of a thing that is counted from 0; one that lacks is a hole."""
        return max(self.numbers(*patterns), default=-1) + 1


def measure_unet(header: Header, place: Place) -> UNetDims:
    """The UNet that lies in this place."""
    at, names = Measure(header, place.prefix), UNET_NAMES[place.names]
    levels, layers = _ldm_levels(at) if place.names == "ldm unet" else _levels(at)
    firsts = [(1 + level * (layers + 1), level) for level in range(levels)]
    attentions = [names.attention.format(*first) for first in firsts]
    depths = [at.count(*_in(attention, BLOCKS)) for attention in attentions]
    mid_depth = at.count(*_in(names.mid, BLOCKS))
    inner = (a for a, depth in zip(attentions, depths, strict=True) if depth)
    some = names.mid if mid_depth else next(inner, names.mid)
    widths = [names.resnet.format(*first) + names.widths[0] for first in firsts]
    return UNetDims(
        in_channels=at.shape(names.conv_in, 4)[1],
        out_channels=at.shape(names.conv_out, 4)[0],
        channels=tuple(at.shape(name, 4)[0] for name in widths),
        layers=layers,
        depths=tuple(depths),
        mid_depth=mid_depth,
        context=at.shape(some + CONTEXT, 2)[1],
        linear_projection=len(at.shape(f"{some}proj_in.weight", 2, 4)) == 2,
        adm=at.shape(names.adm, 2)[1] if at.has(names.adm) else None,
    )


def _ldm_levels(at: Measure) -> tuple[int, int]:
    """(levels, resnets per level): LDM numbers its blocks through and ends a level with `op`."""
    samplers = at.numbers("input_blocks.{}.0.op.weight")
    blocks = at.count(*_in("input_blocks.{}.0.", UNET_NAMES["ldm unet"].widths))
    step = samplers[0] if samplers else blocks
    return len(samplers) + 1, step - 1


def _levels(at: Measure) -> tuple[int, int]:
    widths = UNET_NAMES["diffusers unet"].widths
    levels = at.count(*_in("down_blocks.{}.resnets.0.", widths))
    return levels, at.count(*_in("down_blocks.0.resnets.{}.", widths))


def _in(prefix: str, names: Sequence[str]) -> list[str]:
    return [prefix + name for name in names]


def measure_vae(header: Header, place: Place, scale: float) -> VaeDims:
    """The VAE that lies in this place; what latents are multiplied by is in no shape."""
    at = Measure(header, place.prefix)
    level, layer = VAE_NAMES[place.names]
    return VaeDims(
        channels=tuple(at.shape(level.format(n), 4)[0] for n in range(at.count(level))),
        layers=at.count(layer),
        latent_channels=at.shape("decoder.conv_in.weight", 4)[1],
        scale=scale,
    )


def measure_text(header: Header, place: Place, text: Text) -> TextDims:
    """The text encoder that lies in this place, as its family uses it."""
    inner = clip_text.INNER if place.names == "inner clip" else ""
    at, outer = Measure(header, place.prefix + inner), Measure(header, place.prefix)
    names = OPEN_CLIP_NAMES if place.names == "open clip" else CLIP_NAMES
    positions, width = at.shape(names.positions, 2)
    layers = at.count(*names.layers)
    if text.spare_layer and place.names == "open clip" and layers != USED_LAYERS:
        layers -= 1
    tensor, axis = names.projection
    return TextDims(
        width=width,
        layers=layers,
        intermediate=at.shape(names.intermediate, 2)[0],
        positions=positions,
        vocab=at.shape(names.tokens, 2)[0],
        activation=text.activation,
        projection=outer.shape(tensor, 2)[axis] if text.projected else None,
        penultimate=text.penultimate,
    )


def check_unet(unet: UNetDims) -> str:
    """Why these dimensions make no network; empty if they do."""
    levels = range(len(unet.channels))
    merged = (unet.channels[level] + unet.channels[max(level - 1, 0)] for level in levels)
    if not unet.layers or not unet.mid_depth:
        return "its UNet has no layers"
    if unet.depths[-1] not in (0, unet.mid_depth):
        return "the middle of its UNet is not as deep as its last level"
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
    if text.layers < 1:
        return "its text encoder has no layers"
    if text.width % text.heads:
        return f"a text width of {text.width} does not divide into {text.heads} heads"
    return ""


def check_blocks(header: Header, unet: UNetDims, vae: VaeDims | None) -> str:
    """Why there are too few tensors for so many blocks; empty if there are enough.

    Every block has ten and more. A few made-up names must not call for millions of rows.
    """
    both_ways = [2 * unet.layers + 1 + (2 * unet.layers + 1) * depth for depth in unet.depths]
    blocks = sum(both_ways) + unet.mid_depth
    if vae:
        blocks += len(vae.channels) * (2 * vae.layers + 1)
    tensors = len(header.tensors)
    return f"{tensors} tensors cannot be {blocks} blocks" if blocks > tensors else ""


def check_together(
    family: Family, unet: UNetDims, vae: VaeDims | None, *, texts: tuple[TextDims, ...]
) -> str:
    """Why networks that are each whole make no checkpoint of the family; empty if they do."""
    faults = (
        _text_width_fault(unet, texts),
        _pooled_fault(family, unet, texts[-1]),
        *map(_text_fault, texts),
        _vae_fault(unet, vae) if vae else "",
    )
    return next(filter(None, faults), "")


def _text_width_fault(unet: UNetDims, texts: Sequence[TextDims]) -> str:
    width = sum(text.width for text in texts)
    if width == unet.context:
        return ""
    who = "text encoder is" if len(texts) == 1 else "text encoders together are"
    return f"its {who} {width} wide, its UNet expects {unet.context}"


def _pooled_fault(family: Family, unet: UNetDims, text: TextDims) -> str:
    """SDXL and its refiner take the pooled text and some sizes besides; SD1 and SD2 nothing."""
    given, taken = text.projection or 0, unet.adm or 0
    if bool(given) == bool(taken) and taken >= given:
        return ""
    return f"its UNet takes {taken} numbers besides the text, {family.name} gives {given} and sizes"


def _vae_fault(unet: UNetDims, vae: VaeDims) -> str:
    latent = vae.latent_channels
    if vae.factor != FACTOR:
        times = f"{vae.factor} times the size of the latent, not {FACTOR} times"
        return f"its VAE makes pictures {times}"
    if unet.in_channels not in [latent + extra for extra in EXTRA_CHANNELS]:
        return f"its UNet takes {unet.in_channels} channels, its VAE has {latent}"
    if unet.out_channels != latent:
        return f"its UNet gives {unet.out_channels} channels, its VAE has {latent}"
    return ""


def _text_fault(text: TextDims) -> str:
    if text.positions != CLIP_POSITIONS:
        return f"its text encoder reads {text.positions} tokens at a time, not {CLIP_POSITIONS}"
    if text.vocab < CLIP_VOCABULARY:
        return f"its text encoder knows {text.vocab:,} tokens, CLIP has {CLIP_VOCABULARY:,}"
    return ""


def _indivisible(widths: Iterable[int], groups: int) -> int:
    return next((width for width in widths if width % groups), 0)

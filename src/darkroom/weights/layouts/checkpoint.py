"""Whole checkpoints: which networks a family has, where each may lie, which tensor goes where.

A place is a prefix together with somebody's names. The first place of each network is the usual
single file's; `single_file` lays a checkpoint out that way.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from darkroom.core.model import Arch
from darkroom.weights.layouts import clip_text, ldm_unet, ldm_vae, open_clip
from darkroom.weights.layouts.entry import Component, Entry, Layout, Shape, native, under
from darkroom.weights.topology import SD_SCALE, SDXL_SCALE, TextDims, UNetDims, VaeDims

__all__ = [
    "FAMILIES", "UNET", "VAE", "VAE_ALONE", "Component", "Family", "Layout", "Place", "Text",
    "entries", "rows", "sd1_layout", "single_file", "stored", "to_file",
]  # fmt: skip

Names = Literal[
    "ldm unet", "diffusers unet",
    "ldm vae", "half ldm vae", "diffusers vae", "old diffusers vae",
    "clip", "inner clip", "open clip",
]  # fmt: skip

ROWS: Mapping[Names, Callable[[Any], Iterator[Entry]]] = {
    "ldm unet": ldm_unet.unet,
    "diffusers unet": lambda dims: native(ldm_unet.unet(dims)),
    "ldm vae": ldm_vae.vae,
    "half ldm vae": ldm_vae.half_vae,
    "diffusers vae": lambda dims: native(ldm_vae.vae(dims)),
    "old diffusers vae": ldm_vae.old_vae,
    "clip": clip_text.clip_text,
    "inner clip": clip_text.with_inner,
    "open clip": open_clip.open_clip,
}

MARKS: Mapping[Names, str] = {  # a tensor that is there whenever the network is
    "ldm unet": ldm_unet.MARK,
    "diffusers unet": "conv_in.weight",
    "ldm vae": "encoder.mid.attn_1.q.weight",
    "half ldm vae": "encoder.mid.attn_1.to_q.weight",
    "diffusers vae": "decoder.mid_block.attentions.0.to_q.weight",
    "old diffusers vae": "decoder.mid_block.attentions.0.query.weight",
    "clip": clip_text.MARK,
    "inner clip": clip_text.INNER + clip_text.MARK,
    "open clip": open_clip.MARK,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a network lies in a file: under a prefix, by somebody's names."""

    prefix: str
    names: Names

    @property
    def mark(self) -> str:
        """A tensor that is in the file if the network lies here."""
        return self.prefix + MARKS[self.names]


def _clip(*prefixes: str) -> tuple[Place, ...]:
    """Transformers' names with `text_model.` and without."""
    inner = [Place(prefix, "inner clip") for prefix in prefixes]
    return (*inner, *(Place(prefix, "clip") for prefix in prefixes))


UNET = (Place(ldm_unet.PREFIX, "ldm unet"), Place("unet/", "diffusers unet"))
VAE = (
    Place(ldm_vae.PREFIX, "ldm vae"),
    Place(ldm_vae.PREFIX, "half ldm vae"),
    Place("vae/", "diffusers vae"),
    Place("vae/", "old diffusers vae"),
)
VAE_ALONE = (
    *VAE,
    Place("", "ldm vae"),
    Place("", "half ldm vae"),
    Place("", "diffusers vae"),
    Place("", "old diffusers vae"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text encoder of a family, and how the family uses it."""

    component: Component
    places: tuple[Place, ...]
    activation: Literal["quick_gelu", "gelu"]
    penultimate: bool = False
    projected: bool = False
    spare_layer: bool = False  # a single file holds one layer more than is used


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the checkpoints of one architecture have in common."""

    name: str
    texts: tuple[Text, ...]
    native_size: int  # pixels
    scale: float  # of latents


OPEN_CLIP_G = _clip("text_encoder_2/")
FAMILIES: Mapping[Arch, Family] = {
    Arch.SD1: Family(
        name="SD1",
        texts=(
            Text(
                component="text",
                places=_clip("cond_stage_model.transformer.", "text_encoder/"),
                activation="quick_gelu",
            ),
        ),
        native_size=512,
        scale=SD_SCALE,
    ),
    Arch.SD2: Family(
        name="SD2",
        texts=(
            Text(
                component="text",
                places=(
                    Place("cond_stage_model.model.", "open clip"),
                    Place("conditioner.embedders.0.model.", "open clip"),
                    *_clip("text_encoder/", "cond_stage_model.transformer."),
                ),
                activation="gelu",
                spare_layer=True,
            ),
        ),
        native_size=512,
        scale=SD_SCALE,
    ),
    Arch.SDXL: Family(
        name="SDXL",
        texts=(
            Text(
                component="text",
                places=_clip("conditioner.embedders.0.transformer.", "text_encoder/"),
                activation="quick_gelu",
                penultimate=True,
            ),
            Text(
                component="text_2",
                places=(Place("conditioner.embedders.1.model.", "open clip"), *OPEN_CLIP_G),
                activation="gelu",
                penultimate=True,
                projected=True,
            ),
        ),
        native_size=1024,
        scale=SDXL_SCALE,
    ),
    Arch.SDXL_REFINER: Family(
        name="SDXL refiner",
        texts=(
            Text(
                component="text",
                places=(Place("conditioner.embedders.0.model.", "open clip"), *OPEN_CLIP_G),
                activation="gelu",
                penultimate=True,
                projected=True,
            ),
        ),
        native_size=1024,
        scale=SDXL_SCALE,
    ),
}


@lru_cache(maxsize=16)  # SDXL takes four, and 0.8 MB
def rows(place: Place, dims: UNetDims | VaeDims | TextDims) -> tuple[Entry, ...]:
    """Every tensor of a network that lies there; sources with their prefix, targets without."""
    return tuple(under(place.prefix, "", ROWS[place.names](dims)))


def single_file(
    arch: Arch, unet: UNetDims, vae: VaeDims | None, *, texts: tuple[TextDims, ...]
) -> Layout:
    """A checkpoint of a family as LDM and its successors write it, in one file."""
    layout: Layout = {"unet": rows(UNET[0], unet)}
    if vae:
        layout["vae"] = rows(VAE[0], vae)
    for text, dims in zip(FAMILIES[arch].texts, texts, strict=True):
        layout[text.component] = rows(text.places[0], dims)
    return layout


def sd1_layout(
    unet: UNetDims, vae: VaeDims, text: TextDims, text_prefix: str = clip_text.PREFIXES[0]
) -> Layout:
    """SD1.x in one file; `text_prefix` tells the usual names of its text encoder from very old."""
    names = rows(Place(text_prefix, "clip"), text)
    return {"unet": rows(UNET[0], unet), "vae": rows(VAE[0], vae), "text": names}


def entries(layout: Layout) -> Iterator[Entry]:
    """All rows, whatever the component."""
    for rows in layout.values():
        yield from rows


def stored(layout: Layout) -> dict[str, Shape]:
    """The file's tensors and their shapes, each once however many rows read it."""
    return {row.source: row.stored for row in entries(layout)}


def to_file(rows: Iterable[Entry]) -> dict[str, Entry]:
    """The way back, for saving: name in the network -> row (source name, stored shape)."""
    return {row.target: row for row in rows}

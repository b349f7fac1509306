"""A whole single-file checkpoint: which of its tensors goes where."""

from collections.abc import Iterable, Iterator
from typing import Literal

from darkroom.weights.layouts import clip_text, ldm_unet, ldm_vae
from darkroom.weights.layouts.entry import Entry, under
from darkroom.weights.topology import TextDims, UNetDims, VaeDims

Component = Literal["unet", "vae", "text"]
Layout = dict[Component, tuple[Entry, ...]]


def sd1_layout(
    unet: UNetDims, vae: VaeDims, text: TextDims, text_prefix: str = clip_text.PREFIXES[0]
) -> Layout:
    """SD1.x in the LDM layout; the sources carry their prefixes, the targets none."""
    return {
        "unet": tuple(under(ldm_unet.PREFIX, "", ldm_unet.unet(unet))),
        "vae": tuple(under(ldm_vae.PREFIX, "", ldm_vae.vae(vae))),
        "text": tuple(under(text_prefix, "", clip_text.clip_text(text))),
    }


def entries(layout: Layout) -> Iterator[Entry]:
    """All rows, whatever the component."""
    for rows in layout.values():
        yield from rows


def to_file(rows: Iterable[Entry]) -> dict[str, Entry]:
    """The way back, for saving: name in the network -> row (source name, stored shape)."""
    return {row.target: row for row in rows}

"""Headers of full-size models: true names and shapes, no file behind them.

real_header(Arch.SDXL, folder=True, adm=2816) -> Header
"""

from dataclasses import replace
from pathlib import Path

from darkroom.core.model import Arch
from darkroom.weights.header import Header
from darkroom.weights.layouts.checkpoint import Layout, entries, single_file, stored
from darkroom.weights.layouts.entry import Shape
from darkroom.weights.topology import SDXL_SCALE, TextDims, UNetDims, VaeDims
from tiny import made_header

VAE = VaeDims(channels=(128, 256, 512, 512), layers=2, latent_channels=4)
CLIP_L = TextDims(width=768, layers=12, intermediate=3072, positions=77, vocab=49408)
CLIP_H = replace(CLIP_L, width=1024, layers=23, intermediate=4096, activation="gelu")
CLIP_G = TextDims(
    width=1280,
    layers=32,
    intermediate=5120,
    positions=77,
    vocab=49408,
    activation="gelu",
    projection=1280,
    penultimate=True,
)
SD1_UNET = UNetDims(
    in_channels=4,
    out_channels=4,
    channels=(320, 640, 1280, 1280),
    layers=2,
    depths=(1, 1, 1, 0),
    mid_depth=1,
    context=768,
    linear_projection=False,
)
SD2_UNET = replace(SD1_UNET, context=1024, linear_projection=True)
SDXL_UNET = replace(
    SD2_UNET,
    channels=(320, 640, 1280),
    depths=(0, 2, 10),
    mid_depth=10,
    context=2048,
    adm=2816,
)
REFINER_UNET = replace(
    SD2_UNET,
    channels=(384, 768, 1536, 1536),
    depths=(0, 4, 4, 0),
    mid_depth=4,
    context=1280,
    adm=2560,
)
UNETS = {
    Arch.SD1: SD1_UNET,
    Arch.SD2: SD2_UNET,
    Arch.SDXL: SDXL_UNET,
    Arch.SDXL_REFINER: REFINER_UNET,
}
TEXTS = {
    Arch.SD1: (CLIP_L,),
    Arch.SD2: (CLIP_H,),
    Arch.SDXL: (replace(CLIP_L, penultimate=True), CLIP_G),
    Arch.SDXL_REFINER: (CLIP_G,),
}
VAES = {
    arch: VAE if arch in (Arch.SD1, Arch.SD2) else replace(VAE, scale=SDXL_SCALE) for arch in UNETS
}
FOLDERS = {"unet": "unet/", "vae": "vae/", "text": "text_encoder/", "text_2": "text_encoder_2/"}


def real_layout(arch: Arch, *, in_channels: int = 4) -> Layout:
    """The rows of the family's single file."""
    unet = replace(UNETS[arch], in_channels=in_channels)
    return single_file(arch, unet, VAES[arch], texts=TEXTS[arch])


def real_shapes(arch: Arch, *, in_channels: int = 4) -> dict[str, Shape]:
    """The tensors of the family's single file; SD2 with the layer that it never uses."""
    shapes = stored(real_layout(arch, in_channels=in_channels))
    if arch is Arch.SD2:
        block = "cond_stage_model.model.transformer.resblocks."
        shapes |= {
            name.replace(f"{block}22.", f"{block}23."): shape
            for name, shape in shapes.items()
            if name.startswith(f"{block}22.")
        }
        shapes["cond_stage_model.model.text_projection"] = (1024, 1024)
        shapes["cond_stage_model.model.logit_scale"] = ()
    return shapes


def real_folder(arch: Arch, *, inner: bool = True, in_channels: int = 4) -> dict[str, Shape]:
    """The tensors of the family's diffusers folder; `inner`: its encoders say `text_model.`"""
    shapes: dict[str, Shape] = {}
    for component, rows in real_layout(arch, in_channels=in_channels).items():
        folder = FOLDERS[
            "text_2" if arch is Arch.SDXL_REFINER and component == "text" else component
        ]
        for row in rows:
            outer = not component.startswith("text") or row.target.startswith("text_projection")
            shapes[folder + ("text_model." if inner and not outer else "") + row.target] = row.shape
    return shapes


def real_header(
    arch: Arch,
    *,
    metadata: dict[str, str] | None = None,
    in_channels: int = 4,
    name: str = "made.safetensors",
) -> Header:
    """The header of the family's single file."""
    return called(made_header(real_shapes(arch, in_channels=in_channels), metadata), name)


def called(header: Header, name: str) -> Header:
    """The header of a file of another name."""
    return replace(header, path=Path(name), files=(Path(name),))


def ema_names(arch: Arch) -> dict[str, str]:
    """Every tensor of the UNet -> what its average is called."""
    rows = entries({"unet": real_layout(arch)["unet"]})
    return {
        row.source: "model_ema." + row.source.removeprefix("model.").replace(".", "")
        for row in rows
    }

"""Make a checkpoint with random weights, to measure speed and memory with. Its pictures are noise.

    python bench/make_checkpoint.py sd15.safetensors                   2.13 GB, as the real one
    python bench/make_checkpoint.py sdxl.safetensors --family sdxl     6.94 GB
    python bench/make_checkpoint.py folder --form diffusers            as diffusers lays it out
    python bench/make_checkpoint.py tiny.safetensors --tiny            9 MB, the same topology

The numbers are fp16 and the same for the same --seed. They are scaled so that activations stay near
unit size in every layer, as in a trained network: speed does not depend on the values as long as
they are finite. Takes no more memory than one piece of 8 MB.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from darkroom.core.errors import StudioError
from darkroom.core.model import Arch
from darkroom.weights.layouts import clip_text
from darkroom.weights.layouts.checkpoint import FAMILIES, Layout, single_file, stored
from darkroom.weights.layouts.entry import Component, Shape
from darkroom.weights.topology import SDXL_SCALE, TextDims, UNetDims, VaeDims
from darkroom.weights.writer import write_safetensors

PIECE = 1 << 22  # numbers made at a time
TOKENS = ("token_embedding", "position")  # tables that are looked up, not multiplied with

SD15_UNET = UNetDims(
    in_channels=4,
    out_channels=4,
    channels=(320, 640, 1280, 1280),
    layers=2,
    depths=(1, 1, 1, 0),
    mid_depth=1,
    context=768,
    linear_projection=False,
)
SD21_UNET = replace(SD15_UNET, context=1024, linear_projection=True)
SDXL_UNET = UNetDims(
    in_channels=4,
    out_channels=4,
    channels=(320, 640, 1280),
    layers=2,
    depths=(0, 2, 10),
    mid_depth=10,
    context=2048,
    linear_projection=True,
    adm=2816,
)
REFINER_UNET = replace(
    SDXL_UNET,
    channels=(384, 768, 1536, 1536),
    depths=(0, 4, 4, 0),
    mid_depth=4,
    context=1280,
    adm=2560,
)
SD15_VAE = VaeDims(channels=(128, 256, 512, 512), layers=2, latent_channels=4)
SDXL_VAE = replace(SD15_VAE, scale=SDXL_SCALE)
SD15_TEXT = TextDims(width=768, layers=12, intermediate=3072, positions=77, vocab=49408)
SDXL_TEXT = replace(SD15_TEXT, penultimate=True)
SD21_TEXT = replace(
    SD15_TEXT, width=1024, layers=23, intermediate=4096, activation="gelu"
)  # of the 24 in a single file
BIG_G = replace(
    SDXL_TEXT, width=1280, layers=32, intermediate=5120, activation="gelu", projection=1280
)

COMPONENTS: Mapping[Component, tuple[str, str]] = {  # folder and file in diffusers' layout
    "unet": ("unet", "diffusion_pytorch_model"),
    "vae": ("vae", "diffusion_pytorch_model"),
    "text": ("text_encoder", "model"),
    "text_2": ("text_encoder_2", "model"),
}
CLASSES: Mapping[Component, tuple[str, str]] = {  # as `model_index.json` names them
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text": ("transformers", "CLIPTextModel"),
    "text_2": ("transformers", "CLIPTextModelWithProjection"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The networks of a kind of checkpoint."""

    arch: Arch
    unet: UNetDims
    vae: VaeDims
    texts: tuple[TextDims, ...]
    predicts_v: bool = False

    def tiny(self) -> "Family":
        """The same, narrow and shallow, with the true vocabulary."""
        small = {"width": 64, "layers": 3, "intermediate": 128}
        texts = tuple(
            replace(text, **small, projection=text.projection and 64) for text in self.texts
        )
        xl = self.unet.adm is not None
        unet = replace(
            self.unet,
            channels=(32, 64),
            layers=1,
            depths=(0, 2) if xl else (1, 0),
            mid_depth=2 if xl else 1,
            context=64 * len(texts),
            adm=self.unet.adm and self.unet.adm - 1280 + 64,
        )
        return replace(
            self, unet=unet, vae=replace(self.vae, channels=(16, 32, 32, 32), layers=1), texts=texts
        )

    def layout(self) -> Layout:
        """The tensors of a single file."""
        texts = tuple(
            replace(dims, layers=dims.layers + text.spare_layer)
            for dims, text in zip(self.texts, FAMILIES[self.arch].texts, strict=True)
        )
        return single_file(self.arch, self.unet, self.vae, texts=texts)

    def metadata(self) -> dict[str, str]:
        """What a single file says of itself."""
        prediction = "v" if self.predicts_v else "epsilon"
        return {"modelspec.title": "random weights", "modelspec.prediction_type": prediction}


SD15 = Family(arch=Arch.SD1, unet=SD15_UNET, vae=SD15_VAE, texts=(SD15_TEXT,))
KINDS: Mapping[str, Family] = {
    "sd15": SD15,
    "sd21": Family(
        arch=Arch.SD2, unet=SD21_UNET, vae=SD15_VAE, texts=(SD21_TEXT,), predicts_v=True
    ),
    "sdxl": Family(arch=Arch.SDXL, unet=SDXL_UNET, vae=SDXL_VAE, texts=(SDXL_TEXT, BIG_G)),
    "refiner": Family(arch=Arch.SDXL_REFINER, unet=REFINER_UNET, vae=SDXL_VAE, texts=(BIG_G,)),
    "inpaint": replace(SD15, unet=replace(SD15_UNET, in_channels=9)),
    "edit": replace(SD15, unet=replace(SD15_UNET, in_channels=8)),
}


def sd15() -> Layout:
    """The tensors of the real SD1.5."""
    return SD15.layout()


def tiny() -> Layout:
    """The same, narrow and shallow, with the true vocabulary."""
    return SD15.tiny().layout()


def make_checkpoint(
    path: Path, layout: Layout, *, seed: int = 0, metadata: Mapping[str, str] | None = None
) -> None:
    """Write random weights for every row of `layout` into one file."""
    _write(path, stored(layout), seed, metadata or {"modelspec.title": "random weights"})


def make_folder(path: Path, family: Family, *, seed: int = 0) -> None:
    """Write random weights as diffusers lays a model out, with what its configurations decide."""
    listed: dict[str, list[str]] = {}
    for component, rows in family.layout().items():
        kind = in_folder(component, family.arch)
        folder, name = COMPONENTS[kind]
        listed[folder] = list(CLASSES[kind])
        spare = f"encoder.layers.{family.texts[0].layers}."
        shapes = {
            _inner(component, row.target): row.shape
            for row in rows
            if component in ("unet", "vae") or not row.target.startswith(spare)
        }
        (path / folder).mkdir(parents=True)
        _write(path / folder / f"{name}.safetensors", shapes, seed, {"format": "pt"})
        _json(path / folder / "config.json", _config(kind, family))
    prediction = "v_prediction" if family.predicts_v else "epsilon"
    (path / "scheduler").mkdir()
    _json(path / "scheduler" / "scheduler_config.json", {"prediction_type": prediction})
    _json(path / "model_index.json", {"_class_name": "DiffusionPipeline", **listed})


def in_folder(component: Component, arch: Arch) -> Component:
    """What diffusers takes a component for: the refiner has only a second text encoder."""
    return "text_2" if component == "text" and arch is Arch.SDXL_REFINER else component


def _inner(component: Component, target: str) -> str:
    """The name of a tensor in a folder: a text encoder's lie under `text_model.`."""
    if component in ("unet", "vae") or target == clip_text.PROJECTION:
        return target
    return clip_text.INNER + target


def _config(component: Component, family: Family) -> dict[str, object]:
    _, name = CLASSES[component]
    scale = {"scaling_factor": family.vae.scale} if component == "vae" else {}
    return {"_class_name": name, **scale}


def _json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _write(path: Path, shapes: Mapping[str, Shape], seed: int, said: Mapping[str, str]) -> None:
    table = {name: ("F16", shape) for name, shape in shapes.items()}
    named = enumerate(shapes.items())
    pieces = (piece for number, row in named for piece in _pieces(*row, (seed, number)))
    write_safetensors(path, table, pieces, metadata=said)


def _pieces(name: str, shape: Shape, seed: tuple[int, int]) -> Iterator[memoryview]:
    """The tensor's bytes. Each has its own stream, so a tensor does not depend on those before."""
    random = np.random.default_rng(seed)
    mean, spread = _distribution(name, shape)
    left = math.prod(shape)
    while left:
        count = min(left, PIECE)
        values = random.standard_normal(count, np.float32)
        values *= spread
        values += mean
        yield values.astype("<f2").data.cast("B")
        left -= count


def _distribution(name: str, shape: Shape) -> tuple[float, float]:
    """Mean and standard deviation that keep the variance of what passes through."""
    if len(shape) == 1:
        return (1.0 if name.endswith(".weight") else 0.0), 0.05  # a norm, or a bias
    if any(part in name for part in TOKENS):
        return 0.0, 1.0
    return 0.0, 1 / math.sqrt(math.prod(shape[1:]))


def main() -> int:
    """Run from the command line; 0, or 1 with the reason on one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--family", choices=KINDS, default="sd15")
    parser.add_argument("--form", choices=("ldm", "diffusers"), default="ldm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="the same topology in 9 to 20 MB")
    given = parser.parse_args()
    family = KINDS[given.family].tiny() if given.tiny else KINDS[given.family]
    try:
        if given.form == "diffusers":
            make_folder(given.path, family, seed=given.seed)
        else:
            said = family.metadata()
            make_checkpoint(given.path, family.layout(), seed=given.seed, metadata=said)
    except StudioError as error:
        print(error.sentence(), file=sys.stderr)
        return 1
    files = given.path.rglob("*") if given.path.is_dir() else [given.path]
    print(f"{given.path}: {sum(file.stat().st_size for file in files):,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

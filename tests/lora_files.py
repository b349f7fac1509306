"""LoRA files for tests: full-size checkpoints' modules without weights, and every way to name them.

targets_for("SDXL") -> Targets                       real dimensions, no file
tiny_targets() -> Targets                            of `tiny.tiny_header`
header_of({"lora_unet_conv_in.alpha": ()}) -> Header     a file that is only a header
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from darkroom.core.model import Arch, Kind, Prediction, Variant
from darkroom.weights.detect import Detected, detect
from darkroom.weights.header import Header, TensorInfo
from darkroom.weights.layouts.checkpoint import single_file
from darkroom.weights.layouts.entry import Shape
from darkroom.weights.lora import Place, Targets, targets_of
from darkroom.weights.topology import TextDims, UNetDims
from tiny import tiny_header


def _unet(context: int, **changes: object) -> UNetDims:
    dims = {
        "in_channels": 4,
        "out_channels": 4,
        "channels": (320, 640, 1280, 1280),
        "layers": 2,
        "depths": (1, 1, 1, 0),
        "mid_depth": 1,
        "linear_projection": context != 768,
    }
    return UNetDims(context=context, **(dims | changes))  # type: ignore[arg-type]


def _text(width: int, layers: int, projection: int | None = None) -> TextDims:
    return TextDims(
        width=width,
        layers=layers,
        intermediate=4 * width,
        positions=77,
        vocab=49408,
        projection=projection,
    )


DIMS = {
    Arch.SD1: (_unet(768), (_text(768, 12),)),
    Arch.SD2: (_unet(1024), (_text(1024, 23),)),
    Arch.SDXL: (
        _unet(2048, channels=(320, 640, 1280), depths=(0, 2, 10), mid_depth=10, adm=2816),
        (_text(768, 12), _text(1280, 32, 1280)),
    ),
}


@cache
def targets_for(arch: Arch | str, in_channels: int = 4) -> Targets:
    """The modules of a real checkpoint of a family."""
    unet, texts = DIMS[Arch(arch)]
    if in_channels != 4:
        unet = _unet(unet.context, in_channels=in_channels)
    return targets_of(
        Detected(
            kind=Kind.CHECKPOINT,
            arch=Arch(arch),
            variant=Variant.BASE,
            prediction=Prediction.EPS,
            native_size=512,
            unet=unet,
            vae=None,
            texts=texts,
            layout=single_file(Arch(arch), unet, None, texts=texts),
        )
    )


@cache
def tiny_targets(**dims: object) -> Targets:
    """The modules of a tiny checkpoint."""
    return targets_of(detect(tiny_header(**dims)))  # type: ignore[arg-type]


def header_of(
    shapes: Mapping[str, Shape], metadata: Mapping[str, str] | None = None, name: str = "it"
) -> Header:
    """What `read_header` says of a file with tensors of these shapes."""
    tensors = {key: TensorInfo("F16", tuple(shape), 0, 0) for key, shape in shapes.items()}
    return Header(Path(f"{name}.safetensors"), tensors, dict(metadata or {}), 0)


def lora_shapes(weight: Shape, rank: int = 2) -> tuple[Shape, Shape]:
    """Of up and down, for a weight."""
    out, into, *kernel = weight
    ones = (1,) * len(kernel)
    return (out, rank, *ones), (rank, into, *kernel)


def underscored(name: str) -> str:
    return name.replace(".", "_")


def ldm_name(targets: Targets, module: str) -> str:
    return next(source for source, ours in targets.ldm.items() if ours == module)


Naming = Callable[[Targets, Place], tuple[str, str] | None]  # keys of up and down; None: has none
TE = {"text": "lora_te1_", "text_2": "lora_te2_"}
ENCODER = {"text": "text_encoder.", "text_2": "text_encoder_2."}


def _kohya(
    ending: str = ".lora_{}.weight", *, ldm: bool = False, unet: str = "lora_unet_"
) -> Naming:
    def name(targets: Targets, place: Place) -> tuple[str, str]:
        component, module = place
        if component == "unet":
            base = unet + underscored(ldm_name(targets, module) if ldm else module)
        else:
            single = len(targets.encoders) == 1
            inner = "" if module == "text_projection" else "text_model_"
            base = ("lora_te_" if single else TE[component]) + inner + underscored(module)
        return base + ending.format("up"), base + ending.format("down")

    return name


def _dotted(unet: str, inner: str, up: str, down: str, ldm: bool = False) -> Naming:
    def name(targets: Targets, place: Place) -> tuple[str, str]:
        component, module = place
        if component == "unet":
            base = unet + (ldm_name(targets, module) if ldm else module)
        else:
            base = ENCODER[component] + inner + module
        return f"{base}.{up}", f"{base}.{down}"

    return name


def _older(prefix: str) -> Naming:
    """diffusers when adapters lay in the attention processors: attention only."""

    def name(targets: Targets, place: Place) -> tuple[str, str] | None:
        component, module = place
        block, _, layer = module.removesuffix(".0").rpartition(".")
        if component == "unet" and block.endswith(("attn1", "attn2")):
            base = f"{prefix}{block}.processor.{layer}_lora"
        elif component == "text" and block.endswith("self_attn"):
            layer = "to_" + layer.removesuffix("_proj")
            base = f"text_encoder.text_model.{block}.{layer}_lora"
        else:
            return None
        return f"{base}.up.weight", f"{base}.down.weight"

    return name


DIALECTS: Mapping[str, Naming] = {
    "kohya": _kohya(),
    "kohya, SGM names": _kohya(ldm=True),
    "LyCORIS": _kohya(unet="lycoris_"),
    "a broken converter": _kohya("_lora_{}.weight", unet="lora_unet_unet_"),
    "diffusers": _dotted("unet.", "text_model.", "lora.up.weight", "lora.down.weight"),
    "diffusers, linear layers": _dotted(
        "unet.", "text_model.", "lora_linear_layer.up.weight", "lora_linear_layer.down.weight"
    ),
    "diffusers, old": _older(""),
    "diffusers, old, with prefix": _older("unet."),
    "PEFT": _dotted("unet.", "text_model.", "lora_B.weight", "lora_A.weight"),
    "PEFT after transformers 5.6": _dotted("unet.", "", "lora_B.weight", "lora_A.weight"),
    "PEFT alone": _dotted(
        "base_model.model.", "text_model.", "lora_B.default.weight", "lora_A.default.weight"
    ),
    "ComfyUI": _dotted(
        "diffusion_model.", "text_model.", "lora_B.weight", "lora_A.weight", ldm=True
    ),
    "a whole checkpoint's names": _dotted(
        "model.diffusion_model.", "", "lora_up.weight", "lora_down.weight", ldm=True
    ),
}


def lora_header(targets: Targets, dialect: str, rank: int = 2) -> tuple[Header, set[Place]]:
    """A file for all modules that a dialect has names for, and those modules."""
    shapes: dict[str, Shape] = {}
    places: set[Place] = set()
    for place, weight in targets.shapes.items():
        plain = len(weight) > 1 and "embeddings" not in place[1]
        if names := plain and DIALECTS[dialect](targets, place):
            shapes |= zip(names, lora_shapes(weight, rank), strict=True)
            places.add(place)
    return header_of(shapes), places

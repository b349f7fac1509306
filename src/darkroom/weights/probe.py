"""Everything that a library shows of a file, from its header and never from its extension.

    probe(header) -> Probe

It never refuses: what keeps a file from being used stands in `problems`, a sentence each. No torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch, Kind, Prediction, Variant
from darkroom.weights import claims, riders
from darkroom.weights.detect import RUNS, Detected, checkpoint_of, cure, vae_of
from darkroom.weights.identify import Identity, identity_of
from darkroom.weights.layouts.checkpoint import FAMILIES, UNET, VAE, Place
from darkroom.weights.names import EMA, Names
from darkroom.weights.preview import detect_preview
from darkroom.weights.table import BITS, Header

PRECISIONS = {
    "F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8",
    "F8_E8M0": "fp8", "F8_E4M3FNUZ": "fp8", "F8_E5M2FNUZ": "fp8", "F6_E2M3": "fp6",
    "F6_E3M2": "fp6", "F4": "fp4", "I8": "int8", "U8": "int8",
}  # fmt: skip
PURE = 0.98  # of a file's numbers have the precision that it is called by
LEAST_EMA = 100  # tensors; fewer are left-overs

DIALECTS = (  # of LoRAs: the first whose names are there
    ("cloneofsimo", ("unet:0:up", "text_encoder:0:up")),
    ("LyCORIS", ("lycoris_*",)),
    ("kohya, SGM names", ("lora_unet_input_blocks_*", "lora_unet_output_blocks_*")),
    ("kohya", ("lora_unet_*", "lora_te*", "oft_unet_*")),
    ("PEFT", ("*.lora_A.*",)),
    ("diffusers, old", ("*.processor.*",)),
    ("diffusers", ("*.lora.down.weight", "*.lora_linear_layer.down.weight")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a file is, what it says of itself, and what is wrong with it."""

    kind: Kind
    arch: Arch
    label: str  # with its article: "an SDXL inpaint checkpoint"
    form: str  # "safetensors", "pickle" or "folder"
    variant: Variant = Variant.BASE
    prediction: Prediction = Prediction.EPS
    zero_snr: bool = False
    native_size: int = 512  # pixels
    precision: str = ""  # "fp16", "mixed"
    components: tuple[str, ...] = ()  # of a checkpoint: "unet", "vae", "text", "text_2"
    ema: bool = False  # holds averaged weights of the UNet too
    distilled: claims.Distilled = ""  # the kind of few-step training
    distilled_by: str = ""  # what tells so: "tensors", "metadata" or "name"
    dialect: str = ""  # of a LoRA: whose names it has
    rank: str = ""  # of a LoRA: "16", "4 to 64"; "" where its algorithm has none
    base: str = ""  # what it was made for or from: "SDXL", "sd_xl_base_1.0.safetensors"
    title: str = ""
    author: str = ""
    licence: str = ""
    description: str = ""
    triggers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()  # of the pictures it was trained on, the most frequent first
    recommended: Mapping[str, float | str] = field(default_factory=dict, hash=False)
    """Request fields that suit a few-step model; what its maker says goes before them."""
    runs: bool = False  # a checkpoint or VAE that this version can run
    problems: tuple[str, ...] = ()  # a sentence each


def probe(header: Header) -> Probe:
    """All there is to say about the file without reading its numbers."""
    names = Names(header)
    identity = identity_of(names)
    found, runs, problems = _tried(names, identity)
    return Probe(
        kind=identity.kind,
        arch=identity.arch,
        label=identity.label,
        form=header.form,
        variant=found.variant if found else Variant.BASE,
        prediction=found.prediction if found else claims.prediction(header) or Prediction.EPS,
        zero_snr=bool(found and found.zero_snr),
        native_size=_native_size(header, found, identity.arch),
        precision=precision(header),
        components=tuple(_components(header, identity, found)),
        ema=bool(names.renamed) or _averaged(names) >= LEAST_EMA,
        distilled=claims.distilled(header, identity.arch),
        distilled_by=claims.distilled_by(header, identity.arch),
        dialect=_dialect(names) if identity.kind is Kind.LORA else "",
        rank=_rank(header) if identity.kind is Kind.LORA else "",
        base=_base(header, identity, names),
        title=claims.said(header, "modelspec.title", "ss_output_name"),
        author=claims.said(header, "modelspec.author", "author"),
        licence=claims.said(header, "modelspec.license", "license"),
        description=claims.said(header, "modelspec.description", "description"),
        triggers=claims.triggers(header),
        tags=claims.frequent_tags(header),
        recommended=_recommended(header, identity),
        runs=runs,
        problems=problems,
    )


def _averaged(names: Names) -> int:
    """How many tensors are averages of others, as training keeps them."""
    if not names.has(f"{EMA}*"):
        return 0
    return sum(name.startswith(EMA) for name in names.header.tensors)


def precision(header: Header) -> str:
    """What nearly all numbers of the file are: fp32, fp16, bf16, fp8 …, or "mixed"."""
    sizes: dict[str, int] = {}  # bytes
    for info in header.tensors.values():
        sizes[info.dtype] = sizes.get(info.dtype, 0) + info.end - info.start
    counts: dict[str, float] = {}
    for dtype, size in sizes.items():
        if name := PRECISIONS.get(dtype):
            counts[name] = counts.get(name, 0) + 8 * size / BITS[dtype]
    most = max(counts, key=counts.__getitem__, default="")
    return most if counts.get(most, 0) >= PURE * sum(counts.values()) else "mixed"


def _tried(names: Names, identity: Identity) -> tuple[Detected | None, bool, tuple[str, ...]]:
    """(the checkpoint that it is, whether it runs, what is wrong)"""
    header = names.header
    try:
        if identity.kind in (Kind.VAE, Kind.PREVIEW):
            vae_of(header, identity) if identity.kind is Kind.VAE else detect_preview(header)
            return None, True, ()
        if identity.runs:
            found = checkpoint_of(names, identity)
            return found, True, found.problems
    except BadFile as error:
        return None, False, (_without_path(header, error),)
    if identity.kind is Kind.LORA and riders.is_foreign(names):
        return None, False, (f"This is {identity.label}. {RUNS}",)
    if identity.kind in (Kind.CHECKPOINT, Kind.UNET, Kind.UNKNOWN):
        return None, False, (f"This is {identity.label}. {cure(identity)}",)
    return None, False, ()


def _without_path(header: Header, error: BadFile) -> str:
    return error.sentence().replace(f"{header.path} ", "It ", 1).replace(f"{header.path}: ", "", 1)


def _components(header: Header, identity: Identity, found: Detected | None) -> Iterator[str]:
    """As far as they are there, also of a checkpoint that does not run."""
    if found:
        yield from found.layout
    elif identity.runs:
        places: list[tuple[str, tuple[Place, ...]]] = [("unet", UNET), ("vae", VAE)]
        places += [(text.component, text.places) for text in FAMILIES[identity.arch].texts]
        for component, some in places:
            if any(place.mark in header.tensors for place in some):
                yield component


def _native_size(header: Header, found: Detected | None, arch: Arch) -> int:
    usual = FAMILIES[arch].native_size if arch in FAMILIES else 512
    return found.native_size if found else claims.native_size(header) or usual


def _recommended(header: Header, identity: Identity) -> Mapping[str, float | str]:
    return claims.recommended(header, identity.arch) if identity.kind is Kind.CHECKPOINT else {}


def _rank(header: Header) -> str:
    """How many directions its layers have, from the shapes of their smaller factors (r, in …)."""
    shapes = (i.shape for name, i in header.tensors.items() if name.endswith(riders.DOWN))
    ranks = {shape[0] for shape in shapes if len(shape) > 1}
    if len(ranks) < 2:
        return str(*ranks)
    return f"{min(ranks)} to {max(ranks)}"


def _dialect(names: Names) -> str:
    return next((dialect for dialect, patterns in DIALECTS if names.some(patterns)), "")


def _base(header: Header, identity: Identity, names: Names) -> str:
    """The model that a file was made from, by its own words; of a LoRA else the family."""
    if named := claims.said(header, "ss_sd_model_name", "sd_checkpoint_name"):
        return named
    if identity.kind is Kind.LORA:
        return riders.lora_base(names)[0]
    return "" if identity.arch is Arch.OTHER else str(identity.arch)

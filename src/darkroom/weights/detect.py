"""What is needed to build and run a checkpoint or a VAE, from its header alone; no torch.

identify(header)   -> Identity      names any file, never refuses (`identify.py`)
detect(header)     -> Detected      a checkpoint, or BadFile with the name of what it is instead
detect_vae(header) -> DetectedVae   a VAE alone, or the one in a checkpoint
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from darkroom.core.errors import BadFile, shorten
from darkroom.core.model import Arch, Kind, Prediction, Variant
from darkroom.weights import claims, measure, peek, riders
from darkroom.weights.header import Header
from darkroom.weights.identify import Identity, identify, identity_of, variant_of
from darkroom.weights.layouts import ldm_vae
from darkroom.weights.layouts.checkpoint import (
    FAMILIES,
    UNET,
    VAE,
    VAE_ALONE,
    Family,
    Place,
    entries,
    rows,
)
from darkroom.weights.layouts.entry import Entry, Layout, Shape
from darkroom.weights.layouts.signatures import JUNK, PREDICTS_V, ZERO_SNR
from darkroom.weights.names import EMA, Names, fits
from darkroom.weights.topology import SD_SCALE, SDXL_SCALE, TextDims, UNetDims, VaeDims

__all__ = ["Detected", "DetectedVae", "Identity", "check", "detect", "detect_vae", "identify"]

FLOATS = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")
RUNS = "This version runs SD1, SD2 and SDXL."
GIVE_VAE = "give one with --vae."
WHOLE = "Get the whole checkpoint: the UNet, the text encoders and the VAE in one file or folder."
CURES: Mapping[Kind, str] = {  # of what is used together with a checkpoint
    Kind.LORA: "Write <lora:NAME:1> in the prompt to use it.",
    Kind.EMBEDDING: "Write its name in the prompt to use it.",
    Kind.HYPERNETWORK: "Write <hypernet:NAME:1> in the prompt to use it.",
    Kind.VAE: "Use it with --vae, together with a checkpoint.",
    Kind.PREVIEW: "Use it with --preview, together with a checkpoint.",
    Kind.UNET: WHOLE,
}
VAE_WANTED = "Name a VAE of SD1, SD2 or SDXL."
STRAY = 0.01  # of a checkpoint's tensors may be unknown, and are left out
SPARE = (  # what may lie beside the text encoders that are used: merging leaves second ones
    "cond_stage_model.", "conditioner.", "text_encoder/", "text_encoder_2/",
)  # fmt: skip
V_SIZE = 768  # pixels; SD2 that predicts v was trained on these
SD2_V_SPREAD = 0.09
SD2_V_MARKS = (
    "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias",
    "unet/up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias",
)
# By the depths of their levels: SDXL's descendants, whose blocks differ in ways we do not build.
SMALLER: Mapping[tuple[int, ...], str] = {
    (2, 4): "an SSD-1B checkpoint (a smaller SDXL)",
    (1, 2): "a Segmind Vega checkpoint (a smaller SDXL)",
    (2, 5): "a KOALA checkpoint (a smaller SDXL)",
    (2, 6): "a KOALA checkpoint (a smaller SDXL)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """A checkpoint that can be built: its family, its dimensions and where each tensor goes."""

    kind: Kind
    arch: Arch
    variant: Variant
    prediction: Prediction
    zero_snr: bool = False  # trained with noise levels that end in pure noise
    native_size: int  # pixels
    unet: UNetDims
    vae: VaeDims | None  # None: the file has none
    texts: tuple[TextDims, ...]  # SD1 (L,), SD2 (H,), SDXL (L, G), refiner (G,)
    layout: Layout  # text encoders are "text", "text_2" in the order of `texts`
    problems: tuple[str, ...] = ()  # what is odd but does no harm, a sentence each


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedVae:
    """A VAE that can be built.

    `arch` is SDXL if the file's words say so, else SD1: the shapes are the same. The scale that
    counts is that of the checkpoint which it is used with.
    """

    dims: VaeDims
    rows: tuple[Entry, ...]
    arch: Arch


def detect(header: Header) -> Detected:
    """The checkpoint in the file; BadFile if it is none that this version runs."""
    names = Names(header)
    return checkpoint_of(names, identity_of(names))


def checkpoint_of(names: Names, identity: Identity) -> Detected:
    """The same, from what is known already."""
    header = names.header
    if not identity.runs:
        raise _refusal(header, identity.label, cure(identity))
    family = FAMILIES[identity.arch]
    unet, variant = _unet(header, identity)
    vae, texts = _vae(header, family), _texts(header, family, identity.label)
    _check_dims(header, family, unet, vae=vae[1] if vae else None, texts=texts)
    layout: Layout = {"unet": rows(_place(UNET, header), unet)}
    if vae:
        layout["vae"] = rows(*vae)
    for text, (place, dims) in zip(family.texts, texts, strict=True):
        layout[text.component] = rows(place, dims)
    problems = check(header, layout)
    layout["unet"] = _renamed(layout["unet"], names.renamed)
    prediction = _prediction(names, identity.arch, variant)
    return Detected(
        kind=identity.kind,
        arch=identity.arch,
        variant=variant,
        prediction=prediction,
        zero_snr=names.has(ZERO_SNR) or claims.zero_snr(header),
        native_size=_native_size(header, identity.arch, prediction),
        unet=unet,
        vae=vae[1] if vae else None,
        texts=tuple(dims for _, dims in texts),
        layout=layout,
        problems=problems,
    )


def detect_vae(header: Header) -> DetectedVae:
    """The VAE in the file, alone or in a checkpoint; BadFile if there is none that fits."""
    return vae_of(header, identify(header))


def vae_of(header: Header, identity: Identity) -> DetectedVae:
    """The same, from what is known already."""
    place = next((place for place in VAE_ALONE if place.mark in header.tensors), None)
    if identity.kind is Kind.VAE and identity.arch is Arch.OTHER:
        raise BadFile(f"{header.path} is {identity.label}", hint=VAE_WANTED)
    if place is None or f"{place.prefix}encoder.conv_in.weight" not in header.tensors:
        half = "is incomplete: half of its VAE is missing"  # a decoder alone, say
        what = half if identity.kind is Kind.VAE else f"is {identity.label}, not a VAE"
        raise BadFile(f"{header.path} {what}", hint=VAE_WANTED)
    arch = identity.arch if identity.kind is Kind.CHECKPOINT else riders.vae_arch(header)
    dims = measure.measure_vae(header, place, _scale(header, _usual_scale(arch)))
    if len(dims.channels) * dims.layers > len(header.tensors):
        raise BadFile(f"{header.path} is incomplete: most of its VAE is missing")
    if problem := measure.check_vae(dims):
        raise BadFile(f"{header.path} makes no network: {problem}", hint=RUNS)
    found = rows(place, dims)
    if faults := _faults(header, found):
        raise _misfit(header, faults, len(found))
    return DetectedVae(dims=dims, rows=found, arch=arch)


def check(header: Header, layout: Layout) -> tuple[str, ...]:
    """Every tensor of the layout is there in its shape, or BadFile; sentences on what is odd."""
    wanted = list(entries(layout))
    known = {row.source for row in wanted}
    faults = _faults(header, wanted)
    stray = [name for name in header.tensors if name not in known and not _is_junk(name, layout)]
    if sum(not name.startswith(SPARE) for name in stray) > max(1, STRAY * len(known)):
        faults["unexpected"] = stray
    if faults:
        raise _misfit(header, faults, len(known))
    told = f"{_count(stray, len(header.tensors))} are of no use here and left out." if stray else ""
    return tuple(filter(None, (told, _lack_of_vae(header, layout))))


def _faults(header: Header, wanted: Sequence[Entry]) -> dict[str, list[str]]:
    """Names of tensors by what is wrong with them, as far as anything is."""
    tensors = header.tensors
    there = [(row, tensors[row.source]) for row in wanted if row.source in tensors]
    faults = {
        "missing": {row.source for row in wanted if row.source not in tensors},
        "of the wrong shape": {
            row.source for row, info in there if not _has_shape(row, info.shape)
        },
        "not of numbers that we compute with": {
            row.source for row, info in there if info.dtype not in FLOATS
        },
    }
    return {what: sorted(names) for what, names in faults.items() if names}


def _has_shape(row: Entry, shape: Shape) -> bool:
    """A linear layer may be stored as a 1x1 convolution and the other way round."""
    if shape == row.stored or row.part or row.transposed:
        return shape == row.stored
    return (*shape, 1, 1) == row.stored or shape == (*row.stored, 1, 1)


def _is_junk(name: str, layout: Layout) -> bool:
    if name.startswith(EMA) or fits(name, JUNK):
        return True
    return "vae" not in layout and name.startswith(tuple(place.prefix for place in VAE))


def _lack_of_vae(header: Header, layout: Layout) -> str:
    if "vae" in layout:
        return ""
    half = Names(header).some(("first_stage_model.*coder.*", "vae/*coder.*"))
    what = "Its VAE is incomplete" if half else "It has no VAE"
    return f"{what}: {GIVE_VAE}"


def _count(names: Sequence[str], total: int) -> str:
    names = sorted(names)
    return f"{len(names)} of {total} tensors (first: {shorten(names[0], 100)})"


def _misfit(header: Header, faults: Mapping[str, Sequence[str]], total: int) -> BadFile:
    told = [f"{_count(names, total)} are {what}" for what, names in faults.items()]
    hint = "The file is incomplete or was merged badly; download it again."
    return BadFile(f"{header.path} does not fit its own networks: {'; '.join(told)}", hint=hint)


def cure(identity: Identity) -> str:
    """What to do with a file that is no checkpoint which this version runs."""
    if identity.kind in (Kind.VAE, Kind.PREVIEW, Kind.UNET) and identity.arch is Arch.OTHER:
        return RUNS
    return CURES.get(identity.kind, RUNS)


def _refusal(header: Header, label: str, hint: str = RUNS) -> BadFile:
    return BadFile(f"{header.path} is {label}", hint=hint)


def _place(places: Iterable[Place], header: Header) -> Place:
    found = (place for place in places if place.mark in header.tensors)
    return next(found, next(iter(places)))


def _renamed(found: tuple[Entry, ...], renamed: Mapping[str, str]) -> tuple[Entry, ...]:
    if not renamed:
        return found
    return tuple(replace(row, source=renamed.get(row.source, row.source)) for row in found)


def _unet(header: Header, identity: Identity) -> tuple[UNetDims, Variant]:
    dims = measure.measure_unet(header, _place(UNET, header))
    if identity.arch is Arch.SDXL:
        deep = tuple(depth for depth in dims.depths if depth)
        if label := SMALLER.get(deep):
            raise _refusal(header, label)
    if (variant := variant_of(dims.in_channels)) is None:
        raise _refusal(header, f"{identity.label} ({dims.in_channels} input channels)")
    return dims, variant


def _vae(header: Header, family: Family) -> tuple[Place, VaeDims] | None:
    place = next((place for place in VAE if place.mark in header.tensors), None)
    if place is None or place.prefix + ldm_vae.MARK not in header.tensors:
        return None  # none, or an encoder alone
    return place, measure.measure_vae(header, place, _scale(header, family.scale))


def _texts(header: Header, family: Family, label: str) -> tuple[tuple[Place, TextDims], ...]:
    found = []
    for text in family.texts:
        place = next((place for place in text.places if place.mark in header.tensors), None)
        if place is None:
            which = "its second" if text.component == "text_2" else "a"
            raise _refusal(header, f"{label} without {which} text encoder", WHOLE)
        found.append((place, measure.measure_text(header, place, text)))
    return tuple(found)


def _check_dims(
    header: Header,
    family: Family,
    unet: UNetDims,
    *,
    vae: VaeDims | None,
    texts: Sequence[tuple[Place, TextDims]],
) -> None:
    dims = tuple(text for _, text in texts)
    problems = (
        measure.check_blocks(header, unet, vae),
        measure.check_unet(unet),
        measure.check_vae(vae) if vae else "",
        *map(measure.check_text, dims),
    )
    if problem := next(filter(None, problems), ""):
        raise BadFile(f"{header.path} makes no network: {problem}", hint=RUNS)
    if problem := measure.check_together(family, unet, vae, texts=dims):
        raise BadFile(f"{header.path} makes no {family.name} checkpoint: {problem}", hint=RUNS)


def _usual_scale(arch: Arch) -> float:
    return SDXL_SCALE if arch in (Arch.SDXL, Arch.SDXL_REFINER) else SD_SCALE


def _scale(header: Header, usual: float) -> float:
    """What a folder's config says that latents are multiplied by, or what is usual."""
    for key in ("vae/config.json", "config.json"):
        said = claims.table(header, key).get("scaling_factor")
        if isinstance(said, float) and 0 < said < 100:
            return said
    return usual


def _prediction(names: Names, arch: Arch, variant: Variant) -> Prediction:
    """By a tensor first, then by what is said, then, of SD2 alone, by a trace in the numbers.

    Where SD2's last attention has a norm whose biases spread widely, the model predicts v. Its
    inpainting models never do. All other families predict the noise unless something says not.
    """
    if names.has(PREDICTS_V):
        return Prediction.V
    if said := claims.prediction(names.header):
        return said
    if arch is Arch.SD2 and variant is Variant.BASE:
        spreads = (peek.spread(names.header, mark) for mark in SD2_V_MARKS)
        if any(spread is not None and spread > SD2_V_SPREAD for spread in spreads):
            return Prediction.V
    return Prediction.EPS


def _native_size(header: Header, arch: Arch, prediction: Prediction) -> int:
    if size := claims.native_size(header):
        return size
    if arch is Arch.SD2 and prediction is Prediction.V:
        return V_SIZE
    return FAMILIES[arch].native_size

"""What a file is and how large its networks are, from its header alone; no torch.

identify(header) -> Identity    names any file, never refuses
detect(header)   -> Detected    what is needed to build and run it, or BadFile with the name of
                                what it is instead
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cache

from darkroom.core.errors import BadFile, shorten
from darkroom.core.model import Arch, Kind, Prediction, Variant
from darkroom.weights import measure
from darkroom.weights.header import Header
from darkroom.weights.layouts.checkpoint import Layout, entries, sd1_layout
from darkroom.weights.layouts.signatures import JUNK, PREDICTS_V, RULES, ZERO_SNR, Rule
from darkroom.weights.topology import TextDims, UNetDims, VaeDims

DEFAULT_SIZE = 512  # pixels; what SD1 was trained on
LEAST_SIZE, MOST_SIZE = 64, 8192  # pixels; what can be asked for
FLOATS = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")
RESOLUTION = "modelspec.resolution"
RUNS = "This version runs SD1 checkpoints."

VARIANTS = {4: Variant.BASE, 9: Variant.INPAINT, 8: Variant.EDIT}  # by the UNet's input channels


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is called."""

    kind: Kind
    arch: Arch
    label: str  # "a Flux transformer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """A checkpoint that can be built: its family, its dimensions and where each tensor goes."""

    kind: Kind
    arch: Arch
    variant: Variant
    prediction: Prediction
    native_size: int  # pixels
    unet: UNetDims
    vae: VaeDims
    text: TextDims
    layout: Layout


def identify(header: Header) -> Identity:
    """The name of what the file is, from the first rule that fits."""
    for rule in RULES:
        if _fits(rule, header):
            return Identity(rule.kind, rule.arch, rule.label)
    return Identity(Kind.UNKNOWN, Arch.OTHER, "a set of tensors that we do not know")


def detect(header: Header) -> Detected:
    """The checkpoint in the file; BadFile if it is none that this version runs."""
    identity = identify(header)
    if (identity.kind, identity.arch) != (Kind.CHECKPOINT, Arch.SD1):
        raise _refusal(header, identity.label)
    _refuse_unfit(header)
    unet = measure.measure_unet(header)
    variant = _variant(header, unet)
    vae, text = measure.measure_vae(header), measure.measure_text(header)
    if problem := measure.check_unet(unet) or measure.check_vae(vae) or measure.check_text(text):
        raise BadFile(f"{header.path} makes no network: {problem}", hint=RUNS)
    if problem := measure.check_together(unet, vae, text):
        raise BadFile(f"{header.path} makes no SD1 checkpoint: {problem}", hint=RUNS)
    layout = sd1_layout(unet, vae, text, measure.text_prefix(header) or "")
    check(header, layout)
    return Detected(
        kind=identity.kind,
        arch=identity.arch,
        variant=variant,
        prediction=_prediction(header),
        native_size=_native_size(header.metadata),
        unet=unet,
        vae=vae,
        text=text,
        layout=layout,
    )


def check(header: Header, layout: Layout) -> None:
    """Every tensor of the layout is there in its shape, and none is left over but junk."""
    rows = {row.source: row for row in entries(layout)}
    wrong = [
        name
        for name in rows.keys() & header.tensors.keys()
        if header.tensors[name].shape not in (rows[name].stored, rows[name].shape)
    ]
    left = header.tensors.keys() - rows.keys()
    faults = {
        "missing": rows.keys() - header.tensors.keys(),
        "of the wrong shape": wrong,
        "not of numbers that we compute with": [
            name
            for name in rows.keys() & header.tensors.keys()
            if header.tensors[name].dtype not in FLOATS
        ],
        "unexpected": [name for name in left if not _any_of((PREDICTS_V, *JUNK), {name: None})],
    }
    told = [f"{_count(names, len(rows))} are {what}" for what, names in faults.items() if names]
    if told:
        hint = "The file is incomplete or was merged badly; download it again."
        raise BadFile(f"{header.path} does not fit its own networks: {'; '.join(told)}", hint=hint)


def _count(names: Iterable[str], total: int) -> str:
    names = sorted(names)
    return f"{len(names)} of {total} tensors (first: {shorten(names[0], 100)})"


def _fits(rule: Rule, header: Header) -> bool:
    names = header.tensors
    if not all(_any_of((pattern,), names) for pattern in rule.every):
        return False
    if rule.some and not _any_of(rule.some, names):
        return False
    if rule.without and _any_of(rule.without, names):
        return False
    for name, dimension, size in rule.widths:
        shape = header.shape(name)
        if shape is None or len(shape) <= dimension or shape[dimension] != size:
            return False
    return True


def _any_of(patterns: tuple[str, ...], names: Mapping[str, object]) -> bool:
    if any(pattern in names for pattern in patterns):
        return True
    wild = _wild(patterns)
    return wild is not None and any(map(wild.match, names))


@cache
def _wild(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    """One expression for all the patterns that have a wildcard."""
    wild = [translate(pattern) for pattern in patterns if "*" in pattern]
    return re.compile("|".join(wild)) if wild else None


def _refusal(header: Header, label: str) -> BadFile:
    return BadFile(f"{header.path} is {label}", hint=RUNS)


def _refuse_unfit(header: Header) -> None:
    """What the rules leave open: training that we do not follow, parts that are not there."""
    if ZERO_SNR in header.tensors:
        raise _refusal(header, "an SD1 checkpoint with zero terminal SNR (ztsnr)")
    if header.shape("first_stage_model.decoder.conv_in.weight") is None:
        raise _refusal(header, "an SD1 checkpoint without a VAE")
    if measure.text_prefix(header) is None:
        raise _refusal(header, "an SD1 checkpoint without a text encoder")


def _variant(header: Header, unet: UNetDims) -> Variant:
    variant = VARIANTS.get(unet.in_channels)
    if variant is not Variant.BASE:
        what = variant or f"{unet.in_channels}-channel"
        raise _refusal(header, f"an SD1 {what} checkpoint ({unet.in_channels} input channels)")
    return variant


def _prediction(header: Header) -> Prediction:
    """As the file says, by a tensor first; SD1 predicts the noise unless it says otherwise."""
    said = header.metadata.get("modelspec.prediction_type", "").casefold()
    if PREDICTS_V in header.tensors or said in ("v", "v_prediction", "v-prediction"):
        return Prediction.V
    return Prediction.EPS


def _native_size(metadata: Mapping[str, str]) -> int:
    """The longer side in modelspec.resolution, "512x512" or "512", as a size that can be made."""
    said = re.fullmatch(r"([1-9]\d{1,4})(?:x([1-9]\d{1,4}))?", metadata.get(RESOLUTION, ""), re.A)
    if said is None:
        return DEFAULT_SIZE
    longer = max(int(number) for number in said.groups() if number)
    return min(max(8 * round(longer / 8), LEAST_SIZE), MOST_SIZE)

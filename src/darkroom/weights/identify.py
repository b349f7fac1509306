"""What a file is called, whatever it is; no torch.

    identify(header) -> Identity(label="a LoRA (LoHa) for SDXL", ...)

The first rule of `layouts/signatures.py` that fits names the kind. What rides on another model is
looked at once more, in `riders`, for the family that it was made for.
"""

from dataclasses import dataclass

from darkroom.core.model import Arch, Kind, Variant
from darkroom.weights import claims, riders
from darkroom.weights.header import Header
from darkroom.weights.hypernetwork_facts import widths_of
from darkroom.weights.layouts.signatures import RULES, STABLE_DIFFUSION, UNET, Rule
from darkroom.weights.names import Names
from darkroom.weights.onnx import FORM, INPUTS, OUTPUTS

VARIANTS = {4: Variant.BASE, 9: Variant.INPAINT, 8: Variant.EDIT}  # by the UNet's input channels
CONV_IN = (f"{UNET}input_blocks.0.0.weight", "unet/conv_in.weight")
VAES = ("first_stage_model.*", "vae.*", "vae/*")
UNKNOWN = "a set of tensors that we do not know"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is called."""

    kind: Kind
    arch: Arch
    label: str  # with its article: "a Flux transformer without VAE"
    runs: bool = False  # a checkpoint of a family that this version runs


def identify(header: Header) -> Identity:
    """The name of what the file is, from the first rule that fits. Never refuses."""
    return identity_of(Names(header))


def identity_of(names: Names) -> Identity:
    """The same, from names that are in order already."""
    rule = next((rule for rule in RULES if _fits(rule, names)), None)
    if rule is None and names.header.form == FORM:
        return _of_onnx(names.header)
    if rule is None:
        return _unknown(names)
    if rule in STABLE_DIFFUSION:
        return Identity(rule.kind, rule.arch, _with_variant(rule, names), runs=True)
    if rule.kind is Kind.CHECKPOINT:
        lack = "" if names.some(VAES) else " without VAE"
        return Identity(rule.kind, rule.arch, rule.label + lack)
    if (look := riders.LOOKS.get(rule.label)) is None:
        return Identity(rule.kind, rule.arch, rule.label)
    label, arch = look(rule.label, names)
    return Identity(rule.kind, arch, label)


def _of_onnx(header: Header) -> Identity:
    """By what it gives: one channel as large as the picture is a mask."""
    given = claims.table(header, INPUTS).values()
    shapes = [shape for shape in claims.table(header, OUTPUTS).values() if isinstance(shape, list)]
    pictures = [shape for shape in given if isinstance(shape, list) and shape[1:2] == [3]]
    if len(pictures) == 1 and shapes and len(shapes[0]) == 4 and shapes[0][1:2] == [1]:
        return Identity(Kind.SEGMENTER, Arch.OTHER, "a background remover (ONNX)")
    return Identity(Kind.UNKNOWN, Arch.OTHER, "an ONNX model that we do not know")


def variant_of(channels: int) -> Variant | None:
    """What a UNet with so many input channels is given besides the latent; None: nothing known."""
    return VARIANTS.get(channels)


def _fits(rule: Rule, names: Names) -> bool:
    if not all(map(names.has, rule.every)) or names.some(rule.without):
        return False
    if rule.some and not names.some(rule.some):
        return False
    widths = (names.size(name, axis) == size for name, axis, size in rule.widths)
    return all(widths) and all(names.rank(name) == rank for name, rank in rule.ranks)


def _with_variant(rule: Rule, names: Names) -> str:
    channels = next((size for name in CONV_IN if (size := names.size(name, 1))), 4)
    variant = variant_of(channels)
    if variant is Variant.BASE:
        return rule.label
    return rule.label.replace(" checkpoint", f" {variant or f'{channels}-channel'} checkpoint")


def _unknown(names: Names) -> Identity:
    """No rule: a hypernetwork may have any widths, vectors as wide as a text encoder's are an
    embedding, a folder tells its class.
    """
    if widths_of(names.header):
        label, arch = riders.hypernetwork("a hypernetwork", names)
        return Identity(Kind.HYPERNETWORK, arch, label)
    label, arch = riders.embedding(riders.EMBEDDING, names)
    if arch is not Arch.OTHER:
        return Identity(Kind.EMBEDDING, arch, label)
    named = claims.class_name(names.header)
    return Identity(Kind.UNKNOWN, Arch.OTHER, f"a diffusers {named}" if named else UNKNOWN)

"""What a file that makes small pictures of latents is, from its header alone; no torch.

detect_preview(header) -> DetectedPreview       BadFile where it is none that we build

Families: the decoder of the tiny autoencoders (TAESD, O. Boer Bohan 2023), alone or beside its
encoder, in the numbering of its author, of ComfyUI or of diffusers; and A1111's VAE-approx. The
shapes decide how deep and how wide. That of SD1 and that of SDXL have equal shapes, so words do.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch
from darkroom.core.preview import BASE
from darkroom.weights import claims
from darkroom.weights.layouts.entry import Entry, layer, same
from darkroom.weights.table import Header
from darkroom.weights.topology import FACTOR, LATENT, OTHER_LATENTS, ApproxDims, TinyDims

# What stands before the numbers, and by how much these are lower: the author counts the squashing
# of the latents as a layer, diffusers does not.
DIALECTS = (("decoder.layers.", 1), ("taesd_decoder.", 0), ("decoder.", 0), ("", 0))
ENCODERS = ("encoder.", "taesd_encoder.")
BESIDE = (*ENCODERS, "vae_scale", "vae_shift")
CONVS = (0, 2, 4)  # of a block; between them are activations
FIRST, AFTER = 1, 3  # the first convolution, and what comes after its activation
MOST_LAYERS, MOST_WIDTH = 99, 1024
APPROX = "conv{}"
FLOATS = ("F16", "BF16", "F32", "F64")
SDXL_WORDS, SD1_WORDS = frozenset({"xl", "sdxl", "taesdxl"}), frozenset({"sd", "taesd"})
MOST_ABOVE = 3  # folders whose names are looked at
RUNS = "Decoders for SD1, SD2 and SDXL work: taesd_decoder, taesdxl_decoder."


@dataclass(frozen=True, slots=True)
class DetectedPreview:
    """A decoder that we build."""

    dims: TinyDims | ApproxDims
    rows: tuple[Entry, ...]  # every tensor, under its name in the file and in our network


def detect_preview(header: Header) -> DetectedPreview:
    """The decoder in the file; BadFile where it is damaged, or for latents that we do not make."""
    if (channels := latent_channels(header)) not in (0, LATENT):
        family = OTHER_LATENTS.get(channels, f"another family ({channels} channels)")
        raise BadFile(f"{header.path} is a preview decoder of {family}", hint=RUNS)
    found = _approx(header) if _has(header, APPROX.format(1)) else _tiny(header)
    for row in found.rows:
        if (shape := header.shape(row.source)) != row.stored:
            raise _damaged(header, f"{row.source} has the shape {shape}, not {row.stored}")
        if (dtype := header.tensors[row.source].dtype) not in FLOATS:
            raise _damaged(header, f"{row.source} is {dtype}, which is no fraction")
    known = {row.source for row in found.rows}
    strangers = [n for n in header.tensors if n not in known and not n.startswith(BESIDE)]
    if strangers:
        what = f"{header.path} is a preview decoder of another build: it has {strangers[0]} too"
        raise BadFile(what, hint=RUNS)
    return found


def preview_arch(header: Header) -> Arch:
    """SDXL where texts or names say so, SD1 elsewhere; OTHER of other latents, or those of a model.

    Where the file's name says nothing, that of a folder above it may.
    """
    if latent_channels(header) != LATENT or BASE in header.metadata:
        return Arch.OTHER
    if (said := claims.base(header)) in (Arch.SD1, Arch.SDXL):
        return said
    above = [folder.name for folder in header.path.parents][:MOST_ABOVE]
    for name in (header.metadata.get("modelspec.title", ""), header.path.stem, *above):
        words = set(claims.words_of(name))
        if words & SDXL_WORDS:
            return Arch.SDXL
        if words & SD1_WORDS:
            break
    return Arch.SD1


def latent_channels(header: Header) -> int:
    """Of the latents that the decoder reads; 0 where the file holds none."""
    firsts = (f"{prefix}{FIRST - shift}" for prefix, shift in DIALECTS)
    for name in (APPROX.format(1), *firsts):
        if len(shape := header.shape(f"{name}.weight") or ()) == 4:
            return shape[1]
    return 0


def tiny_rows(dims: TinyDims, prefix: str = "", shift: int = 0) -> Iterator[Entry]:
    """The rows of a tiny decoder; without `prefix` and `shift` the names are its author's."""

    def convolution(place: int, made: int, taken: int, *, part: str = "") -> Iterator[Entry]:
        names = f"{prefix}{place - shift}{part}", f"layers.{place}{part}"
        yield from layer(*names, made, taken, 3, 3)

    yield from convolution(FIRST, dims.widths[0], dims.latent_channels)
    place = AFTER
    for level, (width, blocks) in enumerate(zip(dims.widths, dims.blocks, strict=True)):
        for _ in range(blocks):
            for conv in CONVS:
                yield from convolution(place, width, width, part=f".conv.{conv}")
            place += 1
        if level + 1 < len(dims.widths):
            place += 1  # what doubles the side
            source, target = f"{prefix}{place - shift}.weight", f"layers.{place}.weight"
            yield same(source, target, dims.widths[level + 1], width, 3, 3)
            place += 1
    yield from convolution(place, 3, dims.widths[-1])


def _tiny(header: Header) -> DetectedPreview:
    """Measured by walking along the numbers: a block, a doubling and its convolution, or the end.

    A block has convolutions of its own, the convolution after a doubling has no bias.
    """
    for prefix, shift in DIALECTS:
        if _has(header, f"{prefix}{FIRST - shift}"):
            dims = _walked(header, prefix, shift)
            return DetectedPreview(dims, tuple(tiny_rows(dims, prefix, shift)))
    half = "only the encoder of a preview decoder"
    raise BadFile(f"{header.path} holds {half}", hint="Get the file of the decoder too.")


def _walked(header: Header, prefix: str, shift: int) -> TinyDims:
    first = header.shape(f"{prefix}{FIRST - shift}.weight") or ()
    if len(first) != 4:
        raise _damaged(header, f"its first layer has the shape {first}")
    widths, blocks, place = [first[0]], [0], AFTER
    while place < MOST_LAYERS:
        name = f"{prefix}{place - shift}"
        if _has(header, f"{name}.conv.{CONVS[0]}"):
            blocks[-1] += 1
            place += 1
        elif _has(header, name):
            break
        else:
            after = header.shape(f"{prefix}{place + 1 - shift}.weight") or ()
            if len(after) != 4:
                raise _damaged(header, f"nothing comes after layer {place - shift - 1}")
            widths.append(after[0])
            blocks.append(0)
            place += 2
    dims = TinyDims(latent_channels=first[1], widths=tuple(widths), blocks=tuple(blocks))
    if dims.factor != FACTOR or not all(0 < width <= MOST_WIDTH for width in widths):
        made = f"it makes {dims.factor} pixels of one, through {widths} channels"
        raise BadFile(f"{header.path} is no preview decoder that we build: {made}", hint=RUNS)
    return dims


def _approx(header: Header) -> DetectedPreview:
    shapes: list[tuple[int, ...]] = []
    while len(shape := header.shape(f"{APPROX.format(len(shapes) + 1)}.weight") or ()) == 4:
        shapes.append(shape)
    channels = (shapes[0][1], *(made for made, *_ in shapes)) if shapes else ()
    if channels[-1:] != (3,) or any(not side % 2 for *_, side in shapes):
        raise _damaged(header, f"its layers have the channels {channels}")
    dims = ApproxDims(channels=channels, kernels=tuple(side for *_, side in shapes))
    return DetectedPreview(dims, tuple(approx_rows(dims)))


def approx_rows(dims: ApproxDims) -> Iterator[Entry]:
    """The rows of a VAE-approx."""
    sizes: Iterable[tuple[int, int, int]] = zip(
        dims.channels, dims.channels[1:], dims.kernels, strict=False
    )
    for number, (taken, made, side) in enumerate(sizes, 1):
        yield from layer(APPROX.format(number), f"layers.{number}", made, taken, side, side)


def _has(header: Header, name: str) -> bool:
    """Whether a layer of that name is there, with its bias."""
    return all(f"{name}.{part}" in header.tensors for part in ("weight", "bias"))


def _damaged(header: Header, what: str) -> BadFile:
    return BadFile(f"{header.path} is damaged: {what}", hint="Get it anew.")

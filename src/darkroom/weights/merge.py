"""New checkpoints from old ones: converted, pruned, merged. One tensor is in memory at a time.

    with open_whole(a) as first, open_whole(b) as second:
        pieces = list(merged((first, second), Mix(0.3), dtype="F16"))
        table = {piece.name: (piece.dtype, piece.shape) for piece in pieces}
        write_safetensors(path, table, (piece.data() for piece in pieces))

Weighted sum: a + m (b - a). Add difference: a + m (b - c), which carries over what b learned from
c. Both in float32, and m may differ from block to block of the UNet.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from darkroom.core.errors import BadFile, BadRequest, shorten
from darkroom.core.model import Arch, Prediction
from darkroom.weights.header import BITS, Header
from darkroom.weights.layouts import ldm_vae
from darkroom.weights.layouts.entry import Shape
from darkroom.weights.layouts.signatures import PREDICTS_V, ZERO_SNR
from darkroom.weights.reader import DTYPES, MappedFile
from darkroom.weights.whole import Canonical, Whole

METHODS = {1: "as it is", 2: "weighted sum", 3: "add difference"}  # by the number of models
TEXTS = ("cond_stage_model.", "conditioner.")
FLOATS = ("F32", "F16", "BF16")  # that arithmetic is written in; others that come near them:
NEAREST = {"F64": "F32", "F8_E4M3": "F16", "F8_E5M2": "F16"}
OUTPUTS = re.compile(r"output_blocks\.(\d+)\.")
INPUTS = re.compile(r"input_blocks\.(\d+)\.")
UNET = "model.diffusion_model."
CONV_IN = f"{UNET}input_blocks.0.0.weight"  # the one tensor in which inpainting models differ


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor to be written; `make` is called when its turn comes."""

    name: str
    dtype: str  # safetensors' name
    shape: Shape
    make: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        """How long `data` is."""
        return math.prod(self.shape) * BITS[self.dtype] // 8

    def data(self) -> memoryview:
        """The tensor's bytes; BadRequest where a number is too large for the type."""
        made = self.make()
        tensor = made.to(DTYPES[self.dtype]).reshape(-1).contiguous()
        if self.dtype == "F16" and tensor.isinf().any() and not made.double().isinf().any():
            what = f"{self.name} holds numbers that fp16 is too small for"
            raise BadRequest(what, hint="Give --dtype bf16 or fp32.")
        return memoryview(tensor.view(torch.uint8).numpy())  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Mix:
    """How much of the second model: `share` everywhere, or `blocks` for the parts of the UNet.

    `blocks` are the numbers of the block-merging tools: what is no UNet block first, then the
    blocks on the way in, the middle, and those on the way out; 26 for SD1 and SD2, 20 for SDXL.
    """

    share: float
    blocks: tuple[float, ...] = ()

    def check(self, inputs: int) -> None:
        """BadRequest when there are not as many numbers as the UNet has blocks."""
        count = 2 * inputs + 2
        if self.blocks and len(self.blocks) != count:
            raise BadRequest(
                f"there are {len(self.blocks)} block weights; this family has {count}",
                hint=f"Base, {inputs} on the way in, the middle, {inputs} on the way out.",
            )

    def at(self, name: str, inputs: int) -> float:
        """The share for the tensor called `name`."""
        if not self.blocks:
            return self.share
        return self.blocks[_block(name, inputs)]


def _block(name: str, inputs: int) -> int:
    """Which number counts for a tensor. The time embedding goes with the first block of the UNet,
    its last layers with the last, as the block-merging tools have it.
    """
    if not name.startswith(UNET):
        return 0
    if found := INPUTS.search(name):
        return 1 + int(found[1])
    if found := OUTPUTS.search(name):
        return 2 + inputs + int(found[1])
    if ".middle_block." in name:
        return 1 + inputs
    return 2 * inputs + 1 if name.startswith(f"{UNET}out.") else 1


def pieces_of(file: Canonical, *, dtype: str | None = None) -> Iterator[Piece]:
    """A checkpoint or VAE as it is, without EMA and what trainers leave behind."""
    for name in file.names:
        kind = dtype or file.dtype(name)
        yield Piece(name, kind, file.shape(name), partial(_taken, file, name))


def carried(whole: Whole, *, dtype: str | None = None) -> Iterator[Piece]:
    """What is no network's but goes along: a text encoder's parts that other programs look for,
    and the empty tensors whose names tell how the model was trained.
    """
    written = whole.sources | whole.wanted.keys()
    for name, info in whole.header.tensors.items():
        if not name.startswith(TEXTS) or name in written or name.endswith("position_ids"):
            continue
        if info.dtype in DTYPES:
            kind = _converted(info.dtype, dtype)
            yield Piece(name, kind, info.shape, partial(whole.file.tensor, name))
    detected = whole.detected
    for name, there in (
        (PREDICTS_V, detected.prediction == Prediction.V and detected.arch != Arch.SD2),
        (ZERO_SNR, detected.zero_snr),
    ):
        if there:
            yield Piece(name, "F32", (0,), lambda: torch.empty(0))


def merged(models: Sequence[Whole], mix: Mix, *, dtype: str | None = None) -> Iterator[Piece]:
    """Two models: their weighted sum. Three: the first, and the difference of the others."""
    first = models[0]
    inputs = len(first.detected.unet.channels) * (first.detected.unet.layers + 1)
    mix.check(inputs)
    check_alike(models)
    for name in first.names:
        share = mix.at(name, inputs)
        parents = models if all(name in model.wanted for model in models) else models[:1]
        make = partial(_mixed_from, parents, name, share)
        own = first.dtype(name)
        yield Piece(name, dtype or NEAREST.get(own, own), first.shape(name), make)


def check_alike(models: Sequence[Whole]) -> None:
    """BadRequest unless all have the first one's tensors, but for an inpainting model's extra."""
    first, *others = models
    for other in others:
        if other.detected.arch != first.detected.arch:
            raise BadRequest(
                f"{other.header.path.name} is {_called(other.detected.arch)} model,"
                f" {first.header.path.name} {_called(first.detected.arch)} one",
                hint="Merge models of one family.",
            )
        for name in first.names:
            if name not in other.wanted and name.startswith(ldm_vae.PREFIX):
                continue  # a model without VAE leaves the first one's as it is
            if name not in other.wanted:
                raise BadRequest(f"{other.header.path.name} has no {name}", hint="Repair it first.")
            mine, its = first.shape(name), other.shape(name)
            narrower = name == CONV_IN and mine[1] > its[1]
            if mine != its and not narrower:
                order = "An inpainting model must be the first of those that are merged."
                raise BadRequest(
                    f"{name} is {its} in {other.header.path.name} and {mine} in"
                    f" {first.header.path.name}",
                    hint=order if name == CONV_IN else "Merge models of one size.",
                )


def with_vae(pieces: Iterable[Piece], vae: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces with another VAE baked in."""
    left = {piece.name: piece for piece in vae}
    for piece in pieces:
        if piece.name in left or not piece.name.startswith(ldm_vae.PREFIX):
            yield left.pop(piece.name, piece)
    yield from left.values()


def plain_pieces(header: Header, file: MappedFile, *, dtype: str | None = None) -> Iterator[Piece]:
    """Every tensor under its own name: for files that are no checkpoint (LoRAs, embeddings)."""
    for name, info in header.tensors.items():
        if info.dtype not in DTYPES:
            what = f"{header.path.name} holds numbers of the type {info.dtype} ({shorten(name)})"
            raise BadFile(what, hint="Get the model as .safetensors.")
        kind = _converted(info.dtype, dtype)
        yield Piece(name, kind, info.shape, partial(file.tensor, name))


def lineage(
    models: Sequence[tuple[str, str]], mix: Mix, vae: tuple[str, str] | None = None
) -> dict[str, str]:
    """What the metadata of a merged file says: `models` are names and sha256, in order."""
    how = {
        "type": "darkroom",
        "method": METHODS[len(models)],
        "share": mix.share,
        "blocks": list(mix.blocks),
        "models": [{"name": name, "sha256": sha256} for name, sha256 in models],
    }
    if vae:
        how["vae"] = {"name": vae[0], "sha256": vae[1]}
    names = ", ".join(name for name, _ in models)
    return {"modelspec.merged_from": names, "sd_merge_recipe": json.dumps(how)}


def _converted(own: str, wanted: str | None) -> str:
    """The type to write where the tensor may be no weight: whole numbers stay what they are."""
    return wanted if wanted and own in (*FLOATS, *NEAREST) else own


def _taken(file: Canonical, name: str) -> Tensor:
    tensor = file.tensor(name).clone()
    file.release(name)
    return tensor


def _mixed_from(models: Sequence[Whole], name: str, share: float) -> Tensor:
    tensors = [_taken(model, name) for model in models]
    return tensors[0] if len(tensors) == 1 else _mixed(tensors, share)


def _mixed(tensors: Sequence[Tensor], share: float) -> Tensor:
    """The first tensor changed by the others, in float32.

    Where it is wider, as an inpainting model's first layer is, its first channels are changed.
    """
    result, *others = (tensor.to(torch.float32) for tensor in tensors)
    changed = result if result.shape == others[0].shape else result[:, : others[0].shape[1]]
    origin = others[1] if len(others) > 1 else changed
    changed += share * (others[0] - origin)
    return result


def _called(arch: Arch) -> str:
    return f"an {arch}" if arch.startswith("S") else f"a {arch}"

"""Upscalers in ncnn's two files, as a table of tensors under our names; no torch.

    read_ncnn(Path("realesrgan-x4plus.param")) -> Header      mapped and built as any other

The .param file lists layers, one a line: type, name, how many inputs and outputs, their names, and
numbers as `key=value`. The .bin file beside it has the weights of those layers in order and without
names: of a convolution a tag of four bytes (half precision or single), the weight, zeros up to four
bytes, the bias in single precision; of a PReLU its slopes in single precision. The convolutions of
an RRDBNet come in the order in which a picture passes them, so counting them is enough.
Source: ncnn's wiki, "param and model file structure".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from darkroom.core.errors import BadFile
from darkroom.weights import foreign
from darkroom.weights.layouts.rrdb import OURS
from darkroom.weights.table import Header, TensorInfo
from darkroom.weights.topology import RrdbDims

MAGIC = "7767517"
LONGEST = 1 << 20  # bytes of a .param file
TAGS = {0x01306B47: ("F16", 2), 0: ("F32", 4)}
SMALLEST_RRDB, PER_BLOCK = 6, 15  # convolutions: ends, trunk and two doublings; of a block


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer that has weights."""

    kind: str
    numbers: Mapping[int | None, str]

    def number(self, key: int) -> int:
        """A whole number of the layer; 0 where it has none."""
        return _number(self.numbers.get(key, "")) or 0


def read_ncnn(path: Path) -> Header:
    """The tensors of a network of Real-ESRGAN; BadFile where it is another or damaged."""
    weights = path.with_suffix(".bin")
    try:
        layers = _layers(path)
        data = weights.read_bytes()
    except OSError as error:
        raise foreign.unreadable(path, error) from error
    names = _names(path, layers)
    tensors: dict[str, TensorInfo] = {}
    at = 0
    for layer, name in zip(layers, names, strict=True):
        for part, info in _tensors(path, layer, data, at=at):
            tensors[f"{name}.{part}"] = info
            at = -(-info.end // 4) * 4
    if at != len(data):
        raise _damage(path, f"the network needs {at:,} bytes, {weights.name} has {len(data):,}")
    return Header(weights, tensors, {}, len(data))


def _layers(path: Path) -> list[_Layer]:
    with path.open("rb") as file:
        text = file.read(LONGEST).decode(errors="replace")
    head, *lines = text.splitlines() or [""]
    if head.strip() != MAGIC:
        raise _damage(path, "it is not a .param file of ncnn")
    found = []
    for line in lines[1:]:
        kind, _, *rest = [*line.split(), "", ""]
        if kind in ("Convolution", "PReLU"):
            pairs = (word.partition("=") for word in rest if "=" in word)
            found.append(_Layer(kind, {_number(key): text for key, _, text in pairs}))
    return found


def _number(text: str) -> int | None:
    """A whole number of few digits; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


def _names(path: Path, layers: list[_Layer]) -> list[str]:
    """Our names of the layers, in order."""
    if any(layer.kind == "PReLU" for layer in layers):
        return [f"body.{place}" for place in range(len(layers))]
    blocks, rest = divmod(len(layers) - SMALLEST_RRDB, PER_BLOCK)
    if rest or blocks < 1:
        raise _damage(path, f"{len(layers)} convolutions are no RRDBNet")
    dims = RrdbDims(channels=3, features=1, growth=1, blocks=blocks, doublings=2)
    return [ours for _, ours in OURS.names(dims)]


def _tensors(
    path: Path, layer: _Layer, data: bytes, *, at: int
) -> Iterator[tuple[str, TensorInfo]]:
    """Name and place of a layer's tensors, the first of which lies at byte `at`."""
    made = layer.number(0)
    if layer.kind == "PReLU":
        yield "weight", _info(path, ("F32", 4), (made,), at=at, size=len(data))
        return
    tag = int.from_bytes(data[at : at + 4], "little")
    if tag not in TAGS:
        raise _damage(path, f"its weights are packed in a way that is not known here ({tag:#x})")
    side, count = layer.number(1), layer.number(6)
    taken = count // max(made * side**2, 1)
    if taken * made * side**2 != count:
        raise _damage(path, f"{count} numbers are no convolution to {made} channels")
    shape = made, taken, side, side
    weight = _info(path, TAGS[tag], shape, at=at + 4, size=len(data))
    yield "weight", weight
    if layer.number(5):
        yield "bias", _info(path, ("F32", 4), (made,), at=-(-weight.end // 4) * 4, size=len(data))


def _info(
    path: Path, kind: tuple[str, int], shape: tuple[int, ...], *, at: int, size: int
) -> TensorInfo:
    dtype, width = kind
    end = at + width
    for number in shape:
        end = at + (end - at) * number
    if end > size:
        raise _damage(path, "its .bin file ends too early")
    return TensorInfo(dtype, shape, at, end)


def _damage(path: Path, what: str) -> BadFile:
    return BadFile(f"{path.name} cannot be used: {what}", hint="Install its package anew.")

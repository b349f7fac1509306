"""What every model file becomes, whatever its container: a table of the tensors in it; no torch.

A tensor is a place in a file, a type and a shape. Nothing here reads anything: `header` makes these
tables from safetensors files, pickles and diffusers folders, and `reader` maps what they point to.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip

MOST_DIMS = 16
LARGEST = 2**48  # of any size, stride or offset; products of sixteen such numbers are still quick

Form = Literal["safetensors", "pickle", "folder", "onnx"]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies and what it is."""

    dtype: str  # safetensors' own name: "F16"; one that is not in BITS has no bytes to read
    shape: tuple[int, ...]
    start: int  # bytes from the start of the file
    end: int
    file: int = 0  # which of the header's files
    strides: tuple[int, ...] | None = None  # elements; None where the tensor is contiguous

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Header:
    """The table of tensors of one model, checked."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size: int  # bytes of all the files
    form: Form = "safetensors"
    files: tuple[Path, ...] = ()  # what TensorInfo.file counts; `path` itself if not given
    ignored: tuple[str, ...] = ()  # names in a pickle that were not understood, and left alone

    def __post_init__(self) -> None:
        if not self.files:
            object.__setattr__(self, "files", (self.path,))

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, or None where there is none of that name."""
        info = self.tensors.get(name)
        return None if info is None else info.shape


def naturals(value: object) -> bool:
    """Whether this is a list or tuple of plain whole numbers from 0 up to what any file needs."""
    return isinstance(value, list | tuple) and all(
        type(n) is int and 0 <= n < LARGEST for n in value
    )


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides (elements) of a tensor whose last axis is the fastest."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))

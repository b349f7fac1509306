"""Open a model file by its content and read its table of tensors; no torch, no tensor data.

    read_header(path) -> Header        or BadFile, which says what the file is instead

A safetensors file is: the header's length N (8 bytes, little endian), N bytes of JSON (name ->
dtype, shape, data_offsets), and the data. Everything the JSON claims is checked against the size of
the file before anything is allocated, because files come from strangers: nesting, duplicate names,
overlapping or missing ranges, shapes that do not fit their bytes.

The file must not be rewritten in place while a model made from it is in use: its pages are mapped.
"""

import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from darkroom.core.errors import BadFile, shorten
from darkroom.weights import foreign

MAX_HEADER = 100_000_000  # bytes; SDXL has 0.3 MB
MAX_MARKS = 4_000_000  # commas and brackets: bounds what parsing can allocate
MAX_DIMS = 16
LENGTH = 8  # bytes before the JSON

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies and what it is."""

    dtype: str  # the format's own name: "F16"
    shape: tuple[int, ...]
    start: int  # bytes from the start of the file
    end: int

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Header:
    """The table of tensors of one file, checked."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size: int  # bytes of the whole file

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, or None where there is none of that name."""
        info = self.tensors.get(name)
        return None if info is None else info.shape


def read_header(path: str | Path) -> Header:
    """The header of a safetensors file, whatever its extension; BadFile for all other files."""
    path = Path(path)
    try:
        size = _regular_size(path)
        with path.open("rb") as file:
            raw = _read_json(path, file, size)
    except OSError as error:
        raise foreign.unreadable(path, error) from error
    except ValueError as error:  # a NUL in the name
        what = f"{shorten(str(path))!r} is not a file name"
        raise BadFile(what, hint="Check the spelling.") from error
    table = _parse(path, raw)
    metadata = _metadata(path, table.pop("__metadata__", {}))
    data = LENGTH + len(raw)
    tensors = {name: _tensor(path, name, row, data=data) for name, row in table.items()}
    header = Header(path, tensors, metadata, size)
    _check_cover(header, start=data)
    return header


def _regular_size(path: Path) -> int:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise foreign.folder(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise BadFile(f"{path} is not a regular file", hint="Name a .safetensors file.")
    return status.st_size


def _read_json(path: Path, file: BinaryIO, size: int) -> bytes:
    head = file.read(foreign.HEAD)
    length = int.from_bytes(head[:LENGTH], "little")
    if head[LENGTH : LENGTH + 1] != b"{" or length >= 2**40:
        raise foreign.not_safetensors(path, head, size)
    if length > MAX_HEADER:
        _damaged(path, f"its header claims {length:,} bytes, more than any model needs")
    if LENGTH + length > size:
        raise foreign.truncated(path, LENGTH + length - size, at_least=True)
    raw = head[LENGTH : LENGTH + length]
    raw += file.read(length - len(raw))
    if len(raw) < length:
        raise foreign.truncated(path, length - len(raw), at_least=True)
    return raw


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) > MAX_MARKS:
        _damaged(path, "its header lists millions of values")
    try:
        table = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except RecursionError as error:
        raise _damage(path, "its header is nested too deep") from error
    except UnicodeDecodeError as error:
        raise _damage(path, f"its header is not UTF-8 at byte {LENGTH + error.start:,}") from error
    except ValueError as error:
        raise _damage(path, f"its header is not valid JSON ({shorten(str(error))})") from error
    if not isinstance(table, dict):
        _damaged(path, "its header is not a JSON object")
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _metadata(path: Path, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        _damaged(path, "its metadata is not a table of texts")
    return value


def _tensor(path: Path, name: str, row: object, *, data: int) -> TensorInfo:
    if not isinstance(row, dict) or row.keys() != {"dtype", "shape", "data_offsets"}:
        _damaged(path, f"its tensor {shorten(name)!r} is not described by dtype, shape and offsets")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        _damaged(path, f"its tensor {shorten(name)!r} has the unknown type {shorten(str(dtype))!r}")
    if not _naturals(shape) or len(shape) > MAX_DIMS:
        _damaged(path, f"its tensor {shorten(name)!r} has an impossible shape")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _damaged(path, f"its tensor {shorten(name)!r} has impossible offsets")
    if math.prod(shape) * BITS[dtype] != 8 * (offsets[1] - offsets[0]):
        _damaged(path, f"the bytes of its tensor {shorten(name)!r} do not match its shape")
    return TensorInfo(dtype, tuple(shape), data + offsets[0], data + offsets[1])


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**48 for n in value)


def _check_cover(header: Header, *, start: int) -> None:
    """The ranges follow each other without gap or overlap, from the header to the file's end."""
    path, at = header.path, start
    if not header.tensors:
        _damaged(path, "it holds no tensors")
    for info in sorted(header.tensors.values(), key=lambda info: (info.start, info.end)):
        if info.start != at:
            _damaged(path, "its tensors overlap or leave gaps")
        at = info.end
    if at > header.size:
        raise foreign.truncated(path, at - header.size)
    if at < header.size:
        _damaged(path, f"it is {header.size - at:,} bytes longer than its header says")


def _damage(path: Path, what: str) -> BadFile:
    hint = "Download it again, and compare its hash with the one on its page."
    return BadFile(f"{path} is damaged: {what}", hint=hint)


def _damaged(path: Path, what: str) -> NoReturn:
    raise _damage(path, what)

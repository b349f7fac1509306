"""Open a model by its content and read its table of tensors; no torch, no tensor data.

    read_header(path) -> Header        or BadFile, which says what the file is instead

A file is safetensors, a pickle or ONNX, whatever its name; a folder is a model of diffusers
(`folder`). Pickles are read without running anything in them (`pickled`), ONNX by `onnx`;
safetensors files here.

A safetensors file is: the header's length N (8 bytes, little endian), N bytes of JSON (name ->
dtype, shape, data_offsets), and the data. Everything the JSON claims is checked against the size of
the file before anything is allocated, because files come from strangers: nesting, duplicate names,
overlapping or missing ranges, shapes that do not fit their bytes.

The file must not be rewritten in place while a model made from it is in use: its pages are mapped.
"""

import json
import math
import stat
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from darkroom.core.errors import BadFile, shorten
from darkroom.weights import foreign
from darkroom.weights.folder import read_folder
from darkroom.weights.foreign import damaged as _damage
from darkroom.weights.onnx import read_onnx
from darkroom.weights.pickled import read_pickled
from darkroom.weights.table import BITS, MOST_DIMS, Form, Header, TensorInfo, naturals

__all__ = ["BITS", "Form", "Header", "TensorInfo", "read_header"]

MAX_HEADER = 100_000_000  # bytes; SDXL has 0.3 MB
MAX_MARKS = 4_000_000  # commas and brackets: bounds what parsing can allocate
LENGTH = 8  # bytes before the JSON


def read_header(path: str | Path) -> Header:
    """The header of a model file or of a folder of diffusers; BadFile for all else."""
    path = Path(path)
    try:
        return read_folder(path, _read_file) if path.is_dir() else _read_file(path)
    except OSError as error:
        raise foreign.unreadable(path, error) from error


def _read_file(path: Path) -> Header:
    size = _regular_size(path)
    with path.open("rb") as file:
        head = file.read(foreign.HEAD)
        if _is_safetensors(head):
            return _read_safetensors(path, file, head, size=size)
    if foreign.is_pickle(head):
        return read_pickled(path)
    if foreign.is_onnx(head):
        return read_onnx(path)
    raise foreign.not_a_model(path, head, size)


def _is_safetensors(head: bytes) -> bool:
    return head[LENGTH : LENGTH + 1] == b"{" and int.from_bytes(head[:LENGTH], "little") < 2**40


def _read_safetensors(path: Path, file: BinaryIO, head: bytes, *, size: int) -> Header:
    raw = _read_json(path, file, head, size=size)
    table = _parse(path, raw)
    metadata = _metadata(path, table.pop("__metadata__", {}))
    data = LENGTH + len(raw)
    tensors = {name: _tensor(path, name, row, data=data) for name, row in table.items()}
    header = Header(path, tensors, metadata, size)
    _check_cover(header, start=data)
    return header


def _regular_size(path: Path) -> int:
    try:
        status = path.stat()
    except ValueError as error:  # a NUL in the name
        what = f"{shorten(str(path))!r} is not a file name"
        raise BadFile(what, hint="Check the spelling.") from error
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise BadFile(f"{path} is not a regular file", hint="Name a .safetensors file.")
    return status.st_size


def _read_json(path: Path, file: BinaryIO, head: bytes, *, size: int) -> bytes:
    length = int.from_bytes(head[:LENGTH], "little")
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
    if not naturals(shape) or len(shape) > MOST_DIMS:
        _damaged(path, f"its tensor {shorten(name)!r} has an impossible shape")
    if not naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _damaged(path, f"its tensor {shorten(name)!r} has impossible offsets")
    if math.prod(shape) * BITS[dtype] != 8 * (offsets[1] - offsets[0]):
        _damaged(path, f"the bytes of its tensor {shorten(name)!r} do not match its shape")
    return TensorInfo(dtype, tuple(shape), data + offsets[0], data + offsets[1])


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


def _damaged(path: Path, what: str) -> NoReturn:
    raise _damage(path, what)

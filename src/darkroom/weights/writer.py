"""Write a safetensors file piece by piece: whole on disk or not there at all; no torch.

    write_safetensors(path, {"a": ("F16", (2, 3))}, [twelve_bytes])

The data comes as an iterable of pieces, in the order of the table and cut anywhere, so that a file
of any size takes no more memory than its largest piece.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from darkroom.core.errors import OutputError
from darkroom.weights.header import BITS

Table = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> safetensors dtype, shape


def write_safetensors(
    path: Path,
    table: Table,
    pieces: Iterable[bytes | memoryview],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the tensors of `table`; OutputError if the file is there already or has no room."""
    head, size = _header(table, metadata or {})
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if path.exists():
            raise OutputError(f"{path} is there already", hint="Choose another name.")
        with part.open("xb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            _write(file, pieces, size)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        hint = "Check the folder, its permissions and the room on the disk."
        raise OutputError(f"{path} cannot be written: {error.strerror}", hint=hint) from error
    finally:
        part.unlink(missing_ok=True)


def _header(table: Table, metadata: Mapping[str, str]) -> tuple[bytes, int]:
    rows: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (dtype, shape) in table.items():
        start, end = end, end + math.prod(shape) * BITS[dtype] // 8
        rows[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    head = json.dumps(rows, separators=(",", ":")).encode()
    return head + b" " * (-len(head) % 8), end  # so that every tensor is aligned


def _write(file: BinaryIO, pieces: Iterable[bytes | memoryview], size: int) -> None:
    written = sum(file.write(piece) for piece in pieces)
    if written != size:
        raise ValueError(f"the tensors have {written} bytes, their table says {size}")

"""A few numbers of a small tensor, read from the file without torch."""

import math
import struct
from array import array
from collections.abc import Callable, Mapping, Sequence

from darkroom.weights.table import BITS, Header

MOST = 1 << 16  # bytes that are read at most


def _bfloat16(raw: bytes) -> Sequence[float]:
    """The upper half of a float32 each."""
    wide = b"".join(b"\0\0" + raw[at : at + 2] for at in range(0, len(raw), 2))
    return _floats("f")(wide)


def _floats(code: str) -> Callable[[bytes], Sequence[float]]:
    return lambda raw: struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw)


DECODE: Mapping[str, Callable[[bytes], Sequence[float]]] = {
    "F16": _floats("e"),
    "BF16": _bfloat16,
    "F32": _floats("f"),
    "F64": _floats("d"),
}


def spread(header: Header, name: str) -> float | None:
    """The standard deviation of a tensor; None if it is not there, large, or not of floats."""
    info = header.tensors.get(name)
    if info is None or info.dtype not in DECODE or not 0 < info.bytes <= MOST:
        return None
    if info.bytes != math.prod(info.shape) * BITS[info.dtype] // 8:
        return None  # in a pickle it may lie in pieces
    try:
        with header.files[info.file].open("rb") as file:
            file.seek(info.start)
            raw = file.read(info.bytes)
    except OSError:
        return None
    if len(raw) < info.bytes:
        return None
    values = array("d", DECODE[info.dtype](raw))
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))

"""Where the storages lie in a file of torch before 1.6: behind the pickles, one after the other.

Such a file is five pickles (a magic number, the version 1001, the machine it was written on, the
value, the keys of the storages) and then for each key the number of elements (8 bytes) and their
bytes. How wide an element is, only the value's own references to the storage say.
"""

from collections.abc import Iterable
from mmap import mmap

from darkroom.weights.pickled.fault import Fault, damage
from darkroom.weights.pickled.machine import Made, Stored
from darkroom.weights.pickled.tensors import WIDTHS, Span, storage_of

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
COUNT = 8  # bytes


def check_start(version: object, system: object) -> None:
    """Refuse what was written by another program, or on a machine of the other byte order."""
    if version != VERSION:
        raise damage("it has a version of torch's format that never was")
    pairs = (system.pairs if isinstance(system, Made) else None) or []
    if any(key == "little_endian" and value is False for key, value in pairs):
        raise big_endian()


def big_endian() -> Fault:
    """Numbers the other way round."""
    hint = "Get the model as .safetensors."
    return Fault("was written on a big-endian machine, which this version does not read", hint=hint)


def find_spans(data: mmap, at: int, *, keys: object, stored: Iterable[Stored]) -> dict[str, Span]:
    """The bytes of each storage, from those behind the pickles at `at`."""
    widths: dict[str, int] = {}
    for reference in stored:
        storage = storage_of(reference)
        widths[storage.key] = WIDTHS[storage.dtype]
    spans: dict[str, Span] = {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in widths or key in spans:
            raise damage("its list of storages does not fit its tensors")
        count = int.from_bytes(data[at : at + COUNT], "little")
        size, at = count * widths[key], at + COUNT
        if at + size > len(data):
            raise Fault(f"is truncated: at least {at + size - len(data):,} bytes are missing")
        spans[key] = Span(at, size)
        at += size
    return spans

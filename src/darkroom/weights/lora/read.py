"""The tensors of a LoRA file, as adapters of the modules that they change.

    read_network(header, fit(header, targets)) -> Network

They are copied out of the file, once, and mostly stay in its precision.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property

import torch
from torch import Tensor

from darkroom.core.errors import BadFile, shorten
from darkroom.weights.header import Header
from darkroom.weights.layouts.entry import Component
from darkroom.weights.lora.algorithms import SCALARS
from darkroom.weights.lora.build import build
from darkroom.weights.lora.fit import Fit, Row
from darkroom.weights.lora.formulas import Adapter
from darkroom.weights.lora.names import Place
from darkroom.weights.reader import MappedFile, open_tensors

KEPT = (torch.float16, torch.bfloat16, torch.float32)  # the rest becomes float32
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A LoRA in memory, for the checkpoints that it was fitted to."""

    name: str  # of the file
    adapters: Mapping[Place, Adapter]
    embeddings: Mapping[str, tuple[Tensor | None, ...]]  # word -> (n, width) per text encoder
    notes: tuple[str, ...] = ()  # what in the file has no effect, a sentence each

    @cached_property
    def bytes(self) -> int:
        """Memory that its tensors take."""
        words = (rows for word in self.embeddings.values() for rows in word if rows is not None)
        return sum(map(_bytes, self.adapters.values())) + sum(rows.nbytes for rows in words)


def read_network(header: Header, fitted: Fit) -> Network:
    """The network in the file; BadFile if it does not fit, or if numbers in it are none."""
    fitted.check()
    with open_tensors(header) as file:
        return Network(
            name=fitted.name,
            adapters={row.place: _adapter(file, row) for row in fitted.rows},
            embeddings={
                word: tuple(_vectors(file, keys, encoder) for encoder in fitted.encoders)
                for word, keys in fitted.embeddings.items()
            },
            notes=fitted.notes,
        )


def _adapter(file: MappedFile, row: Row) -> Adapter:
    parts = {part: _load(file, key, part) for part, key in row.parts.items()}
    if row.algorithm == "IA3" and "on_input" in parts:
        axis = int(bool(parts["on_input"]))
        if parts["ia3"].numel() != row.shape[axis]:
            raise _bad(file, row.parts["ia3"], "scales the wrong side of its module")
    return build(row.algorithm, parts, row.shape, told=row.scale)


def _vectors(file: MappedFile, keys: Mapping[Component, str], encoder: Component) -> Tensor | None:
    if encoder not in keys:
        return None
    rows = _load(file, keys[encoder], "vectors").to(torch.float32)
    return rows.reshape(-1, rows.shape[-1])


def _load(file: MappedFile, key: str, part: str) -> Tensor:
    """A copy of one tensor, checked; a number beside pickled tensors is one too."""
    if key not in file.header.tensors:
        return _number(file, key)
    tensor = file.tensor(key)
    if tensor.dtype in KEPT:
        tensor = tensor.clone(memory_format=torch.contiguous_format)
    elif tensor.dtype.is_floating_point or (part in SCALARS and tensor.dtype in WHOLE):
        tensor = tensor.to(torch.float32)
    else:
        raise _bad(file, key, "has whole numbers for weights: it is quantised, or no LoRA")
    file.release(key)
    if not all(map(torch.isfinite, tensor.aminmax())):  # NaN is lowest and highest; and it is fast
        raise _bad(file, key, "has numbers that are none (NaN or infinity)")
    return tensor


def _number(file: MappedFile, key: str) -> Tensor:
    try:
        return torch.tensor(float(file.header.metadata[key]))
    except ValueError as error:
        raise _bad(file, key, "is no number") from error


def _bad(file: MappedFile, key: str, what: str) -> BadFile:
    name = file.header.path.name
    hint = "Download it again; if that does not help, it was saved so."
    return BadFile(f"{name} cannot be used: {shorten(key, 90)} {what}", hint=hint)


def _bytes(value: object) -> int:
    """Of all tensors in an adapter."""
    return sum(tensor.nbytes for tensor in _tensors(value))


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _tensors(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))

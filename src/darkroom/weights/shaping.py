"""What a row of a layout does to a tensor, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from darkroom.weights.layouts.entry import Entry


def to_network(stored: Tensor, row: Entry) -> Tensor:
    """What of a file's tensor the row asks for, a view where it can be one."""
    if row.part is not None:
        number, parts = row.part
        stored = stored.chunk(parts, 0)[number]
    if row.transposed:
        stored = stored.T.contiguous()
    return stored.reshape(row.shape)


def to_file(tensors: Sequence[Tensor], rows: Sequence[Entry]) -> Tensor:
    """The file's tensor from those of the networks: one per row, all rows of the same source."""
    pieces = [_back(tensor, row) for tensor, row in zip(tensors, rows, strict=True)]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _back(tensor: Tensor, row: Entry) -> Tensor:
    count = 1 if row.part is None else row.part[1]
    shape = row.stored[0] // count, *row.stored[1:]
    if row.transposed:
        tensor = tensor.reshape(shape[::-1]).T
    return tensor.reshape(shape)

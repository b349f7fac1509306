"""One row of a layout: a tensor under its name in a file and its name in our network.

What a row asks for, in this order:

    tensor = file.tensor(row.source)                                 # of shape `stored`
    if row.part: tensor = tensor.chunk(row.part[1], 0)[row.part[0]]
    if row.transposed: tensor = tensor.T
    tensor.reshape(row.shape)
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Shape = tuple[int, ...]
Component = Literal["unet", "vae", "text", "text_2"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a network; several rows may read parts of one tensor of the file."""

    source: str  # name in the file
    target: str  # name in the network
    stored: Shape  # of the whole tensor in the file
    shape: Shape  # in the network
    part: tuple[int, int] | None = None  # (i, n): the i-th of n equal parts along the first axis
    transposed: bool = False


Layout = dict[Component, tuple[Entry, ...]]


def same(source: str, target: str, *shape: int) -> Entry:
    """A tensor that has one shape on both sides."""
    return Entry(source, target, shape, shape)


def layer(source: str, target: str, *weight: int) -> Iterator[Entry]:
    """A weight and its bias, whose length is the weight's first dimension."""
    yield same(f"{source}.weight", f"{target}.weight", *weight)
    yield same(f"{source}.bias", f"{target}.bias", weight[0])


def squeezed(source: str, target: str, out: int, width: int) -> Iterator[Entry]:
    """A linear layer that the file stores as a 1x1 convolution."""
    yield Entry(f"{source}.weight", f"{target}.weight", (out, width, 1, 1), (out, width))
    yield same(f"{source}.bias", f"{target}.bias", out)


def fused(source: str, targets: tuple[str, ...], *weight: int) -> Iterator[Entry]:
    """Layers of one shape that the file stores as one, their rows one after the other.

    `weight` is the shape of each; the file says `in_proj_weight`, with an underscore.
    """
    count, rows = len(targets), weight[0]
    for index, target in enumerate(targets):
        part = index, count
        stored = count * rows, *weight[1:]
        yield Entry(f"{source}_weight", f"{target}.weight", stored, weight, part)
        yield Entry(f"{source}_bias", f"{target}.bias", (count * rows,), (rows,), part)


def native(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same network in a file that has our own names and shapes."""
    for entry in entries:
        yield same(entry.target, entry.target, *entry.shape)


def under(source: str, target: str, entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries with both names prefixed."""
    for entry in entries:
        names = source + entry.source, target + entry.target
        yield Entry(*names, entry.stored, entry.shape, entry.part, entry.transposed)

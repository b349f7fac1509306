"""One row of a layout: a tensor under its name in a file and its name in our network."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """`stored` is the shape in the file, `shape` the network's; they hold the same numbers."""

    source: str  # name in the file
    target: str  # name in the network
    stored: Shape
    shape: Shape


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


def under(source: str, target: str, entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries with both names prefixed."""
    for entry in entries:
        yield Entry(source + entry.source, target + entry.target, entry.stored, entry.shape)

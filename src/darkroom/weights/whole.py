"""Any checkpoint, from whatever file or folder, as the tensors of one LDM file.

    with open_whole(header) as whole:
        for name in whole.names:
            whole.tensor(name)

One tensor is in memory at a time: a pickle, a diffusers folder and a file with very old names read
like the single file that every program of the field takes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from darkroom.weights.detect import Detected, detect, detect_vae
from darkroom.weights.header import Header
from darkroom.weights.layouts.checkpoint import VAE, rows, single_file
from darkroom.weights.layouts.entry import Component, Entry, Layout, Shape
from darkroom.weights.reader import MappedFile, open_tensors
from darkroom.weights.shaping import to_file, to_network

Place = tuple[Component, str]  # a tensor of a network


@dataclass(frozen=True, slots=True, eq=False)
class Canonical:
    """The tensors of an open file under the names of an LDM file."""

    header: Header
    file: MappedFile
    wanted: Mapping[str, Mapping[Place, Entry]]
    """LDM name -> what it is made of: one tensor, or the q, k and v that OpenCLIP keeps as one."""
    own: Mapping[Place, Entry]  # where this file has each tensor

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name in an LDM file."""
        return tuple(self.wanted)

    @property
    def sources(self) -> frozenset[str]:
        """The tensors of this file that a network uses."""
        return frozenset(row.source for row in self.own.values())

    def shape(self, name: str) -> Shape:
        """The tensor's shape in an LDM file."""
        return next(iter(self.wanted[name].values())).stored

    def dtype(self, name: str) -> str:
        """The tensor's number format in this file, by its safetensors name."""
        return self.header.tensors[self._sources(name)[0]].dtype

    def tensor(self, name: str) -> Tensor:
        """The tensor as an LDM file holds it, in this file's number format."""
        rows = self.wanted[name]
        tensors = [to_network(self.file.tensor(self.own[p].source), self.own[p]) for p in rows]
        return to_file(tensors, list(rows.values()))

    def release(self, name: str) -> None:
        """Give back the pages that `tensor` read."""
        for source in self._sources(name):
            self.file.release(source)

    def _sources(self, name: str) -> list[str]:
        return list(dict.fromkeys(self.own[place].source for place in self.wanted[name]))


@dataclass(frozen=True, slots=True, eq=False)
class Whole(Canonical):
    """One open checkpoint; made by `open_whole`."""

    detected: Detected


@contextmanager
def open_whole(header: Header) -> Iterator[Whole]:
    """Map the checkpoint's files for the length of a block; BadFile if it is none that runs."""
    detected = detect(header)
    ldm = single_file(detected.arch, detected.unet, detected.vae, texts=detected.texts)
    own, wanted = _match(detected.layout, ldm)
    with open_tensors(header) as file:
        yield Whole(header, file, wanted, own, detected)


@contextmanager
def open_vae(header: Header) -> Iterator[Canonical]:
    """The same of a VAE alone, under the names that it has in a checkpoint."""
    detected = detect_vae(header)
    own, wanted = _match({"vae": detected.rows}, {"vae": rows(VAE[0], detected.dims)})
    with open_tensors(header) as file:
        yield Canonical(header, file, wanted, own)


def _match(own: Layout, ldm: Layout) -> tuple[dict[Place, Entry], dict[str, dict[Place, Entry]]]:
    """The file's own rows by place, and the rows of each tensor of the LDM file."""
    places = _by_place(own)
    wanted: dict[str, dict[Place, Entry]] = {}
    for place, row in _by_place(ldm).items():
        if place in places:
            wanted.setdefault(row.source, {})[place] = row
    return places, wanted


def _by_place(layout: Layout) -> dict[Place, Entry]:
    every = ((component, row) for component, some in layout.items() for row in some)
    return {(component, row.target): row for component, row in every}

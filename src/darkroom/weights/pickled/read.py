"""Open a pickled model file and make its table of tensors; see the package for how and why."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

from darkroom.core.errors import BadFile, shorten
from darkroom.weights import foreign
from darkroom.weights.pickled import legacy
from darkroom.weights.pickled.archive import Member, read_members
from darkroom.weights.pickled.contents import contents_of
from darkroom.weights.pickled.fault import Fault, damage
from darkroom.weights.pickled.instructions import run
from darkroom.weights.pickled.machine import ATTRIBUTE, Machine
from darkroom.weights.pickled.names import judge
from darkroom.weights.pickled.tensors import Span
from darkroom.weights.table import Header

LARGEST_PICKLE = 128 * 2**20  # bytes, without the tensors; SDXL has 0.6 million
PICKLE = "data.pkl"


@dataclass(frozen=True, slots=True)
class Found:
    """A value, where its storages lie, and what came to light on the way to it."""

    value: object
    spans: dict[str, Span]
    names: Iterable[str]
    size: int  # bytes of the pickles, without the tensors


def read_pickled(path: Path) -> Header:
    """The header of a zip or a pickle; BadFile where it is none, is damaged, or holds code."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        try:
            found = _read_zip(path, data) if data[:2] == b"PK" else _read_plain(data)
            contents = contents_of(found.value, found.spans, most=found.size)
        except Fault as fault:
            raise BadFile(f"{path} {fault.what}", hint=fault.hint) from fault
        size = len(data)
    if not contents.tensors:
        hint = "Name the file of a model."
        raise BadFile(f"{path} is a pickle that holds no tensors", hint=hint)
    ignored = tuple(sorted(name for name in found.names if judge(name) == "inert"))
    return Header(path, contents.tensors, contents.metadata, size, form="pickle", ignored=ignored)


def _value(machine: Machine) -> object:
    """The value of the next pickle; Fault with the names if it names code, broken off or not."""
    try:
        return run(machine)
    finally:
        plain = ATTRIBUTE if machine.names_alone else frozenset()
        if code := [n for n in machine.names if judge(n) == "code" and n not in plain]:
            what = f"holds code ({foreign.listed(code)}); it was not run"
            raise Fault(what, hint=foreign.OTHER_FORM)


# ---- torch 1.6 and later ---------------------------------------------------------------------


def _read_zip(path: Path, data: mmap) -> Found:
    members = read_members(data)
    root = _root(path, members)
    byte_order = members.get(f"{root}byteorder")
    if byte_order and _bytes(data, _stored(byte_order)) == b"big":
        raise legacy.big_endian()
    pickle = _stored(members[f"{root}{PICKLE}"])
    if pickle.size > LARGEST_PICKLE:
        raise damage("its pickle is larger than that of any model")
    if pickle.crc and pickle.crc != zlib.crc32(_bytes(data, pickle)):  # 0: torch was told not to
        raise damage("its pickle is not the one that was written (CRC)")
    machine = Machine(data, pickle.start, pickle.start + pickle.size)
    value = _value(machine)
    folder = f"{root}data/"
    spans = {
        name.removeprefix(folder): Span(_stored(member).start, member.size)
        for name, member in members.items()
        if name.startswith(folder)
    }
    return Found(value, spans, machine.names, pickle.size)


def _root(path: Path, members: dict[str, Member]) -> str:
    """The folder in the archive that the one pickle is in, with its slash."""
    roots = [name.removesuffix(PICKLE) for name in members if name.rpartition("/")[2] == PICKLE]
    if not roots:
        raise foreign.archive(path, members)
    if len(roots) > 1:
        raise damage("it holds more than one pickle")
    root = roots[0]
    if f"{root}constants.pkl" in members or any(n.startswith(f"{root}code/") for n in members):
        raise Fault("is a TorchScript program, which is code", hint=foreign.OTHER_FORM)
    return root


def _stored(member: Member) -> Member:
    if not member.stored:
        what = (
            f"has compressed or encrypted parts ({shorten(member.name)}), which torch never writes"
        )
        raise Fault(what, hint=foreign.OTHER_FORM)
    return member


def _bytes(data: mmap, member: Member) -> bytes:
    return data[member.start : member.start + member.size]


# ---- before, and bare pickles ----------------------------------------------------------------


def _read_plain(data: mmap) -> Found:
    machine = Machine(data, 0, min(len(data), LARGEST_PICKLE))
    value = _value(machine)
    spans: dict[str, Span] = {}
    if value == legacy.MAGIC:
        legacy.check_start(_value(machine), _value(machine))
        value = _value(machine)
        keys = _value(machine)
        spans = legacy.find_spans(data, machine.at, keys=keys, stored=machine.stored)
    return Found(value, spans, machine.names, machine.at)

"""An ONNX file as a table of its tensors and a few words about it; nothing is run, no torch.

    read_onnx(path) -> Header        BadFile where it is damaged

The file is a protocol buffer (google's "Encoding" page): fields of a number and a kind, one after
the other, some of them messages again. Of onnx.proto only what tells what a file is for is read:
the names, shapes and places of its weights, what the network takes and gives (`INPUTS`, `OUTPUTS`,
as JSON) and the metadata that its maker wrote.
"""

import json
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

from darkroom.core.errors import BadFile
from darkroom.weights import foreign
from darkroom.weights.table import BITS, MOST_DIMS, Form, Header, TensorInfo, naturals

INPUTS, OUTPUTS = "onnx.inputs", "onnx.outputs"  # JSON: {name: [1, 3, "height", "width"]}
FORM: Form = "onnx"

# Numbers of fields in onnx.proto.
GRAPH, PROPERTY = 7, 14  # of a model
INITIALIZER, INPUT, OUTPUT = 5, 11, 12  # of a graph
DIMS, TYPE, FLOATS, NAME, RAW = 1, 2, 4, 8, 9  # of a tensor
TYPES = {1: "F32", 2: "U8", 3: "I8", 5: "I16", 6: "I32", 7: "I64", 10: "F16", 11: "F64", 16: "BF16"}
MOST_FIELDS = 1_000_000
LONGEST = 1_000_000  # bytes of a name or a text

Span = tuple[int, int]  # bytes of the file: from, to
Field = tuple[int, int | Span]  # its number; a whole number, or the place of its bytes


class _Broken(ValueError):
    """The bytes are no protocol buffer."""


def read_onnx(path: Path) -> Header:
    """The header of an ONNX file; BadFile where it is damaged."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        try:
            return _Reader(data).header(path)
        except (_Broken, UnicodeDecodeError) as error:
            what = f"{path} is an ONNX model, and damaged: {error}"
            raise BadFile(what, hint=foreign.AGAIN) from error


class _Reader:
    def __init__(self, data: mmap) -> None:
        self._data = data
        self._left = MOST_FIELDS

    def header(self, path: Path) -> Header:
        tensors: dict[str, TensorInfo] = {}
        metadata: dict[str, str] = {}
        sides: dict[int, dict[str, list[int | str]]] = {INPUT: {}, OUTPUT: {}}
        for number, value in self._fields((0, len(self._data))):
            if number == PROPERTY and isinstance(value, tuple):
                pair = self._texts(value, 1, 2)
                metadata[pair[0]] = pair[1]
            if number != GRAPH or not isinstance(value, tuple):
                continue
            for part, inner in self._fields(value):
                if part == INITIALIZER and isinstance(inner, tuple):
                    name, info = self._tensor(inner)
                    tensors[name] = info
                elif part in sides and isinstance(inner, tuple):
                    sides[part].update([self._value(inner)])
        for name in tensors:  # old exporters list weights as inputs too
            sides[INPUT].pop(name, None)
        if not tensors or not sides[OUTPUT]:
            raise _Broken("there is no network in it")
        said = {INPUTS: json.dumps(sides[INPUT]), OUTPUTS: json.dumps(sides[OUTPUT])}
        return Header(path, tensors, metadata | said, len(self._data), form=FORM)

    def _fields(self, span: Span) -> Iterator[Field]:
        """The fields of a message."""
        at, end = span
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise _Broken("it has more parts than any model")
            key, at = self._number(at, end)
            match key & 7:
                case 0:
                    value, at = self._number(at, end)
                    yield key >> 3, value
                    continue
                case 2:
                    length, at = self._number(at, end)
                case 1 | 5 as kind:
                    length = 8 if kind == 1 else 4
                case _:
                    raise _Broken("a part of an unknown kind")
            if length > end - at:
                raise _Broken("it breaks off")
            yield key >> 3, (at, at + length)
            at += length

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """A whole number of seven bits a byte, and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise _Broken("it breaks off")
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise _Broken("a number without an end")

    def _text(self, span: Span) -> str:
        if span[1] - span[0] > LONGEST:
            raise _Broken("a name is too long")
        return self._data[span[0] : span[1]].decode()

    def _texts(self, span: Span, *numbers: int) -> list[str]:
        found = {number: self._text(value) for number, value in self._fields(span)
                 if isinstance(value, tuple)}  # fmt: skip
        return [found.get(number, "") for number in numbers]

    def _tensor(self, span: Span) -> tuple[str, TensorInfo]:
        """Name and place of a weight; one that is not plain bytes here has a type of its own."""
        name, kind, place = "", 0, (0, 0)
        shape: list[int] = []
        for number, value in self._fields(span):
            if number == DIMS:
                shape += [value] if isinstance(value, int) else self._packed(value)
            elif number == TYPE and isinstance(value, int):
                kind = value
            elif number == NAME and isinstance(value, tuple):
                name = self._text(value)
            elif number in (RAW, FLOATS) and isinstance(value, tuple):
                place = value
        if not naturals(shape) or len(shape) > MOST_DIMS:
            raise _Broken("a tensor of an impossible shape")
        dtype = TYPES.get(kind, f"ONNX {kind}")
        size = BITS.get(dtype, 0) // 8
        for side in shape:
            size *= side
        if place[1] - place[0] != size:
            dtype = f"ONNX {kind}"  # its numbers lie elsewhere, or in another way
        return name, TensorInfo(dtype, tuple(shape), *place)

    def _packed(self, span: Span) -> list[int]:
        at, found = span[0], []
        while at < span[1]:
            value, at = self._number(at, span[1])
            found.append(value)
        return found

    def _value(self, span: Span) -> tuple[str, list[int | str]]:
        """Name and shape of what a network takes or gives: sizes, or names of what may be any."""
        name, shape = "", list[int | str]()
        for number, value in self._fields(span):
            if number == 1 and isinstance(value, tuple):
                name = self._text(value)
            elif number == 2 and isinstance(value, tuple):  # type > tensor > shape > dimension
                for dimension in self._below(value, (1, 2, 1)):
                    shape.append(self._size(dimension))
        return name, shape

    def _size(self, span: Span) -> int | str:
        """One side of a shape: a number, or a word for what may be any."""
        for _, value in self._fields(span):
            return value if isinstance(value, int) else self._text(value)
        return "?"

    def _below(self, span: Span, numbers: tuple[int, ...]) -> Iterator[Span]:
        """The messages at the end of a path of fields."""
        if not numbers:
            yield span
            return
        for number, value in self._fields(span):
            if number == numbers[0] and isinstance(value, tuple):
                yield from self._below(value, numbers[1:])

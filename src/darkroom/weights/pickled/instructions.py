r"""What the instructions of a pickle do to our machine: protocols 0 to 5, after `pickletools`.

    value = run(machine)

One row an instruction: how its argument is read, and what happens. Rows that would import, call or
fill something in Python only write down that they would (`Name`, `Made`, `Stored`).
"""

import re
import struct
from collections.abc import Callable
from typing import Any, Final

from darkroom.weights.pickled.fault import damage
from darkroom.weights.pickled.machine import Machine, Made

MOST_STEPS = 4_000_000  # an SDXL checkpoint with its optimizer takes 0.4 million
LONGEST_NUMBER = 32  # bytes or digits; a longer number is given as None

ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U000([0-9a-fA-F]{5})|(\\))")

Reader = Callable[[Machine], Any]
Act = Callable[[Machine, Any], None]


def text(raw: bytes) -> str:
    """UTF-8, with what is none replaced."""
    return raw.decode("utf-8", "replace")


def unescaped(line: str) -> str:
    r"""Text as protocol 0 writes it: quoted or not, with \u0041 for A."""
    if len(line) > 1 and line[0] == line[-1] and line[0] in "'\"":
        line = line[1:-1]
    return ESCAPE.sub(lambda found: found[4] or chr(int(found[found.lastindex or 0], 16)), line)


def number(line: str) -> int | float | bool | None:
    """A number as protocol 0 writes it; 00 and 01 are truths."""
    if line in ("00", "01"):
        return line == "01"
    if len(line) > LONGEST_NUMBER:
        return None
    try:
        return int(line.removesuffix("L"))
    except ValueError:
        raise damage("its pickle has a number that is none") from None


def real(line: str) -> float:
    """A float as protocol 0 writes it."""
    try:
        return float(line)
    except ValueError:
        raise damage("its pickle has a number that is none") from None


def whole(raw: bytes) -> int | None:
    """A whole number of any length, little endian."""
    return int.from_bytes(raw, "little", signed=True) if len(raw) <= LONGEST_NUMBER else None


def nothing(_machine: Machine) -> None:
    """The instruction has no argument."""


def fixed(form: str) -> Reader:
    """An argument of one `struct` format."""
    unpack, size = struct.Struct(form).unpack, struct.calcsize(form)
    return lambda machine: unpack(machine.take(size))[0]


def counted(form: str) -> Reader:
    """So many bytes as the number before them says."""
    count = fixed(form)
    return lambda machine: machine.take(count(machine))


def line(machine: Machine) -> str:
    """An argument that ends with its line."""
    return machine.line()


def place(machine: Machine) -> int:
    """A line with a place in the memo."""
    value = number(machine.line())
    return value if type(value) is int else -1


def lines(machine: Machine) -> tuple[str, str]:
    """Two lines: a module and a name in it."""
    return machine.line(), machine.line()


def push(convert: Callable[[Any], object]) -> Act:
    """Push the argument, converted."""
    return lambda machine, argument: machine.push(convert(argument))


def same(value: object) -> object:
    """What needs no conversion."""
    return value


def recent(count: int) -> Act:
    """A tuple of the last `count` values."""

    def act(machine: Machine, _: None) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(values)))

    return act


def skip(_machine: Machine, _: object) -> None:
    """What needs no answer."""


def drop_marked(machine: Machine, _: None) -> None:
    """Forget everything down to the mark."""
    machine.unmark()


def refuse(machine: Machine, _: object) -> None:
    """Registries and buffers outside the file, which no model uses."""
    raise damage("its pickle asks for what is not in the file")


def _reduce(machine: Machine, _: None) -> None:
    args, maker = machine.pop(), machine.pop()
    machine.make(maker, args)


def _new_with_keywords(machine: Machine, _: None) -> None:
    machine.pop()
    _reduce(machine, None)


def _instance(machine: Machine, names: tuple[str, str]) -> None:
    args = tuple(machine.unmark())
    machine.name(*names)
    machine.make(machine.pop(), args)


def _object(machine: Machine, _: None) -> None:
    maker, *args = machine.unmark() or [None]
    machine.make(maker, tuple(args))


def _stack_global(machine: Machine, _: None) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _dictionary(machine: Machine, _: None) -> None:
    values = machine.unmark()
    machine.push(Made(DICT))
    machine.set_pairs(values)


def _set_item(machine: Machine, _: None) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_pairs([key, value])


STOP = ord(".")
DICT = "builtins.dict"
UINT8, UINT16, UINT32, UINT64, INT32 = map(fixed, ("<B", "<H", "<I", "<Q", "<i"))

INSTRUCTIONS: Final[dict[int, tuple[Reader, Act]]] = {
    # the stack
    ord("("): (nothing, lambda machine, _: machine.mark()),
    ord("0"): (nothing, lambda machine, _: machine.drop()),
    ord("1"): (nothing, drop_marked),
    ord("2"): (nothing, lambda machine, _: machine.push(machine.top())),
    # the memo
    ord("g"): (place, Machine.get),
    ord("h"): (UINT8, Machine.get),
    ord("j"): (UINT32, Machine.get),
    ord("p"): (place, Machine.put),
    ord("q"): (UINT8, Machine.put),
    ord("r"): (UINT32, Machine.put),
    0x94: (nothing, lambda machine, _: machine.memoize()),
    # values
    ord("N"): (nothing, push(same)),
    0x88: (nothing, push(lambda _: True)),
    0x89: (nothing, push(lambda _: False)),
    ord("I"): (line, push(number)),
    ord("L"): (line, push(number)),
    ord("J"): (INT32, push(same)),
    ord("K"): (UINT8, push(same)),
    ord("M"): (UINT16, push(same)),
    0x8A: (counted("<B"), push(whole)),
    0x8B: (counted("<i"), push(whole)),
    ord("F"): (line, push(real)),
    ord("G"): (fixed(">d"), push(same)),
    ord("S"): (line, push(unescaped)),
    ord("V"): (line, push(unescaped)),
    ord("T"): (counted("<i"), push(text)),
    ord("U"): (counted("<B"), push(text)),
    ord("X"): (counted("<I"), push(text)),
    0x8C: (counted("<B"), push(text)),
    0x8D: (counted("<Q"), push(text)),
    ord("B"): (counted("<I"), push(same)),
    ord("C"): (counted("<B"), push(same)),
    0x8E: (counted("<Q"), push(same)),
    0x96: (counted("<Q"), push(same)),
    # collections
    ord("]"): (nothing, push(lambda _: [])),
    ord("l"): (nothing, lambda machine, _: machine.push(machine.unmark())),
    ord("a"): (nothing, lambda machine, _: machine.extend([machine.pop()])),
    ord("e"): (nothing, lambda machine, _: machine.extend(machine.unmark())),
    ord(")"): (nothing, push(lambda _: ())),
    ord("t"): (nothing, lambda machine, _: machine.push(tuple(machine.unmark()))),
    0x85: (nothing, recent(1)),
    0x86: (nothing, recent(2)),
    0x87: (nothing, recent(3)),
    ord("}"): (nothing, push(lambda _: Made(DICT))),
    ord("d"): (nothing, _dictionary),
    ord("s"): (nothing, _set_item),
    ord("u"): (nothing, lambda machine, _: machine.set_pairs(machine.unmark())),
    0x8F: (nothing, push(lambda _: [])),
    0x90: (nothing, lambda machine, _: machine.extend(machine.unmark())),
    0x91: (nothing, lambda machine, _: machine.push(machine.unmark())),
    # what would import, call or fill
    ord("c"): (lines, lambda machine, names: machine.name(*names)),
    0x93: (nothing, _stack_global),
    ord("R"): (nothing, _reduce),
    0x81: (nothing, _reduce),
    0x92: (nothing, _new_with_keywords),
    ord("i"): (lines, _instance),
    ord("o"): (nothing, _object),
    ord("b"): (nothing, lambda machine, _: machine.build()),
    ord("Q"): (nothing, lambda machine, _: machine.store()),
    ord("P"): (line, refuse),
    0x82: (UINT8, refuse),
    0x83: (UINT16, refuse),
    0x84: (UINT32, refuse),
    0x97: (nothing, refuse),
    0x98: (nothing, refuse),
    # the frame: nothing is allocated for what they announce
    0x80: (UINT8, skip),
    0x95: (UINT64, skip),
}


def run(machine: Machine) -> object:
    """The value on top of the stack when the program at the machine's place stops."""
    machine.clear()
    for _ in range(MOST_STEPS):
        code = machine.take(1)[0]
        if code == STOP:
            return machine.pop()
        if code not in INSTRUCTIONS:
            raise damage(f"its pickle has the unknown instruction {code:#04x}")
        argument, act = INSTRUCTIONS[code]
        act(machine, argument(machine))
    raise damage("its pickle is longer than that of any model")

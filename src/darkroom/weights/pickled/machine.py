"""The pickle machine without its powers: every instruction of protocols 0 to 5, nothing done.

    machine = Machine(data, start, end)
    value = run(machine)        machine.at: behind the program; machine.names: all it wanted

This is the machine; what makes it move, instruction by instruction, is `instructions`.

Text, numbers, bytes, lists and tuples are what they are (a set is a list). All else is inert: a
`Name`, a `Made` (what a call would have made, dictionaries included) or a `Stored` (a reference to
a storage). A dictionary is its pairs, in order: no key is hashed. Nothing recurses.
"""

from mmap import mmap
from typing import Final

from darkroom.weights.pickled.fault import Fault, damage

MOST_NAMES = 10_000  # modules and classes
LONGEST_NAME = 300  # characters
ATTRIBUTE = frozenset({"builtins.getattr", "__builtin__.getattr"})
LONGEST_LINE = 4096  # bytes; names, keys and numbers of protocol 0


class Name:
    """A module and a name in it, as in an import that never happens."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: Final = name


class Made:
    """What would have been made: by calling `maker` with `args`, then filled."""

    __slots__ = ("args", "items", "maker", "pairs", "state")

    def __init__(self, maker: str, args: tuple[object, ...] = ()) -> None:
        self.maker: Final = maker  # "" where what was called is no name
        self.args: Final = args
        self.pairs: list[tuple[object, object]] | None = None  # of a dictionary
        self.items: list[object] | None = None  # of a class derived from list
        self.state: object = None


class Stored:
    """A reference to what lies outside the pickle."""

    __slots__ = ("reference",)

    def __init__(self, reference: object) -> None:
        self.reference: Final = reference


class Machine:
    """One program, from `start`; it must stop before `end`."""

    def __init__(self, data: bytes | mmap, start: int, end: int) -> None:
        self.at = start
        self.names: dict[str, None] = {}  # in the order of their appearance
        self.stored: list[Stored] = []
        self._attributes: set[bool] = set()  # whether getattr was called of a name
        self._data, self._start, self._end = data, start, end
        self.clear()

    def clear(self) -> None:
        """Forget all but the names and the references, before another program."""
        self._stack: list[object] = []
        self._below: list[list[object]] = []  # stacks under the marks
        self._memo: dict[int, object] = {}

    # ---- arguments --------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        """The next `count` bytes of the program."""
        if count < 0 or count > self._end - self.at:
            raise Fault("is truncated: its pickle breaks off")
        self.at += count
        return self._data[self.at - count : self.at]

    def line(self) -> str:
        """A line of text, without its end."""
        end = self._data.find(b"\n", self.at, min(self._end, self.at + LONGEST_LINE))
        if end < 0:
            raise damage("its pickle has a line without an end")
        return self.take(end + 1 - self.at)[:-1].decode("utf-8", "replace")

    # ---- the stack --------------------------------------------------------------------------

    def push(self, value: object) -> None:
        self._stack.append(value)

    def pop(self) -> object:
        if not self._stack:
            raise damage("its pickle takes what is not there")
        return self._stack.pop()

    def drop(self) -> None:
        """Forget the top of the stack, or a mark."""
        if self._stack or not self._below:
            self.pop()
        else:
            self.unmark()

    def top(self) -> object:
        if not self._stack:
            raise damage("its pickle fills what is not there")
        return self._stack[-1]

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def unmark(self) -> list[object]:
        """Everything above the last mark."""
        if not self._below:
            raise damage("its pickle ends a list that was not begun")
        above, self._stack = self._stack, self._below.pop()
        return above

    # ---- the memo ---------------------------------------------------------------------------

    def put(self, place: int) -> None:
        if not 0 <= place <= self._end - self._start:  # each takes an instruction
            raise damage("its pickle remembers more than it has")
        self._memo[place] = self.top()

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self.top()

    def get(self, place: int) -> None:
        if place not in self._memo:
            raise damage("its pickle recalls what it never had")
        self.push(self._memo[place])

    # ---- what would import, call or fill ----------------------------------------------------

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise damage("its pickle imports what is no name")
        if len(module) + len(name) > LONGEST_NAME or len(self.names) > MOST_NAMES:
            raise damage("its pickle has more names than any model")
        full = f"{module}.{name}"
        self.names[full] = None
        self.push(Name(full))

    @property
    def names_alone(self) -> bool:
        """Whether getattr was called, and of names alone, as Python writes Class.method."""
        return self._attributes == {True}

    def make(self, maker: object, args: object) -> None:
        name = maker.name if isinstance(maker, Name) else ""
        if name in ATTRIBUTE:
            match args:
                case (Name(name=owner), str(attribute)):  # a name within a name: judged as one
                    self._attributes.add(True)
                    self.name(owner, attribute)
                    return
            self._attributes.add(False)
        self.push(Made(name, args if isinstance(args, tuple) else ()))

    def store(self) -> None:
        match self.pop():
            case ("module", Name() as kind, *_):  # old torch: a class, beside it its source text
                self.push(kind)
            case reference:
                self.stored.append(stored := Stored(reference))
                self.push(stored)

    def build(self) -> None:
        state, made = self.pop(), self.top()
        if isinstance(made, Made):
            made.state = state

    def extend(self, values: list[object]) -> None:
        match self.top():
            case list() as items:
                items.extend(values)
            case Made(items=None) as made:
                made.items = values
            case Made(items=list() as items):
                items.extend(values)
            case _:
                raise damage("its pickle adds to what is no list")

    def set_pairs(self, values: list[object]) -> None:
        made = self.top()
        if not isinstance(made, Made) or len(values) % 2:
            raise damage("its pickle sets keys of what is no dictionary")
        if made.pairs is None:
            made.pairs = []
        made.pairs.extend(zip(values[::2], values[1::2], strict=True))

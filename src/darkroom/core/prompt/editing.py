r"""The grammar of prompts that change while the picture is made, as A1111 defines it.

    prompt   (group | edit | cycle | words)*          between these, loose: [ ] ( ) :
    group    "(" prompt ")"   "(" prompt ":" prompt ")"   "[" prompt "]"
    edit     "[" (prompt ":")? prompt ":" number "]"
    cycle    "[" prompt ("|" prompt)+ "]"

The number may have white space around it. A backslash makes the character behind it a word, unless
that ends the line. Loose brackets and colons stand at the top only, so a pair of brackets counts if
it fits a rule and all pairs in it do; the rest is text. A `|` is never loose: where one stands
outside a cycle, or a backslash at an end, nothing in the whole prompt is grammar.

`Reader` keeps the loose form in one flat list at all times. When a pair closes and fits, the tail
of the list becomes one node; when something does not fit, the pairs open around it are forgotten
and the list is right as it stands. So reading is linear, and nothing recurses.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from darkroom.core.prompt.number import finite

_TOKEN = re.compile(r"(?:[^\\\[\]():|]+|\\.)+|[\\\[\]():|]")
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
_OPENS = {")": "(", "]": "["}
_COLONS = {"(": 1, "[": 2}  # that a pair may hold


class Edit(NamedTuple):
    """`[before:after:end]`: what is in force up to and with step `end`, and from then on."""

    before: "Section"
    after: "Section"
    end: int

    def between(self, first: int, last: int) -> "Section | Edit":
        """What stands here from step `first` to `last`, or this if that changes."""
        if last <= self.end:
            return self.before
        return self.after if first > self.end else self


class Cycle(NamedTuple):
    """`[a|b|c]`: another one in every step."""

    options: list["Section"]

    def between(self, first: int, last: int) -> "Section | Cycle":
        """What stands here from step `first` to `last`, or this if that changes."""
        if first != last and len(self.options) > 1:
            return self
        return self.options[(first - 1) % len(self.options)]


Node = str | Edit | Cycle
Section = str | list[Node]


class NotGrammar(ValueError):
    """The prompt as a whole is literal text."""


class Reader:
    """Reads one prompt; `when` turns the number of an edit into its last step."""

    def __init__(self, when: Callable[[str, float], int]) -> None:
        self._when = when
        self._nodes: list[Node] = []
        # The open brackets: which, where in the list, and how many marks came before.
        self._pairs: list[tuple[str, int, int]] = []
        self._marks: list[tuple[str, int]] = []  # the `:` and `|` of all open pairs, and where
        self.ends: set[int] = set()  # of all edits
        self.cycles: set[int] = set()  # the lengths of all cycles, 1 where nothing changes

    def read(self, text: str) -> list[Node]:
        """The nodes of `text`; NotGrammar if it is literal as a whole."""
        add = self._nodes.append
        special = {
            "[": self._open, "(": self._open, "]": self._close, ")": self._close,
            ":": self._colon, "|": self._bar, "\\": self._backslash,
        }  # fmt: skip
        for token in _TOKEN.findall(text):
            special.get(token, add)(token)
        self._forget()
        return self._nodes

    def _open(self, token: str) -> None:
        self._pairs.append((token, len(self._nodes), len(self._marks)))
        self._nodes.append(token)

    def _colon(self, token: str) -> None:
        if self._pairs:
            bracket, _, first = self._pairs[-1]
            if self._divider(first) == "|":
                raise NotGrammar
            if len(self._marks) - first == _COLONS[bracket]:
                self._forget()
            else:
                self._marks.append((token, len(self._nodes)))
        self._nodes.append(token)

    def _bar(self, token: str) -> None:
        bracket, _, first = self._pairs[-1] if self._pairs else ("", 0, 0)
        if bracket != "[" or self._divider(first) == ":":
            raise NotGrammar
        self._marks.append((token, len(self._nodes)))
        self._nodes.append(token)

    def _backslash(self, token: str) -> None:
        raise NotGrammar  # there is nothing to escape

    def _close(self, token: str) -> None:
        bracket, start, first = self._pairs[-1] if self._pairs else ("", 0, 0)
        if bracket != _OPENS[token]:
            self._forget()
            self._nodes.append(token)
        elif bracket == "(" or not self._divider(first):  # a group, which is text
            del self._pairs[-1], self._marks[first:]
            self._nodes.append(token)
        elif (node := self._node(start, first)) is None:
            self._forget()
            self._nodes.append(token)
        else:
            del self._pairs[-1], self._marks[first:], self._nodes[start:]
            self._nodes.append(node)

    def _divider(self, first: int) -> str:
        """What divides the innermost pair, whose marks begin at `first`: `:`, `|` or nothing."""
        return self._marks[first][0] if first < len(self._marks) else ""

    def _node(self, start: int, first: int) -> Node | None:
        """The edit or cycle that begins at `start` and ends here, if it is one."""
        sections = []
        for _, mark in self._marks[first:]:
            sections.append(self._section(start + 1, mark))
            start = mark
        last = self._section(start + 1, len(self._nodes))
        if self._divider(first) == "|":
            options = [*sections, last]
            if isinstance(last, str) and options.count(last) == len(options):
                options = [last]
            self.cycles.add(len(options))
            return Cycle(options)
        if (end := self._end(last)) is None:
            return None
        self.ends.add(end)
        return Edit(sections[-2] if len(sections) > 1 else "", sections[-1], end)

    def _section(self, start: int, stop: int) -> Section:
        if stop - start > 1:
            return self._nodes[start:stop]
        node = self._nodes[start] if stop > start else ""
        return node if isinstance(node, str) else [node]

    def _end(self, section: Section) -> int | None:
        found = _NUMBER.fullmatch(section) if isinstance(section, str) else None
        value = finite(found[1]) if found else None
        return self._when(found[1], value) if found and value is not None else None

    def _forget(self) -> None:
        """Something does not fit: all open pairs are text."""
        if any(mark == "|" for mark, _ in self._marks):
            raise NotGrammar
        self._pairs.clear()
        self._marks.clear()

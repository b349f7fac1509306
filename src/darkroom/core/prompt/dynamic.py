r"""Dynamic prompts: a template and a seed make a prompt, always the same one.

    {red|green|blue}            one of them
    {3::red|green}              red three times as often
    {2$$red|green|blue}         two of them, ", " between
    {1-3$$ and $$a|b|c}         one to three of them, " and " between
    {2$$__colours__}            two lines of a wildcard
    __colours__  __animals/*__  a line of a wildcard file; of several files

They nest. None is taken twice. A bound that is left out, `{-2$$…}` or `{2-$$…}`, is 1 or all.
Braces without `|` or `$$`, a name that no file has, and what follows a backslash stay as they are.

The choice is ours, so that a template and a seed give the same prompt for ever: one number of
`random.Random(seed).random()`, which Python keeps the same across versions, for each choice from
the left to the right, laid against the running sum of the weights.
"""

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import NamedTuple

from darkroom.core.errors import BadRequest
from darkroom.core.prompt.wildcards import Line, Wildcards, running, weighted

MAX_LENGTH = 4_000_000  # characters of a prompt
MAX_WORK = 350_000  # choices and wildcards in one prompt
ALL = 9999  # options of one choice

_LETTERS = r"[^\s_{}|$,()\[\]<>:\\]++"
_TOKEN = re.compile(rf"(?s)\\.|[{{}}|]|__({_LETTERS}(?:_{_LETTERS})*+)__|[^\\{{}}|_]+|.")
_COUNT = re.compile(r"\s*(?:(\d{1,4})|(\d{0,4})-(\d{0,4}))\$\$(?:([^$]*)\$\$)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """A prompt, what it came from, and the wildcards in it that no file has."""

    template: str
    text: str
    unknown: tuple[str, ...]


def expand(template: str, seed: int, wildcards: Wildcards | None = None) -> Expanded:
    """The prompt that `template` makes with `seed`.

    BadRequest if a wildcard contains itself, or if the prompt grows beyond all measure.
    """
    return _Expansion(seed, wildcards or Wildcards()).run(template)


def wildcard_names(template: str) -> tuple[str, ...]:
    """The wildcards that `template` names, each once."""
    return tuple({found[1]: None for found in _TOKEN.finditer(template) if found[1]})


class _Wildcard(NamedTuple):
    name: str


class _Choice(NamedTuple):
    options: list[list["_Node"]]
    weights: list[float]
    least: int
    most: int
    between: str
    sums: list[float]  # of the weights, running


_Node = str | _Wildcard | _Choice | Line


def _read(template: str) -> list[_Node]:
    """The nodes of `template`. A pair of braces becomes a choice when it closes, or stays text."""
    nodes: list[_Node] = []
    braces: list[tuple[int, int]] = []  # where one opens, and how many bars came before
    bars: list[int] = []  # where those of the open braces stand
    for found in _TOKEN.finditer(template):
        mark = found[0]
        if mark == "{":
            braces.append((len(nodes), len(bars)))
        elif mark == "|" and braces:
            bars.append(len(nodes))
        elif mark == "}" and braces:
            start, first = braces.pop()
            if len(bars) > first or _counts(nodes[start + 1 : start + 2]):
                cuts = [start, *bars[first:], len(nodes)]
                choice = _choice([nodes[a + 1 : b] for a, b in pairwise(cuts)])
                del bars[first:], nodes[start:]
                nodes.append(choice)
                continue
        nodes.append(_Wildcard(found[1]) if found[1] else mark)
    return nodes


def _counts(nodes: list[_Node]) -> bool:
    """Whether braces around text that begins with `nodes` say how many to take."""
    return any(isinstance(node, str) and _COUNT.match(node) for node in nodes)


def _choice(sections: list[list[_Node]]) -> _Choice:
    least, most, between = 1, 1, ""
    head, rest = _led(sections[0])
    if count := _COUNT.match(head):
        exact, low, high, given = count.groups()
        least, most = sorted((int(exact or low or 1), int(exact or high or ALL)))
        between = ", " if given is None else given
        sections[0] = [head[count.end() :], *rest]
    options: list[list[_Node]] = []
    weights = []
    for section in sections:
        head, rest = _led(section)
        text, weight = weighted(head)
        options.append([text, *rest] if text else rest)
        weights.append(weight)
    return _Choice(options, weights, least, most, between, running(weights))


def _led(nodes: list[_Node]) -> tuple[str, list[_Node]]:
    """The text before the first other node, and the rest."""
    words: list[str] = []
    for node in nodes:
        if not isinstance(node, str):
            break
        words.append(node)
    return "".join(words), nodes[len(words) :]


class _Expansion:
    """One walk through a template; the nodes of what was chosen last are walked first."""

    def __init__(self, seed: int, wildcards: Wildcards) -> None:
        self._random = Random(seed).random  # noqa: S311 - not a secret
        self._wildcards = wildcards
        self._unknown: dict[str, None] = {}
        self._files: dict[str, None] = {}  # whose lines are being expanded, the outermost first
        self._work = MAX_WORK

    def run(self, template: str) -> Expanded:
        """Expand `template`."""
        words: list[str] = []
        room = MAX_LENGTH
        open_: list[tuple[Iterator[_Node], str]] = [(iter(_read(template)), "")]
        while open_:
            nodes, file = open_[-1]
            for node in nodes:
                if not isinstance(node, str):
                    open_.append(self._opened(node))
                    break
                words.append(node)
                if (room := room - len(node)) < 0:
                    raise _too_much()
            else:
                open_.pop()
                self._files.pop(file, None)
        return Expanded(template=template, text="".join(words), unknown=tuple(self._unknown))

    def _opened(self, node: _Wildcard | _Choice | Line) -> tuple[Iterator[_Node], str]:
        """What `node` stands for, and the file whose line it is."""
        match node:
            case _Wildcard(name):
                return iter([self._line(name)]), ""
            case _Choice(options, least=1, most=1):
                self._spend(1)
                return iter(options[self._place(node.sums)]), ""
            case _Choice():
                return self._several(node), ""
            case Line(file, text):
                if file in self._files:
                    path = " in ".join(f"__{name}__" for name in (file, *reversed(self._files)))
                    raise BadRequest(
                        f"a wildcard contains itself: {path}",
                        hint=f"Take __{file}__ out of one of these files.",
                    )
                self._files[file] = None
                self._spend(len(text))
                return iter(_read(text)), file

    def _line(self, name: str) -> _Node:
        self._spend(1)
        if (found := self._wildcards.find(name)) is None:
            self._unknown[name] = None
            return f"__{name}__"
        return found.lines[self._place(found.sums)]

    def _several(self, choice: _Choice) -> Iterator[_Node]:
        """The options taken, each when it is asked for, so that all choices are in their order."""
        options, weights = self._pool(choice)
        most = min(choice.most, len(options))
        least = min(choice.least, most)
        count = least if least == most else least + int(self._random() * (most - least + 1))
        self._spend(len(options) * count)
        for taken in range(count):
            if taken:
                yield choice.between
            place = self._place(running(weights))
            del weights[place]
            yield from options.pop(place)

    def _pool(self, choice: _Choice) -> tuple[list[list[_Node]], list[float]]:
        """What to choose from: the options, or the lines of the wildcard that is the only one."""
        match choice.options:
            case [[_Wildcard(name)]] if found := self._wildcards.find(name):
                return [[line] for line in found.lines], [line.weight for line in found.lines]
        return list(choice.options), list(choice.weights)

    def _place(self, sums: Sequence[float]) -> int:
        """A random place, by the running sum of the weights."""
        return bisect(sums, self._random() * sums[-1], hi=len(sums) - 1)

    def _spend(self, work: int) -> None:
        self._work -= 1 + work // 100  # what is counted in hundreds is quick
        if self._work < 0:
            raise _too_much()


def _too_much() -> BadRequest:
    return BadRequest(
        "the wildcards and choices of this prompt never come to an end",
        hint="Look for wildcards that hold several others, which hold several others in turn.",
    )

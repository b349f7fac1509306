"""The prompt that a ComfyUI graph puts together: through conditions, joints and nodes of text.

A text that many nodes double may grow without end, and paths may meet over and over: visits and
characters are counted.
"""

import re

from darkroom.media.metadata.comfyui_graph import Graph, Link, Node
from darkroom.media.metadata.comfyui_table import DELIMITERS, JOINTS, NOT_TEXT, TEXTS

_MAX_VISITS = 2000  # of nodes, for one prompt
_MAX_TEXT = 1_000_000  # characters of one prompt
_MAX_DEPTH = 100  # nodes between a sampler and a text
_PIECE = re.compile(r"(?:text|string)_?(?:[a-z]|\d{1,2})")
_JOINING = ("concat", "join", "combine")


class Prompt:
    """One prompt of a graph; `side` is positive or negative, where a node has both."""

    def __init__(self, graph: Graph, side: str) -> None:
        self._graph = graph
        self._side = side
        self._visits = _MAX_VISITS
        self._room = _MAX_TEXT

    def text(self, value: object, path: tuple[str, ...] = ()) -> str:
        """The text that `value` is, or that the node at its other end makes."""
        if isinstance(value, str):
            text = value[: self._room]
            self._room -= len(text)
            return text
        node = self._enter(value, path)
        if node is None or not isinstance(value, Link):
            return ""
        path = (*path, value.node)
        if joint := _joint(node):
            names, between = joint
            return between.join(filter(None, (self.text(node.inputs[n], path) for n in names)))
        names = [self._side, f"text_{self._side}", *TEXTS, *_conditions(node)]
        texts = (self.text(node.inputs[name], path) for name in names if name in node.inputs)
        return next(filter(None, texts), "")

    def _enter(self, value: object, path: tuple[str, ...]) -> Node | None:
        self._visits -= 1
        if not isinstance(value, Link) or value.node in path or len(path) >= _MAX_DEPTH:
            return None
        node = self._graph.get(value.node)
        return None if node is None or "ZeroOut" in node.kind or self._visits < 0 else node


def _joint(node: Node) -> tuple[list[str], str] | None:
    """The inputs that a node joins, and what it puts between them; None when it joins none."""
    if node.kind in JOINTS:
        return _conditions(node), JOINTS[node.kind]
    pieces = sorted(name for name in node.inputs if _PIECE.fullmatch(name))
    if not pieces or not any(word in node.kind.lower() for word in _JOINING):
        return None
    given = (node.inputs[name] for name in DELIMITERS if name in node.inputs)
    between = next((each for each in given if isinstance(each, str)), "")
    return pieces, between[:100].replace("\\n", "\n")


def _conditions(node: Node) -> list[str]:
    """The inputs that may lead to a prompt."""
    return [
        name
        for name, value in node.inputs.items()
        if isinstance(value, Link) and name not in NOT_TEXT
    ]

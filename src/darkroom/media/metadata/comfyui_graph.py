"""ComfyUI's two forms of a graph as one: nodes by name, each with named inputs.

`prompt` is what was run:

    {"3": {"class_type": "KSampler", "inputs": {"seed": 5, "model": ["4", 0]}}}

`workflow` is what the user drew: a list of nodes with values whose names are not written, and a
list of links. A graph is a stranger's: it may be huge, have cycles, and point nowhere.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.media.metadata.carried import Document
from darkroom.media.metadata.comfyui_table import CONTROL, WIDGETS
from darkroom.media.metadata.found import dicts

MAX_NODES = 10_000
_MAX_INPUTS = 1000  # of one node
_NEVER, _BYPASSED = 2, 4  # modes of a node


@dataclass(frozen=True, slots=True)
class Link:
    """An input that comes from a node."""

    node: str


@dataclass(frozen=True, slots=True)
class Node:
    """What a node does, and its inputs: plain values or links."""

    kind: str
    inputs: Mapping[str, Any]

    def links(self) -> Iterator[str]:
        """The nodes that this one takes something from."""
        return (value.node for value in self.inputs.values() if isinstance(value, Link))


Graph = Mapping[str, Node]


def graph_of(document: Document) -> Graph | None:
    """The graph that `document` is, in either form; None when it is none, or has no end."""
    nodes = document.get("nodes")
    if isinstance(nodes, list) and isinstance(document.get("links"), list):
        return _drawn(document) if len(nodes) <= MAX_NODES else None
    if len(document) > MAX_NODES:
        return None
    graph = {
        name: Node(node["class_type"], _inputs(node.get("inputs")))
        for name, node in document.items()
        if isinstance(node, dict) and isinstance(node.get("class_type"), str)
    }
    return graph or None


def _inputs(given: object) -> dict[str, Any]:
    if not isinstance(given, dict) or len(given) > _MAX_INPUTS:
        return {}
    return {name: _linked(value) for name, value in given.items()}


def _linked(value: object) -> object:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
        return Link(str(value[0]))
    return value


def _drawn(document: Document) -> Graph:
    """The graph of a workflow; muted nodes are left out, bypassed ones only pass on."""
    origins = dict(_origins(document["links"]))
    graph = {}
    for node in dicts(document["nodes"]):
        mode, kind = node.get("mode"), node.get("type")
        if mode == _NEVER or not isinstance(kind, str):
            continue
        inputs = {} if mode == _BYPASSED else dict(_values(kind, node))
        for each in dicts(node.get("inputs"))[:_MAX_INPUTS]:
            origin = origins.get(str(each.get("link")))
            if origin is not None:
                inputs[str(each.get("name"))] = Link(origin)
        graph[str(node.get("id"))] = Node("Reroute" if mode == _BYPASSED else kind, inputs)
    return graph


def _origins(links: Iterable[object]) -> Iterator[tuple[str, str]]:
    """Number of a link to the node it starts at."""
    for link in links:
        if isinstance(link, list) and len(link) > 2:
            yield str(link[0]), str(link[1])
        elif isinstance(link, dict):
            yield str(link.get("id")), str(link.get("origin_id"))


def _values(kind: str, node: Document) -> Iterator[tuple[str, object]]:
    """The values of a drawn node with their names, from the table or from the node itself."""
    values = node.get("widgets_values")
    if isinstance(values, dict):
        yield from values.items()
    if not isinstance(values, list):
        return
    names = list(WIDGETS.get(kind, ())) or _own_names(node) or ["text"]
    yield from zip(names, values[:_MAX_INPUTS], strict=False)


def _own_names(node: Document) -> list[str]:
    """Newer frontends note which inputs have a value; behind a seed stands what becomes of it."""
    names: list[str] = []
    for each in dicts(node.get("inputs"))[:_MAX_INPUTS]:
        if isinstance(each.get("widget"), dict):
            name = str(each.get("name"))
            names += [name, CONTROL] if name in ("seed", "noise_seed") else [name]
    return names

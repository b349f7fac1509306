"""From the value in a pickle to named tensors and a few words about them.

    contents_of(root, spans, most=n) -> Contents(tensors, metadata)

Training programs wrap a model in layers: a `state_dict` (in a `state_dict`), a dictionary with one
entry. These are taken off. What is inside is flattened with dots, lists by position; a module or a
ParameterDict is its parameters. Numbers and texts become metadata, those beside the `state_dict`
too; what is left of training is passed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from darkroom.weights.pickled.fault import damage
from darkroom.weights.pickled.machine import Made
from darkroom.weights.pickled.tensors import Span, tensor_of
from darkroom.weights.table import TensorInfo

MOST_TENSORS = 100_000
MOST_WORDS = 10_000  # entries of metadata; more are left out
DEEPEST = 32  # levels; what is deeper is left out
LONGEST_NAME = 300  # characters
LONGEST_TEXT = 1_000_000  # characters; a longer one is left out

TRAINING = frozenset({
    "optimizer_states", "lr_schedulers", "callbacks", "loops", "optimizer", "optimizer_state_dict",
    "optimizer_saved_dict", "native_amp_scaling_state", "MixedPrecisionPlugin",
})  # fmt: skip

MODULE = ("_parameters", "_buffers", "_modules")  # what a module keeps in its state

Pairs = list[tuple[object, object]]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds."""

    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def contents_of(root: object, spans: Mapping[str, Span], *, most: int) -> Contents:
    """The tensors and the metadata of the model in `root`; a bare tensor is named 0.

    `most` bounds how many values are walked over: what a pickle refers to often, or in itself, can
    be far more than what is in the file.
    """
    contents = Contents()
    body, around = _unwrap(root)
    for name, value in _leaves(around, most):
        _note(contents.metadata, name, value)
    for name, value in _leaves(_children(body) or [(0, body)], most):
        if isinstance(value, Made):
            if (info := tensor_of(value, spans)) is not None:
                contents.tensors[name] = info
        else:
            _note(contents.metadata, name, value)
        if len(contents.tensors) > MOST_TENSORS:
            raise damage("it lists more tensors than any model")
    return contents


def _unwrap(root: object) -> tuple[object, Pairs]:
    """The model itself, and the pairs of all the dictionaries around it."""
    around: Pairs = []
    for _ in range(DEEPEST):
        if not isinstance(root, Made) or not root.pairs:
            break
        inner = next((value for key, value in reversed(root.pairs) if key == "state_dict"), None)
        if inner is None and len(root.pairs) == 1:
            inner = root.pairs[0][1]
        if not isinstance(inner, Made) or not (inner.pairs or _parts(inner)):
            break
        around += [(key, value) for key, value in root.pairs if value is not inner]
        root = inner
    return root, around


def _leaves(pairs: Pairs, most: int) -> Iterator[tuple[str, object]]:
    """Every value in `pairs` that holds no other, with its dotted name, in order."""
    todo = [(_joined("", key), value, 1) for key, value in reversed(pairs)]
    count = 0
    while todo:
        name, value, level = todo.pop()
        if name is None or level > DEEPEST or (level == 1 and name in TRAINING):
            continue
        inside = _children(value)
        if not inside:
            yield name, value
        count += len(inside)
        if count > most:
            raise damage("it repeats itself without end")
        todo.extend((_joined(name, key), child, level + 1) for key, child in reversed(inside))


def _children(value: object) -> Pairs:
    """What a value holds: by position in a list, by name in a dictionary or a module."""
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, Made):
        return [*(value.pairs or ()), *enumerate(value.items or ()), *_parts(value)]
    return []


def _parts(made: Made) -> Pairs:
    """The parameters, buffers and modules of a module."""
    if not isinstance(made.state, Made):
        return []
    return [
        pair
        for key, table in made.state.pairs or ()
        if isinstance(key, str) and key in MODULE and isinstance(table, Made)
        for pair in table.pairs or ()
    ]


def _joined(name: str, key: object) -> str | None:
    """The name of what lies under `key`; None where a key names nothing (a class, say)."""
    if type(key) is int:
        key = str(key)
    if not isinstance(key, str) or len(name) + len(key) > LONGEST_NAME:
        return None
    return f"{name}.{key}" if name else key


def _note(metadata: dict[str, str], name: str, value: object) -> None:
    text = str(value) if isinstance(value, str | int | float) else None
    if text is not None and len(text) <= LONGEST_TEXT and len(metadata) < MOST_WORDS:
        metadata[name] = text

"""The fields of a request as rows of the infotext's table call them: "steps", "hires.scale"."""

from collections.abc import Mapping
from types import MappingProxyType, UnionType
from typing import Any, get_args

from pydantic import BaseModel

from darkroom.core.request import ImageRequest

Flat = dict[str, Any]


def _block(annotation: Any) -> type[BaseModel] | None:
    """The block that a field may hold; None of a plain field, and of a list of blocks."""
    parts = get_args(annotation) if isinstance(annotation, UnionType) else ()
    return next((p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)), None)


def _usual() -> dict[str, Any]:
    found: Flat = {}
    for name, field in ImageRequest.model_fields.items():
        block = _block(field.annotation)
        if block is None:
            found[name] = field.default
        else:
            found |= {f"{name}.{key}": inner.default for key, inner in block.model_fields.items()}
    return found


# Every field that is no block, with the value that it has by default.
USUAL: Mapping[str, Any] = MappingProxyType(_usual())


def is_list(name: str) -> bool:
    """Whether a field holds a list, which no row is about."""
    return isinstance(USUAL.get(name), tuple)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """As `ImageRequest.parse` takes it: {"hires.scale": 2} is {"hires": {"scale": 2}}."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        block, dot, key = name.partition(".")
        if dot:
            found.setdefault(block, {})[key] = value
        else:
            found[name] = value
    return found

"""From a batch and one of its items to the request that is run for it.

`media.listing` finds the items. Each has a name, which its results get; a picture, or the fields of
a line, or both. What an item says goes before what the request says; its prompt goes beside the
request's, where `prompt_place` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from pydantic import BaseModel

from darkroom.core.axes import canonical, field_names, place
from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.fields import EACH, MAX_SEED
from darkroom.core.places import PICTURES, sources
from darkroom.core.processing import CaptionRequest, CutoutRequest, UpscaleRequest
from darkroom.core.request import ImageRequest
from darkroom.core.series import BatchRequest

Single = ImageRequest | UpscaleRequest | CutoutRequest | CaptionRequest
DRAWN = 2**32  # seeds that nobody gave are below this, as other programs' are
PROMPTS = ("prompt", "negative_prompt")
OWN_COLUMNS: Mapping[str, str] = {
    "image": "image", "file": "image", "file_name": "image", "filename": "image",
    "picture": "image", "path": "image", "mask": "mask", "name": "name", "negative":
    "negative_prompt", "text": "prompt", "caption": "prompt",
}  # fmt: skip
"""What columns of tables may be called besides the fields of the request."""


@dataclass(frozen=True, slots=True)
class Located:
    """A file, or a member of an archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.member else str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to do."""

    name: str  # of its results: without an ending, "/" between folders; no two are alike
    key: str = ""  # what it is known by from run to run, also when another takes its name
    told: str  # what messages call it
    picture: Located | None = None
    mask: Located | None = None
    text: Located | None = None  # a file with its prompt
    fields: Mapping[str, Any] = field(default_factory=dict)  # of the request, dotted
    number: int = 0  # its place in the list
    notes: tuple[str, ...] = ()
    problem: str = ""  # why it cannot be done


def column(name: str, base: BaseModel) -> str:
    """The field that a column of a table is for; UnknownName where there is none."""
    folded = name.strip().casefold().replace(" ", "_").replace("-", "_")
    if own := OWN_COLUMNS.get(folded):
        return own
    if isinstance(base, ImageRequest):
        if folded in PROMPTS or folded == "styles":
            return folded
        known = {*field_names(), *OWN_COLUMNS}
        try:
            found = canonical(name, base)
        except UnknownName:
            found = ""
        if found in known:
            return found
        raise UnknownName("column", name, known)
    known = {*type(base).model_fields, *OWN_COLUMNS} - {"kind"}
    if folded in known:
        return folded
    raise UnknownName("column", name, known)


def request_of(
    batch: BatchRequest,
    item: Item,
    paths: Mapping[str, Path],
    *,
    said: Mapping[str, Any],
    drawn: int,
) -> Single:
    """The request for `item`, whose "image" and "mask" are the files in `paths`.

    `said` is what its name, text or metadata say, by fields; `drawn` is the seed of the batch,
    where the user gave none. BadRequest where something is missing or does not go together.
    """
    base = batch.base
    data = base.model_dump(exclude_unset=True) | {"kind": base.kind}
    wording = {name: [item.fields.get(name), said.get(name)] for name in PROMPTS}
    for fields in (said, item.fields):
        for name, value in fields.items():
            if name not in PROMPTS:
                place(tuple(name.split(".")), value, data)
    for name, texts in wording.items():
        for text in reversed(texts):
            if text:
                data[name] = joined(data.get(name, ""), str(text), batch.prompt_place)
    if "image" in paths:
        _put_image(data, base, str(paths["image"]))
    elif EACH in sources(base):
        raise BadRequest(f"{item.told} has no picture, and the request begins with one")
    if "mask" in paths:
        place(("mask", "image"), str(paths["mask"]), data)
    return seeded(type(base).parse(data), drawn, _offset(batch, item, said))


def joined(own: str, text: str, where: str) -> str:
    """The prompt of an item beside that of the request."""
    own = own.strip()
    if not own or where == "replace":
        return text
    return f"{text}, {own}" if where == "before" else f"{own}, {text}"


def begins_with_each(batch: BatchRequest) -> bool:
    """Whether a picture of each item is a part of its request."""
    return EACH in sources(batch.base)


def _put_image(data: dict[str, Any], base: Single, image: str) -> None:
    """The picture of the item wherever the request says `each`; else it is what it begins with."""
    paths = [path for path in PICTURES[base.kind] if "*" not in path]
    each = [path for path in paths if _at(data, path) == EACH]
    for path in each or [paths[0]]:
        place(path, image, data)


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data


def seeded(request: Single, drawn: int, offset: int = 0) -> Single:
    """The request with no seed left open: `drawn` where there is none, and `offset` more.

    A series draws one and keeps it, so that what is made after a crash is what would have been.
    """
    if isinstance(request, UpscaleRequest) and request.paint is not None:
        paint = request.paint
        seed = paint.model_copy(update={"seed": _sum(paint.seed, drawn, offset)})
        return request.model_copy(update={"paint": seed})
    if not isinstance(request, ImageRequest):
        return request
    own: dict[str, int] = {"seed": _sum(request.seed, drawn, offset)}
    if request.variation_strength:
        own["variation_seed"] = _sum(request.variation_seed, drawn, 0)
    return request.model_copy(update=own)


def _sum(seed: int | None, drawn: int, offset: int) -> int:
    if seed is None:
        return (drawn + offset) % DRAWN
    return (seed + offset) % (MAX_SEED + 1)


def _offset(batch: BatchRequest, item: Item, said: Mapping[str, Any]) -> int:
    """What an item adds to the seed; by its name, so that a new file changes none of the others."""
    if "seed" in item.fields or "seed" in said:
        return 0
    if batch.seeds == "count":
        return item.number
    own = getattr(batch.base, "seed", None)
    return crc32(item.name.encode()) if batch.seeds == "each" and own is None else 0

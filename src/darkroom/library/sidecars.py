"""What lies beside a model file and speaks of it: pictures, and notes that other programs wrote.

    name.civitai.info    Civitai's record of the version, as download helpers keep it
    name.cm-info.json    the same facts, as Stability Matrix keeps them
    name.metadata.json   the same, as the LoRA manager of ComfyUI keeps them
    name.json            what a user told A1111: activation and negative text, weight, notes
    name.txt             a description
    name.yaml            how a checkpoint was trained (read where the checkpoint is)
    name.vae.safetensors the VAE that a checkpoint takes (.vae.pt too); only that it is there

All of it comes from strangers: it is read up to a bound, what does not fit is left out, and a file
that cannot be read is a problem in words, never a failure.
"""

import html
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from darkroom.core.errors import shorten
from darkroom.library.survey import VAE_ENDS
from darkroom.library.walk import open_file

MOST_BYTES = 4 << 20  # of one file
MOST_TEXT, MOST_WORD, MOST_WORDS = 20_000, 1_000, 100  # characters, characters, words
PICTURES = tuple(
    f"{preview}.{kind}"
    for preview in ("", ".preview")
    for kind in ("png", "jpg", "jpeg", "webp", "avif", "jxl", "gif")
)

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """What the files beside a model say of it; empty where they say nothing."""

    title: str = ""
    description: str = ""
    base_model: str = ""
    author: str = ""
    notes: str = ""
    negative: str = ""
    weight: float = 0
    triggers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    claimed: tuple[str, ...] = ()
    preview: str = ""
    sidecars: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def over(self, other: "Sidecar") -> "Sidecar":
        """Both: of a text the first that says something, of words all, each once."""
        both: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            joined = isinstance(mine, tuple)
            both[name] = tuple(dict.fromkeys((*mine, *theirs))) if joined else mine or theirs
        return Sidecar(**both)


def names_beside(stem: str, names: Collection[str]) -> tuple[str, ...]:
    """Of the `names` in a folder those that speak of the model file `stem`."""
    if not names:
        return ()
    return tuple(name for end in _ENDS if (name := stem + end) in names)


def read_sidecars(folder: Path, stem: str, names: Iterable[str]) -> Sidecar:
    """All that the files `names` in `folder` say about the model `stem`."""
    found = Sidecar()
    for name in names:
        end = name.removeprefix(stem)
        if end in PICTURES:
            found = found.over(Sidecar(preview=str(folder / name)))
        elif end in _READERS:
            found = found.over(_read(folder / name, _READERS[end]))
    return found


def _read(path: Path, reader: "Reader") -> Sidecar:
    try:
        with open_file(path) as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            return Sidecar(problems=(f"{path.name} beside it is too large to be read",))
        said = reader(raw.decode("utf-8-sig", errors="replace"))
    except OSError as error:
        return Sidecar(problems=(f"{path.name} beside it cannot be read: {error.strerror}",))
    except (ValueError, RecursionError):
        return Sidecar(problems=(f"{path.name} beside it is not the JSON it should be",))
    return said.over(Sidecar(sidecars=(path.name,)))


def _json(read: Callable[[Json], Sidecar]) -> "Reader":
    def reader(text: str) -> Sidecar:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("no object")
        return read(found)

    return reader


def _civitai(found: Json) -> Sidecar:
    model = _part(found, "model")
    files = [each for each in _list(found.get("files")) if isinstance(each, dict)]
    hashes = [_part(each, "hashes") for each in files] if len(files) == 1 else []
    return Sidecar(
        title=" – ".join(filter(None, (_line(model.get("name")), _line(found.get("name"))))),
        description=_prose(found.get("description")) or _prose(model.get("description")),
        base_model=_line(found.get("baseModel")),
        author=_line(_part(found, "creator").get("username")),
        triggers=_words(found.get("trainedWords")),
        tags=_words(model.get("tags")),
        claimed=tuple(h for each in hashes for h in _hashes(each)),
    )


def _lora_manager(found: Json) -> Sidecar:
    site = _civitai(_part(found, "civitai"))
    mine = Sidecar(
        title=_line(found.get("model_name")),
        description=_prose(found.get("modelDescription")),
        base_model=_line(found.get("base_model")),
        notes=_prose(found.get("notes")),
        tags=_words(found.get("tags")),
        claimed=_hashes({"sha256": found.get("sha256")}),
    )
    return mine.over(site)


def _stability_matrix(found: Json) -> Sidecar:
    return Sidecar(
        title=_line(found.get("ModelName")),
        description=_prose(found.get("ModelDescription")),
        base_model=_line(found.get("BaseModel")),
        triggers=_words(found.get("TrainedWords")),
        tags=_words(found.get("Tags")),
        claimed=_hashes(_part(found, "Hashes")),
    )


def _a1111(found: Json) -> Sidecar:
    version = _line(found.get("sd version"))
    return Sidecar(
        description=_prose(found.get("description")),
        base_model="" if version == "Unknown" else version,
        notes=_prose(found.get("notes")),
        negative=_line(found.get("negative text")),
        weight=_number(found.get("preferred weight")),
        triggers=_words([found.get("activation text")]),
    )


def _text(text: str) -> Sidecar:
    return Sidecar(description=_prose(text))


Reader = Callable[[str], Sidecar]
# What the user wrote goes before what was fetched.
_READERS: dict[str, Reader] = {
    ".json": _json(_a1111),
    ".civitai.info": _json(_civitai),
    ".cm-info.json": _json(_stability_matrix),
    ".metadata.json": _json(_lora_manager),
    ".txt": _text,
    ".description.txt": _text,
}


_ENDS = (*_READERS, ".yaml", *VAE_ENDS, *PICTURES)


def _part(found: Json, name: str) -> Json:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _line(value: object) -> str:
    return shorten(" ".join(value.split()), MOST_WORD) if isinstance(value, str) else ""


def _prose(value: object) -> str:
    """Text without the tags of a web page."""
    if not isinstance(value, str):
        return ""
    plain = html.unescape(re.sub(r"<[^<>]{0,2000}>", " ", value[: 4 * MOST_TEXT]))
    lines = (" ".join(line.split()) for line in plain.splitlines())
    return shorten("\n".join(filter(None, lines)), MOST_TEXT)


def _words(value: object) -> tuple[str, ...]:
    words = (_line(word).strip(" ,") for word in _list(value)[:MOST_WORDS])
    return tuple(dict.fromkeys(filter(None, words)))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return float(value) if abs(value) < 1e6 and math.isfinite(value) else 0


def _hashes(found: Json) -> tuple[str, ...]:
    """Those of the given hashes that we can compute, in small letters."""
    lengths = {"sha256": 64, "autov3": 12}  # others differ in more than one way between programs
    told = {str(name).casefold(): value for name, value in found.items()}
    return tuple(
        value.casefold()[:length]
        for name, length in lengths.items()
        if isinstance(value := told.get(name), str)
        and re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", value[:length])
    )

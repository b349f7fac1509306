"""Taggers of the WD14 family: thousands of tags, each with how sure it is.

A folder has `selected_tags.csv` and a network, as `model.onnx` or as timm's vision transformer
(`config.json` and `model.safetensors`). All were trained alike: the picture on a white square, BGR,
and logits that are turned into probabilities one by one. ONNX networks take values from 0 to 255,
(B, S, S, 3), and answer with probabilities.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from darkroom.core.errors import BadFile
from darkroom.engine.caption.answer import Caption, Check, Tags, best, keep_going
from darkroom.engine.caption.files import AGAIN, fill, read_table, read_text
from darkroom.engine.caption.vit import Dims, Vit
from darkroom.engine.detect.runtime import Session

TAGS, ONNX = "selected_tags.csv", "model.onnx"
HEADS: Mapping[str, str] = MappingProxyType({"0": "general", "4": "character", "9": "rating"})
SAID = ("general", "character")  # what becomes the text; the rating is told beside it
FACES = frozenset((
    "0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9",
    ">_o", "@_@", "^_^", "o_o", "u_u", "x_x", "|_|", "||_||",
))  # fmt: skip
"""Tags in which an underscore is no space."""

Floats = NDArray[np.float32]
Network = Callable[[Floats], Floats]  # (S, S, 3) RGB from 0 to 255 -> probabilities (tags,)


@dataclass(frozen=True, slots=True)
class Tag:
    """One row of the list."""

    name: str
    head: str


class Tagger:
    """Names what is in a picture, tag by tag."""

    tags = True

    def __init__(self, network: Network, tags: Sequence[Tag], side: int) -> None:
        self._network = network
        self._tags = tags
        self._side = side

    @classmethod
    def read(cls, folder: Path, device: torch.device | str = "cpu") -> Self:
        """The tagger in a folder; BadFile when it is incomplete or another network."""
        tags = read_tags(folder / TAGS)
        where = torch.device(device)
        if (folder / "config.json").is_file():
            network, side = _vit(folder, len(tags), where)
        else:
            network, side = _onnx(folder / ONNX)
        return cls(network, tags, side)

    def describe(
        self,
        picture: Image.Image,
        *,
        threshold: float = 0.35,
        most: int = 50,
        check: Check = keep_going,
    ) -> Caption:
        """The tags of `picture` that are at least `threshold` sure."""
        check()
        scores = self._network(on_white(picture, self._side))
        if len(scores) != len(self._tags):
            what = f"the network has {len(scores)} tags, {TAGS} lists {len(self._tags)}"
            raise BadFile(what, hint=AGAIN)
        heads = _by_head(self._tags, scores)
        said = [item for head in SAID for item in heads.get(head, ())]
        found = best(said, threshold=threshold, most=most)
        return Caption(text=", ".join(name for name, _ in found), tags=found, heads=heads)


def _by_head(tags: Sequence[Tag], scores: Floats) -> dict[str, Tags]:
    rows: dict[str, list[tuple[str, float]]] = {}
    for tag, score in zip(tags, scores.tolist(), strict=True):
        rows.setdefault(tag.head, []).append((tag.name, score))
    return {head: best(found, most=len(found)) for head, found in rows.items()}


def read_tags(path: Path) -> list[Tag]:
    """The tags that the network's outputs stand for, in their order."""
    rows = csv.DictReader(io.StringIO(read_text(path)))
    if not {"name", "category"} <= set(rows.fieldnames or ()):
        raise BadFile(f"{path} is no list of tags", hint=AGAIN)
    try:
        return [Tag(_plain(row["name"]), HEADS.get(row["category"], "other")) for row in rows]
    except (csv.Error, TypeError, AttributeError):
        raise BadFile(f"{path} is damaged", hint=AGAIN) from None


def _plain(name: str) -> str:
    """A tag as prompts have it: spaces, but for faces such as ^_^."""
    return name if name in FACES else name.replace("_", " ")


def on_white(picture: Image.Image, side: int) -> Floats:
    """The whole picture in the middle of a white square, (S, S, 3) RGB from 0 to 255."""
    if picture.has_transparency_data:
        behind = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(behind, picture.convert("RGBA"))
    longer = max(picture.size)
    square = Image.new("RGB", (longer, longer), "white")
    left, top = (longer - picture.width) // 2, (longer - picture.height) // 2
    square.paste(picture.convert("RGB"), (left, top))
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC), np.float32)


def _vit(folder: Path, classes: int, device: torch.device) -> tuple[Network, int]:
    config = read_table(folder / "config.json")
    dims = Dims.of(config)
    if dims.classes != classes:
        what = f"{folder} has a network of {dims.classes} tags and a list of {classes}"
        raise BadFile(what, hint=AGAIN)
    with torch.device("meta"):
        vit = Vit(dims)
    fill(vit, folder, device)

    @torch.inference_mode()
    def run(pixels: Floats) -> Floats:
        bgr = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)[None].to(device)
        scores: Floats = vit(bgr / 127.5 - 1)[0].sigmoid().cpu().numpy()
        return scores

    return run, dims.side


def _onnx(path: Path) -> tuple[Network, int]:
    session = Session(path, extra="taggers")
    channels, side = session.size(default=0)  # which a (B, S, S, 3) has in these places
    if channels != 3 or not side:
        raise BadFile(f"{path} is no tagger: it does not take (B, S, S, 3)", hint=AGAIN)

    def run(pixels: Floats) -> Floats:
        scores: Floats = session.run(pixels[None, ..., ::-1])[0][0]
        return scores

    return run, side

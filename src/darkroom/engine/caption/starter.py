"""The starter's own captioner: what it draws, in the words that it is prompted with.

    Starter.shipped().describe(picture).text   "a red apple on a blue background, flat illustration"

A small convolutional network looks at the picture once and decides four things: the object, its
colour, the background and the style. It knows the starter's objects and no others; of a photograph
it says so. `starter/captioner.py` trains it, and what the classes are called stands in the file.

B batch, S = 128 px.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from darkroom.core.errors import BadFile
from darkroom.engine.caption.answer import Caption, Check, Tags, best, keep_going

SIDE = 128  # px at which pictures are seen
WIDTHS = (24, 48, 96, 160, 224)  # channels
SURE = 0.5  # below this the object is not believed
UNNAMED = ""  # the colour of a thing that has none, or several
HEADS = ("object", "colour", "background", "style")


class Sight(nn.Module):
    """(B, 3, S, S) in [-1, 1] to logits of each head, (B, classes)."""

    def __init__(self, classes: Mapping[str, int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 6, 2, 2)
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise(WIDTHS)))
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * WIDTHS[-1], count) for name, count in classes.items()}
        )

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits by head; pictures of another size are averaged down first."""
        if pictures.shape[-1] != SIDE:
            pictures = functional.adaptive_avg_pool2d(pictures, SIDE)
        return self.at_their_size(pictures)

    def at_their_size(self, pictures: Tensor) -> dict[str, Tensor]:
        """The same of pictures (B, 3, H, W) as they are; small ones are learnt from faster."""
        states = self.features(pictures)
        return {name: head(states) for name, head in self.heads.items()}

    def features(self, pictures: Tensor) -> Tensor:
        """What all heads decide by, (B, F)."""
        return self.pooled(self.places(pictures))

    def places(self, pictures: Tensor) -> Tensor:
        """What is seen at each place, (B, C, h, w) at 1/32."""
        seen: Tensor = self.blocks(functional.relu(self.stem(pictures)))
        return seen

    def pooled(self, places: Tensor) -> Tensor:
        """All places together, (B, 2 C)."""
        return torch.cat([places.mean((2, 3)), places.amax((2, 3))], 1)


class _Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, halving the size."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        self.shortcut = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norms[0](self.first(x)))
        inner = self.norms[1](self.second(inner))
        return functional.relu(inner + self.shortcut(functional.avg_pool2d(x, 2)))


@dataclass(frozen=True, slots=True)
class Words:
    """What the classes of each head are called; plurals take no article.

    `places` says how an object stands in front of a background that is no colour: "in a forest".
    """

    classes: Mapping[str, Sequence[str]]
    plurals: frozenset[str]
    places: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Self:
        """Read what `metadata` of a file says; KeyError or ValueError if it says nothing."""
        classes = json.loads(metadata["classes"])
        plurals = frozenset(json.loads(metadata["plurals"]))
        places = json.loads(metadata.get("places", "{}"))
        return cls({name: classes[name] for name in HEADS}, plurals, places)

    def metadata(self) -> dict[str, str]:
        """As it stands in a file."""
        classes = {name: list(names) for name, names in self.classes.items()}
        told = {"classes": classes, "plurals": sorted(self.plurals), "places": dict(self.places)}
        return {name: json.dumps(value) for name, value in told.items()}

    def sentence(self, thing: str, colour: str, *, background: str, style: str) -> str:
        """Say it as the starter's prompts do."""
        phrase = f"{colour} {thing}".strip()
        subject = phrase if thing in self.plurals else f"{article(phrase)} {phrase}"
        usual = f"on {article(background)} {background} background"
        return f"{subject} {self.places.get(background, usual)}, {style}"


class Starter:
    """The captioner that comes with the program."""

    tags = True

    def __init__(self, sight: Sight, words: Words, device: torch.device) -> None:
        self._sight = sight.to(device, torch.float32).requires_grad_(False).eval()
        self._words = words
        self._device = device

    @classmethod
    def read(cls, path: Path, device: torch.device | str = "cpu") -> Self:
        """The captioner in a file."""
        try:
            with safe_open(path, framework="pt") as file:
                words = Words.of(file.metadata() or {})
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            sight = Sight({name: len(words.classes[name]) for name in HEADS})
            sight.load_state_dict(state)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
            hint = "If it came with Darkroom, install Darkroom again."
            raise BadFile(f"{path.name} is no captioner of ours", hint=hint) from None
        return cls(sight, words, torch.device(device))

    @classmethod
    def shipped(cls, device: torch.device | str = "cpu") -> Self:
        """The one that comes with the program."""
        return cls.read(captioner_path(), device)

    def describe(
        self,
        picture: Image.Image,
        *,
        threshold: float = 0.35,
        most: int = 50,
        check: Check = keep_going,
    ) -> Caption:
        """Name object, colour, background and style, and say how sure each is."""
        check()
        heads = self.scores([picture])[0]
        thing, colour, background, style = (heads[name][0][0] for name in HEADS)
        text = self._words.sentence(thing, colour, background=background, style=style)
        said = ((name, score) for head in HEADS for name, score in _spoken(head, heads[head]))
        sure = heads["object"][0][1]
        notes = () if sure >= SURE else (_UNSURE,)
        tags = best(said, threshold=threshold, most=most)
        return Caption(text=text, tags=tags, heads=heads, notes=notes)

    @torch.inference_mode()
    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, Tags]]:
        """What each head thinks of each picture, the likeliest first."""
        batch = torch.stack([_seen(picture) for picture in pictures]).to(self._device)
        found = {name: logits.softmax(1).tolist() for name, logits in self._sight(batch).items()}
        return [
            {
                name: best(zip(self._words.classes[name], found[name][row], strict=True))
                for name in HEADS
            }
            for row in range(len(pictures))
        ]


_UNSURE = (
    "this captioner knows only what the starter draws, and is guessing here; `darkroom caption"
    " --help` says how to get another"
)
_TAGS: Mapping[str, Callable[[str], str]] = {
    "object": str,
    "colour": str,
    "background": "{} background".format,
    "style": str,
}  # fmt: skip


def _spoken(head: str, scores: Tags) -> Tags:
    return tuple((_TAGS[head](name), score) for name, score in scores if name != UNNAMED)


def article(phrase: str) -> str:
    """The article before a phrase: "an umbrella", "a unicorn"."""
    return "an" if phrase[:1] in "aeiou" and not phrase.startswith("uni") else "a"


def _seen(picture: Image.Image) -> Tensor:
    """The middle square of a picture, (3, S, S) in [-1, 1]; transparent parts are white."""
    if picture.has_transparency_data:
        behind = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(behind, picture.convert("RGBA"))
    square = ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1) / 127.5 - 1


def captioner_path() -> Path:
    """The file that comes with the program."""
    return Path(str(resources.files("darkroom") / "starter" / "captioner.safetensors"))

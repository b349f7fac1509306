"""What image-to-image and hires fix do to the starter's pictures, by the starter's own captioner.

    python bench/pictures.py                         all of it
    python bench/pictures.py --only style --pictures 16 --strength 0.7 --set cfg_scale=7
    python bench/pictures.py --json found.json --keep folder

    style       3d renders are asked to be flat illustrations: how often the captioner sees that
                style, and how often still the object that the first prompt named
    hires       energy in the finest detail (above a quarter of the sampling frequency) of a hires
                second run, by that of the same picture enlarged by Lanczos

How pictures move away from the input with the strength, inpainting and outpainting are measured by
`bench/inpaint.py`, upscalers by `bench/upscale.py`. `--set` changes a field of the request.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from darkroom.core.errors import DarkroomWarning
from darkroom.core.request import ImageRequest
from darkroom.engine.caption.starter import Starter
from darkroom.studio import Studio

SIDE = 128  # px, of the starter's pictures
BEFORE, AFTER = "3d render", "flat illustration"
THINGS = (
    "apple", "pear", "strawberry", "pineapple", "mushroom", "hamburger", "donut", "cupcake",
    "cat", "dog", "rabbit", "pig", "elephant", "fox", "penguin", "duck",
    "owl", "frog", "turtle", "whale", "fish", "crab", "butterfly", "ladybug",
    "cactus", "tree", "star", "snowman", "car", "bus", "rocket", "sailboat",
    "house", "castle", "key", "lock", "book", "gift", "balloon", "crown",
    "t-shirt", "backpack", "guitar", "bell", "chair", "robot", "ghost", "heart",
)  # fmt: skip
GROUNDS = ("white", "blue", "green", "pink", "black", "yellow")
RESTYLED = 8  # cfg_scale; at the starter's own 5 the old style stays in one picture of four
Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """What a number shall reach at least."""

    part: str
    name: str
    least: float


TARGETS = (
    Target("style", "style", 0.80),
    Target("style", "object", 0.70),
    Target("hires", "detail", 1.0),
)


class Bench:
    """The starter, and what is measured with it."""

    def __init__(self, scratch: Path, asked: argparse.Namespace) -> None:
        self._studio = Studio(data_dir=scratch / "data", threads=asked.threads)
        self._judge, self._files = Starter.shipped(), scratch / "files"
        self._files.mkdir()
        self._pictures, self._strength, self._keep = asked.pictures, asked.strength, asked.keep
        self._set = dict(each.split("=", 1) for each in asked.set)

    def style(self) -> Found:
        """How often the new style is seen, and the old object; before and after."""
        before, after, rows = [], [], []
        for thing, place, seed in self._asked():
            first = self._made(f"a {thing} on a {place} background, {BEFORE}", seed)
            init = {"image": self._file(first), "strength": self._strength}
            prompt = f"a {thing} on a {place} background, {AFTER}"
            asked = {"cfg_scale": RESTYLED, **self._set}
            second = self._made(prompt, 1000 + seed, init=init, **asked)
            before.append(self._seen(first))
            after.append(self._seen(second))
            rows.append(thing)
            self._show(f"style-{seed}", first, second)
        return {
            "style": _share(seen["style"] == AFTER for seen in after),
            "object": _share(seen["object"] == it for seen, it in zip(after, rows, strict=True)),
            "before: style": _share(seen["style"] == BEFORE for seen in before),
            "before: object": _share(s["object"] == it for s, it in zip(before, rows, strict=True)),
        }

    def hires(self) -> Found:
        """Fine detail of a second run, by that of plain enlargement."""
        ratios, right = [], []
        for thing, place, seed in self._asked():
            prompt = f"a {thing} on a {place} background"
            first = self._made(prompt, seed)
            plain = first.resize((2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS)
            block = {"scale": 2, "upscaler": "Lanczos", "strength": 0.5}
            second = self._made(prompt, seed, hires=block, **self._set)
            ratios.append(_fine(second) / _fine(plain))
            right.append(self._seen(second)["object"] == thing)
            self._show(f"hires-{seed}", plain, second)
        return {
            "detail": float(np.median(ratios)),
            "least": float(np.min(ratios)),
            "object": _share(right),
        }

    def _asked(self) -> Iterator[tuple[str, str, int]]:
        """Object, background and seed of each picture; no object twice before all were there."""
        for seed in range(self._pictures):
            yield THINGS[seed % len(THINGS)], GROUNDS[seed % len(GROUNDS)], seed

    def _made(self, prompt: str, seed: int, **fields: Any) -> Image.Image:
        size = {} if "init" in fields else {"width": SIDE, "height": SIDE}
        request = ImageRequest.parse({"prompt": prompt, "seed": seed, **size, **fields})
        (picture,) = self._studio.run(request)
        return picture.image

    def _seen(self, picture: Image.Image) -> dict[str, str]:
        (heads,) = self._judge.scores([picture])
        return {name: scores[0][0] for name, scores in heads.items()}

    def _file(self, picture: Image.Image) -> str:
        path = self._files / f"{len(list(self._files.iterdir()))}.png"
        picture.save(path)
        return str(path)

    def _show(self, name: str, *pictures: Image.Image) -> None:
        """Keep some pictures side by side, to be looked at."""
        if self._keep is None:
            return
        self._keep.mkdir(parents=True, exist_ok=True)
        row = np.concatenate([np.array(each.convert("RGB")) for each in pictures], axis=1)
        Image.fromarray(row).save(self._keep / f"{name}.png")


def _share(found: Any) -> float:
    return float(np.mean(list(found)))


def _fine(picture: Image.Image) -> float:
    """Mean energy per pixel above a quarter of the sampling frequency, of the brightness."""
    light = np.asarray(picture.convert("L"), np.float64) / 255
    power = np.abs(np.fft.fft2(light)) ** 2 / light.size**2
    across, down = (np.fft.fftfreq(side) for side in (picture.width, picture.height))
    return float(power[np.hypot(across[None], down[:, None]) > 0.25].sum())


PARTS: Mapping[str, Callable[[Bench], Found]] = {"style": Bench.style, "hires": Bench.hires}


def table(found: Mapping[str, Found]) -> str:
    """The numbers with their targets, as Markdown."""
    rows = ["| part | measure | value | target | |", "|---|---|---|---|---|"]
    least = {(each.part, each.name): each.least for each in TARGETS}
    for part, values in found.items():
        for name, value in values.items():
            aim = least.get((part, name))
            told = "" if aim is None else "met" if value >= aim else "missed"
            rows.append(
                f"| {part} | {name} | {value:.3g} | {'' if aim is None else aim} | {told} |"
            )
    return "\n".join(rows)


def main() -> int:
    """Print what was found; 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--strength", type=float, default=0.6, help="of style")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    parser.add_argument("--keep", type=Path, help="folder for the pictures, side by side")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DarkroomWarning)
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        bench = Bench(Path(scratch), asked)
        found = {name: run(bench) for name, run in PARTS.items() if asked.only in (None, name)}
    print(table(found))
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1))
    short = [
        each for each in TARGETS if found.get(each.part, {each.name: 9})[each.name] < each.least
    ]
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())

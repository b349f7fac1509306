"""What image-to-image, inpainting and outpainting do to the starter's pictures.

    python bench/inpaint.py                      all of it, about five minutes on two cores
    python bench/inpaint.py --only inpaint --pictures 40 --set mask.softness=soft
    python bench/inpaint.py --json found.json --keep folder

    strengths   the distance to the input (root mean square, of 255) at each denoising strength,
                with a prompt for another object: it shall rise with every step, and be 0 at 0
    style       a 3d render is made a flat illustration at strength 0.6: how often the captioner
                sees the style, and how often still the object
    inpaint     an object is masked by its box and another asked for in its place: how often the
                captioner sees the new one, and pixels that changed where the blurred mask is black
    outpaint    the picture is made wider: the mean gradient across the old border by that elsewhere

`--set` changes a field of the request, so that defaults can be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from darkroom.core.errors import DarkroomWarning
from darkroom.core.request import ImageRequest
from darkroom.engine.caption.starter import Starter
from darkroom.media.mask import blurred
from darkroom.media.seam import seam
from darkroom.studio import Studio

SIDE = 128  # px, of the starter's pictures
STRENGTHS = [round(0.1 * k, 1) for k in range(11)]
MARGIN = 4  # px around what is masked
FAR = 24  # levels of 255 that tell an object from its plain background
EDGE = 6  # px of the edge that are not looked at
WIDER = 64  # px on each side
OLD = ("red apple", "yellow banana", "green frog", "pink pig", "purple grapes", "red car")
NEW = ("cat", "dog", "house", "butterfly", "rocket", "guitar", "penguin", "cactus")
GROUNDS = ("blue", "white", "green", "black")
Fields = dict[str, Any]
Found = dict[str, Any]


class Bench:
    """The starter, and what is measured with it."""

    def __init__(self, scratch: Path, *, pictures: int, more: Fields, keep: Path | None) -> None:
        self._studio, self._judge = Studio(data_dir=scratch / "data"), Starter.shipped()
        self._pictures, self._more, self._keep = pictures, more, keep
        self._files = scratch / "files"
        self._files.mkdir()

    def strengths(self) -> Found:
        """Mean distance to the input at each strength."""
        rows = []
        for picture, ground, _, seed in self._inputs(self._pictures):
            name, row = self._file(picture), []
            prompt = f"a {NEW[seed % len(NEW)]} on a {ground} background"
            for strength in STRENGTHS:
                init = {"image": name, "strength": strength}
                made = self._made(prompt, 1000 + seed, init=init)
                row.append(_distance(picture, made))
            rows.append(row)
        means = np.mean(rows, axis=0).round(2).tolist()
        return {"strength": STRENGTHS, "distance": means, "monotone": means == sorted(means)}

    def style(self) -> Found:
        """How often the new style is seen, and the old object."""
        flat, same = 0, 0
        for picture, _, prompt, seed in self._inputs(self._pictures):
            init = {"image": self._file(picture), "strength": 0.6}
            made = self._made(f"a flat illustration of {prompt}", 1000 + seed, init=init)
            (heads,) = self._judge.scores([made])
            flat += heads["style"][0][0] == "flat illustration"
            same += heads["object"][0][0] in prompt
            self._show(f"style-{seed}", picture, made)
        return {"style": flat / self._pictures, "object": same / self._pictures}

    def inpaint(self) -> Found:
        """How often the new object is seen, and what changed outside of the mask."""
        seen, outside = 0, 0
        for picture, ground, _, seed in self._inputs(self._pictures):
            wanted, mask = NEW[seed % len(NEW)], _object_of(picture)
            prompt = f"a {wanted} on a {ground} background"
            blocks = {"init": {"image": self._file(picture)}, "mask": {"image": self._file(mask)}}
            made = self._made(prompt, 1000 + seed, **blocks)
            (heads,) = self._judge.scores([made])
            seen += heads["object"][0][0] == wanted
            kept = np.array(blurred(mask, 4, 4)) == 0
            outside += int((np.array(made) != np.array(picture))[kept].any(-1).sum())
            self._show(f"inpaint-{seed}", picture, mask, made)
        return {"replaced": seen / self._pictures, "changed outside (px)": outside}

    def outpaint(self) -> Found:
        """The seam of pictures that were made wider."""
        seams = []
        for picture, _, prompt, seed in self._inputs(self._pictures):
            blocks = {
                "init": {"image": self._file(picture)},
                "outpaint": {"left": WIDER, "right": WIDER},
            }
            made = self._made(prompt, seed, **blocks)
            new = Image.new("L", made.size, 255)
            new.paste(0, (WIDER, 0, WIDER + picture.width, picture.height))
            seams.append(seam(made, new))
            self._show(f"outpaint-{seed}", picture, made)
        return {"seam": float(np.mean(seams)), "worst": float(np.max(seams))}

    def _inputs(self, count: int) -> Iterator[tuple[Image.Image, str, str, int]]:
        """Pictures with what they show: the background, the prompt and the seed."""
        for seed in range(count):
            ground = GROUNDS[seed % len(GROUNDS)]
            prompt = f"a {OLD[seed % len(OLD)]} on a {ground} background"
            size = {"width": SIDE, "height": SIDE}
            yield self._studio.txt2img(prompt, seed=seed, **size).image, ground, prompt, seed

    def _made(self, prompt: str, seed: int, **blocks: Fields) -> Image.Image:
        merged = {name: {**block, **self._more.get(name, {})} for name, block in blocks.items()}
        rest = {name: value for name, value in self._more.items() if name not in BLOCKS}
        request = ImageRequest.parse({"prompt": prompt, "seed": seed, **merged, **rest})
        (picture,) = self._studio.run(request)
        return picture.image

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


BLOCKS = ("init", "mask", "outpaint")
PARTS: Mapping[str, Callable[[Bench], Found]] = {
    "strengths": Bench.strengths,
    "style": Bench.style,
    "inpaint": Bench.inpaint,
    "outpaint": Bench.outpaint,
}


def main() -> int:
    """Print what was found, a line for each part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    parser.add_argument("--keep", type=Path, help="folder for the pictures, side by side")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DarkroomWarning)
    found = {}
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as scratch:
        more = _fields(asked.set)
        bench = Bench(Path(scratch), pictures=asked.pictures, more=more, keep=asked.keep)
        for name in [asked.only] if asked.only else PARTS:
            found[name] = PARTS[name](bench)
            print(f"{name:10}", ", ".join(f"{k}: {v}" for k, v in found[name].items()), flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1))
    return 0


def _fields(pairs: list[str]) -> Fields:
    """`init.strength=0.9` and the like as the fields of a request."""
    found: Fields = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        *blocks, name = name.split(".")
        inner = found
        for block in blocks:
            inner = inner.setdefault(block, {})
        try:
            inner[name] = json.loads(text)
        except ValueError:
            inner[name] = text
    return found


def _distance(one: Image.Image, other: Image.Image) -> float:
    """Root mean square, in levels of 255."""
    pixels = (np.array(each.convert("RGB"), dtype=np.float64) for each in (one, other))
    first, second = pixels
    return float(np.sqrt(((first - second) ** 2).mean()))


def _object_of(picture: Image.Image) -> Image.Image:
    """The box around what differs from the plain background, white.

    Its own noise is averaged out, and the edge of the picture, where the VAE is worst, left alone.
    """
    calm = np.array(picture.convert("RGB").filter(ImageFilter.BoxBlur(2)), dtype=np.int16)
    ground = np.median(np.concatenate([calm[EDGE], calm[-EDGE - 1]]), axis=0)
    differs = np.abs(calm - ground).max(-1) > FAR
    rows, columns = np.nonzero(differs[EDGE:-EDGE, EDGE:-EDGE])
    mask = Image.new("L", picture.size, 0)
    if rows.size:
        first = columns.min() + EDGE - MARGIN, rows.min() + EDGE - MARGIN
        last = columns.max() + EDGE + MARGIN + 1, rows.max() + EDGE + MARGIN + 1
        mask.paste(255, (*(int(side) for side in first), *(int(side) for side in last)))
    return mask


if __name__ == "__main__":
    raise SystemExit(main())

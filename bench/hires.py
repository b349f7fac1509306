"""What a second run adds to the starter's pictures, and how well its pictures tile.

python bench/hires.py                                     five minutes on one core
python bench/hires.py --pictures 8 --upscalers auto --strengths 0.2 0.3
python bench/hires.py --json found.json --keep folder

detail   energy above a quarter of the sampling frequency, of the brightness, by that of the
         first run's picture enlarged by Lanczos: the median of the pictures
added    the same, by that at strength 0, where the picture is only enlarged, encoded and decoded:
         what the second run adds, and not the upscaler or the VAE. 1 is nothing
object   how often the captioner still sees the object that the prompt names
seam     of pictures that are to tile: the difference of the pixels that meet where one picture
         ends and the next begins, by that at the other multiples of 32 px. Networks that wrap
         commute with rolling by those and by no less (the UNet halves its latents twice), so
         without a seam both are alike. The way that does not tile is the control
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gallery import SIDE, Gallery, flags, opened, put_down, table
from PIL import Image

SCALE = 2
GRID = 32  # px to a pixel of the starter's UNet where it is smallest
THINGS = ("apple", "cat", "car", "house", "frog", "crown", "fish", "rocket")
GROUNDS = ("white", "blue", "gradient green", "pink")
TILED = "a blue star on a red background"
MOST_SEAM, LEAST_DETAIL = 1.1, 1.0
LEAST_STEP = 1e-3  # of 255; what is flat has a logarithm too
SEAMS = 6  # times as many pictures: one alone may have something at its edge or not
Row = dict[str, Any]


class Bench:
    """What is measured."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery

    def hires(self, upscalers: Sequence[str], strengths: Sequence[float]) -> Iterator[Row]:
        """One row for each upscaler and strength."""
        first = [self._made(f"plain {k}", prompt, k) for k, _, prompt in self._asked()]
        size = SCALE * SIDE, SCALE * SIDE
        plain = [detail(each.resize(size, Image.Resampling.LANCZOS)) for each in first]
        things = [thing for _, thing, _ in self._asked()]
        for upscaler in upscalers:
            still = np.ones(len(plain))
            for strength in sorted({0.0, *strengths}):
                made = [*self._enlarged(upscaler, strength)]
                found = np.array([detail(each) for each in made])
                still = still if strength else found
                seen = [self._gallery.seen(one)["object"] for one in made]
                right = [one == thing for one, thing in zip(seen, things, strict=True)]
                yield {
                    "upscaler": upscaler,
                    "strength": strength,
                    "detail": float(np.median(found / plain)),
                    "added": float(np.median(found / still)),
                    "object": float(np.mean(right)),
                }

    def seams(self) -> Iterator[Row]:
        """One row for each way of tiling, with both seams."""
        for tiling in ("none", "x", "y", "both"):
            made = [
                self._made(f"tiling {tiling} {k}", TILED, k, tiling=tiling)
                for k in range(SEAMS * self._gallery.pictures)
            ]
            yield {"tiling": tiling} | {
                f"seam in {name}": seam(made, axis) for axis, name in ((1, "x"), (0, "y"))
            }

    def _enlarged(self, upscaler: str, strength: float) -> Iterator[Image.Image]:
        block = {"scale": SCALE, "upscaler": upscaler, "strength": strength}
        for k, _, prompt in self._asked():
            yield self._made(f"{upscaler} {strength} {k}", prompt, k, hires=block)

    def _asked(self) -> Iterator[tuple[int, str, str]]:
        """Number, object and prompt of each picture."""
        for k in range(self._gallery.pictures):
            thing, ground = THINGS[k % len(THINGS)], GROUNDS[k % len(GROUNDS)]
            yield k, thing, f"a {thing} on a {ground} background"

    def _made(self, name: str, prompt: str, seed: int, **fields: Any) -> Image.Image:
        made = self._gallery.measured(prompt, seed, **fields)
        self._gallery.show(name, made)
        return made


def detail(picture: Image.Image) -> float:
    """Energy above a quarter of the sampling frequency, of the brightness, for each pixel."""
    light = np.asarray(picture.convert("L"), np.float64) / 255
    power = np.abs(np.fft.fft2(light)) ** 2 / light.size**2
    down, across = (np.fft.fftfreq(side) for side in light.shape)
    return float(power[np.hypot(across, down[:, None]) > 0.25].sum())


def seam(pictures: Sequence[Image.Image], axis: int) -> float:
    """The difference across the edges that meet along `axis`, by that between other blocks.

    The geometric mean of the pictures: something at the edge of one would rule a plain mean.
    """
    found = []
    for picture in pictures:
        pixels = np.asarray(picture.convert("RGB"), np.float64)
        steps = np.abs(pixels - np.roll(pixels, 1, axis)).mean(axis=(1 - axis, 2))
        edge, *rest = np.log(steps[::GRID] + LEAST_STEP)  # the first one is across the edge
        found.append(edge - np.mean(rest))
    return float(np.exp(np.mean(found)))


def missed(found: dict[str, list[Row]]) -> list[Row]:
    """The rows that do not reach what is asked: a run that adds detail, and no seam."""
    axes = {"none": (), "x": ("x",), "y": ("y",), "both": ("x", "y")}
    run = [row for row in found["hires"] if row["strength"]]
    return [row for row in run if min(row["detail"], row["added"]) < LEAST_DETAIL] + [
        row
        for row in found["seams"]
        if any(row[f"seam in {axis}"] > MOST_SEAM for axis in axes[row["tiling"]])
    ]


def main() -> int:
    """Print what was found; 1 where something is missed."""
    parser = flags(__doc__, pictures=4)
    parser.add_argument("--upscalers", nargs="*", default=["Latent", "Lanczos", "auto"])
    parser.add_argument("--strengths", nargs="*", type=float, default=[0.3, 0.7])
    asked = parser.parse_args()
    with opened(asked) as gallery:
        bench = Bench(gallery)
        found = {
            "seams": list(bench.seams()),
            "hires": list(bench.hires(asked.upscalers, asked.strengths)),
        }
    for rows in found.values():
        if rows:
            print(table(rows), end="\n\n")
    put_down(found, asked.json)
    return 1 if missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())

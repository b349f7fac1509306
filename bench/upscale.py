"""How well, how fast and in how much memory pictures are made larger.

    python -m bench.upscale                      # the upscaler that is shipped
    python -m bench.upscale FILE --side 1024     # any other; 4x of 1024 is 4096
    python -m bench.upscale --photos FOLDER      # PSNR on pictures of yours as well

One line each: PSNR beside Lanczos (the picture is halved by Pillow's bicubic filter and enlarged
again, for an upscaler that doubles); seconds per million pixels made; the seam (mean step of the
picture across the borders of tiles, over the same in one piece: 1 is none); and the peak of memory
for two sizes, above what the process had before, in a process of its own each.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.engine.device import choose_device
from darkroom.engine.mosaic import Tiling
from darkroom.engine.upscaler import TILING, Upscaler, load_upscaler
from darkroom.weights.upscaler_files import builtin

MIB = 1 << 20
SMALL_TILES = Tiling(tile=64, overlap=16)


def main() -> int:
    """Print one line per measurement."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("file", nargs="?", help="an upscaler; by default the shipped one")
    asked.add_argument("--side", type=int, default=2048, help="px of the larger picture given in")
    asked.add_argument("--photos", type=Path, help="a folder of pictures")
    asked.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    given = asked.parse_args()
    upscaler = loaded(given.file)
    if given.peak:
        print(json.dumps(peak(upscaler, given.peak)))
        return 0
    picture = drawn(256)
    upscaler(picture)
    began = time.perf_counter()
    made = upscaler(picture)
    seconds = (time.perf_counter() - began) / (made.width * made.height / 1e6)
    print(f"time     {seconds:.2f} s per million pixels made, {torch.get_num_threads()} threads")
    print(f"seam     {seam(upscaler, drawn(320)):.3f}")
    if given.photos and upscaler.scale == 2:
        compare(upscaler, given.photos)
    for side in (given.side // 2, given.side):
        told = json.loads(alone(given.file, side))
        large = side * upscaler.scale
        used, own = (f"{told[name]:.0f} MiB" for name in ("peak", "picture"))
        print(f"memory   {used} for {large} x {large}, of it the picture {own}")
    return 0


def loaded(file: str | None) -> Upscaler:
    """The shipped upscaler, one of a package by its name, or a file's."""
    card = builtin(file or "auto")
    if card is None:
        name = str(file)
        card = ModelCard(
            sha256="", path=name, name=name, kind=Kind.UPSCALER, arch=Arch.OTHER, bytes=0
        )
    return load_upscaler(card, choose_device("cpu"))


def drawn(side: int) -> Image.Image:
    """A picture with edges and rough parts, without a period that tiles could hide in."""
    random = np.random.default_rng(5)
    down, across = np.mgrid[:side, :side] / 23
    pixels = np.stack([np.sin(down * a + across * b) for a, b in random.uniform(0, 3, (3, 2))], 2)
    pixels[np.hypot(down - 6, across - 6) < 4] *= -0.6
    return Image.fromarray((pixels * 90 + 128 + random.normal(0, 6, pixels.shape)).astype(np.uint8))


def seam(upscaler: Upscaler, picture: Image.Image) -> float:
    """The worst of both axes."""
    whole = np.asarray(upscaler(picture, Tiling(tile=4096, overlap=0)), np.float64)
    tiled = np.asarray(upscaler(picture, SMALL_TILES), np.float64)
    starts = SMALL_TILES.starts(picture.width)[1:]
    places = (0, SMALL_TILES.overlap // 4, SMALL_TILES.overlap // 2, SMALL_TILES.overlap)
    at = [upscaler.scale * (start + place) - 1 for start in starts for place in places]
    steps = [
        [np.abs(np.diff(each, axis=axis)).take(at, axis).mean() for each in (tiled, whole)]
        for axis in (0, 1)
    ]
    return float(max(one / other for one, other in steps))


def compare(upscaler: Upscaler, folder: Path) -> None:
    """PSNR on the pictures of a folder, each cut to at most 512 px."""
    rows = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg")):
        whole = Image.open(path).convert("RGB")
        side = min(512, *(length // 2 * 2 for length in whole.size))
        left, top = (whole.width - side) // 2, (whole.height - side) // 2
        whole = whole.crop((left, top, left + side, top + side))
        small = whole.resize((side // 2, side // 2), Image.Resampling.BICUBIC)
        lanczos = small.resize(whole.size, Image.Resampling.LANCZOS)
        rows.append((psnr(upscaler(small), whole), psnr(lanczos, whole)))
        print(f"psnr     {rows[-1][0]:.2f} dB, Lanczos {rows[-1][1]:.2f}: {path.name}")
    ours, theirs = np.mean(rows, axis=0)
    print(f"psnr     {ours:.2f} dB, Lanczos {theirs:.2f}: mean of {len(rows)}")


def psnr(first: Image.Image, second: Image.Image) -> float:
    """In dB, of two pictures of 8 bits."""
    square = np.mean((np.asarray(first, np.float64) - np.asarray(second, np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(square, 1e-6)))


def alone(file: str | None, side: int) -> str:
    """The same program for one size, so that its peak is its own."""
    command = [
        sys.executable,
        "-m",
        "bench.upscale",
        "--peak",
        str(side),
        *([file] if file else []),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def peak(upscaler: Upscaler, side: int) -> dict[str, float]:
    """Memory in MiB above what was there, for a picture of `side` px."""
    upscaler(drawn(300), TILING)
    picture = Image.new("RGB", (side, side), "teal")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = upscaler(picture, TILING)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak": (after - before) / 1024, "picture": made.width * made.height * 3 / MIB}


if __name__ == "__main__":
    sys.exit(main())

"""Make a checkpoint with random weights, to measure speed and memory with. Its pictures are noise.

    python bench/make_checkpoint.py sd15.safetensors           2.13 GB, the size of the real one
    python bench/make_checkpoint.py tiny.safetensors --tiny    9 MB, the same topology

The layout is LDM's single file, the numbers are fp16 and the same for the same --seed. They are
scaled so that activations stay near unit size in every layer, as in a trained network: speed does
not depend on the values as long as they are finite. Takes no more memory than one piece of 8 MB.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from darkroom.core.errors import StudioError
from darkroom.weights.layouts.checkpoint import Layout, entries, sd1_layout
from darkroom.weights.layouts.entry import Entry
from darkroom.weights.topology import TextDims, UNetDims, VaeDims
from darkroom.weights.writer import write_safetensors

PIECE = 1 << 22  # numbers made at a time

SD15_UNET = UNetDims(
    in_channels=4,
    out_channels=4,
    channels=(320, 640, 1280, 1280),
    layers=2,
    depths=(1, 1, 1, 0),
    mid_depth=1,
    context=768,
    linear_projection=False,
)
SD15_VAE = VaeDims(channels=(128, 256, 512, 512), layers=2, latent_channels=4)
SD15_TEXT = TextDims(width=768, layers=12, intermediate=3072, positions=77, vocab=49408)


def sd15() -> Layout:
    """The tensors of the real SD1.5."""
    return sd1_layout(SD15_UNET, SD15_VAE, SD15_TEXT)


def tiny() -> Layout:
    """The same, narrow and shallow, with the true vocabulary."""
    return sd1_layout(
        replace(SD15_UNET, channels=(32, 64), layers=1, depths=(1, 0), context=64),
        replace(SD15_VAE, channels=(16, 32, 32, 32), layers=1),
        replace(SD15_TEXT, width=64, layers=2, intermediate=256),
    )


def make_checkpoint(path: Path, layout: Layout, *, seed: int = 0) -> None:
    """Write random weights for every row of `layout`."""
    rows = list(entries(layout))
    table = {row.source: ("F16", row.stored) for row in rows}
    pieces = (piece for number, row in enumerate(rows) for piece in _pieces(row, seed, number))
    write_safetensors(path, table, pieces, metadata={"modelspec.title": "random weights"})


def _pieces(row: Entry, seed: int, number: int) -> Iterator[memoryview]:
    """The tensor's bytes. Each has its own stream, so a tensor does not depend on those before."""
    random = np.random.default_rng((seed, number))
    mean, spread = _distribution(row)
    left = math.prod(row.stored)
    while left:
        count = min(left, PIECE)
        values = random.standard_normal(count, np.float32)
        values *= spread
        values += mean
        yield values.astype("<f2").data.cast("B")
        left -= count


def _distribution(row: Entry) -> tuple[float, float]:
    """Mean and standard deviation that keep the variance of what passes through."""
    if len(row.stored) == 1:
        return (1.0 if row.source.endswith(".weight") else 0.0), 0.05  # a norm, or a bias
    if "embedding" in row.source:
        return 0.0, 1.0
    return 0.0, 1 / math.sqrt(math.prod(row.stored[1:]))


def main() -> int:
    """Run from the command line; 0, or 1 with the reason on one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="the same topology in 9 MB")
    given = parser.parse_args()
    try:
        make_checkpoint(given.path, tiny() if given.tiny else sd15(), seed=given.seed)
    except StudioError as error:
        print(error.sentence(), file=sys.stderr)
        return 1
    print(f"{given.path}: {given.path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

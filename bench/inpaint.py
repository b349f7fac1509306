"""What the strength of image-to-image, inpainting and outpainting do to the starter's pictures.

    python bench/inpaint.py                      all of it, about five minutes on two cores
    python bench/inpaint.py --only inpaint --pictures 40 --set mask.softness=soft
    python bench/inpaint.py --json found.json --keep folder

    strengths   the distance to the input (root mean square, of 255) at each denoising strength,
                with a prompt for another object: it shall rise with every step, and be 0 at 0
    inpaint     an object is masked by its box and another asked for in its place: how often the
                captioner sees the new one, and pixels that changed where the blurred mask is black
    outpaint    the picture is made wider: the mean gradient across the old border by that elsewhere

How well a style is changed is measured by `bench/pictures.py`. `--set` changes a field of the
request, so that defaults can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from gallery import Gallery, flags, opened, put_down
from PIL import Image, ImageFilter

from darkroom.media.mask import blurred
from darkroom.media.seam import seam

STRENGTHS = [round(0.1 * k, 1) for k in range(11)]
MARGIN = 4  # px around what is masked
FAR = 24  # levels of 255 that tell an object from its plain background
EDGE = 6  # px of the edge that are not looked at
WIDER = 64  # px on each side
OLD = ("red apple", "yellow banana", "green frog", "pink pig", "purple grapes", "red car")
NEW = ("cat", "dog", "house", "butterfly", "rocket", "guitar", "penguin", "cactus")
GROUNDS = ("blue", "white", "green", "black")
Found = dict[str, Any]


def strengths(gallery: Gallery) -> Found:
    """Mean distance to the input at each strength."""
    rows = []
    for picture, ground, _, seed in inputs(gallery):
        name, row = gallery.file(picture), []
        prompt = f"a {NEW[seed % len(NEW)]} on a {ground} background"
        for strength in STRENGTHS:
            init = {"image": name, "strength": strength}
            row.append(_distance(picture, gallery.measured(prompt, 1000 + seed, init=init)))
        rows.append(row)
    means = np.mean(rows, axis=0).round(2).tolist()
    return {"strength": STRENGTHS, "distance": means, "monotone": means == sorted(means)}


def inpaint(gallery: Gallery) -> Found:
    """How often the new object is seen, and what changed outside of the mask."""
    seen, outside = 0, 0
    for picture, ground, _, seed in inputs(gallery):
        wanted, mask = NEW[seed % len(NEW)], _object_of(picture)
        made = gallery.measured(
            f"a {wanted} on a {ground} background",
            1000 + seed,
            init={"image": gallery.file(picture)},
            mask={"image": gallery.file(mask)},
        )
        seen += gallery.seen(made)["object"] == wanted
        kept = np.array(blurred(mask, 4, 4)) == 0
        outside += int((np.array(made) != np.array(picture))[kept].any(-1).sum())
        gallery.show(f"inpaint-{seed}", picture, mask, made)
    return {"replaced": seen / gallery.pictures, "changed outside (px)": outside}


def outpaint(gallery: Gallery) -> Found:
    """The seam of pictures that were made wider."""
    seams = []
    for picture, _, prompt, seed in inputs(gallery):
        wider = {"left": WIDER, "right": WIDER}
        made = gallery.measured(prompt, seed, init={"image": gallery.file(picture)}, outpaint=wider)
        new = Image.new("L", made.size, 255)
        new.paste(0, (WIDER, 0, WIDER + picture.width, picture.height))
        seams.append(seam(made, new))
        gallery.show(f"outpaint-{seed}", picture, made)
    return {"seam": float(np.mean(seams)), "worst": float(np.max(seams))}


def inputs(gallery: Gallery) -> Iterator[tuple[Image.Image, str, str, int]]:
    """Pictures with what they show: the background, the prompt and the seed."""
    for seed in range(gallery.pictures):
        ground = GROUNDS[seed % len(GROUNDS)]
        prompt = f"a {OLD[seed % len(OLD)]} on a {ground} background"
        yield gallery.made(prompt, seed), ground, prompt, seed


PARTS: Mapping[str, Callable[[Gallery], Found]] = {
    "strengths": strengths,
    "inpaint": inpaint,
    "outpaint": outpaint,
}


def main() -> int:
    """Print what was found, a line for each part."""
    parser = flags(__doc__, pictures=8)
    parser.add_argument("--only", choices=PARTS)
    asked, found = parser.parse_args(), {}
    with opened(asked) as gallery:
        for name in [asked.only] if asked.only else PARTS:
            found[name] = PARTS[name](gallery)
            print(f"{name:10}", ", ".join(f"{k}: {v}" for k, v in found[name].items()), flush=True)
    put_down(found, asked.json)
    return 0


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

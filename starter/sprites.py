"""Cut-out pictures of every object in every style and colour, made once from the emoji packages.

`sprites.npy` is a memory map (object, base style, colour, side, side, 4) of RGBA bytes; base
styles are 3d, flat and line art (pixel art is made at composing time), colour 0 is the object
as drawn, colour k is PAINTED[k - 1]. `natural.json` names the colour each object has as drawn.
"""

import io
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from starter.objects_table import COLOURS, OBJECTS, PAINTED, Thing
from starter.recipe import PACKAGES, WORK, chosen, cores

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
DRAWN = 256  # px at which the packages have their pictures
BASE_STYLES = ("3d", "flat", "line art")
GREYISH = 0.16  # chroma below which a pixel counts as having no hue
UNNAMED = frozenset(  # the nearest name of the mean colour is not what a person would say
    (
        *("backpack", "balloon", "basketball", "camera", "cat", "cow", "crab", "dice", "dog"),
        *("donut", "frog", "gift", "guitar", "hamburger", "house", "ladybug", "light bulb"),
        *("maple leaf", "mushroom", "panda", "pear", "soccer ball", "trophy"),
    )
)
HUED = {"bus"}  # drawn with more grey than colour, yet the colour is what names it


def source(thing: Thing, style: str) -> Path:
    """Return the file of one object in the packages; style is 3d or flat.

    Flat drawings are SVG there, and PNG where a pack was opened (pack.py), for machines that
    cannot draw SVG.
    """
    folder = PACKAGES / f"lobehub-fluent-emoji-{style}" / "package" / "assets"
    if style == "3d":
        return folder / f"{thing.code}.webp"
    drawn = folder / f"{thing.code}.png"
    return drawn if drawn.exists() else folder / f"{thing.code}.svg"


def picture(path: Path, side: int) -> Image.Image:
    """Return a source file as RGBA; SVG is drawn `side` px wide."""
    if path.suffix != ".svg":
        return Image.open(path).convert("RGBA")
    import resvg_py

    drawn = resvg_py.svg_to_bytes(svg_string=path.read_text(), width=side, height=side)
    return Image.open(io.BytesIO(bytes(drawn))).convert("RGBA")


def _square(picture: Image.Image, side: int) -> Image.Image:
    """Trim empty margins and centre the rest on a square of `side` px."""
    alpha = np.asarray(picture)[..., 3] > 24
    ys, xs = np.nonzero(alpha)
    cut = picture.crop((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    scale = side / max(cut.size)
    cut = cut.resize(
        (max(1, round(cut.width * scale)), max(1, round(cut.height * scale))),
        Image.Resampling.LANCZOS,
    )
    square = Image.new("RGBA", (side, side))
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    return square


def read(thing: Thing, style: str, side: int) -> Floats:
    """Return one object as RGBA in [0, 1], (side, side, 4); style is 3d or flat."""
    found = picture(source(thing, style), DRAWN)
    return (np.asarray(_square(found, side)) / np.float32(255)).astype(np.float32)


def _hue_chroma(rgb: Floats) -> tuple[Floats, Floats]:
    """Return hue in turns and chroma (max - min) of (..., 3) colours."""
    high, low = rgb.max(-1), rgb.min(-1)
    chroma = high - low
    safe = np.where(chroma > 0, chroma, 1)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    hue = np.where(
        high == red,
        (green - blue) / safe % 6,
        np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return (hue / 6).astype(np.float32), chroma


def _luminance(rgb: Floats) -> Floats:
    light: Floats = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return light


def main_part(rgba: Floats, always_hue: bool = False) -> Floats:
    """Return a soft mask (H, W) of the part that carries the object's main colour.

    It is the heaviest of: a window of hues (60 degrees wide), or everything without hue.
    """
    hue, chroma = _hue_chroma(rgba[..., :3])
    weight = rgba[..., 3]
    coloured = weight * (chroma > GREYISH)
    counts = np.histogram(hue, bins=36, range=(0, 1), weights=coloured)[0]
    windows = sum(np.roll(counts, shift) for shift in range(-3, 4))
    peak = (int(np.argmax(windows)) + 0.5) / 36
    distance = np.abs((hue - peak + 0.5) % 1 - 0.5)
    inside = np.clip((0.155 - distance) / 0.03, 0, 1) * np.clip((chroma - 0.08) / 0.08, 0, 1)
    plain = weight * (1 - np.clip((chroma - 0.08) / 0.08, 0, 1))
    if plain.sum() > 1.6 * (weight * inside).sum() and not always_hue:
        dark = plain.sum() and np.average(_luminance(rgba[..., :3]), weights=plain) < 0.25
        keep = np.ones_like(weight) if dark else np.clip(_luminance(rgba[..., :3]) / 0.3, 0, 1)
        grey = 1 - np.clip((chroma - 0.08) / 0.08, 0, 1)
        return np.asarray(grey * keep, dtype=np.float32)
    return np.asarray(inside, dtype=np.float32)


def _lab(rgb: NDArray[np.floating[Any]]) -> Floats:
    """Convert sRGB in [0, 1] (..., 3) to CIE Lab (D65)."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ np.array(
        [[0.4339, 0.2126, 0.0178], [0.3762, 0.7152, 0.1096], [0.1899, 0.0722, 0.8727]]
    )
    curve = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = curve[..., 0], curve[..., 1], curve[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)


def natural_colour(rgba: Floats) -> tuple[str, float]:
    """Name the colour of the main part and say which share of the object it covers.

    Crimson and the like stand between two names; the share is then 0, "do not name it".
    """
    mask = main_part(rgba) * rgba[..., 3]
    total = (rgba[..., :3] * mask[..., None]).sum((0, 1))
    mean = np.asarray(total / mask.sum(), dtype=np.float32)
    names = list(COLOURS)
    anchors = _lab(np.array([COLOURS[name] for name in names], dtype=np.float32) / 255)
    distance = (anchors - _lab(mean)) * np.array([0.6, 1, 1])
    away = np.sqrt((distance**2).sum(-1))
    nearest, second = (int(index) for index in np.argsort(away)[:2])
    clear = away[second] > 1.3 * away[nearest]
    return names[nearest], float(mask.sum() / rgba[..., 3].sum()) if clear else 0.0


def painted(rgba: Floats, name: str, mask: Floats) -> Floats:
    """Repaint the main part in a named colour, keeping its light and shade."""
    light = _luminance(rgba[..., :3])
    weight = mask * rgba[..., 3]
    order = np.argsort(light.ravel())
    share = np.cumsum(weight.ravel()[order])
    middle = float(light.ravel()[order][np.searchsorted(share, share[-1] * 0.55)])
    anchor = np.array(COLOURS[name], dtype=np.float32) / 255
    ratio = (light / max(middle, 0.05))[..., None]
    strength = 0.5 if name == "white" else 0.85
    shade = anchor * (1 - strength * (1 - np.minimum(ratio, 1)))
    room = max(1 / max(middle, 0.05) - 1, 0.4)
    gloss = 0.45 if name == "black" else 0.8
    shine = np.clip((ratio - 1) / room, 0, 1) * gloss
    colour = shade + (1 - shade) * shine
    mixed = rgba[..., :3] + (colour - rgba[..., :3]) * mask[..., None]
    return np.concatenate([mixed, rgba[..., 3:]], -1).astype(np.float32)


def line_art(flat: Floats, ink: tuple[int, int, int]) -> Floats:
    """Turn a flat drawing into outlines in `ink` on a white body."""
    smooth = ndimage.gaussian_filter(flat, (1.2, 1.2, 0))
    seen = np.concatenate([_lab(smooth[..., :3]) / 100 * smooth[..., 3:], smooth[..., 3:]], -1)
    slope = np.sqrt(sum(ndimage.sobel(seen, axis) ** 2 for axis in (0, 1))).max(-1)
    edge = ndimage.grey_dilation(np.clip((slope - 0.35) / 0.35, 0, 1), size=(4, 4))
    solid = flat[..., 3:]
    ink_colour = np.array(ink, dtype=np.float32) / 255
    body = 1 + (ink_colour - 1) * edge[..., None]
    alpha = np.maximum(solid, edge[..., None])
    return np.concatenate([body, alpha], -1).astype(np.float32)


def _shrunk(rgba: Floats, side: int) -> Pixels:
    """Scale to `side` px with premultiplied alpha, as bytes."""
    factor = len(rgba) // side
    weighted = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], -1)
    small = weighted.reshape(side, factor, side, factor, 4).mean((1, 3))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-4)
    made: Pixels = (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8)
    return made


def versions(index: int, drawn: int, side: int) -> tuple[Pixels, str, float]:
    """Return all sprites of one object, (styles, colours, side, side, 4), and its colour."""
    thing = OBJECTS[index]
    made = np.empty((len(BASE_STYLES), len(PAINTED) + 1, side, side, 4), dtype=np.uint8)
    solid, flat = read(thing, "3d", drawn), read(thing, "flat", drawn)
    name, share = natural_colour(solid)
    share = 0.0 if thing.name in UNNAMED else share
    for row, base in enumerate((solid, flat)):
        made[row, 0] = _shrunk(base, side)
        mask = main_part(base, always_hue=thing.name in HUED)
        for column, colour in enumerate(PAINTED, start=1):
            made[row, column] = _shrunk(painted(base, colour, mask), side)
    made[2, 0] = _shrunk(line_art(flat, (20, 20, 24)), side)
    for column, colour in enumerate(PAINTED, start=1):
        made[2, column] = _shrunk(line_art(flat, COLOURS[colour]), side)
    return made, name, share


def render() -> None:
    """Write `sprites.npy` and `natural.json` unless they are there."""
    target = WORK / "sprites.npy"
    if target.exists():
        return
    recipe, count = chosen(), len(OBJECTS)
    side = recipe.resolution
    shape = (count, len(BASE_STYLES), len(PAINTED) + 1, side, side, 4)
    part = target.with_suffix(".part")
    store = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    natural: dict[str, tuple[str, float]] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cores(), count), spawn) as team:
        every = team.map(versions, range(count), [recipe.drawn] * count, [side] * count)
        for index, (made, name, share) in enumerate(every):
            store[index] = made
            natural[OBJECTS[index].name] = (name, round(share, 3))
    store.flush()
    (WORK / "natural.json").write_text(json.dumps(natural, indent=1))
    part.replace(target)
    print(f"sprites: {count} objects x {len(BASE_STYLES)} styles x {len(PAINTED) + 1} colours")


if __name__ == "__main__":
    render()

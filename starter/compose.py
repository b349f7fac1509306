"""Pictures composed from sprites: object x colour x background x style x size x place.

    scenes = composer.draw(rng, 64)             # (B,) records of SCENE: plain numbers
    pictures = composer.paint(scenes, rng)      # (B, 3, S, S) in [-1, 1] on the composer's device

A pool stores scenes beside the latents, and captions are written at training time. Everything is
done for a batch at once: a sprite is put in its place by two small matrices, rows and columns, so
that the GPU composes thousands of pictures a second and the CPU is no slower than with Pillow.
B batch, S resolution in px.
"""

import io
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from starter.objects_table import (
    BACKGROUNDS,
    COLOURS,
    GRADIENTS,
    OBJECTS,
    PAINTED,
    PLACES,
    QUALITIES,
    SIZES,
    STYLES,
)
from starter.recipe import WORK

SCENE = np.dtype(
    [
        ("thing", "i2"),
        ("colour", "i1"),  # 0 as drawn, k = PAINTED[k - 1]
        ("other", "i2"),  # second object to the right, -1 for none
        ("other_colour", "i1"),
        ("ground", "i1"),  # index into GROUNDS
        ("style", "i1"),
        ("size", "i1"),
        ("place", "i1"),
        ("quality", "i1"),
    ]
)
GROUNDS: tuple[str, ...] = (*BACKGROUNDS, *(f"{name} gradient" for name in GRADIENTS))
STYLE_SHARE = (0.62, 0.16, 0.11, 0.11)
LINE_ART, PIXEL_ART = STYLES.index("line art"), STYLES.index("pixel art")
HELD_OUT = 0.08  # share of object x painted colour pairs never trained on
CLEAR = 0.5  # share of an object that must have its natural colour for the colour to be named
WIDTHS = ((0.68, 0.84), (0.38, 0.5), (0.92, 1.0))  # of the picture, by size
PAIR_WIDTH = (0.42, 0.5)
MOVES = ((0, 0), (-0.22, 0), (0.22, 0), (0, -0.22), (0, 0.22))  # of the picture, by place
BLOCKS = 32  # pixel art has this many along a side
SHADES = 5  # steps of each colour channel in pixel art

Scene = np.void
Scenes = NDArray[np.void]
Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


def held_out(thing: int, colour: int) -> bool:
    """Say whether a pair is kept from training (stable under any seed)."""
    if colour == 0:
        return False
    return (
        zlib.crc32(f"{OBJECTS[thing].name}/{PAINTED[colour - 1]}".encode()) % 1000 < HELD_OUT * 1000
    )


KEPT = np.array([[held_out(t, c) for c in range(len(PAINTED) + 1)] for t in range(len(OBJECTS))])
GROUND_COLOUR = np.array(  # index into COLOURS
    [list(COLOURS).index(name.removesuffix(" gradient")) for name in GROUNDS]
)
WHITE, BLACK = list(COLOURS).index("white"), list(COLOURS).index("black")


def colour_index(name: str) -> int:
    """Return the label of a colour name, -1 for none."""
    return list(COLOURS).index(name) if name else -1


class Composer:
    """Draws scenes and paints them; one per process."""

    def __init__(self, where: torch.device | str = "cpu") -> None:
        """Map the sprites (or take them to the GPU) and read the natural colours."""
        self.where = torch.device(where)
        self.sprites: NDArray[np.uint8] = np.load(WORK / "sprites.npy", mmap_mode="r")
        self.side = int(self.sprites.shape[3])
        self._held = None if self.where.type == "cpu" else torch.tensor(self.sprites[:]).to(where)
        named = json.loads((WORK / "natural.json").read_text())
        self.natural = tuple(
            named[thing.name][0] if named[thing.name][1] > CLEAR else "" for thing in OBJECTS
        )
        self._natural = np.array([colour_index(name) for name in self.natural])
        self._team = ThreadPoolExecutor(8)

    def colour_name(self, thing: int, colour: int, style: int) -> str:
        """Name the colour of a drawn object; "" where it has no clear one."""
        if colour:
            return PAINTED[colour - 1]
        return self.natural[thing] if style != LINE_ART else ""

    def colours(self, thing: Integers, colour: Integers, style: Integers) -> Integers:
        """Return the same for many, as labels in COLOURS, -1 for none."""
        painted = np.array([-1, *(colour_index(name) for name in PAINTED)])
        own = np.where(style == LINE_ART, -1, self._natural[thing])
        return np.where(colour > 0, painted[colour], own)

    def draw(self, rng: np.random.Generator, count: int, *, unseen: bool = False) -> Scenes:
        """Choose scenes, (B,); `unseen` allows the held-out pairs (for the classifier only)."""
        scenes = np.zeros(count, SCENE)
        thing = rng.integers(len(OBJECTS), size=count)
        other = (thing + rng.integers(1, len(OBJECTS), size=count)) % len(OBJECTS)
        pair = rng.random(count) < 0.08
        style = rng.choice(len(STYLES), count, p=STYLE_SHARE)
        colour = _colours(rng, thing, natural_share=0.4, unseen=unseen)
        other_colour = _colours(rng, other, natural_share=0.76, unseen=unseen)
        first = self.colours(thing, colour, style)
        second = np.where(pair, self.colours(other, other_colour, style), -1)
        line = np.where(style == LINE_ART, BLACK, -1)
        scenes["ground"] = _grounds(rng, np.stack([first, second, line]))
        scenes["thing"], scenes["colour"], scenes["style"] = thing, colour, style
        scenes["other"], scenes["other_colour"] = (
            np.where(pair, other, -1),
            np.where(pair, other_colour, 0),
        )
        sized = ~pair & (rng.random(count) < 0.12)
        size = np.where(sized, rng.integers(1, len(SIZES), size=count), 0)
        placed = ~pair & (size < 2) & (rng.random(count) < 0.08)
        scenes["size"] = np.where(placed, 1, size)
        scenes["place"] = np.where(placed, rng.integers(1, len(PLACES), size=count), 0)
        spoiled = rng.random(count) < 0.06
        scenes["quality"] = np.where(spoiled, rng.integers(1, len(QUALITIES), size=count), 0)
        return scenes

    def paint(self, scenes: Scenes, rng: np.random.Generator) -> Tensor:
        """Return the pictures of scenes, (B, 3, S, S) in [-1, 1]."""
        layer = self._layers(scenes, rng)
        blocky = torch.from_numpy(scenes["style"] == PIXEL_ART).to(self.where)
        if blocky.any():
            layer[blocky] = _pixelated(layer[blocky])
        picture = layer[:, :3] + self._backdrops(scenes["ground"], rng) * (1 - layer[:, 3:])
        for row, spoiled in self._spoiled(picture, scenes["quality"], rng):
            picture[row] = spoiled
        return picture.mul_(2).sub_(1).contiguous(memory_format=torch.channels_last)

    def _layers(self, scenes: Scenes, rng: np.random.Generator) -> Tensor:
        """Return the objects on nothing, (B, 4, S, S), colours multiplied by alpha."""
        spots = _spots(scenes, rng)
        layer = self._placed(scenes["thing"], scenes["colour"], scenes["style"], spots[0])
        pair = np.flatnonzero(scenes["other"] >= 0)
        if len(pair):
            both = scenes[pair]
            second = self._placed(
                both["other"], both["other_colour"], both["style"], spots[1].at(pair)
            )
            rows = torch.from_numpy(pair).to(self.where)
            layer[rows] = second + layer[rows] * (1 - second[:, 3:])
        return layer

    def _placed(self, thing: Integers, colour: Integers, style: Integers, spot: "_Spot") -> Tensor:
        """Return one object each, scaled and in place, (B, 4, S, S)."""
        base = np.where(style == PIXEL_ART, 0, style).astype(np.int64)
        index = (thing.astype(np.int64), base, colour.astype(np.int64))
        if self._held is None:
            raw = torch.from_numpy(self.sprites[index])
        else:
            raw = self._held[tuple(torch.from_numpy(part).to(self.where) for part in index)]
        rgba = raw.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        rgba[:, 3:].div_(255)
        rgba[:, :3].mul_(rgba[:, 3:] / 255)
        width = np.round(spot.width * self.side)
        rows, columns = (
            _resampling(middle, width, self.side, self.where) for middle in (spot.down, spot.across)
        )
        return rows[:, None] @ rgba @ columns[:, None].transpose(-1, -2)

    def _backdrops(self, ground: Integers, rng: np.random.Generator) -> Tensor:
        """Return (B, 3, S, 1) in [0, 1]: plain, or pale at the top and deep at the bottom."""
        base = np.array([BACKGROUNDS[name.removesuffix(" gradient")] for name in GROUNDS])[ground]
        plain = np.isin(ground, (GROUNDS.index("white"), GROUNDS.index("black")))[:, None]
        base = np.where(plain, base, np.clip(base + rng.normal(0, 5, base.shape), 0, 255))
        slope = np.array([name.endswith(" gradient") for name in GROUNDS])[ground][:, None]
        pale, deep = np.where(slope, base * 0.15 + 217, base), np.where(slope, base * 0.9, base)
        ramp = np.linspace(0, 1, self.side)
        column = (pale[..., None] + (deep - pale)[..., None] * ramp) / 255
        return torch.from_numpy(column.astype(np.float32))[..., None].to(self.where)

    def _spoiled(
        self, picture: Tensor, quality: Integers, rng: np.random.Generator
    ) -> list[tuple[int, Tensor]]:
        """Return (row, picture (3, S, S)) of those that are to be spoiled."""
        rows = np.flatnonzero(quality).tolist()
        seeds = rng.integers(2**32, size=len(rows))

        def spoil(row: int, seed: int) -> Tensor:
            pixels = (picture[row].permute(1, 2, 0) * 255 + 0.5).clamp(0, 255).byte().cpu().numpy()
            made = _spoil(pixels, int(quality[row]), np.random.default_rng(seed))
            return torch.from_numpy(made.astype(np.float32) / 255).permute(2, 0, 1)

        found = list(self._team.map(spoil, rows, seeds))
        return [(row, made.to(self.where)) for row, made in zip(rows, found, strict=True)]


@dataclass(frozen=True, slots=True)
class _Spot:
    """Middle and width of an object each, (B,), in shares of the picture."""

    across: Floats
    down: Floats
    width: Floats

    def at(self, rows: NDArray[np.intp]) -> "_Spot":
        """Return some of them."""
        return _Spot(self.across[rows], self.down[rows], self.width[rows])


def _spots(scenes: Scenes, rng: np.random.Generator) -> tuple[_Spot, _Spot]:
    """Choose where the first and the second object of each scene go."""
    count, pair = len(scenes), scenes["other"] >= 0
    limits = np.where(pair[:, None], PAIR_WIDTH, np.array(WIDTHS)[scenes["size"]])
    move = np.array(MOVES)[scenes["place"]] * ~pair[:, None]
    across, down = 0.5 + move.T + rng.normal(0, 0.02, (count, 2)).T
    low, high = limits.T
    wide, other = (low + (high - low) * rng.random(count) for _ in range(2))
    first = _Spot(np.where(pair, across - 0.24, across), down, wide)
    return first, _Spot(across + 0.24, down, other)


def _resampling(middle: Floats, width: Floats, side: int, where: torch.device) -> Tensor:
    """Return (B, S, S): each pixel along a side as a sum over a sprite's, zero beside the object.

    A triangle filter as wide as the reduction, Pillow's BILINEAR; `middle` is a share of the side,
    `width` in px. Objects stay inside the picture.
    """
    first = np.clip(np.floor(middle * side - width / 2), 0, side - width)
    start, wide = (
        torch.from_numpy(part.astype(np.float32)).to(where)[:, None, None]
        for part in (first, width)
    )
    pixel = torch.arange(side, device=where)
    seen = (pixel[:, None] + 0.5 - start) * (side / wide)  # px of the sprite, (B, S, 1)
    weight = (seen - (pixel + 0.5)).abs_().mul_(-wide / side).add_(1).clamp_min_(0)
    inside = (pixel[:, None] >= start) & (pixel[:, None] < start + wide)
    return weight.mul_(inside / weight.sum(-1, keepdim=True).clamp_min_(1e-6))


def _colours(
    rng: np.random.Generator, thing: Integers, *, natural_share: float, unseen: bool
) -> Integers:
    """Choose a colour for each object; pairs that are kept from training only if `unseen`."""
    colour: Integers = rng.integers(1, len(PAINTED) + 1, size=len(thing))
    while not unseen and (bad := KEPT[thing, colour]).any():
        colour[bad] = rng.integers(1, len(PAINTED) + 1, size=int(bad.sum()))
    colour[rng.random(len(thing)) < natural_share] = 0
    return colour


def _grounds(rng: np.random.Generator, taken: Integers) -> Integers:
    """Choose backgrounds on which objects are seen; `taken` (3, B) are the colours to avoid."""
    ground: Integers = rng.integers(len(GROUNDS), size=(taken.shape[1],))
    while (bad := (GROUND_COLOUR[ground] == taken).any(0)).any():
        ground[bad] = rng.integers(len(GROUNDS), size=int(bad.sum()))
    white = (rng.random(taken.shape[1]) < 0.3) & ~(taken == WHITE).any(0)
    ground[white] = 0
    return ground


def _pixelated(layer: Tensor) -> Tensor:
    """Make pixel art of layers (B, 4, S, S): large blocks, hard edges, few shades."""
    size = layer.shape[-1] // BLOCKS
    small = functional.avg_pool2d(layer, size)
    colour = (small[:, :3] / small[:, 3:].clamp_min(1e-4) * SHADES).round() / SHADES
    hard = (small[:, 3:] > 0.43).float()
    blocks = torch.cat([colour.clamp(0, 1) * hard, hard], 1)
    return blocks.repeat_interleave(size, 2).repeat_interleave(size, 3)


def _spoil(picture: Pixels, quality: int, rng: np.random.Generator) -> Pixels:
    """Blur, roughen or compress a picture (S, S, 3) as its quality says."""
    match QUALITIES[quality]:
        case "blurry":
            radius = picture.shape[0] / 128 * rng.uniform(2.5, 4)
            return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))
        case "noisy":
            rough = picture + rng.normal(0, rng.uniform(25, 45), picture.shape)
            return np.clip(rough, 0, 255).astype(np.uint8)
        case "low quality":
            store = io.BytesIO()
            small = Image.fromarray(picture).resize((picture.shape[0] // 2,) * 2)
            small.save(store, "JPEG", quality=int(rng.integers(4, 10)))
            return np.asarray(Image.open(store).resize((picture.shape[0],) * 2))
        case _:
            return picture

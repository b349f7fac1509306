"""Pictures of fallen leaves: shapes of all sizes that hide each other, with rough and smooth skins.

They have the edges, the corners and the power spectrum of photographs, and nobody owns them. A
network that learns from them does well on photographs that it never saw (Achddou, Gousseau and
Ladjal 2021, "Synthetic images as a regularity prior for image restoration neural networks"; the
model: Lee, Mumford and Huang 2001, "Occlusion models for natural images").
"""

import string

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

FINER = 2  # drawn so much larger, then averaged: edges are as a lens would give them
SKINS = 6  # kinds of roughness in one picture
SMALLEST, LARGEST = 0.006, 0.5  # radius in shares of the side; density r^-2 between them
LEAVES = (60, 700)  # how many


def leaves(rng: np.random.Generator, side: int) -> Pixels:
    """Return one picture, (side, side, 3)."""
    large = side * FINER
    colours = Image.new("RGB", (large, large), _colour(rng))
    skins = Image.new("L", (large, large), int(rng.integers(SKINS)))
    pens = ImageDraw.Draw(colours), ImageDraw.Draw(skins)
    palette = [_colour(rng) for _ in range(int(rng.integers(3, 24)))]
    for _ in range(int(rng.integers(*LEAVES))):
        colour = palette[int(rng.integers(len(palette)))]
        _leaf(rng, pens, large, inks=(colour, int(rng.integers(SKINS))))
    rough = _roughness(rng, large)[np.asarray(skins), np.arange(large)[:, None], np.arange(large)]
    pixels = np.asarray(colours) / 255 + rough
    small = pixels.reshape(side, FINER, side, FINER, 3).mean((1, 3))
    return np.asarray(np.clip(small * 255 + 0.5, 0, 255), np.uint8)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """A colour that is mostly a shade of grey with a tint, as in photographs."""
    grey, tint = rng.integers(0, 256), rng.normal(0, rng.choice([8, 40]), 3)
    red, green, blue = np.clip(grey + tint, 0, 255).astype(int).tolist()
    return red, green, blue


def _leaf(
    rng: np.random.Generator,
    pens: tuple[ImageDraw.ImageDraw, ImageDraw.ImageDraw],
    side: int,
    *,
    inks: tuple[tuple[int, int, int], int],
) -> None:
    """Draw one leaf into the colours and into the skins."""
    low, high = 1 / SMALLEST, 1 / LARGEST
    radius = side / (low + rng.random() * (high - low))
    across, down = rng.random(2) * side
    box = (across - radius, down - radius * rng.uniform(0.3, 1), across + radius, down + radius)
    kind = rng.choice(["ellipse", "polygon", "line", "letters"], p=[0.4, 0.35, 0.15, 0.1])
    angles = np.sort(rng.random(int(rng.integers(3, 9)))) * 2 * np.pi
    corners = [(across + radius * np.cos(a), down + radius * np.sin(a)) for a in angles]
    width = max(1, int(radius * rng.uniform(0.02, 0.3)))
    text = "".join(rng.choice(list(string.ascii_letters + string.digits), 5))
    font = ImageFont.load_default(max(8, min(120, radius)))
    for pen, ink in zip(pens, inks, strict=True):
        match kind:
            case "ellipse":
                pen.ellipse(box, fill=ink)
            case "polygon":
                pen.polygon(corners, fill=ink)
            case "line":
                pen.line(corners, fill=ink, width=width, joint="curve")
            case _:
                pen.text((across, down), text, fill=ink, font=font)


def _roughness(rng: np.random.Generator, side: int) -> Floats:
    """Return what each skin adds to a colour, (SKINS, side, side, 3)."""
    row, column = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    made = np.zeros((SKINS, side, side, 3))
    for skin in range(1, SKINS):  # the first is smooth
        turn = rng.random() * np.pi
        stretch = rng.choice([1, 1, 4])  # grass, hair and fabric have a direction
        along = row * np.cos(turn) + column * np.sin(turn)
        over = (column * np.cos(turn) - row * np.sin(turn)) * stretch
        spectrum = (along**2 + over**2 + side**-2.0) ** -rng.uniform(0.4, 1.0)
        noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) * spectrum, (side, side))
        noise *= rng.uniform(0.01, 0.12) / noise.std()
        made[skin] += noise[:, :, None] * (1 + rng.normal(0, 0.15, 3))
    return made

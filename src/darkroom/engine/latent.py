"""Between latents and pictures: both ways, and in tiles on demand.

B batch, C latent channels, H W latent height and width (pixels / 8).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from types import EllipsisType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkroom.sampling.denoiser import ramp, spans
from darkroom.weights.topology import FACTOR

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

OVERLAP = 8  # latent pixels that neighbouring tiles share

# Latent to RGB by a linear map, for previews: rows are the four latent channels, then the offset.
# SD1 and SD2 share one VAE (fitted by users of SD1.4, published on Hugging Face's forum in 2022).
SD_PREVIEW = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
    (0.0, 0.0, 0.0),
)
# T. A. Vass, "Explaining the SDXL latent space", Hugging Face's blog, 2023; there for 0 … 255.
SDXL_PREVIEW = (
    (0.471, 0.471, 0.471),
    (-0.471, -0.039, 0.078),
    (0.196, 0.118, -0.039),
    (-0.549, -0.392, -0.275),
    (0.176, 0.098, 0.020),
)


def decode(vae: AutoencoderKL, latents: Tensor, *, scale: float, tile: int | None) -> Tensor:
    """Decode `latents` (B, C, H, W) to pixels (B, 3, 8H, 8W) in [-1, 1], one picture at a time.

    `tile` is the side of a tile in latent pixels. Tiles overlap and are blended linearly; the
    result differs slightly from decoding in one piece, since the decoder sees less at a time.
    """

    def network(latent: Tensor) -> Tensor:
        sample: Tensor = vae.decode(latent, return_dict=False)[0]
        return sample

    scaled = latents.to(next(vae.parameters())) / scale
    return torch.cat([in_tiles(network, one, tile, units=(1, FACTOR)) for one in scaled.split(1)])


def encode(vae: AutoencoderKL, pixels: Tensor, *, scale: float, tile: int | None = None) -> Tensor:
    """Pixels (B, 3, 8H, 8W) in [-1, 1] to scaled latents (B, C, H, W): the mean, nothing drawn.

    One picture at a time, and `tile` as for `decode`.
    """

    def network(part: Tensor) -> Tensor:
        mean: Tensor = vae.encode(part, return_dict=False)[0].mean
        return mean

    rows = pixels.to(next(vae.parameters())).split(1)
    return torch.cat([in_tiles(network, one, tile, units=(FACTOR, 1)) for one in rows]) * scale


def in_tiles(
    network: Callable[[Tensor], Tensor], x: Tensor, tile: int | None, *, units: tuple[int, int]
) -> Tensor:
    """What `network` makes of one `x` (1, C, H, W), seeing at most `tile` latent pixels a side.

    `units` are the pixels of `x` and those of the result that make a latent pixel.
    """
    given, made = units
    sides = [side // given for side in x.shape[-2:]]
    if tile is None or max(sides) <= tile:
        return network(x)
    total, weight = torch.zeros(()), torch.zeros(())
    for part in product(*(list(spans(side, tile, min(OVERLAP, tile // 2))) for side in sides)):
        found = network(x[_place(part, given)])
        if not total.dim():  # in single precision: the weights of a large tile overflow half
            total = found.new_zeros(*found.shape[:2], *(made * side for side in sides)).float()
            weight = torch.zeros_like(total[:, :1])
        share = ramp(found.shape[-2], total)[:, None] * ramp(found.shape[-1], total)
        where = _place(part, made)
        total[where] += found * share
        weight[where] += share
    return total / weight


def _place(part: tuple[slice, ...], unit: int) -> tuple[EllipsisType | slice, ...]:
    """Where spans of latent pixels lie, with `unit` pixels to each."""
    return (..., *(slice(span.start * unit, span.stop * unit) for span in part))


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) in [-1, 1] to (B, H, W, 3) uint8, truncated as A1111 does."""
    unit = ((pixels.float() + 1) / 2).clamp(0, 1)
    return (unit * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()

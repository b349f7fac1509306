"""Pictures of latents that cost little, to be looked at while the real one is made.

    by_matrix(latent, matrix)            next to nothing
    load_preview(card, device)(latent)   by a tiny decoder; Engine.preview_decoder(card) keeps it

Latents are scaled, (C, h, w); pictures (H, W, 3) uint8 on the CPU. A picture is as large as the
real one where no side is over SIDE, and otherwise smaller by a whole number.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkroom.core.model import ModelCard
from darkroom.engine.device import Device
from darkroom.engine.latent import in_tiles, to_bytes
from darkroom.engine.tiny import Approx, Tiny
from darkroom.weights.header import read_header
from darkroom.weights.preview import detect_preview
from darkroom.weights.reader import open_tensors
from darkroom.weights.shaping import to_network
from darkroom.weights.topology import FACTOR, ApproxDims, TinyDims

SIDE = 512  # px
TILE = 64  # latent pixels: larger ones take tiles, for which 0.3 GB are enough


class PreviewDecoder:
    """One tiny decoder on one device."""

    def __init__(self, module: nn.Module, device: Device, *, factor: int) -> None:
        self.module, self._device, self._factor = module, device, factor

    @torch.inference_mode()
    def __call__(self, latent: Tensor) -> Tensor:
        """The picture of a latent; OutOfMemory where there is no room for it."""
        weight = next(self.module.parameters())
        with self._device.guard():
            one = latent.unsqueeze(0).to(weight)
            made = in_tiles(self.module, one, TILE, units=(1, self._factor))
            return to_bytes(_fitted(made, latent))[0]


def load_preview(card: ModelCard, device: Device) -> PreviewDecoder:
    """The decoder in the file of `card` on `device`; BadFile where it is none."""
    header = read_header(Path(card.path))
    found = detect_preview(header)
    with torch.device("meta"):
        module = _network(found.dims)
    with open_tensors(header) as file, device.guard():
        tensors = ((row.target, to_network(file.tensor(row.source), row)) for row in found.rows)
        state = {name: value.clone().to(device.torch, device.dtype) for name, value in tensors}
    module.load_state_dict(state, assign=True)
    module.eval().requires_grad_(False)
    if device.channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PreviewDecoder(module, device, factor=found.dims.factor)


def _network(dims: TinyDims | ApproxDims) -> nn.Module:
    match dims:
        case TinyDims():
            return Tiny(dims)
        case ApproxDims():
            return Approx(dims)


def by_matrix(latent: Tensor, matrix: Tensor) -> Tensor:
    """A rough picture of one scaled `latent` (C, h, w).

    `matrix` (C + 1, 3) maps latent channels to RGB in [-1, 1]; its last row is the offset.
    """
    rows = matrix.to(latent.device, torch.float32)
    rgb = torch.einsum("chw,cr->rhw", latent.float(), rows[:-1]) + rows[-1].view(3, 1, 1)
    return to_bytes(_fitted(rgb.unsqueeze(0), latent))[0]


def smaller(picture: Tensor) -> Tensor:
    """A finished picture (H, W, 3) uint8 at the size of a preview."""
    pixels = picture.permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1
    side = max(picture.shape[:2])
    if side <= SIDE:
        return picture
    return to_bytes(functional.avg_pool2d(pixels, -(-side // SIDE)))[0]


def _fitted(pixels: Tensor, latent: Tensor) -> Tensor:
    """Pixels (1, 3, H, W) brought to the size of a preview of `latent`."""
    side = max(latent.shape[-2:])
    wanted = max(1, min(FACTOR, SIDE // side))  # px per latent pixel
    factor = pixels.shape[-1] // latent.shape[-1]
    if factor > wanted:
        return functional.interpolate(pixels.float(), scale_factor=wanted / factor, mode="area")
    if factor < wanted:
        larger = wanted / factor
        return functional.interpolate(pixels.float(), scale_factor=larger, mode="bilinear")
    return pixels

"""A network that enlarges pictures, run tile by tile.

    upscaler = load_upscaler(card, device)              # Engine.upscaler(card) keeps it
    larger = upscaler(picture, Tiling(tile=256, overlap=16))    # scale times as large

RGB, grey and transparent pictures; 8 bits. Families that we do not build are built by spandrel.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from darkroom.core.errors import BadFile, OutOfMemory
from darkroom.core.model import ModelCard
from darkroom.engine.compact import Compact
from darkroom.engine.device import Device
from darkroom.engine.mosaic import Floats, Mosaic, Tiling
from darkroom.engine.precision import finite_pixels
from darkroom.engine.rrdb import Rrdb
from darkroom.engine.spandrel import spandrel
from darkroom.weights.header import Header, read_header
from darkroom.weights.reader import open_tensors
from darkroom.weights.shaping import to_network
from darkroom.weights.topology import CompactDims, RrdbDims
from darkroom.weights.upscaler import detect_upscaler
from darkroom.weights.upscaler_measure import Measured
from darkroom.weights.upscaler_ncnn import read_ncnn

TILING = Tiling(tile=256, overlap=16)
SMALLEST = 32  # px; tiles are not made smaller when memory runs out

Say = Callable[[str], None]


class Upscaler:
    """One network on one device; `scale` is how many times larger it makes a picture."""

    def __init__(self, module: nn.Module, device: Device, *, scale: int, channels: int = 3) -> None:
        self.module, self.scale = module.eval().requires_grad_(False), scale
        self._device, self._channels = device, channels

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        return sum(tensor.nbytes for tensor in self.module.parameters())

    def __call__(
        self,
        picture: Image.Image,
        tiling: Tiling = TILING,
        *,
        check: Callable[[], None] = lambda: None,
        say: Say = lambda text: None,
    ) -> Image.Image:
        """The larger picture, of the same mode: RGB, RGBA, L or LA.

        `check` is called before every tile and may raise. Where memory runs out tiles are halved,
        and `say` is told; OutOfMemory when even the smallest are too large.
        """
        colours, alpha = _parts(picture)
        while True:
            try:
                made = self._tiled(colours, tiling, check=check, say=say)
                if alpha is not None:
                    made.putalpha(self._opacity(alpha, tiling, check=check, say=say))
                return made
            except OutOfMemory:
                if tiling.tile <= SMALLEST:
                    raise
                tile = max(SMALLEST, min(tiling.tile, max(picture.size)) // 2)
                tiling = replace(tiling, tile=tile, overlap=min(tiling.overlap, tile // 2))
                self._device.empty_cache()
                say(f"memory ran out; trying again with tiles of {tile} px")

    def _opacity(
        self, alpha: Image.Image, tiling: Tiling, *, check: Callable[[], None], say: Say
    ) -> Image.Image:
        """`alpha` enlarged; one that is the same everywhere needs no network."""
        pixels = np.asarray(alpha)
        level = int(pixels[0, 0])
        if (pixels == level).all():
            return Image.new("L", (alpha.width * self.scale, alpha.height * self.scale), level)
        return self._tiled(alpha, tiling, check=check, say=say)

    def _tiled(
        self, picture: Image.Image, tiling: Tiling, *, check: Callable[[], None], say: Say
    ) -> Image.Image:
        grey = picture.mode == "L"
        mosaic = Mosaic(picture.size, tiling, scale=self.scale, channels=1 if grey else 3)
        for spot in mosaic.spots:
            check()
            pixels = np.array(picture.crop(spot.box), np.float32) / np.float32(255)
            made = self._run(pixels.reshape(*pixels.shape[:2], -1), say)
            mosaic.put(spot, made.mean(2, keepdims=True) if grey else made)
        return Image.fromarray(mosaic.pixels.squeeze(2) if grey else mosaic.pixels)

    @torch.inference_mode()
    def _run(self, pixels: Floats, say: Say) -> Floats:
        """One tile (h, w, 1 or 3) in [0, 1] to (scale * h, scale * w, 1 or 3)."""
        with self._device.guard():
            x = torch.from_numpy(pixels).permute(2, 0, 1)  # a network for grey sees each colour
            x = x[:, None] if self._channels == 1 else x[None].expand(-1, self._channels, -1, -1)
            x = x.to(self._device.torch)

            def larger() -> Tensor:
                weight = next(self.module.parameters())  # of the moment: the guard changes it
                made: Tensor = self.module(x.to(weight.dtype))
                return made

            made = finite_pixels(larger, self.module, say, who="the upscaler").float()
            made = made[:, 0] if self._channels == 1 else made[0]
            return made.permute(1, 2, 0).cpu().numpy()


def _parts(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours or grey, and the opacity where there is one.

    What nobody sees, often black, gets the colour of the nearest pixel that is seen: the network
    would smear it into the edge.
    """
    if picture.has_transparency_data:
        kept = picture.convert("LA" if picture.mode in ("L", "LA") else "RGBA")
        alpha = kept.getchannel("A")
        colours = np.asarray(kept.convert("L" if kept.mode == "LA" else "RGB"))
        unseen = np.asarray(alpha) == 0
        if unseen.any() and not unseen.all():
            nearest = ndimage.distance_transform_edt(
                unseen, return_distances=False, return_indices=True
            )
            colours = colours[tuple(nearest)]
        return Image.fromarray(colours), alpha
    return (picture if picture.mode == "L" else picture.convert("RGB")), None


def load_upscaler(card: ModelCard, device: Device) -> Upscaler:
    """The network of `card` on `device`; BadFile where it is none or its library is missing."""
    path = Path(card.path)
    header = read_ncnn(path) if path.suffix == ".param" else read_header(path)
    found = detect_upscaler(header)
    if found.measured is None:
        return _by_spandrel(header, found.label, device)
    with device.guard():
        module = _built(header, found.measured).to(device.torch, device.dtype)
        if device.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dims = found.measured.dims
    return Upscaler(module, device, scale=dims.scale, channels=dims.channels)


def _built(header: Header, measured: Measured) -> nn.Module:
    with torch.device("meta"):
        module = _network(measured.dims)
    with open_tensors(header) as file:
        state = {
            row.target: to_network(file.tensor(row.source), row).float() for row in measured.rows
        }
        module.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)
    return module


def _network(dims: RrdbDims | CompactDims) -> nn.Module:
    match dims:
        case RrdbDims():
            return Rrdb(dims)
        case CompactDims():
            return Compact(dims)


def _by_spandrel(header: Header, label: str, device: Device) -> Upscaler:
    """Any other family, by the library that knows them."""
    name = header.path.name
    builder = spandrel(f"{name} is {label}, which is built", extra="upscalers")
    with open_tensors(header) as file:
        tensors = {name: file.tensor(name).clone() for name in header.tensors}
    try:
        found = builder.ModelLoader(device=device.torch).load_from_state_dict(tensors)
    except builder.UnsupportedModelError as error:
        hint = "Choose another upscaler."
        raise BadFile(f"{name}: spandrel does not know its family either", hint=hint) from error
    if not isinstance(found, builder.ImageModelDescriptor) or found.input_channels not in (1, 3):
        raise BadFile(f"{name} does not make one picture of another", hint="It is no upscaler.")
    half = device.dtype is not torch.float16 or found.supports_half
    module = _Described(found).to(device.torch, device.dtype if half else torch.float32)
    return Upscaler(module, device, scale=found.scale, channels=found.input_channels)


class _Described(nn.Module):
    """A network of spandrel, called as it wants it: sides padded to what it needs."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.model = found.model
        self._found = found

    def forward(self, picture: Tensor) -> Tensor:
        made: Tensor = self._found(picture)
        return made

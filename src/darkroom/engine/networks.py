"""The three networks of a checkpoint, built on the meta device and filled from the mapped file.

    load_networks(read_header(path), Placement(dtype=torch.float32)) -> Networks

No tensor is initialised at random and none exists twice: each is converted and placed on its own,
and the pages of the file that it came from are given back at once. A tensor that is wanted just as
it lies in the file stays a view of the mapped file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from darkroom.engine.clip import ClipText
from darkroom.engine.imports import unet_class, vae_class
from darkroom.weights.detect import Detected, detect
from darkroom.weights.header import Header
from darkroom.weights.layouts.entry import Entry
from darkroom.weights.reader import MappedFile, open_tensors
from darkroom.weights.topology import TextDims, UNetDims, VaeDims

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


WIDE = 128  # channels; below, a UNet loses by channels-last (measured: x0.975 with 64)


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """A loaded checkpoint, ready to be called: eval mode, no gradients."""

    detected: Detected
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: ClipText

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        modules: tuple[nn.Module, ...] = (self.unet, self.vae, self.text)
        return sum(weight.nbytes for module in modules for weight in module.parameters())


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the weights are wanted, and in which form."""

    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    channels_last: bool = False  # the convolutions of UNet and VAE


def load_networks(header: Header, placement: Placement | None = None) -> Networks:
    """Build and fill the networks of an SD1 checkpoint."""
    want = placement or Placement()
    last = want.channels_last
    detected = detect(header)
    unet, vae, text = make_unet(detected.unet), make_vae(detected.vae), make_text(detected.text)
    with open_tensors(header) as file:
        fill = _Fill(file, torch.device(want.device), want.dtype)
        wide = detected.unet.channels[0] >= WIDE
        fill(unet, detected.layout["unet"], channels_last=last and wide)
        fill(vae, detected.layout["vae"], channels_last=last)
        fill(text, detected.layout["text"])
    return Networks(detected, unet, vae, text)


def make_unet(dims: UNetDims) -> UNet2DConditionModel:
    """The UNet, without memory behind its tensors."""
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in dims.depths]
    up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(dims.depths)]
    build = unet_class()
    with torch.device("meta"):
        return build(
            in_channels=dims.in_channels,
            out_channels=dims.out_channels,
            block_out_channels=dims.channels,
            layers_per_block=dims.layers,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            transformer_layers_per_block=tuple(depth or dims.mid_depth for depth in dims.depths),
            attention_head_dim=dims.heads,  # diffusers' name for the number of heads
            cross_attention_dim=dims.context,
            use_linear_projection=dims.linear_projection,
            norm_num_groups=dims.groups,
        )


def make_vae(dims: VaeDims) -> AutoencoderKL:
    """The VAE, without memory behind its tensors."""
    levels = len(dims.channels)
    build = vae_class()
    with torch.device("meta"):
        return build(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=dims.channels,
            layers_per_block=dims.layers,
            latent_channels=dims.latent_channels,
            norm_num_groups=dims.groups,
            scaling_factor=dims.scale,
        )


def make_text(dims: TextDims) -> ClipText:
    """The text encoder, without memory behind its tensors."""
    with torch.device("meta"):
        return ClipText(dims)


@dataclass(frozen=True, slots=True)
class _Fill:
    """Gives networks their tensors from one file."""

    file: MappedFile
    device: torch.device
    dtype: torch.dtype

    def __call__(
        self, module: nn.Module, rows: Iterable[Entry], *, channels_last: bool = False
    ) -> None:
        """Put each row's tensor into `module`, under its name there."""
        state: dict[str, Tensor] = {}
        for row in rows:
            stored = self.file.tensor(row.source)
            form = torch.preserve_format
            if channels_last and len(row.shape) == 4:
                form = torch.channels_last
            placed = stored.reshape(row.shape).to(self.device, self.dtype, memory_format=form)
            if placed.data_ptr() != stored.data_ptr():
                self.file.release(row.source)
            state[row.target] = placed
        module.load_state_dict(state, strict=True, assign=True)
        module.eval().requires_grad_(False)

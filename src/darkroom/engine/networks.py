"""The networks of a checkpoint, built on the meta device and filled from the mapped file.

    load_networks(header, detect(header), Placement(dtype=torch.float32)) -> Networks
    load_vae(header, dims, rows=rows) -> Vae        its own VAE, or one from another file

No tensor is initialised at random and none exists twice: each is converted and placed on its own,
and the pages of the file that it came from are given back at once. A tensor that is wanted just as
it lies in the file stays a view of the mapped file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from darkroom.engine.clip import ClipText
from darkroom.engine.imports import unet_class, vae_class
from darkroom.weights.detect import Detected
from darkroom.weights.header import Header
from darkroom.weights.layouts.entry import Component, Entry
from darkroom.weights.reader import MappedFile, open_tensors
from darkroom.weights.shaping import to_network
from darkroom.weights.topology import TextDims, UNetDims, VaeDims

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


WIDE = 128  # channels; below, a UNet loses by channels-last (measured: x0.975 with 64)
SINUSOIDS = 256  # numbers that stand for each number of a picture's size: SDXL
TEXTS: tuple[Component, ...] = ("text", "text_2")


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """The UNet and the text encoders of a checkpoint: eval mode, no gradients."""

    detected: Detected
    unet: UNet2DConditionModel
    texts: tuple[ClipText, ...]  # in the order of `detected.texts`

    @property
    def modules(self) -> Mapping[Component, nn.Module]:
        """The networks under the names of the layout: what a LoRA may change."""
        names = (name for name in TEXTS if name in self.detected.layout)
        return {"unet": self.unet, **dict(zip(names, self.texts, strict=True))}

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        return sum(map(_bytes, self.modules.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Vae:
    """A VAE, ready to be called: eval mode, no gradients."""

    dims: VaeDims
    module: AutoencoderKL
    grey: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    """Scaled latents of grey pictures by height and width, for models that inpaint."""

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        return _bytes(self.module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the weights are wanted, and in which form."""

    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    channels_last: bool = False  # the convolutions of UNet and VAE


def load_networks(
    header: Header, detected: Detected, placement: Placement | None = None
) -> Networks:
    """Build and fill the UNet and the text encoders that `detect` found in the file."""
    want, layout = placement or Placement(), detected.layout
    made = Networks(detected, make_unet(detected.unet), tuple(map(make_text, detected.texts)))
    wide = detected.unet.channels[0] >= WIDE
    with open_tensors(header) as file:
        fill = _Fill(file, torch.device(want.device), want.dtype)
        for name, module in made.modules.items():
            last = name == "unet" and wide and want.channels_last
            fill(module, layout[name], channels_last=last)
    return made


def load_vae(
    header: Header, dims: VaeDims, *, rows: Iterable[Entry], placement: Placement | None = None
) -> Vae:
    """Build and fill the VAE whose tensors lie at `rows`."""
    want = placement or Placement()
    vae = make_vae(dims)
    with open_tensors(header) as file:
        fill = _Fill(file, torch.device(want.device), want.dtype)
        fill(vae, rows, channels_last=want.channels_last)
    return Vae(dims, vae)


def make_unet(dims: UNetDims) -> UNet2DConditionModel:
    """The UNet, without memory behind its tensors."""
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in dims.depths]
    up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(dims.depths)]
    build = unet_class()
    more: dict[str, object] = {}
    if dims.adm is not None:
        more["addition_embed_type"] = "text_time"
        more["addition_time_embed_dim"] = SINUSOIDS
        more["projection_class_embeddings_input_dim"] = dims.adm
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
            **more,
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
            stored = to_network(self.file.tensor(row.source), row)
            form = torch.preserve_format
            if channels_last and stored.ndim == 4:
                form = torch.channels_last
            placed = stored.to(self.device, self.dtype, memory_format=form)
            if placed.data_ptr() != stored.data_ptr():
                self.file.release(row.source)
            state[row.target] = placed
        module.load_state_dict(state, strict=True, assign=True)
        module.eval().requires_grad_(False)


def _bytes(module: nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())

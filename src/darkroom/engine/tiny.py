"""Small networks that make pictures of latents, for previews.

    Tiny(TinyDims(…)), Approx(ApproxDims(…))        (B, C, h, w) scaled -> (B, 3, f·h, f·w)

Latents are those that the UNet sees, pictures are in [-1, 1]; what leaves it is cut off by whoever
shows it. Layers have the numbers of the published files.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkroom.weights.preview import AFTER, FIRST
from darkroom.weights.topology import ApproxDims, TinyDims

SQUASHED = 3  # beyond it nothing differs any more
LEAK = 0.1


class Tiny(nn.Module):
    """The decoder of a tiny autoencoder: residual blocks of three convolutions, and doublings.

    O. Boer Bohan, "Tiny AutoEncoder for Stable Diffusion", 2023. Ours may be narrower at each
    level; as published all are 64 wide.
    """

    def __init__(self, dims: TinyDims) -> None:
        super().__init__()
        first = _convolution(dims.latent_channels, dims.widths[0])
        parts: dict[int, nn.Module] = {FIRST: first, FIRST + 1: nn.ReLU(inplace=True)}
        place = AFTER
        for level, (width, blocks) in enumerate(zip(dims.widths, dims.blocks, strict=True)):
            for _ in range(blocks):
                parts[place] = _Block(width)
                place += 1
            if level + 1 < len(dims.widths):
                parts[place] = nn.Upsample(scale_factor=2)
                parts[place + 1] = _convolution(width, dims.widths[level + 1], bias=False)
                place += 2
        parts[place] = _convolution(dims.widths[-1], 3)
        self.layers = nn.ModuleDict({str(place): part for place, part in parts.items()})

    def forward(self, latents: Tensor) -> Tensor:
        """Return the pictures."""
        x = squashed(latents)
        for layer in self.layers.values():
            x = layer(x)
        return x * 2 - 1


def squashed(latents: Tensor) -> Tensor:
    """Latents as the first layer sees them: hardly changed near 0, and never beyond SQUASHED."""
    return torch.tanh(latents / SQUASHED) * SQUASHED


class _Block(nn.Module):
    """Three convolutions around which their input goes too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        between = nn.ReLU(inplace=True)
        convolutions = [_convolution(width, width) for _ in range(3)]
        first, second, third = convolutions
        self.conv = nn.Sequential(first, between, second, between, third)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x) + x)


class Approx(nn.Module):
    """A1111's VAE-approx: the latent at twice its size through convolutions without padding.

    What they take from the borders is put there before, so that the sides come out doubled.
    """

    def __init__(self, dims: ApproxDims) -> None:
        super().__init__()
        self.border = sum(side - 1 for side in dims.kernels) // 2  # px
        sizes = zip(dims.channels, dims.channels[1:], dims.kernels, strict=False)
        parts = enumerate((nn.Conv2d(*size) for size in sizes), FIRST)
        self.layers = nn.ModuleDict({str(number): part for number, part in parts})

    def forward(self, latents: Tensor) -> Tensor:
        """Return the pictures."""
        x = functional.interpolate(latents, scale_factor=2)
        x = functional.pad(x, (self.border,) * 4)
        for layer in self.layers.values():
            x = functional.leaky_relu(layer(x), LEAK)
        return x


def _convolution(taken: int, made: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(taken, made, 3, padding=1, bias=bias)

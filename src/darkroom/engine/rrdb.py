"""RRDBNet, the network of ESRGAN and Real-ESRGAN, built from the dimensions of a file.

(B, C, H, W) in [0, 1] to (B, C, scale·H, scale·W). Blocks of three dense blocks of five
convolutions each; every branch is added back at a fifth of its strength. Then the side is doubled
by repeating pixels, with a convolution after each time. Parameter names are Real-ESRGAN's.
Source: Wang et al. 2018, "ESRGAN", section 3.1 and figure 4; that networks which enlarge twice or
not at all see blocks of pixels as channels: Wang et al. 2021, "Real-ESRGAN", section 3.2; the
second shortcut in a dense block: Rakotonirina and Rasoanaivo 2020, "ESRGAN+", section 3.1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkroom.weights.topology import RrdbDims

SHARE = 0.2  # of a branch that is added back
SLOPE = 0.2  # of the activation below zero


class Rrdb(nn.Module):
    """The whole network."""

    def __init__(self, dims: RrdbDims) -> None:
        super().__init__()
        self._dims = dims
        wide = dims.features
        self.conv_first = _convolution(dims.channels * dims.shuffle**2, wide)
        self.body = nn.ModuleList(_Block(dims) for _ in range(dims.blocks))
        self.conv_body = _convolution(wide, wide)
        self._ups = [f"conv_up{n + 1}" for n in range(dims.doublings)]
        for name in self._ups:
            self.add_module(name, _convolution(wide, wide))
        self.conv_hr = _convolution(wide, wide)
        self.conv_last = _convolution(wide, dims.channels)

    def forward(self, picture: Tensor) -> Tensor:
        """Return the larger picture; its values may leave [0, 1] a little."""
        height, width = (self._dims.scale * side for side in picture.shape[2:])
        first = self.conv_first(self._shuffled(picture))
        x = first
        for block in self.body:
            x = block(x)
        x = first + self.conv_body(x)
        for name in self._ups:
            x = _active(self.get_submodule(name)(functional.interpolate(x, scale_factor=2.0)))
        made: Tensor = self.conv_last(_active(self.conv_hr(x)))
        return made[..., :height, :width]

    def _shuffled(self, picture: Tensor) -> Tensor:
        """Blocks of pixels as channels; the last row and column are repeated where one is cut."""
        factor = self._dims.shuffle
        if factor == 1:
            return picture
        down, right = (-side % factor for side in picture.shape[2:])
        padded = functional.pad(picture, (0, right, 0, down), mode="replicate")
        return functional.pixel_unshuffle(padded, factor)


class _Block(nn.Module):
    """Residual in residual: three dense blocks and a shortcut around them."""

    def __init__(self, dims: RrdbDims) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (_Dense(dims) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + SHARE * self.rdb3(self.rdb2(self.rdb1(x)))
        return made


class _Dense(nn.Module):
    """Five convolutions, each of which sees everything before it."""

    def __init__(self, dims: RrdbDims) -> None:
        super().__init__()
        wide, growth = dims.features, dims.growth
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            _convolution(wide + n * growth, growth) for n in range(4)
        )
        self.conv5 = _convolution(wide + 4 * growth, wide)
        self.conv1x1 = nn.Conv2d(wide, growth, 1, bias=False) if dims.beside else None

    def forward(self, x: Tensor) -> Tensor:
        first = _active(self.conv1(x))
        second = _active(self.conv2(torch.cat((x, first), 1)))
        if self.conv1x1 is not None:
            second = second + self.conv1x1(x)
        third = _active(self.conv3(torch.cat((x, first, second), 1)))
        fourth = _active(self.conv4(torch.cat((x, first, second, third), 1)))
        if self.conv1x1 is not None:
            fourth = fourth + second
        last: Tensor = self.conv5(torch.cat((x, first, second, third, fourth), 1))
        return x + SHARE * last


def _active(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE, inplace=True)


def _convolution(channels: int, made: int) -> nn.Conv2d:
    return nn.Conv2d(channels, made, 3, padding=1)

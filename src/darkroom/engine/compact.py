"""The compact upscaler of Real-ESRGAN (SRVGGNetCompact): convolutions, then pixels from channels.

(B, C, H, W) in [0, 1] to (B, C, scale·H, scale·W). What the convolutions give is added to the
picture with every pixel repeated, so that they have only the difference to learn. Parameter names
are those of the published files. Source: Wang et al. 2021, "Real-ESRGAN", and its release notes for
realesr-general and realesr-animevideo; sub-pixel convolution: Shi et al. 2016, section 2.
"""

from torch import Tensor, nn
from torch.nn import functional

from darkroom.weights.topology import CompactDims


class Compact(nn.Module):
    """`dims.layers` convolutions of `dims.features` channels between the first and the last."""

    def __init__(self, dims: CompactDims) -> None:
        super().__init__()
        self.scale = dims.scale
        parts: list[nn.Module] = [_convolution(dims.channels, dims.features)]
        for _ in range(dims.layers):
            parts += [nn.PReLU(dims.features), _convolution(dims.features, dims.features)]
        parts += [
            nn.PReLU(dims.features),
            _convolution(dims.features, dims.channels * dims.scale**2),
        ]
        self.body = nn.Sequential(*parts)

    def forward(self, picture: Tensor) -> Tensor:
        """Return the larger picture; its values may leave [0, 1] a little."""
        detail = functional.pixel_shuffle(self.body(picture), self.scale)
        return detail + functional.interpolate(picture, scale_factor=self.scale, mode="nearest")


def _convolution(channels: int, made: int) -> nn.Conv2d:
    return nn.Conv2d(channels, made, 3, padding=1)

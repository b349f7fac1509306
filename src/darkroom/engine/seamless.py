"""Pictures that can be laid side by side without a seam: convolutions that wrap around.

    with seamless((unet, vae), "x"):        left and right edge are neighbours inside the block
        ...

A convolution sees zeros beyond the edge of what it is given. Here it sees the opposite edge
instead, along x, y or both. Everything else in a UNet and a VAE treats all places alike, so both
then commute with rolling the picture: there is no edge any more, and no seam.

What is decoded in tiles does not wrap by itself, and is given a strip of the opposite edge instead:
`wrapped` before, `cropped` after.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional

from darkroom.core.blocks import Tiling
from darkroom.sampling import At, Denoiser

AXES: dict[Tiling, tuple[bool, bool]] = {
    "none": (False, False),
    "x": (True, False),
    "y": (False, True),
    "both": (True, True),
}
"""Whether x wraps, and whether y does."""


@contextmanager
def seamless(networks: Iterable[nn.Module], tiling: Tiling) -> Iterator[None]:
    """Let the convolutions of `networks` wrap along the axes of `tiling` inside the block.

    Each gets a `forward` of its own, which is taken away afterwards: no weight is touched.
    """
    axes, changed = AXES[tiling], []
    try:
        for conv in _convolutions(networks) if any(axes) else ():
            make = _wrapping if any(_padding(conv)) else _halving
            conv.__dict__["forward"] = make(conv, axes)
            changed.append(conv)
        yield
    finally:
        for conv in changed:
            del conv.__dict__["forward"]


def edgeless(inner: Denoiser, unet: nn.Module, tiling: Tiling) -> Denoiser:
    """`inner`, which calls `unet`, for pictures that wrap."""
    if tiling == "none":
        return inner

    def denoise(x: Tensor, at: At) -> Tensor:
        with seamless((unet,), tiling):
            return inner(x, at)

    return denoise


def unbroken(
    call: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    vae: nn.Module,
    tiling: Tiling,
    strips: tuple[int, int] | None,
) -> Tensor:
    """What `call` makes of `x` (B, C, H, W) with `vae`, for pictures that wrap.

    `strips` is given where it works in tiles: how much of the opposite edge it is shown, in the
    pixels of `x` and in those of the result.
    """
    if strips is None or tiling == "none":
        with seamless((vae,), tiling):
            return call(x)
    return cropped(call(wrapped(x, strips[0], tiling)), strips[1], tiling)


def wrapped(x: Tensor, margin: int, tiling: Tiling) -> Tensor:
    """`x` (B, C, H, W) with `margin` pixels of the opposite edge at both ends of each axis."""
    across, down = AXES[tiling]
    return _around(x, margin if across else 0, margin if down else 0)


def cropped(x: Tensor, margin: int, tiling: Tiling) -> Tensor:
    """Without the `margin` pixels at both ends of each axis: undoes `wrapped`."""
    across, down = AXES[tiling]
    rows, columns = (slice(margin, -margin) if axis else slice(None) for axis in (down, across))
    return x[..., rows, columns]


def _convolutions(networks: Iterable[nn.Module]) -> Iterator[nn.Conv2d]:
    """Those that see more than one pixel."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
                yield module


def _wrapping(conv: nn.Conv2d, axes: tuple[bool, bool]) -> Callable[[Tensor], Tensor]:
    """`conv` with the opposite edge in place of its zeros."""
    down, across = _padding(conv)
    around = across if axes[0] else 0, down if axes[1] else 0
    zeros = down - around[1], across - around[0]

    def forward(x: Tensor) -> Tensor:
        return functional.conv2d(
            _around(x, *around),
            conv.weight,
            conv.bias,
            conv.stride,
            zeros,
            conv.dilation,
            conv.groups,
        )

    return forward


def _halving(conv: nn.Conv2d, axes: tuple[bool, bool]) -> Callable[[Tensor], Tensor]:
    """`conv` of a VAE's encoder, which is given a column and a row of zeros at the end.

    They are added before it is called, so they are replaced here: by the first column and row.
    """

    def forward(x: Tensor) -> Tensor:
        x = x.clone()
        if axes[0]:
            x[..., -1] = x[..., 0]
        if axes[1]:
            x[..., -1, :] = x[..., 0, :]
        return functional.conv2d(x, conv.weight, conv.bias, conv.stride)

    return forward


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    """Rows and columns of zeros at each end."""
    if isinstance(conv.padding, str):
        raise TypeError(f"a convolution with {conv.padding} padding: it does not say how much")
    return conv.padding[0], conv.padding[1]


def _around(x: Tensor, across: int, down: int) -> Tensor:
    return functional.pad(x, (across, across, down, down), mode="circular")

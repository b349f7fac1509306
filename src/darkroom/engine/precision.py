"""Numbers that overflow: one step is run again in higher precision, and never more than that.

Half precision overflows at 65,504. A NaN then spreads over the whole picture, which other tools
save as a black square. Here the call that went wrong is repeated with the next wider format.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from darkroom.core.errors import NotFinite
from darkroom.sampling import At, Denoiser

WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float64,
}


@contextmanager
def widened(module: nn.Module) -> Iterator[None]:
    """Run `module` in the next wider number format inside the block.

    Its weights are kept and put back by identity. Without a wider format nothing changes.
    """
    tensors = [*module.parameters(), *module.buffers()]
    saved = [tensor.data for tensor in tensors]
    try:
        for tensor, original in zip(tensors, saved, strict=True):
            wider = WIDER.get(original.dtype)
            if wider and not (wider is torch.float64 and original.device.type == "mps"):
                tensor.data = original.to(wider)  # Apple's GPUs have no float64
        yield
    finally:
        for tensor, original in zip(tensors, saved, strict=True):
            tensor.data = original


def finite(inner: Denoiser, module: nn.Module, say: Callable[[str], None]) -> Denoiser:
    """Repeat a call of `inner` in higher precision when its estimate holds NaN or infinity.

    `module` is the network that `inner` runs and `say` is told in words; NotFinite when the
    second try is no better.
    """

    def denoise(x: Tensor, at: At) -> Tensor:
        estimate = inner(x, at)
        if bool(torch.isfinite(estimate).all()):
            return estimate
        with widened(module):
            say(f"numbers overflowed at noise level {at.sigma:.3g}; repeated in higher precision")
            estimate = inner(x, at)
        if not bool(torch.isfinite(estimate).all()):
            raise NotFinite(
                f"the network gives no number at noise level {at.sigma:.3g}, not even in higher"
                " precision",
                hint="Its file is probably damaged; a lower cfg_scale sometimes helps.",
            )
        return estimate

    return denoise


def finite_pixels(
    run: Callable[[], Tensor],
    module: nn.Module,
    say: Callable[[str], None],
    *,
    who: str = "the VAE",
) -> Tensor:
    """The same guard for pictures: `run` again in higher precision instead of a black picture."""
    pixels = run()
    if bool(torch.isfinite(pixels).all()):
        return pixels
    with widened(module):
        say(f"numbers overflowed in {who}; repeated in higher precision")
        pixels = run()
    if not bool(torch.isfinite(pixels).all()):
        raise NotFinite(
            f"{who} gives no picture, not even in higher precision",
            hint="Its file is probably damaged.",
        )
    return pixels

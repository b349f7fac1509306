"""From a network to a denoiser.

A network speaks of discrete times and scaled latents, `(x_in: (B, C, H, W), t: (B,)) -> out`; what
`out` means is its prediction. A denoiser speaks of noise levels. The noise table lies between.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from darkroom.core.model import Prediction
from darkroom.core.sampler_table import SamplerSpec
from darkroom.sampling.denoiser import At, Denoiser

LEAST_KEPT = 4.8973451890853435e-08  # stands for zero where a number is divided by it

Network = Callable[[Tensor, Tensor], Tensor]  # (x_in: (B, C, H, W), t: (B,)) -> (B, C, H, W)


@dataclass(frozen=True, slots=True)
class NoiseTable:
    """The noise levels that a network was trained at.

    Between them, time is linear in the logarithm of the noise level (k-diffusion's convention).
    """

    sigmas: Tensor  # (N,) float32 on the CPU, rising
    times: Tensor  # (N,) float32, what the network calls them
    quantized: bool = False  # the network knows these times and none between

    @classmethod
    def stable_diffusion(cls) -> Self:
        """SD1, SD2, SDXL: 1000 levels, the square root of beta is linear (Rombach et al. 2022)."""
        return cls._of(_kept())

    @classmethod
    def zero_terminal(cls) -> Self:
        """The same, rescaled so that the last level is pure noise (Lin et al. 2023, algorithm 1).

        No noise level can say "pure": the last share of the picture is A1111's, 4.9e-8.
        """
        roots = _kept().sqrt()
        first, last = roots[0].clone(), roots[-1].clone()
        kept = ((roots - last) * (first / (first - last))) ** 2
        kept[-1] = LEAST_KEPT
        return cls._of(kept)

    @classmethod
    def _of(cls, kept: Tensor) -> Self:
        """From the share of the picture's variance (N,) that is left at each time."""
        return cls(((1 - kept) / kept) ** 0.5, torch.arange(len(kept), dtype=torch.float32))

    @classmethod
    def flow(cls, shift: float = 3.0) -> Self:
        """Rectified flow (SD3): the noise level is the share of noise, in (0, 1]."""
        share = torch.arange(1, 1001, dtype=torch.float32) / 1000
        sigmas = shift * share / (1 + (shift - 1) * share)
        return cls(sigmas, sigmas * 1000)

    @property
    def low(self) -> float:
        """The lowest noise level."""
        return self.sigmas[0].item()

    @property
    def high(self) -> float:
        """The highest noise level."""
        return self.sigmas[-1].item()

    def thinned(self, count: int) -> Self:
        """Every so many-th level, `count` in all, ending at the highest; none between (LCM)."""
        stride = len(self.sigmas) // count
        every = slice(stride - 1, None, stride)
        return type(self)(self.sigmas[every], self.times[every], quantized=True)

    def time(self, sigma: float) -> float:
        """The network's name for a noise level, clamped to the table."""
        low, share = self._place(sigma)
        return torch.lerp(self.times[low], self.times[low + 1], share).item()

    def index(self, sigma: float) -> float:
        """The fractional table index of a noise level, clamped to the table: `level`'s inverse."""
        low, share = self._place(sigma)
        return low + share.item()

    def _place(self, sigma: float) -> tuple[int, Tensor]:
        """The table index at or below a noise level, and the share of the way to the next."""
        logs = self.sigmas.log()
        log = torch.tensor(max(sigma, 1e-30)).log()
        last = len(logs) - 2
        if self.quantized:
            # Halfway counts as below. A1111 leaves that to the last bit, so machines would differ.
            near = int((log - 1e-6 - logs).abs().argmin())
            return min(near, last), torch.tensor(float(near > last))
        low = min(max(int(torch.searchsorted(logs, log, right=True)) - 1, 0), last)
        return low, ((log - logs[low]) / (logs[low + 1] - logs[low])).clamp(0, 1)

    def level(self, indices: Tensor) -> Tensor:
        """Noise levels at fractional table indices (n,) in 0 … N - 1: (n,) float32."""
        logs = self.sigmas.log()
        low, share = indices.floor().long(), indices.frac()
        high = indices.ceil().long()
        return ((1 - share) * logs[low] + share * logs[high]).exp()


def _kept() -> Tensor:
    """The share of the picture's variance at each time; in mathematics, alpha bar."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    # Single precision, as everyone keeps it: Brownian noise depends on the last bit of a level.
    return (1 - roots**2).cumprod(0).float()


def table_for(sampler: SamplerSpec, table: NoiseTable) -> NoiseTable:
    """The noise levels of a model as `sampler` sees them; predict and schedule from this one."""
    return table if sampler.trained_levels is None else table.thinned(sampler.trained_levels)


def predict(network: Network, table: NoiseTable, prediction: Prediction) -> Denoiser:
    """The network as a denoiser."""

    def denoise(x: Tensor, at: At) -> Tensor:
        times = x.new_full((x.shape[0],), table.time(at.sigma))
        spread = math.hypot(at.sigma, 1)  # standard deviation of `x` for unit-variance latents
        match prediction:
            case Prediction.EPS:
                return x - at.sigma * network(x / spread, times)
            case Prediction.V:
                return x / spread**2 - at.sigma / spread * network(x / spread, times)
            case Prediction.FLOW:
                return x - at.sigma * network(x, times)

    return denoise

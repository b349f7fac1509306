"""The normal noise of torch on an NVIDIA card, computed on any machine.

Philox 4x32-10 (Salmon et al. 2011) in the layout of CUDA: one counter per element, one call index
per draw, and the first number of each Box-Muller pair.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint64]  # 32-bit words, held in 64 bits so that products do not overflow

_LOW = np.uint64(0xFFFFFFFF)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
# CUDA keeps these two as float32; the products are taken in float64.
_UNIT = float(np.float32(2.3283064e-10))  # 2^-32
_TURN = float(np.float32(2.3283064e-10 * 6.2831855))  # 2^-32 of a full turn, in radians


class Philox:
    """One stream, of the 64-bit `seed`."""

    def __init__(self, seed: int) -> None:
        self._key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
        self._calls = 0

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        """The next draw of unit noise: float32 of `shape`, on the CPU."""
        elements = np.arange(math.prod(shape), dtype=np.uint64)
        blank = np.zeros_like(elements)
        first, second = philox((blank + np.uint64(self._calls), blank, elements, blank), self._key)
        self._calls += 1
        radius = np.sqrt(-2 * np.log(first * _UNIT + _UNIT / 2))
        noise = radius * np.sin(second * _TURN + _TURN / 2)
        return torch.from_numpy(noise.astype(np.float32)).reshape(shape)


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words]:
    """The first two of the four output words; `counter` is four arrays (N,) of 32-bit words."""
    a, b, c, d = counter
    low, high = key
    for _ in range(_ROUNDS):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = (right >> np.uint64(32)) ^ b ^ np.uint64(low), right & _LOW
        c, d = (left >> np.uint64(32)) ^ d ^ np.uint64(high), left & _LOW
        low, high = (low + _KEY_STEPS[0]) & 0xFFFFFFFF, (high + _KEY_STEPS[1]) & 0xFFFFFFFF
    return a, b

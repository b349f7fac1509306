"""What a LoRA and its kin add to a weight.

    Adapter.delta(weight, strength) -> Tensor      to be added; W' = W + ΔW(W, m)

W is (o, i) or (o, i, k, k), read as a matrix (o, i·k·k); m is the user's strength and s the file's
own scale, alpha / rank. Everything is reckoned in float32 on the weight's device.

    LoRA      ΔW = m s · up · down                              Hu et al. 2021
    LoHa      ΔW = m s · (A1 B1) ⊙ (A2 B2)                      Hyeon-Woo et al. 2021 (FedPara)
    LoKr      ΔW = m s · C ⊗ D                                  Edalati et al. 2022 (KronA)
    GLoRA     ΔW = m s · (W A1 A2 + B1 B2)                      Chavan et al. 2023
    IA3       ΔW = m · W ⊙ w, by row or by column               Liu et al. 2022
    full      ΔW = m · D
    OFT       W' = ρ · R_m W, R_m = I + m (R - I)               Qiu et al. 2023
    BOFT      the same with a product of butterflies            Liu et al. 2023
    DoRA      W' = V (1 + m (d / ‖V‖ - 1)), V = W + ΔW(W, 1)    Liu et al. 2024

Convolutions and the Tucker forms are those of LyCORIS (Yeh et al. 2023).
The last three are no multiples of m: between 0 and 1 they are what LyCORIS computes while it runs,
which other programs follow. DoRA at m → 0 is therefore V and not W; at 0 nothing is applied at all.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Formula(Protocol):
    """One algorithm with its factors."""

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What to add to `weight`, (o, i·k·k) in float32 as is the weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """All that a file does to one module."""

    formula: Formula | None  # None: it changes the bias only
    bias: Tensor | None = None  # (o,), added to the bias

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What to add to the weight: float32, in the weight's shape."""
        now = weight.detach().to(torch.float32)
        if self.formula is None:
            return torch.zeros_like(now)
        matrix = now.flatten(1) if now.dim() > 1 else now[:, None]
        return self.formula.delta(matrix, strength).reshape(weight.shape)

    def bias_delta(self, bias: Tensor | None, strength: float) -> Tensor | None:
        """What to add to the bias, (o,) in float32 on its device; None if it stays as it is."""
        if self.bias is None:
            return None
        return strength * _beside(self.bias if bias is None else bias, self.bias)

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """Where ΔW = m · up · down for any W: up (o, r) with the scale in it, down (r, i·k·k)."""
        return self.formula.factors() if isinstance(self.formula, LowRank) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """LoRA: the product of two narrow matrices."""

    up: Tensor  # (o, r)
    down: Tensor  # (r, i·k·k)
    scale: float

    def factors(self) -> tuple[Tensor, Tensor]:
        """Up times scale, and down in the format of the file."""
        return self.up.to(torch.float32) * self.scale, self.down

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        up, down = _beside(weight, self.up), _beside(weight, self.down)
        return (up * (strength * self.scale)) @ down


@dataclass(frozen=True, slots=True, kw_only=True)
class Hadamard:
    """LoHa: two low-rank matrices, multiplied number by number."""

    first: tuple[Tensor, Tensor]  # (o, r) and (r, i·k·k)
    second: tuple[Tensor, Tensor]
    scale: float

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        first, second = (
            _beside(weight, left) @ _beside(weight, right)
            for left, right in (self.first, self.second)
        )
        return first.mul_(second).mul_(strength * self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kronecker:
    """LoKr: every number of `left` times the whole of `right`.

    The kernel lies in the columns of `right`, so that a convolution needs no case of its own.
    """

    left: Tensor  # (a, b)
    right: Tensor  # (c, d·k·k); a c = o, b d = i
    scale: float

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        left = _beside(weight, self.left) * (strength * self.scale)
        made: Tensor = torch.kron(left, _beside(weight, self.right))
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Generalised:
    """GLoRA: one low-rank matrix turns the weight's inputs, another is added."""

    turn: tuple[Tensor, Tensor]  # (i, r) and (r, i)
    add: tuple[Tensor, Tensor]  # (o, r) and (r, i·k·k)
    scale: float

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        into, out = (_beside(weight, part) for part in self.turn)
        up, down = (_beside(weight, part) for part in self.add)
        inputs = weight.unflatten(1, (into.shape[0], -1)).transpose(1, 2)  # (o, k·k, i)
        turned: Tensor = (inputs @ into @ out).transpose(1, 2).flatten(1)
        return turned.addmm(up, down).mul_(strength * self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaled:
    """IA3: each row of the weight by a number of its own, or each input."""

    by: Tensor  # (o,) or (i,)
    inputs: bool

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        by = strength * _beside(weight, self.by)
        if not self.inputs:
            return weight * by[:, None]
        return weight * by.repeat_interleave(weight.shape[1] // len(by))


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """The difference itself."""

    diff: Tensor  # (o, i·k·k)

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        return strength * _beside(weight, self.diff)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """OFT and BOFT: the rows of the weight are turned in blocks of b, n blocks for o rows.

    In stage j of a BOFT, rows 2^j b / 2 apart come to lie side by side first (the butterfly), so
    that after all stages every row has met every other. OFT is one stage that moves nothing.
    """

    stages: Tensor  # (stages, n, b, b), each block orthogonal
    butterfly: bool
    rescale: Tensor | None = None  # (o,); not eased by the strength

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        stages = _beside(weight, self.stages)
        one = torch.eye(stages.shape[-1], device=weight.device)
        now = weight
        for stage, blocks in enumerate(torch.lerp(one, stages, strength)):
            reach = 2**stage * blocks.shape[-1] // 2 if self.butterfly else 1
            pairs = (2, reach) if self.butterfly else (1, 1)
            rows = now.view(-1, *pairs, now.shape[1]).transpose(1, 2)
            turned = blocks @ rows.reshape(*blocks.shape[:2], -1)
            now = turned.view(-1, *reversed(pairs), now.shape[1]).transpose(1, 2).reshape(now.shape)
        if self.rescale is not None:
            now = now * _beside(weight, self.rescale)[:, None]
        return now - weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposed:
    """DoRA on another formula: the direction is learned by it, the length apart."""

    inner: Formula
    length: Tensor  # (o,) of each row, or (i,) of each input
    inputs: bool

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        moved = weight + self.inner.delta(weight, 1.0)
        parts = moved.view(weight.shape[0], len(self.length) if self.inputs else 1, -1)
        norm = parts.norm(dim=(0, 2) if self.inputs else (1, 2), keepdim=True)
        length = _beside(weight, self.length).view(norm.shape)
        eased = 1 + strength * (length / (norm + torch.finfo(norm.dtype).eps) - 1)
        return parts.mul_(eased).view(weight.shape) - weight


def cayley(blocks: Tensor, limit: float) -> Tensor:
    """Rotations (…, b, b) from any square blocks: (I + Q)(I - Q)⁻¹ with Q = B - Bᵀ.

    With `limit` > 0 the length of all Q together is brought down to it (COFT, Qiu et al. 2023).
    """
    skew = blocks - blocks.mT
    if limit > 0 and (length := float(skew.norm())) > limit:
        skew = skew * (limit / length)
    one = torch.eye(skew.shape[-1])
    turned: Tensor = torch.linalg.solve(one - skew, one + skew)  # the two commute
    return turned


def fold(core: Tensor, inner: Tensor) -> Tensor:
    """A Tucker core (r, q, k, k) and its factor (q, i) as one: (r, i·k·k)."""
    core, inner = core.to(torch.float32), inner.to(torch.float32)
    core = core.reshape(*core.shape[:2], -1)  # a linear layer has no kernel
    return torch.einsum("rqk,qi->rik", core, inner.flatten(1)).flatten(1)


def _beside(weight: Tensor, factor: Tensor) -> Tensor:
    """A factor in float32 on the weight's device."""
    return factor.to(weight.device, torch.float32)

"""From the tensors of one module to its adapter.

    build("LoHa", parts, shape) -> Adapter      `parts` by name, `shape` of the module's weight

What `algorithms` let pass can be built; only numbers can still be wrong here. What holds for all
strengths is worked out once: scales, Tucker cores, rotations, the zeros for channels that the file
does not know.
"""

from collections.abc import Callable, Mapping
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from darkroom.weights.layouts.entry import Shape
from darkroom.weights.lora.algorithms import has_kernel, is_older_glora, matrix
from darkroom.weights.lora.formulas import (
    Adapter,
    Decomposed,
    Formula,
    Generalised,
    Hadamard,
    Kronecker,
    LowRank,
    Rescaled,
    Rotated,
    Whole,
    cayley,
    fold,
)

Tensors = Mapping[str, Tensor]
RANKED = ("down", "lokr_w2_b", "lokr_w1_b", "hada_w1_b", "a2")  # the first axis is the rank


def build(algorithm: str, parts: Tensors, shape: Shape, *, told: float | None = None) -> Adapter:
    """The adapter of a module; `told` is its scale if the file's metadata give one."""
    if algorithm == "GLoRA" and is_older_glora(parts["a1"].shape, parts["b1"].shape, shape):
        parts = {**parts, **dict(zip(("a2", "a1", "b2", "b1"), _glora(parts), strict=True))}
    scale = _scale(parts, told)
    made = BUILDERS[algorithm](parts, shape, scale)
    if made is not None and "dora" in parts:
        length = parts["dora"]
        inputs = length.dim() > 1 and prod(length.shape[1:]) > 1
        made = Decomposed(inner=made, length=length.flatten(), inputs=inputs)
    return Adapter(formula=made, bias=_bias(parts, scale))


def _scale(parts: Tensors, told: float | None) -> float:
    """As stored; else alpha / rank, where alpha 0 and no alpha at all mean the rank."""
    if "scale" in parts:
        return float(parts["scale"])
    alpha = float(parts["alpha"]) if "alpha" in parts else 0.0
    rank = next((parts[name].shape[0] for name in RANKED if name in parts), 0)
    if alpha and rank:
        return alpha / rank
    return 1.0 if told is None else told


def _bias(parts: Tensors, scale: float) -> Tensor | None:
    for name, times in (("diff_b", 1.0), ("b_norm", 1.0), ("up_b", scale)):
        if name in parts:
            return parts[name].flatten().to(torch.float32) * times
    return None


def _lora(parts: Tensors, shape: Shape, scale: float) -> Formula:
    up, down = parts["up"], parts["down"]
    if "mid" not in parts and has_kernel(up.shape):  # so that it is no product of matrices
        pair = up.flatten(2).to(torch.float32), down.flatten(1).to(torch.float32)
        diff = torch.einsum("ork,ri->oik", *pair).flatten(1)
        return Whole(diff=_padded(diff * scale, shape))
    down = fold(parts["mid"], down) if "mid" in parts else down.flatten(1)
    return LowRank(up=up.flatten(1), down=_padded(down, shape), scale=scale)


def _loha(parts: Tensors, _: Shape, scale: float) -> Formula:
    first, second = (_pair(parts, f"hada_w{half}", f"hada_t{half}") for half in (1, 2))
    return Hadamard(first=first, second=second, scale=scale)


def _lokr(parts: Tensors, _: Shape, scale: float) -> Formula:
    left, right = (_whole(parts, f"lokr_w{half}") for half in (1, 2))
    return Kronecker(left=left, right=right, scale=scale)


def _glora_parts(parts: Tensors, _: Shape, scale: float) -> Formula:
    a1, a2, b1, b2 = _glora(parts)
    down = fold(parts["bm"], b2) if "bm" in parts else b2.flatten(1)
    return Generalised(turn=(a1.flatten(1), a2.flatten(1)), add=(b1.flatten(1), down), scale=scale)


def _ia3(parts: Tensors, shape: Shape, _: float) -> Formula:
    by = parts["ia3"].flatten()
    inputs = bool(parts["on_input"]) if "on_input" in parts else len(by) != shape[0]
    return Rescaled(by=by, inputs=inputs)


def _full(parts: Tensors, shape: Shape, _: float) -> Formula | None:
    return Whole(diff=_padded(_rows(parts["diff"]), shape)) if "diff" in parts else None


def _norm(parts: Tensors, _shape: Shape, _scale: float) -> Formula | None:
    return Whole(diff=parts["w_norm"].flatten()[:, None]) if "w_norm" in parts else None


def _oft(parts: Tensors, shape: Shape, _: float) -> Formula:
    """`alpha` limits the rotation here; and OFT turns by the transposed blocks."""
    if "oft_diag" in parts:  # of the first generation: the rotations themselves
        blocks = parts["oft_diag"].to(torch.float32)
    else:
        limit = float(parts["alpha"]) * shape[0] if "alpha" in parts else 0.0
        blocks = cayley(parts["oft_blocks"].to(torch.float32), limit)
    butterfly = blocks.dim() == 4
    stages = blocks if butterfly else blocks.mT[None]
    rescale = parts["rescale"].flatten() if "rescale" in parts else None
    return Rotated(stages=stages, butterfly=butterfly, rescale=rescale)


BUILDERS: Mapping[str, Callable[[Tensors, Shape, float], Formula | None]] = {
    "LoRA": _lora,
    "LoHa": _loha,
    "LoKr": _lokr,
    "GLoRA": _glora_parts,
    "IA3": _ia3,
    "full difference": _full,
    "norm": _norm,
    "OFT": _oft,
    "BOFT": _oft,
}


def _glora(parts: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return parts["a1"], parts["a2"], parts["b1"], parts["b2"]


def _pair(parts: Tensors, name: str, core: str) -> tuple[Tensor, Tensor]:
    """Two factors (o, r) and (r, i·k·k); beside a core they are (r, o) and (r, i)."""
    left, right = parts[f"{name}_a"], parts[f"{name}_b"]
    if core in parts:
        return left.flatten(1).mT, fold(parts[core], right)
    return left.flatten(1), right.flatten(1)


def _whole(parts: Tensors, name: str) -> Tensor:
    """A factor of LoKr, (c, d·k·k), from its own factors if it has some."""
    if name in parts:
        return parts[name].flatten(1)
    left, right = _pair(parts, name, "lokr_t2" if name == "lokr_w2" else "")
    return left.to(torch.float32) @ right.to(torch.float32)


def _rows(weight: Tensor) -> Tensor:
    return weight.flatten(1) if weight.dim() > 1 else weight[:, None]


def _padded(columns: Tensor, shape: Shape) -> Tensor:
    """Zeros for the channels of the weight that the file does not know."""
    return pad(columns, (0, matrix(shape)[1] - columns.shape[1]))

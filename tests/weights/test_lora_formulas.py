"""Every formula against the same thing written out number by number, in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.weights.lora.algorithms import algorithm_of, fault
from darkroom.weights.lora.build import build

KERNELS = st.sampled_from([(), (1, 1), (3, 3)])
RANKS = st.integers(1, 4)
STRENGTHS = st.sampled_from([1.0, 0.6, -0.5, 2.0])
SEEDS = st.integers(0, 2**16)
tries = settings(max_examples=25, deadline=None, derandomize=True)


class Case:
    """Random factors in float64 and the weight they are for."""

    def __init__(self, seed, out, into, kernel):
        self.random = np.random.default_rng(seed)
        self.shape = (out, into, *kernel)
        self.weight = self.numbers(*self.shape)
        self.parts = {}

    def numbers(self, *shape):
        return self.random.standard_normal(shape)

    def add(self, **parts):
        self.parts |= {name: np.asarray(part, dtype=np.float64) for name, part in parts.items()}

    def check(self, want, strength, *, tolerance=2e-4):
        """The adapter that the parts make adds `want` (in the weight's shape) to the weight."""
        shapes = {name: part.shape for name, part in self.parts.items()}
        algorithm = algorithm_of(frozenset(self.parts), shapes)
        assert not fault(algorithm, shapes, self.shape, biased=True)
        tensors = {
            name: torch.tensor(part, dtype=torch.float32) for name, part in self.parts.items()
        }
        adapter = build(algorithm.name, tensors, self.shape)
        weight = torch.tensor(self.weight, dtype=torch.float32)
        got = adapter.delta(weight, strength)
        assert got.shape == weight.shape
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got.double().numpy(), want, rtol=tolerance, atol=tolerance)
        if (factors := adapter.factors()) is not None:
            up, down = factors
            flat = (strength * (up @ down)).reshape(weight.shape)
            torch.testing.assert_close(flat, got, rtol=1e-4, atol=1e-5)
        return adapter


def matrix(weight):
    return weight.reshape(len(weight), -1)


def conv_product(up, down, mid=None):
    """ΔW of a LoRA as the sum over its paths, a loop for every index of rank."""
    up, down = up.reshape(len(up), up.shape[1], -1), down.reshape(len(down), down.shape[1], -1)
    core = np.eye(len(down))[:, :, None] if mid is None else mid.reshape(*mid.shape[:2], -1)
    width = max(up.shape[2], down.shape[2], core.shape[2])
    total = np.zeros((len(up), down.shape[1], width))
    for n, m in itertools.product(range(core.shape[0]), range(core.shape[1])):
        for k in range(width):
            a = up[:, n, k % up.shape[2]]
            b = down[m, :, k % down.shape[2]]
            total[:, :, k] += core[n, m, k % core.shape[2]] * np.outer(a, b)
    return total


@tries
@given(SEEDS, st.integers(1, 7), st.integers(1, 7), RANKS, KERNELS, STRENGTHS)
def test_lora(seed, out, into, rank, kernel, strength):
    case = Case(seed, out, into, kernel)
    ones = (1,) * len(kernel)
    case.add(up=case.numbers(out, rank, *ones), down=case.numbers(rank, into, *kernel), alpha=2.5)
    want = conv_product(case.parts["up"], case.parts["down"]) * 2.5 / rank
    case.check(strength * want.reshape(case.shape), strength)


@tries
@given(SEEDS, RANKS, STRENGTHS)
def test_lora_with_the_kernel_on_the_way_up(seed, rank, strength):
    case = Case(seed, 5, 4, (3, 3))
    case.add(up=case.numbers(5, rank, 3, 3), down=case.numbers(rank, 4, 1, 1), alpha=1.5)
    want = conv_product(case.parts["up"], case.parts["down"]) * 1.5 / rank
    case.check(strength * want.reshape(case.shape), strength)


@tries
@given(SEEDS, RANKS, RANKS, STRENGTHS)
def test_lora_with_a_core(seed, rank, inner, strength):
    case = Case(seed, 5, 4, (3, 3))
    case.add(
        up=case.numbers(5, rank, 1, 1),
        mid=case.numbers(rank, inner, 3, 3),
        down=case.numbers(inner, 4, 1, 1),
        alpha=1.5,
    )
    want = conv_product(*(case.parts[name] for name in ("up", "down", "mid"))) * 1.5 / inner
    case.check(strength * want.reshape(case.shape), strength)


def loha_half(a, b, core=None):
    if core is None:
        return a @ b.reshape(len(b), -1)
    return matrix(conv_product(a.T, b, core))


@tries
@given(SEEDS, st.integers(1, 6), st.integers(1, 6), RANKS, KERNELS, STRENGTHS, st.booleans())
def test_loha(seed, out, into, rank, kernel, strength, tucker):
    case = Case(seed, out, into, kernel)
    for half in ("1", "2"):
        if tucker:
            a, b = case.numbers(rank, out), case.numbers(rank, into)
            case.add(**{f"hada_t{half}": case.numbers(rank, rank, *(kernel or (1, 1)))})
        else:
            a, b = case.numbers(out, rank), case.numbers(rank, into * math.prod(kernel))
        case.add(**{f"hada_w{half}_a": a, f"hada_w{half}_b": b}, alpha=3)
    halves = [
        loha_half(*(case.parts.get(f"hada_{name}") for name in (f"w{h}_a", f"w{h}_b", f"t{h}")))
        for h in ("1", "2")
    ]
    want = (halves[0] * halves[1]).reshape(case.shape) * 3 / rank
    case.check(strength * want, strength)


@tries
@given(SEEDS, RANKS, KERNELS, STRENGTHS, st.booleans(), st.sampled_from(["whole", "pair", "core"]))
def test_lokr(seed, rank, kernel, strength, left_whole, right):
    """Every number of the left factor is a block of the right one."""
    a, b, c, d = 2, 3, 4, 2
    case = Case(seed, a * c, b * d, kernel)
    if left_whole:
        case.add(lokr_w1=case.numbers(a, b))
        left = case.parts["lokr_w1"]
    else:
        case.add(lokr_w1_a=case.numbers(a, rank), lokr_w1_b=case.numbers(rank, b))
        left = case.parts["lokr_w1_a"] @ case.parts["lokr_w1_b"]
    if right == "whole":
        case.add(lokr_w2=case.numbers(c, d, *kernel))
        whole = case.parts["lokr_w2"]
    elif right == "pair":
        case.add(
            lokr_w2_a=case.numbers(c, rank), lokr_w2_b=case.numbers(rank, d * math.prod(kernel))
        )
        whole = case.parts["lokr_w2_a"] @ case.parts["lokr_w2_b"]
    else:
        case.add(lokr_w2_a=case.numbers(rank, c), lokr_w2_b=case.numbers(rank, d))
        case.add(lokr_t2=case.numbers(rank, rank, *(kernel or (1, 1))))
        whole = loha_half(*(case.parts[f"lokr_{n}"] for n in ("w2_a", "w2_b", "t2")))
    case.add(alpha=5)
    whole = whole.reshape(c, d, *kernel)
    want = np.empty(case.shape)
    for i, j in itertools.product(range(a), range(b)):
        want[i * c : (i + 1) * c, j * d : (j + 1) * d] = left[i, j] * whole
    scale = 1 if left_whole and right == "whole" else 5 / rank
    case.check(strength * scale * want, strength)


@tries
@given(SEEDS, st.integers(2, 6), RANKS, KERNELS, STRENGTHS, st.booleans())
def test_glora_in_both_generations(seed, into, rank, kernel, strength, older):
    case = Case(seed, 7, into, kernel)
    turn, back = case.numbers(into, rank), case.numbers(rank, into)
    up, down = case.numbers(7, rank), case.numbers(rank, into, *kernel)
    if older:
        case.add(a2=turn, a1=back, b2=up, b1=down, alpha=3)
    else:
        case.add(a1=turn, a2=back, b1=up, b2=down, alpha=3)
    pixels = case.weight.reshape(7, into, -1)
    turned = np.stack([pixels[..., k] @ turn @ back for k in range(pixels.shape[2])], -1)
    want = turned.reshape(case.shape) + (up @ matrix(down)).reshape(case.shape)
    case.check(strength * 3 / rank * want, strength, tolerance=2e-3)


@tries
@given(SEEDS, KERNELS, STRENGTHS, st.booleans())
def test_ia3(seed, kernel, strength, inputs):
    case = Case(seed, 5, 3, kernel)
    by = case.numbers(3 if inputs else 5)
    case.add(ia3=by, on_input=float(inputs))
    want = np.stack([
        [row * by[i if inputs else o] for i, row in enumerate(rows)]
        for o, rows in enumerate(case.weight)
    ])  # fmt: skip
    case.check(strength * want, strength)


def rotation(blocks, limit=0.0):
    """Cayley's: solved row by row with an inverse."""
    skew = blocks - np.swapaxes(blocks, -1, -2)
    length = np.sqrt((skew**2).sum())
    if 0 < limit < length:
        skew = skew * limit / length
    one = np.eye(skew.shape[-1])
    return (one + skew) @ np.linalg.inv(one - skew)


def block_diagonal(blocks):
    count, size = blocks.shape[:2]
    whole = np.zeros((count * size, count * size))
    for index, block in enumerate(blocks):
        at = slice(index * size, (index + 1) * size)
        whole[at, at] = block
    return whole


@tries
@given(SEEDS, st.integers(1, 3), st.integers(1, 4), KERNELS, STRENGTHS, st.sampled_from([0, 1e-2, 9]), st.booleans())  # fmt: skip
def test_oft(seed, count, size, kernel, strength, constraint, rescaled):
    out = count * size
    case = Case(seed, out, 3, kernel)
    case.add(oft_blocks=case.numbers(count, size, size), alpha=constraint)
    turns = rotation(case.parts["oft_blocks"], constraint * out)
    eased = block_diagonal(np.eye(size) + strength * (turns - np.eye(size))).T
    want = eased @ matrix(case.weight)
    if rescaled:
        case.add(rescale=case.numbers(out, 1))
        want = case.parts["rescale"] * want
    case.check(want.reshape(case.shape) - case.weight, strength, tolerance=2e-3)


@tries
@given(SEEDS, STRENGTHS)
def test_oft_of_the_first_generation_holds_the_rotations(seed, strength):
    case = Case(seed, 6, 3, ())
    case.add(oft_diag=case.numbers(2, 3, 3))
    eased = np.eye(3) + strength * (case.parts["oft_diag"] - np.eye(3))
    case.check(block_diagonal(eased).T @ case.weight - case.weight, strength)


@tries
@given(SEEDS, st.sampled_from([(1, 2), (2, 2), (3, 4), (2, 6)]), KERNELS, STRENGTHS)
def test_boft(seed, sizes, kernel, strength):
    """A stage as a whole matrix: permute, turn the blocks, permute back (Liu et al. 2023, fig. 3)."""
    stages, size = sizes
    count = 2 ** (stages - 1) * 2
    out = count * size
    case = Case(seed, out, 3, kernel)
    case.add(oft_blocks=case.numbers(stages, count, size, size) / 2, alpha=0)
    want = matrix(case.weight)
    for stage, blocks in enumerate(case.parts["oft_blocks"]):
        reach = 2**stage * size // 2
        chunk = np.arange(out).reshape(-1, 2, reach)
        order = np.concatenate([[pair[0][k], pair[1][k]] for pair in chunk for k in range(reach)])
        permutation = np.eye(out)[order]
        eased = np.eye(size) + strength * (rotation(blocks) - np.eye(size))
        want = permutation.T @ block_diagonal(eased) @ permutation @ want
    case.check(want.reshape(case.shape) - case.weight, strength, tolerance=2e-3)


def test_a_rotation_keeps_lengths():
    case = Case(0, 32, 8, ())
    case.add(oft_blocks=case.numbers(3, 8, 4, 4))
    tensors = {"oft_blocks": torch.tensor(case.parts["oft_blocks"], dtype=torch.float32)}
    weight = torch.tensor(case.weight, dtype=torch.float32)
    turned = weight + build("BOFT", tensors, case.shape).delta(weight, 1.0)
    torch.testing.assert_close(turned.norm(dim=0), weight.norm(dim=0))


@tries
@given(SEEDS, RANKS, KERNELS, STRENGTHS, st.booleans())
def test_dora_on_lora(seed, rank, kernel, strength, inputs):
    case = Case(seed, 5, 4, kernel)
    ones = (1,) * len(kernel)
    case.add(up=case.numbers(5, rank, *ones), down=case.numbers(rank, 4, *kernel), alpha=1)
    case.add(dora=abs(case.numbers(*((1, 4) if inputs else (5, 1)), *ones)) + 0.1)
    moved = case.weight + (conv_product(case.parts["up"], case.parts["down"]) / rank).reshape(
        case.shape
    )
    axes = tuple(axis for axis in range(moved.ndim) if axis != int(inputs))
    length = np.sqrt((moved**2).sum(axis=axes, keepdims=True))
    want = moved * (1 + strength * (case.parts["dora"] / length - 1)) - case.weight
    adapter = case.check(want, strength, tolerance=2e-3)
    assert adapter.factors() is None


INNER = {
    "LoRA with a core": {"up": (8, 2, 1, 1), "mid": (2, 2, 3, 3), "down": (2, 6, 1, 1)},
    "LoHa": {f"hada_w{h}_{side}": s for h in "12" for side, s in (("a", (8, 2)), ("b", (2, 54)))},
    "LoHa with cores": {
        **{f"hada_w{h}_{side}": s for h in "12" for side, s in (("a", (2, 8)), ("b", (2, 6)))},
        "hada_t1": (2, 2, 3, 3), "hada_t2": (2, 2, 3, 3),
    },
    "LoKr": {"lokr_w1": (4, 3), "lokr_w2_a": (2, 2), "lokr_w2_b": (2, 18)},
    "LoKr with a core": {
        "lokr_w1_a": (4, 2), "lokr_w1_b": (2, 3), "lokr_t2": (2, 2, 3, 3), "lokr_w2_a": (2, 2),
        "lokr_w2_b": (2, 2),
    },
}  # fmt: skip


@pytest.mark.parametrize("inputs", [False, True], ids=["by row", "by input"])
@pytest.mark.parametrize("inner", INNER)
def test_dora_on_what_is_no_plain_product(inner, inputs):
    """The same length for every row or input, whatever gives the direction."""
    case = Case(1, 8, 6, (3, 3))
    case.add(**{part: case.numbers(*shape) for part, shape in INNER[inner].items()}, alpha=1)
    plain = {part: torch.tensor(t, dtype=torch.float32) for part, t in case.parts.items()}
    weight = torch.tensor(case.weight, dtype=torch.float32)
    added = build(inner.split()[0], plain, case.shape).delta(weight, 1.0)
    case.add(dora=abs(case.numbers(*((1, 6) if inputs else (8, 1)), 1, 1)) + 0.1)
    moved = case.weight + added.double().numpy()
    axes = (0, 2, 3) if inputs else (1, 2, 3)
    length = np.sqrt((moved**2).sum(axis=axes, keepdims=True))
    for strength in (1.0, 0.6):
        want = moved * (1 + strength * (case.parts["dora"] / length - 1)) - case.weight
        case.check(want, strength)


@tries
@given(SEEDS, STRENGTHS)
def test_a_difference_and_a_norm(seed, strength):
    case = Case(seed, 5, 4, (3, 3))
    case.add(diff=case.numbers(*case.shape), diff_b=case.numbers(5))
    adapter = case.check(strength * case.parts["diff"], strength)
    got = adapter.bias_delta(torch.zeros(5), strength)
    np.testing.assert_allclose(got, strength * case.parts["diff_b"], rtol=1e-5)
    norm = Case(seed, 5, 1, ())
    norm.shape, norm.weight = (5,), norm.numbers(5)
    norm.add(w_norm=norm.numbers(5), b_norm=norm.numbers(5))
    adapter = norm.check(strength * norm.parts["w_norm"], strength)
    got = adapter.bias_delta(torch.zeros(5), strength)
    np.testing.assert_allclose(got, strength * norm.parts["b_norm"], rtol=1e-5)


# scales


def scaled(told=None, **scales):
    parts = {"up": torch.ones(3, 4), "down": torch.ones(4, 3)}
    parts |= {name: torch.tensor(value) for name, value in scales.items()}
    return float(build("LoRA", parts, (3, 3), told=told).delta(torch.zeros(3, 3), 1.0)[0, 0]) / 4


@pytest.mark.parametrize(
    ("scales", "want"),
    [
        ({}, 1.0),
        ({"alpha": 0.0}, 1.0),
        ({"alpha": 2.0}, 0.5),
        ({"alpha": 2}, 0.5),
        ({"scale": 0.25}, 0.25),
        ({"scale": 0.25, "alpha": 2.0}, 0.25),
        ({"told": 3.0}, 3.0),
        ({"told": 3.0, "alpha": 2.0}, 0.5),
    ],
)
def test_the_scale_is_stored_or_alpha_by_rank_or_told_or_one(scales, want):
    assert scaled(**scales) == want


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_reckoned_in_float32(dtype):
    """300 · 300 is more than float16 holds, and its digits more than bfloat16's."""
    parts = {
        "up": torch.full((2, 1), 300, dtype=dtype),
        "down": torch.full((1, 2), 301, dtype=dtype),
    }
    got = build("LoRA", parts, (2, 2)).delta(torch.zeros(2, 2, dtype=dtype), 1.0)
    assert got[0, 0] == 300 * float(parts["down"][0, 0])


@pytest.mark.parametrize("name", ["up", "diff"])
def test_channels_that_a_file_does_not_know_are_left_alone(name):
    parts = {"diff": torch.ones(5, 4, 3, 3)}
    if name == "up":
        parts = {"up": torch.ones(5, 2, 1, 1), "down": torch.ones(2, 4, 3, 3)}
    adapter = build("LoRA" if name == "up" else "full difference", parts, (5, 9, 3, 3))
    got = adapter.delta(torch.zeros(5, 9, 3, 3), 1.0)
    assert got[:, :4].all()
    assert not got[:, 4:].any()


def test_a_weight_in_another_memory_order_gets_the_same():
    case = Case(3, 6, 4, (3, 3))
    parts = {"oft_blocks": torch.tensor(case.numbers(2, 3, 3), dtype=torch.float32)}
    weight = torch.tensor(case.weight, dtype=torch.float32)
    adapter = build("OFT", parts, case.shape)
    other = weight.to(memory_format=torch.channels_last)
    torch.testing.assert_close(adapter.delta(weight, 0.5), adapter.delta(other, 0.5))


def test_the_weight_itself_is_never_touched():
    weight = torch.nn.Parameter(torch.ones(4, 4))
    parts = {"up": torch.ones(4, 1), "down": torch.ones(1, 4), "dora": torch.ones(4, 1)}
    got = build("LoRA", parts, (4, 4)).delta(weight, 1.0)
    assert not got.requires_grad
    assert torch.equal(weight, torch.ones(4, 4))

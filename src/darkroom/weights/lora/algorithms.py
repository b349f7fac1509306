"""The algorithms, by the parts that a module has in the file and by their shapes; no torch.

A weight is (o, i) or (o, i, k, k); most formulas see it as a matrix, `matrix(shape)` = (o, i·k·k),
so that a 1x1 convolution and a linear layer are the same. Ranks are r. Whether a file fits a
checkpoint is decided here alone: what passes can be computed (`formulas`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod

from darkroom.weights.layouts.entry import Shape

Shapes = Mapping[str, Shape]  # part -> shape
Matrix = tuple[int, int]

SCALES = frozenset({"alpha", "scale"})
SCALARS = SCALES | {"on_input"}
BIASES = ("diff_b", "up_b", "b_norm")  # parts that change a bias
LATENT = 4  # channels of a latent; the first convolution of inpainting models reads more


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One way to say what is added to a weight."""

    name: str
    every: frozenset[str]  # parts it needs
    may: frozenset[str] = frozenset()  # parts it can have
    fits: Callable[[Shapes, Shape], bool]  # the parts make something of the weight's shape
    pads: bool = False  # where the model reads more channels, the others get zeros

    def takes(self, parts: frozenset[str]) -> bool:
        """Whether the parts are this algorithm's."""
        return self.every <= parts <= self.every | self.may | SCALES


def algorithm_of(parts: frozenset[str], shapes: Shapes) -> Algorithm | None:
    """The algorithm of these parts; None if they are incomplete or of none."""
    found = next((each for each in ALGORITHMS if each.takes(parts)), None)
    return BOFT if found is OFT and len(shapes["oft_blocks"]) == 4 else found


def fault(algorithm: Algorithm, shapes: Shapes, weight: Shape, *, biased: bool) -> str:
    """Why the parts do not fit a module with that weight; empty if they do."""
    if any(0 in shape for shape in shapes.values()):
        return "have no numbers at all"
    if not all(prod(shape) == 1 if part in SCALARS else shape for part, shape in shapes.items()):
        return "have another shape"
    padded = algorithm.pads and narrower(weight)
    if not algorithm.fits(shapes, weight) and not (padded and algorithm.fits(shapes, padded)):
        return "have another shape"
    if not _dora_fits(shapes.get("dora"), weight):
        return "have another shape"
    lengths = [prod(shapes[part]) for part in BIASES if part in shapes]
    if lengths and not biased:
        return "change a bias that the model does not have"
    return "" if all(length == weight[0] for length in lengths) else "have another shape"


def narrower(weight: Shape) -> Shape | None:
    """The weight that a convolution over more than a latent has in models that read a latent."""
    wide = len(weight) == 4 and LATENT < weight[1] < 16
    return (weight[0], LATENT, *weight[2:]) if wide else None


def matrix(shape: Shape) -> Matrix:
    """A weight as a matrix: (o, i·k·k)."""
    return shape[0], prod(shape[1:])


def is_older_glora(a1: Shape, b1: Shape, weight: Shape) -> bool:
    """The first generation multiplied in the other order: its b1 and b2 have changed places."""
    return not (b1[0] == weight[0] and a1[0] == weight[1])


def _low(up: Shape, down: Shape) -> Matrix | None:
    """What up (o, r) · down (r, i, k, k) makes."""
    if min(len(up), len(down)) < 2 or matrix(up)[1] != down[0]:
        return None
    return up[0], matrix(down)[1]


def _tucker(core: Shape, first: Shape, second: Shape) -> Matrix | None:
    """A core (r, q, k, k) between (r, o) and (q, i)."""
    if min(len(core), len(first), len(second)) < 2 or core[:2] != (first[0], second[0]):
        return None
    return matrix(first)[1], matrix(second)[1] * prod(core[2:])


def _lora(shapes: Shapes, weight: Shape) -> bool:
    up, down = shapes["up"], shapes["down"]
    if mid := shapes.get("mid"):
        return _tucker(mid, matrix(up)[::-1], down) == matrix(weight)
    if kernel := has_kernel(up):  # on the way up, and so none on the way down
        return _low(up[:2], (*matrix(down), kernel)) == matrix(weight) and len(down) > 1
    return _low(up, down) == matrix(weight)


def has_kernel(up: Shape) -> int:
    """The pixels of a kernel that lies in `up`; 0 where there is none."""
    pixels = prod(up[2:])
    return pixels if pixels > 1 else 0


def _loha(shapes: Shapes, weight: Shape) -> bool:
    halves = []
    for half, core in (("w1", "hada_t1"), ("w2", "hada_t2")):
        pair = shapes[f"hada_{half}_a"], shapes[f"hada_{half}_b"]
        halves.append(_tucker(shapes[core], *pair) if core in shapes else _low(*pair))
    return halves == [matrix(weight)] * 2


def _lokr(shapes: Shapes, weight: Shape) -> bool:
    left, right = (_lokr_factor(shapes, f"lokr_{half}") for half in ("w1", "w2"))
    if left is None or right is None:
        return False
    return (left[0] * right[0], left[1] * right[1]) == matrix(weight)


def _lokr_factor(shapes: Shapes, name: str) -> Matrix | None:
    if whole := shapes.get(name):
        return matrix(whole) if len(whole) > 1 else None
    pair = shapes[f"{name}_a"], shapes[f"{name}_b"]
    core = shapes.get("lokr_t2") if name == "lokr_w2" else None
    return _tucker(core, *pair) if core else _low(*pair)


def _glora(shapes: Shapes, weight: Shape) -> bool:
    a1, a2, b1, b2 = (shapes[part] for part in ("a1", "a2", "b1", "b2"))
    if min(map(len, (a1, a2, b1, b2, weight))) < 2:
        return False
    if is_older_glora(a1, b1, weight):
        a1, a2, b1, b2 = a2, a1, b2, b1
    added = _tucker(shapes["bm"], matrix(b1)[::-1], b2) if "bm" in shapes else _low(b1, b2)
    return added == matrix(weight) and _low(a1, a2) == (weight[1], weight[1])


def _ia3(shapes: Shapes, weight: Shape) -> bool:
    return len(weight) > 1 and prod(shapes["ia3"]) in weight[:2]


def _full(shapes: Shapes, weight: Shape) -> bool:
    diff = shapes.get("diff")
    return diff is None or (matrix(diff) == matrix(weight) if diff else False)


def _norm(shapes: Shapes, weight: Shape) -> bool:
    return len(weight) == 1 and prod(shapes.get("w_norm", weight)) == weight[0]


def _oft(shapes: Shapes, weight: Shape) -> bool:
    blocks = shapes.get("oft_blocks") or shapes.get("oft_diag") or ()
    square = len(blocks) == 3 and blocks[1] == blocks[2] and blocks[0] * blocks[1] == weight[0]
    return square and _rescale_fits(shapes, weight)


def _boft(shapes: Shapes, weight: Shape) -> bool:
    stages, count, size, width = shapes["oft_blocks"]
    even = size == width and size % 2 == 0 and count * size == weight[0]
    # the last stage turns pairs that lie 2^(stages - 1) · size / 2 apart
    reach = stages < 32 and count * size % (2 ** (stages - 1) * size) == 0
    return even and reach and _rescale_fits(shapes, weight)


def _rescale_fits(shapes: Shapes, weight: Shape) -> bool:
    return prod(shapes.get("rescale", weight[:1])) == weight[0]


def _dora_fits(shape: Shape | None, weight: Shape) -> bool:
    if shape is None:
        return True
    by_row = len(shape) == 1 or prod(shape[1:]) == 1
    return prod(shape) == weight[0] if by_row else (shape[0], prod(shape)) == (1, weight[1])


DORA = frozenset({"dora", "diff_b"})
OFT = Algorithm(
    name="OFT", every=frozenset({"oft_blocks"}), may=frozenset({"rescale"}), fits=_oft
)  # fmt: skip
BOFT = Algorithm(name="BOFT", every=OFT.every, may=OFT.may, fits=_boft)
LOKR = (  # each factor whole or as a product of its own, the second with a core or without
    {"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"},
), (
    {"lokr_w2"}, {"lokr_w2_a", "lokr_w2_b"}, {"lokr_w2_a", "lokr_w2_b", "lokr_t2"},
)  # fmt: skip

ALGORITHMS = (
    Algorithm(
        name="LoRA", every=frozenset({"up", "down"}), may=DORA | {"mid", "up_b"}, fits=_lora,
        pads=True,
    ),
    Algorithm(
        name="LoHa", every=frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),
        may=DORA | {"hada_t1", "hada_t2"}, fits=_loha,
    ),
    *(
        Algorithm(name="LoKr", every=frozenset(w1 | w2), may=DORA, fits=_lokr)
        for w1, w2 in product(*LOKR)
    ),
    Algorithm(
        name="GLoRA", every=frozenset({"a1", "a2", "b1", "b2"}), may=frozenset({"bm", "diff_b"}),
        fits=_glora,
    ),
    Algorithm(
        name="IA3", every=frozenset({"ia3"}), may=frozenset({"on_input"}), fits=_ia3
    ),
    Algorithm(
        name="full difference", every=frozenset({"diff"}), may=frozenset({"diff_b"}), fits=_full,
        pads=True,
    ),
    Algorithm(name="full difference", every=frozenset({"diff_b"}), fits=_full),
    Algorithm(name="norm", every=frozenset({"w_norm"}), may=frozenset({"b_norm"}), fits=_norm),
    Algorithm(name="norm", every=frozenset({"b_norm"}), fits=_norm),
    OFT,
    Algorithm(
        name="OFT", every=frozenset({"oft_diag"}), may=frozenset({"rescale"}), fits=_oft
    ),
)  # fmt: skip

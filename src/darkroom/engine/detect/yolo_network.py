"""YOLOv8 and YOLO11, for boxes and masks, straight from a table of tensors.

    network = YoloNetwork(tensors)         tensors under the names of Ultralytics' files
    network(pixels) -> Answer              pixels (1, 3, H, W) in [0, 1], sides multiples of 32

G. Jocher, A. Chaurasia, J. Qiu, "Ultralytics YOLOv8", 2023; G. Jocher, J. Qiu, "YOLO11", 2024. Box
distances are distributions over 16 bins: X. Li et al., "Generalized Focal Loss", NeurIPS 2020.

How wide and deep a model is (n, s, m, l, x) and which kind of block a layer is, the names and
shapes of its tensors tell; what they do not tell is which layers feed which, and that is a table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

NORM_EPS = 1e-3
STRIDES = (8, 16, 32)  # px between the places of the three grids
BINS = 16  # of a box's distance, in units of the stride
HEAD_WIDTH = 64  # channels of one head of the attention in YOLO11

UP = "up"  # a layer without tensors: twice as large
Sources = tuple[int, ...]  # the layers that are joined as a layer's input; -1 is the one before


@dataclass(frozen=True, slots=True)
class Wiring:
    """How the layers are joined; those that are not named take the one before."""

    joined: Mapping[int, Sources]  # the layers of Ultralytics that only concatenate
    doubled: tuple[int, ...]  # those that only enlarge
    head: int  # the layer that answers
    heads: Sources  # what it is given
    residual_from: int  # from which layer on, bottlenecks of C2f have no shortcut


V8 = Wiring({11: (-1, 6), 14: (-1, 4), 17: (-1, 12), 20: (-1, 9)}, (10, 13), 22, (15, 18, 21), 12)
V11 = Wiring({12: (-1, 6), 15: (-1, 4), 18: (-1, 13), 21: (-1, 10)}, (11, 14), 23, (16, 19, 22), 99)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network says of each of the N places of its three grids."""

    boxes: Tensor  # (N, 4) left, top, right, bottom in px
    scores: Tensor  # (N, classes) in [0, 1]
    masks: Tensor | None  # (N, M): how much of each prototype is in the mask
    prototypes: Tensor | None  # (M, H / 4, W / 4)


@dataclass(frozen=True, slots=True)
class _Conv:
    """A convolution with what followed it folded in."""

    weight: Tensor
    bias: Tensor | None
    active: bool  # SiLU after it


class YoloNetwork:
    """One model; raises KeyError of a tensor that is missing."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        prefix = next(n for n in tensors if n.endswith("dfl.conv.weight")).split(".")[:-4]
        start = "".join(f"{part}." for part in prefix)
        self._tensors = {n.removeprefix(start): t.float() for n, t in tensors.items()}
        head = max(int(name.partition(".")[0]) for name in self._tensors if name[0].isdecimal())
        self._wiring = {wiring.head: wiring for wiring in (V8, V11)}[head]
        self._convs = {name: self._fold(name) for name in self._conv_names()}

    @property
    def classes(self) -> int:
        """How many kinds of things it tells apart."""
        return len(self._convs[f"{self._wiring.head}.cv3.0.2"].weight)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Answer:
        """The answers of all three grids, one after the other."""
        wiring = self._wiring
        outs: list[Tensor] = []
        x = pixels
        for layer in range(wiring.head):
            if layer in wiring.joined:
                x = torch.cat([outs[source] for source in wiring.joined[layer]], 1)
            elif layer in wiring.doubled:
                x = functional.interpolate(x, scale_factor=2)
            else:
                x = self._layer(layer, x)
            outs.append(x)
        return self._head(wiring.head, [outs[source] for source in wiring.heads])

    # ---- layers ---------------------------------------------------------------------------------

    def _layer(self, number: int, x: Tensor) -> Tensor:
        name = str(number)
        if name in self._convs:
            return self._conv(name, x, stride=2)  # all that stand alone halve the picture
        if f"{name}.m.0.attn.qkv" in self._convs:
            return self._attending(name, x)
        if f"{name}.m.0.cv1" in self._convs:
            residual = number < self._wiring.residual_from
            return self._split(name, x, residual=residual)
        return self._pyramid(name, x)

    def _split(self, name: str, x: Tensor, *, residual: bool) -> Tensor:
        """C2f and C3k2: one half goes through a chain of blocks, and every link is kept."""
        links = list(self._conv(f"{name}.cv1", x).chunk(2, 1))
        for inner in self._numbered(f"{name}.m"):
            links.append(self._block(inner, links[-1], residual=residual))
        return self._conv(f"{name}.cv2", torch.cat(links, 1))

    def _block(self, name: str, x: Tensor, *, residual: bool) -> Tensor:
        if f"{name}.cv3" in self._convs:  # C3k: a chain, and beside it a convolution
            y = self._conv(f"{name}.cv1", x)
            for inner in self._numbered(f"{name}.m"):
                y = self._block(inner, y, residual=residual)
            beside = self._conv(f"{name}.cv2", x)
            return self._conv(f"{name}.cv3", torch.cat([y, beside], 1))
        y = self._conv(f"{name}.cv2", self._conv(f"{name}.cv1", x))
        return x + y if residual and x.shape == y.shape else y

    def _pyramid(self, name: str, x: Tensor) -> Tensor:
        """SPPF: the maximum over ever larger surroundings."""
        levels = [self._conv(f"{name}.cv1", x)]
        for _ in range(3):
            levels.append(functional.max_pool2d(levels[-1], 5, stride=1, padding=2))
        return self._conv(f"{name}.cv2", torch.cat(levels, 1))

    def _attending(self, name: str, x: Tensor) -> Tensor:
        """C2PSA: one half goes through attention and a small network, both added to it."""
        kept, y = self._conv(f"{name}.cv1", x).chunk(2, 1)
        for inner in self._numbered(f"{name}.m"):
            y = y + self._attention(f"{inner}.attn", y)
            y = y + self._conv(f"{inner}.ffn.1", self._conv(f"{inner}.ffn.0", y))
        return self._conv(f"{name}.cv2", torch.cat([kept, y], 1))

    def _attention(self, name: str, x: Tensor) -> Tensor:
        """Attention among all places, keys half as wide as values, and a convolution for where."""
        batch, channels, height, width = x.shape
        heads = max(1, channels // HEAD_WIDTH)
        value = channels // heads
        qkv = self._conv(f"{name}.qkv", x).view(batch, heads, 2 * value, height * width)
        q, k, v = qkv.split([value // 2, value // 2, value], 2)
        rows = functional.scaled_dot_product_attention(q.mT, k.mT, v.mT)
        mixed = rows.mT.reshape(x.shape) + self._conv(f"{name}.pe", v.reshape(x.shape))
        return self._conv(f"{name}.proj", mixed)

    # ---- the head -------------------------------------------------------------------------------

    def _head(self, number: int, levels: Sequence[Tensor]) -> Answer:
        name = str(number)
        boxes, scores, masks = [], [], []
        for level, (x, stride) in enumerate(zip(levels, STRIDES, strict=True)):
            boxes.append(_boxes(self._sequence(f"{name}.cv2.{level}", x), stride))
            scores.append(_rows(self._sequence(f"{name}.cv3.{level}", x)).sigmoid())
            if f"{name}.proto.cv1" in self._convs:
                masks.append(_rows(self._sequence(f"{name}.cv4.{level}", x)))
        return Answer(
            torch.cat(boxes),
            torch.cat(scores),
            torch.cat(masks) if masks else None,
            self._prototypes(f"{name}.proto", levels[0]) if masks else None,
        )

    def _prototypes(self, name: str, x: Tensor) -> Tensor:
        x = self._conv(f"{name}.cv1", x)
        weight, bias = (self._tensors[f"{name}.upsample.{part}"] for part in ("weight", "bias"))
        x = functional.conv_transpose2d(x, weight, bias, stride=2)
        return self._conv(f"{name}.cv3", self._conv(f"{name}.cv2", x))[0]

    def _sequence(self, name: str, x: Tensor) -> Tensor:
        """A convolution, or what is numbered below it, one after the other."""
        if name in self._convs:
            return self._conv(name, x)
        for inner in self._numbered(name):
            x = self._sequence(inner, x)
        return x

    # ---- convolutions ---------------------------------------------------------------------------

    def _conv(self, name: str, x: Tensor, *, stride: int = 1) -> Tensor:
        conv = self._convs[name]
        kernel = conv.weight
        groups = x.shape[1] // kernel.shape[1]
        padding = kernel.shape[-1] // 2
        y = functional.conv2d(x, kernel, conv.bias, stride, padding, groups=groups)
        return functional.silu(y) if conv.active else y

    def _numbered(self, name: str) -> list[str]:
        """The names of what is numbered below, in order."""
        found = {
            n[len(name) + 1 :].partition(".")[0] for n in self._convs if n.startswith(f"{name}.")
        }
        return [f"{name}.{number}" for number in sorted(map(int, found))]

    def _conv_names(self) -> list[str]:
        """Every convolution: with a norm, or in the head without."""
        found: dict[str, None] = {}
        for name in self._tensors:
            if name.endswith(".conv.weight") and ".dfl." not in name:
                found[name.removesuffix(".conv.weight")] = None
            elif name.endswith(".2.weight") and ".cv" in name:
                found[name.removesuffix(".weight")] = None
        return list(found)

    def _fold(self, name: str) -> _Conv:
        """The convolution with the batch norm after it as one (exact, since it is inference)."""
        if f"{name}.weight" in self._tensors:
            return _Conv(self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"], False)
        kernel, active = self._tensors[f"{name}.conv.weight"], not name.endswith(SILENT)
        if f"{name}.bn.weight" not in self._tensors:  # folded before it was saved
            return _Conv(kernel, self._tensors[f"{name}.conv.bias"], active)
        scale, shift, mean, spread = (
            self._tensors[f"{name}.bn.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / (spread + NORM_EPS).sqrt()
        return _Conv(kernel * scale[:, None, None, None], shift - mean * scale, active)


SILENT = (".attn.qkv", ".attn.proj", ".attn.pe", ".ffn.1")  # convolutions without SiLU


def _rows(x: Tensor) -> Tensor:
    """(1, C, h, w) as (h w, C)."""
    return x[0].flatten(1).T


def _boxes(x: Tensor, stride: int) -> Tensor:
    """Boxes (h w, 4) in px from distances to the four sides, each a distribution over BINS."""
    _, _, height, width = x.shape
    shares = _rows(x).view(-1, 4, BINS).softmax(-1)
    distance = shares @ torch.arange(BINS, dtype=x.dtype)
    y, x_ = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre = torch.stack([x_, y], -1).view(-1, 2).to(distance) + 0.5
    return torch.cat([centre - distance[:, :2], centre + distance[:, 2:]], 1) * stride

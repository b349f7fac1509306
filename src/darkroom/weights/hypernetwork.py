"""Hypernetworks (NovelAI 2022; A1111's files): small networks that bend what attention looks at.

    read_hypernetwork(header) -> Hypernetwork        .pairs: {768: (for keys, for values), ...}

A hypernetwork holds two networks for each width of context. Where attention reads a context of that
width, the first changes it on its way to the keys and the second on its way to the values, each as

    x + strength · f(x)       x (..., width)

with f linear layers, an activation after each (after the last too, unless the file says otherwise)
and perhaps a layer norm after that. Dropout is for training: here it does nothing. The file's names
are "768.0.linear.0.weight": width, keys or values, and the place in f, where only what has weights
has a name. In the oldest files f is "linear1" and "linear2".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from darkroom.core.errors import BadFile, nearest, shorten
from darkroom.weights.header import Header
from darkroom.weights.hypernetwork_facts import layers_of, widths_of
from darkroom.weights.reader import MappedFile, open_tensors

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: Mapping[str, Activation] = {
    "linear": lambda x: x,
    "identity": lambda x: x,
    "swish": functional.hardswish,  # what A1111 means by the word; the true swish is "silu"
    "rrelu": functional.rrelu,  # out of training the mean of its slopes
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardshrink": functional.hardshrink,
    "leakyrelu": functional.leaky_relu,
    **{
        name: getattr(functional, name)
        for name in (
            "relu", "relu6", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish",
            "hardtanh", "hardsigmoid", "softshrink", "tanhshrink", "softplus", "softsign",
            "logsigmoid",
        )
    },
}  # fmt: skip

OTHERS = ("skip_connection", "upsample_linear")  # of a trainer that builds them another way


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One linear layer and what follows it."""

    weight: Tensor  # (out, in)
    bias: Tensor | None  # (out,)
    activation: Activation
    norm: tuple[Tensor, Tensor] | None  # weight and bias of a layer norm, (out,)

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output (..., out) for x (..., in)."""
        made = self.activation(functional.linear(x, self.weight, self.bias))
        if self.norm is not None:
            made = functional.layer_norm(made, made.shape[-1:], *self.norm)
        return made

    def to(self, device: torch.device) -> "Layer":
        """The same on another device."""
        bias = None if self.bias is None else self.bias.to(device)
        norm = None if self.norm is None else (self.norm[0].to(device), self.norm[1].to(device))
        return Layer(self.weight.to(device), bias, self.activation, norm)


Layers = tuple[Layer, ...]  # f


@dataclass(frozen=True, slots=True, eq=False)
class Hypernetwork:
    """A read file, in float32 on the CPU."""

    name: str  # of its file, as prompts say it
    pairs: Mapping[int, tuple[Layers, Layers]]  # width of context -> f for keys, f for values

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        layers = (layer for pair in self.pairs.values() for side in pair for layer in side)
        return sum(t.nbytes for layer in layers for t in _tensors(layer))


def read_hypernetwork(header: Header) -> Hypernetwork:
    """The networks in a file; BadFile where it is none, or is none that can be computed."""
    if not (widths := widths_of(header)):
        raise BadFile(
            f"{header.path.name} is not a hypernetwork",
            hint="One is a .pt file with networks for widths such as 768 and 320.",
        )
    with open_tensors(header) as file:
        reader = _Reader(file, header)
        pairs = {width: (reader.layers(width, 0), reader.layers(width, 1)) for width in widths}
    return Hypernetwork(header.path.stem, pairs)


class _Reader:
    """Builds the networks of one open file."""

    def __init__(self, file: MappedFile, header: Header) -> None:
        self._file, self._path, said = file, header.path, header.metadata
        if found := [other for other in OTHERS if _is_true(said.get(other, ""))]:
            raise BadFile(
                f"{self._path.name} has a {found[0].replace('_', ' ')}, which is not known here",
                hint="Hypernetworks as A1111 itself trains them work.",
            )
        asked = (said.get("activation_func") or "linear").lower()
        if asked not in ACTIVATIONS:
            known = " or ".join(nearest(asked, ACTIVATIONS))
            raise BadFile(
                f"{self._path.name} wants the activation {shorten(asked)!r}, unknown here",
                hint=f"The nearest known is {known}." if known else "",
            )
        self._activation = ACTIVATIONS[asked]
        self._last = _is_true(said.get("activate_output", "True"))
        self._names = layers_of(header)

    def layers(self, width: int, side: int) -> Layers:
        """f for one width and one side, 0 keys, 1 values; BadFile when its shapes do not meet."""
        places = [
            self._place(names) for _, names in sorted(self._names.get((width, side), {}).items())
        ]
        starts = [k for k, (weight, _) in enumerate(places) if weight.ndim == 2]
        if not starts or starts[0] != 0:
            raise self._broken(width)
        made = []
        for start, end in pairwise([*starts, len(places)]):
            (weight, bias), norms = places[start], places[start + 1 : end]
            active = end < len(places) or self._last
            activation = self._activation if active else ACTIVATIONS["linear"]
            made.append(Layer(weight, bias, activation, self._norm(norms, width)))
        sizes = [width, *(layer.weight.shape[0] for layer in made)]
        if sizes[-1] != width or not all(map(_fits, made, sizes)):
            raise self._broken(width)
        return tuple(made)

    def _place(self, names: Mapping[str, str]) -> tuple[Tensor, Tensor | None]:
        found = {part: self._tensor(name) for part, name in names.items()}
        if "weight" not in found:
            raise BadFile(f"{self._path.name} lacks a weight beside {names['bias']}")
        return found["weight"], found.get("bias")

    def _tensor(self, name: str) -> Tensor:
        tensor = self._file.tensor(name).to(torch.float32, copy=True)
        if not bool(torch.isfinite(tensor).all()):
            raise BadFile(f"{self._path.name} holds numbers that are none", hint="Get it anew.")
        return tensor

    def _norm(
        self, found: list[tuple[Tensor, Tensor | None]], width: int
    ) -> tuple[Tensor, Tensor] | None:
        if not found:
            return None
        weight, bias = found[0]
        if len(found) > 1 or bias is None:
            raise self._broken(width)
        return weight, bias

    def _broken(self, width: int) -> BadFile:
        return BadFile(
            f"the layers of {self._path.name} for width {width} do not fit together",
            hint="The file is damaged, or another program made it.",
        )


def _is_true(text: str) -> bool:
    return text.lower() in ("true", "1")


def _fits(layer: Layer, width: int) -> bool:
    """Whether a layer reads that width, and its parts are as long as it is."""
    out = layer.weight.shape[0]
    others = [tensor for tensor in _tensors(layer) if tensor is not layer.weight]
    return layer.weight.shape[1] == width and all(one.shape == (out,) for one in others)


def _tensors(layer: Layer) -> list[Tensor]:
    return [t for t in (layer.weight, layer.bias, *(layer.norm or ())) if t is not None]

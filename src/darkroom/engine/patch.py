"""Networks (LoRA and its kin) in the weights of a loaded model, and out of them again.

    patcher = Patcher({"unet": unet, "text": text})
    patcher.apply([(network, Strengths(text=0.5, unet=0.8))])
    patcher.undo()

A module that a network touches gets a new weight beside its own, W' = W + Σ m ΔW, reckoned in
float32 and rounded once to the format of W. The original Parameters are kept and put back as the
same objects, so nothing is left of a network, however often it comes and goes. Memory is needed for
the touched modules only.

Neighbours in the prompt that are plain products, up · down, become one product:

    Σ m_k U_k D_k = [m_1 U_1 … m_n U_n] · [D_1; …; D_n]

The others (LoHa, DoRA, OFT …) are added one by one. A network sees the weight as those before it in
the prompt left it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from darkroom.weights.layouts.entry import Component
from darkroom.weights.lora import Place

if TYPE_CHECKING:
    from darkroom.weights.lora import Adapter, Network

Product = tuple[float, Tensor, Tensor]  # m, up (o, r) and down (r, i·k·k): m · up · down


@dataclass(frozen=True, slots=True, kw_only=True)
class Strengths:
    """How strongly a network acts on each part of a model; 0 leaves that part alone."""

    text: float = 1.0
    unet: float = 1.0
    rank: int | None = None  # the first so many rows of plain products only

    def on(self, component: Component) -> float:
        """The strength for one part; the text encoders of a model share theirs."""
        return self.unet if component == "unet" else self.text


Wanted: TypeAlias = "Sequence[tuple[Network, Strengths]]"  # in the order of the prompt


class _On(NamedTuple):
    """One adapter on a module."""

    adapter: Adapter
    strength: float
    rank: int | None

    @property
    def key(self) -> tuple[int, float, int | None]:
        return id(self.adapter), self.strength, self.rank

    @property
    def product(self) -> Product | None:
        """What it adds where that is a plain product."""
        if (factors := self.adapter.factors()) is None:
            return None
        up, down = factors
        return self.strength, up[:, : self.rank], down[: self.rank]


class Patcher:
    """Patches one model, given as the modules of its parts. Not thread-safe."""

    def __init__(self, modules: Mapping[Component, nn.Module]) -> None:
        self._modules = modules
        self._layers: dict[Place, _Layer] = {}

    @property
    def bytes(self) -> int:
        """Memory that the patched weights take beside the originals."""
        return sum(layer.bytes for layer in self._layers.values())

    def apply(self, networks: Wanted) -> int:
        """Bring the weights to those of `networks`, and to nothing else; how many modules they are.

        The result depends on `networks` alone and not on what was applied before: equal recipes
        give equal pixels. A module whose share of them did not change costs nothing. Whatever goes
        wrong (OutOfMemory, under the device's guard), the model has its own weights again.
        """
        return self._change(networks, exactly=True)

    def adjust(self, networks: Wanted) -> int:
        """The same in the middle of a run, where only what differs is added: W' += Δm ΔW.

        That is as many products as strengths changed, and rounds another way in the last place than
        `apply` would; so every run starts with `apply`, which makes such modules anew.
        """
        return self._change(networks, exactly=False)

    def undo(self) -> None:
        """Put the model's own Parameters back."""
        while self._layers:
            self._layers.popitem()[1].restore()

    def _change(self, networks: Wanted, *, exactly: bool) -> int:
        wanted = _stacks(networks)
        with ExitStack() as failing, torch.no_grad():
            failing.callback(self.undo)
            for place in self._layers.keys() - wanted.keys():
                self._layers.pop(place).restore()
            for place, stack in wanted.items():
                self._layer(place).set(stack, exactly=exactly)
            failing.pop_all()
        return len(wanted)

    def _layer(self, place: Place) -> _Layer:
        if place not in self._layers:
            component, path = place
            self._layers[place] = _Layer(self._modules[component].get_submodule(path))
        return self._layers[place]


class _Layer:
    """One module, its own Parameters, and what is on it."""

    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module
        self._weight = module.get_parameter("weight")
        self._own: dict[str, nn.Parameter | None] = {
            name: getattr(module, name) for name in ("weight", "bias") if hasattr(module, name)
        }
        self._stack: tuple[_On, ...] = ()
        self._plain = False  # a stack of plain products, not an empty one
        self._exact = True  # equal to what `apply` makes of the stack

    @property
    def bytes(self) -> int:
        now = (getattr(self._module, name) for name in self._own)
        return sum(
            parameter.nbytes
            for parameter, own in zip(now, self._own.values(), strict=True)
            if parameter is not None and parameter is not own
        )

    def restore(self) -> None:
        """The module's own Parameters, by identity."""
        for name, parameter in self._own.items():
            setattr(self._module, name, parameter)
        self._stack, self._plain, self._exact = (), False, True

    def set(self, stack: tuple[_On, ...], *, exactly: bool) -> None:
        """Have `stack` on the module."""
        same = [on.key for on in stack] == [on.key for on in self._stack]
        if same and (self._exact or not exactly):
            return
        added = None if exactly else self._difference(stack)
        if added is None:
            self.restore()  # first, so that no two patched copies are alive
            weight, self._plain = _patched(self._weight, stack)
            self._put("weight", weight)
        else:
            _add(self._module.weight, added)
        self._put("bias", self._bias(stack))
        self._stack, self._exact = stack, added is None

    def _difference(self, stack: tuple[_On, ...]) -> list[Product] | None:
        """What leads from the present stack to `stack`; None when that is no sum of products."""
        if not self._plain:
            return None
        changes: dict[tuple[int, int | None], _On] = {}
        for sign, each in ((-1.0, self._stack), (1.0, stack)):
            for adapter, strength, rank in each:
                before = changes.get((id(adapter), rank), _On(adapter, 0.0, rank))
                after = before.strength + sign * strength
                changes[id(adapter), rank] = _On(adapter, after, rank)
        found = [on.product for on in changes.values() if on.strength]
        products = [each for each in found if each is not None]
        return products if len(products) == len(found) else None

    def _bias(self, stack: tuple[_On, ...]) -> Tensor | None:
        """The patched bias; None when the stack leaves it alone."""
        own = self._own.get("bias")
        bias: Tensor | None = own
        for adapter, strength, _ in stack:
            delta = adapter.bias_delta(own, strength)
            if delta is not None:
                bias = _sum(bias, delta)
        return None if bias is own or bias is None else bias.to(self._weight)

    def _put(self, name: str, value: Tensor | None) -> None:
        if name in self._own:
            own = self._own[name]
            new = own if value is None else nn.Parameter(value, requires_grad=False)
            setattr(self._module, name, new)


def _stacks(networks: Wanted) -> dict[Place, tuple[_On, ...]]:
    """The adapters on every module, in the order of the prompt; those of strength 0 left out."""
    found: dict[Place, list[_On]] = {}
    for network, strengths in networks:
        for place, adapter in network.adapters.items():
            if strength := strengths.on(place[0]):
                found.setdefault(place, []).append(_On(adapter, strength, strengths.rank))
    return {place: tuple(stack) for place, stack in found.items()}


def _patched(weight: Tensor, stack: Iterable[_On]) -> tuple[Tensor, bool]:
    """A new weight in the format and memory order of `weight`; whether all were plain products."""
    now, plain = weight, True
    pairs = ((on.product, on) for on in stack)
    for products, run in groupby(pairs, key=lambda pair: pair[0] is not None):
        if products:
            now = _plus(now, [product for product, _ in run if product is not None])
            continue
        plain = False
        for _, (adapter, strength, _rank) in run:
            now = now.float()
            now = now + adapter.delta(now, strength).view(now.shape)
    fresh = now is not weight and now.dtype == weight.dtype
    if fresh and now.is_contiguous() and weight.is_contiguous():
        # The same order; but an axis of length 1 may have any stride, and its own is kept.
        return now.as_strided(weight.shape, weight.stride()), plain
    return torch.empty_like(weight).copy_(now), plain


def _plus(weight: Tensor, products: Sequence[Product]) -> Tensor:
    """`weight` plus the sum of the products, float32 and new."""
    flat = weight.float().reshape(len(weight), -1)
    return torch.addmm(flat, *_stacked(flat, products)).view(weight.shape)


def _add(weight: Tensor, products: Sequence[Product]) -> None:
    """Add the sum of the products to `weight` in place."""
    if not products:
        return
    if weight.dtype == torch.float32 and weight.is_contiguous():
        flat = weight.view(len(weight), -1)
        flat.addmm_(*_stacked(flat, products))
    else:
        weight.copy_(_plus(weight, products))


def _stacked(flat: Tensor, products: Sequence[Product]) -> tuple[Tensor, Tensor]:
    """All ups side by side (o, R), each times its m, and all downs on each other (R, i·k·k).

    Each number is touched once on its way from the file's format to float32.
    """
    ranks = [down.shape[0] for _, _, down in products]
    ups, downs = flat.new_empty(len(flat), sum(ranks)), flat.new_empty(sum(ranks), flat.shape[1])
    columns, rows = ups.split(ranks, 1), downs.split(ranks)
    for (strength, up, down), column, row in zip(products, columns, rows, strict=True):
        column.copy_(up).mul_(strength)
        row.copy_(down)
    return ups, downs


def _sum(value: Tensor | None, delta: Tensor) -> Tensor:
    delta = delta.float()
    return delta if value is None else value.float() + delta.to(value.device)

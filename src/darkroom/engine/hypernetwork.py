"""Hypernetworks in a UNet for the length of a run.

    with attached(unet, [(hypernetwork, 0.8)]):
        ...

They change the inputs of `to_k` and `to_v` in every attention, not their weights: LoRAs and
hypernetworks do not meet. At the end of the block the network is as it was, whatever happened.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from darkroom.weights.hypernetwork import Hypernetwork, Layers
from darkroom.weights.hypernetwork_facts import check_widths

Asked = Sequence[tuple[Hypernetwork, float]]  # in prompt order, with their strengths

Contexts = Mapping[int, list[tuple[nn.Linear, nn.Linear]]]  # width -> (to_k, to_v)


@contextmanager
def attached(unet: nn.Module, asked: Asked) -> Iterator[int]:
    """Put them all in; gives how many attentions they reach. BadFile if one does not fit.

    Of several, each is given what the one before it made. Strength 0 is none at all.
    """
    contexts = contexts_of(unet)
    asked = [(network, strength) for network, strength in asked if strength]
    for network, _ in asked:
        check_widths(network.name, network.pairs, contexts)
    reached = 0
    with ExitStack() as stack:
        for width, attentions in contexts.items():
            pairs = [(n.pairs[width], strength) for n, strength in asked if width in n.pairs]
            if not pairs:
                continue
            reached += len(attentions)
            device = attentions[0][0].weight.device
            for side in (0, 1):
                chain = [(_moved(pair[side], device), strength) for pair, strength in pairs]
                for attention in attentions:
                    handle = attention[side].register_forward_pre_hook(_hook(chain))
                    stack.callback(handle.remove)
        yield reached


def contexts_of(unet: nn.Module) -> Contexts:
    """The keys and values of every attention, by the width of the context that they read."""
    found: dict[int, list[tuple[nn.Linear, nn.Linear]]] = {}
    for module in unet.modules():
        keys, values = (getattr(module, name, None) for name in ("to_k", "to_v"))
        if isinstance(keys, nn.Linear) and isinstance(values, nn.Linear):
            found.setdefault(keys.in_features, []).append((keys, values))
    return found


def _hook(chain: Sequence[tuple[Layers, float]]) -> Callable[[nn.Module, tuple[Tensor]], Tensor]:
    """What a linear layer is given instead of its input; computed in float32."""

    def bend(_: nn.Module, args: tuple[Tensor]) -> Tensor:
        (context,) = args
        x = context.float()
        for layers, strength in chain:
            made = x
            for layer in layers:
                made = layer(made)
            x = x + strength * made
        return x.to(context.dtype)

    return bend


def _moved(layers: Layers, device: torch.device) -> Layers:
    return tuple(layer.to(device) for layer in layers)

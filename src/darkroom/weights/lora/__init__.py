"""LoRA and its kin: which module each tensor of such a file belongs to, and what it does there.

    fitted = fit(read_header(path), targets_of(detected))     no torch: when the job is submitted
    fitted.check()                                            BadFile, with counts and the reason
    network = read_network(header, fitted)                    torch: the tensors
    network.adapters["unet", "mid_block.attentions.0.proj_in"].delta(weight, 0.8)

A file acts as a whole or not at all. The names of tensors are in `keys` (what a key says) and
`names` (which module it means), the shapes in `algorithms`, the mathematics in `formulas`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from darkroom.weights.lora.fit import Fit, fit
from darkroom.weights.lora.targets import Place, Targets, targets_of

if TYPE_CHECKING:
    from darkroom.weights.lora.formulas import Adapter
    from darkroom.weights.lora.read import Network, read_network

__all__ = [
    "Adapter",
    "Fit",
    "Network",
    "Place",
    "Targets",
    "fit",
    "read_network",
    "targets_of",
]

_WITH_TORCH = {"Adapter": "formulas", "Network": "read", "read_network": "read"}


def __getattr__(name: str) -> object:
    if module := _WITH_TORCH.get(name):
        return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

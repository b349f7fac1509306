"""What the folder of a captioner holds besides weights, and the weights put into a network."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.core.errors import BadFile, shorten
from darkroom.weights.header import read_header
from darkroom.weights.reader import open_tensors

AGAIN = "Pull it again with `darkroom models pull`."
LARGEST = 10_000_000  # bytes of a configuration or a vocabulary


def read_text(path: Path) -> str:
    """A text file of the folder."""
    try:
        if path.stat().st_size > LARGEST:
            raise BadFile(f"{path} is far too large", hint=AGAIN)
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise BadFile(
            f"{path.parent} lacks {path.name}, or it cannot be read", hint=AGAIN
        ) from None


def read_table(path: Path) -> Mapping[str, Any]:
    """A JSON object of the folder."""
    try:
        table = json.loads(read_text(path))
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise BadFile(f"{path} is not a JSON object", hint=AGAIN)
    return table


def fill(network: nn.Module, folder: Path, device: torch.device) -> None:
    """Put the folder's weights into `network`, in float32, and make it ready to be called.

    What the network has and the folder has not is refused, but where another name stands for the
    same tensor; what only the folder has is left out.
    """
    wanted = network.state_dict()
    header = read_header(folder)
    with open_tensors(header) as file:
        state: dict[str, Tensor] = {}
        for name in wanted.keys() & header.tensors.keys():
            stored = file.tensor(name)
            if stored.shape != wanted[name].shape:
                what = f"{folder}: {shorten(name)} has the shape {tuple(stored.shape)}"
                raise BadFile(f"{what}, not {tuple(wanted[name].shape)}", hint=AGAIN)
            state[name] = stored.to(device, wanted[name].dtype, copy=True)
    for name, twin in _twins(network):
        if name not in state and twin in state:
            state[name] = state[twin]
    if lacking := sorted(wanted.keys() - state.keys()):
        what = f"{folder} is incomplete: {len(lacking)} tensors are missing"
        raise BadFile(f"{what} (first: {shorten(lacking[0])})", hint=AGAIN)
    network.load_state_dict(state, assign=True)
    network.eval().requires_grad_(False)


def _twins(network: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of parameters that are one tensor, pair by pair, both ways."""
    first: dict[int, str] = {}
    for name, value in network.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(value), name)
        if other != name:
            yield name, other
            yield other, name

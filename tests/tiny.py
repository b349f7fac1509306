"""Tiny checkpoints: the SD1 topology and file layout at widths a test can afford.

tiny_checkpoint(path, seed=1, unet=(32, 64, 96), metadata={...}) -> path     0.2 s, 9 MB
tiny_header(unet=(32, 64)) -> Header                                      no file at all
"""

import json
import math
from pathlib import Path

import numpy as np

from darkroom.weights.header import Header, TensorInfo
from darkroom.weights.layouts.checkpoint import Layout, entries, sd1_layout
from darkroom.weights.topology import TextDims, UNetDims, VaeDims


def tiny_layout(
    *,
    unet: tuple[int, ...] = (32, 64),
    layers: int = 1,
    depths: tuple[int, ...] | None = None,
    linear: bool = False,
    in_channels: int = 4,
    out_channels: int = 4,
    vae: tuple[int, ...] = (16, 32, 32, 32),
    vae_layers: int = 1,
    latent_channels: int = 4,
    width: int = 64,
    text_width: int | None = None,
    text_layers: int = 2,
    positions: int = 77,
    vocab: int = 49408,
    text_prefix: str = "cond_stage_model.transformer.text_model.",
) -> Layout:
    """The rows of a tiny checkpoint; like SD1, all levels but the last attend to the text."""
    depths = (*(1 for _ in unet[1:]), 0) if depths is None else depths
    return sd1_layout(
        UNetDims(
            in_channels=in_channels,
            out_channels=out_channels,
            channels=unet,
            layers=layers,
            depths=depths,
            mid_depth=max(*depths, 1),
            context=width,
            linear_projection=linear,
        ),
        VaeDims(channels=vae, layers=vae_layers, latent_channels=latent_channels),
        TextDims(
            width=text_width or width,
            layers=text_layers,
            intermediate=4 * width,
            positions=positions,
            vocab=vocab,
        ),
        text_prefix,
    )


def tiny_checkpoint(
    path: Path,
    *,
    seed: int = 0,
    metadata: dict[str, str] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    dtype: type = np.float16,
    **dims: object,
) -> Path:
    """Write a random checkpoint in the LDM layout (keyword `dims` as in `tiny_layout`)."""
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for row in entries(tiny_layout(**dims)):  # type: ignore[arg-type]
        tensors[row.source] = _weights(random, row.source, row.stored).astype(dtype)
    return write_tensors(path, tensors | (extra or {}), metadata)


def tiny_header(metadata: dict[str, str] | None = None, **dims: object) -> Header:
    """What `read_header` says of a tiny checkpoint, without writing one."""
    shapes = {row.source: row.stored for row in entries(tiny_layout(**dims))}  # type: ignore[arg-type]
    return made_header(shapes, metadata)


def made_header(
    shapes: dict[str, tuple[int, ...]],
    metadata: dict[str, str] | None = None,
    *,
    dtype: str = "F16",
) -> Header:
    """A header with these tensors, for a file that does not exist."""
    tensors, at = {}, 8
    for name, shape in shapes.items():
        tensors[name] = TensorInfo(dtype, shape, at, at := at + 2 * math.prod(shape))
    return Header(Path("made.safetensors"), tensors, metadata or {}, at)


def _weights(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values that keep activations near unit size, as trained networks do."""
    if len(shape) == 1:
        norm = name.endswith(".weight")  # every one-dimensional weight is a norm's
        return (1 if norm else 0) + 0.05 * random.standard_normal(shape, np.float32)
    spread = 1 if "embedding" in name else 1 / math.sqrt(math.prod(shape[1:]))
    return spread * random.standard_normal(shape, np.float32)


NAMES = {"float16": "F16", "float32": "F32", "int64": "I64", "float64": "F64", "uint8": "U8"}


def write_tensors(
    path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None
) -> Path:
    """A safetensors file written by hand, so that tests do not lean on the code they check."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, array in tensors.items():
        offsets = [at, at := at + array.nbytes]
        dtype = NAMES[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for array in tensors.values():
            file.write(array.tobytes())
    return path

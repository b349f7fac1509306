"""Textual inversion: a file of vectors that stand for a word (Gal et al. 2022).

    read_embedding(path, width) -> (n, width), or BadFile that says why not

One file may serve several text encoders; the tensor as wide as the one at hand is taken. `.pt` and
`.bin` files are pickles, which can run code when they are read.
"""

from pathlib import Path

import torch
from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.weights.header import Header, TensorInfo, read_header
from darkroom.weights.reader import open_tensors

NAMES = ("emb_params", "clip_l", "clip_g", "t5xxl")  # of tensors, in the order of preference
MODELS = {768: "SD1", 1024: "SD2", 1280: "SDXL", 2048: "SDXL", 4096: "SD3"}  # by width
PICKLES = (".pt", ".bin")
MOST = 75  # vectors; a chunk of a prompt has no room for more


def read_embedding(path: Path, width: int) -> Tensor:
    """The vectors (n, width) of the file at `path`, float32, for a text encoder of that width."""
    if path.suffix.lower() in PICKLES:
        raise BadFile(
            f"the embedding {path.name} is a pickle, which can run code when it is read",
            hint="Get it as .safetensors; most sites offer both.",
        )
    header = read_header(path)
    name = _choose(header, width)
    with open_tensors(header) as file:
        vectors = file.tensor(name).to(torch.float32, copy=True)
    if not bool(torch.isfinite(vectors).all()):
        raise BadFile(f"the embedding {path.name} holds numbers that are none", hint="Get it anew.")
    return vectors.reshape(-1, width)


def _choose(header: Header, width: int) -> str:
    """The name of the tensor to take."""
    rows = {name: info for name, info in header.tensors.items() if _is_rows(info)}
    known = [name for name in NAMES if name in rows] or list(rows)
    if not known or (len(rows) > 1 and known == list(rows)):
        raise BadFile(
            f"{header.path.name} is not an embedding",
            hint=f"One has up to {MOST} vectors under a name such as emb_params.",
        )
    for name in known:
        if rows[name].shape[-1] == width:
            return name
    widths = {rows[name].shape[-1] for name in known}
    models = sorted({MODELS.get(found, f"models of width {found}") for found in widths})
    raise BadFile(
        f"the embedding {header.path.name} is for {' and '.join(models)}, not for this model",
        hint="Leave its name out of the prompt, or choose a model of that family.",
    )


def _is_rows(info: TensorInfo) -> bool:
    return (
        info.dtype in ("F32", "F16", "BF16")
        and 1 <= len(info.shape) <= 2
        and (len(info.shape) == 1 or 1 <= info.shape[0] <= MOST)
        and info.shape[-1] > 0
    )

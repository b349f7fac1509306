"""Small upscalers with random weights, in files as programs write them.

esrgan(path, dialect=OLD_ESRGAN, features=8, …) -> state dict under the file's names
ncnn(folder, dims) -> the .param file, and the state dict under our names
"""

import numpy as np
import torch
from safetensors.torch import save_file

from darkroom.weights.layouts.rrdb import OURS, rows_of
from darkroom.weights.topology import CompactDims, RrdbDims
from darkroom.weights.upscaler_measure import compact_rows


def rrdb_dims(**own):
    return RrdbDims(
        **{"channels": 3, "features": 8, "growth": 4, "blocks": 2, "doublings": 2, **own}
    )


def compact_dims(**own):
    return CompactDims(**{"channels": 3, "features": 8, "layers": 2, "scale": 2, **own})


def drawn(rows, *, seed=0):
    """Random weights for rows, under the names of the file; small enough to stay in range."""
    random = torch.Generator().manual_seed(seed)
    return {
        row.source: torch.randn(row.stored, generator=random)
        * 0.5
        / max(np.prod(row.stored[1:]), 1) ** 0.5
        for row in rows
    }


def rrdb_state(dims, dialect=OURS, prefix="", *, seed=0):
    return drawn(rows_of(dims, dialect, prefix), seed=seed)


def compact_state(dims, prefix="", *, seed=0):
    return drawn(compact_rows(dims, prefix), seed=seed)


def saved(path, state, **around):
    """A safetensors file, or for .pth what torch writes, in dictionaries of these names."""
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params_ema": state, **around} if around else state, path)
    return path


def ncnn(folder, name, dims, *, half=True):
    """The .param of a network in ncnn's two files, and its weights under our names."""
    rows = list(rows_of(dims, OURS) if isinstance(dims, RrdbDims) else compact_rows(dims))
    state = drawn(rows)
    lines, data = [], b""
    for row in rows:
        value = state[row.source]
        if row.source.endswith(".bias"):
            data += value.numpy().astype("<f4").tobytes()
        elif value.ndim == 1:
            lines.append(f"PReLU  p{len(lines)} 1 1 a b 0={len(value)}")
            data += value.numpy().astype("<f4").tobytes()
        else:
            size = value.numel()
            lines.append(
                f"Convolution  c{len(lines)} 1 1 a b 0={value.shape[0]} 1=3 4=1 5=1 6={size}"
            )
            raw = value.half().numpy().tobytes() if half else value.numpy().tobytes()
            tag = (0x01306B47 if half else 0).to_bytes(4, "little")
            data += tag + raw + b"\0" * (-len(raw) % 4)
            state[row.source] = value.half().float() if half else value
    param = folder / f"{name}.param"
    param.write_text("\n".join(["7767517", "9 9", "Input  input 0 1 data", *lines]))
    param.with_suffix(".bin").write_bytes(data)
    return param, state

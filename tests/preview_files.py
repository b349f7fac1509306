"""Preview decoders with random weights, in files as programs write them.

tiny_state(dims)                          TAESD under its author's names
written(path, state, metadata=…)          .safetensors, or .pth by torch
"""

import torch
from safetensors.torch import save_file

from darkroom.weights.preview import approx_rows, tiny_rows
from darkroom.weights.topology import ApproxDims, TinyDims
from upscaler_files import drawn

TAESD = TinyDims(latent_channels=4, widths=(64,) * 4, blocks=(3, 3, 3, 1))
APPROX = ApproxDims(channels=(4, 8, 16, 32, 64, 32, 16, 8, 3), kernels=(7, 5, 3, 3, 3, 3, 3, 3))


def tiny_dims(**own):
    return TinyDims(**{"latent_channels": 4, "widths": (8, 8, 6, 4), "blocks": (1, 1, 1, 0), **own})


def tiny_state(dims=None, prefix="", shift=0, *, seed=0):
    return drawn(tiny_rows(dims or tiny_dims(), prefix, shift), seed=seed)


def approx_state(dims=APPROX, *, seed=0):
    return drawn(approx_rows(dims), seed=seed)


def written(path, state, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path, metadata)
    else:
        torch.save(state, path)
    return path

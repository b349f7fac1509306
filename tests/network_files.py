"""LoRA files for a checkpoint, in kohya's names, with random numbers.

kohya_lora(path, checkpoint, rank=4, only=("unet",)) -> path
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from darkroom.weights.lora import targets_of
from tiny import write_tensors

PREFIXES = {"unet": "lora_unet_", "text": "lora_te_text_model_"}


def kohya_lora(
    path: Path,
    checkpoint: Path,
    *,
    seed: int = 0,
    rank: int = 4,
    size: float = 0.3,
    only: Sequence[str] = ("unet", "text"),
    metadata: dict[str, str] | None = None,
    extra: dict[str, np.ndarray] | None = None,
) -> Path:
    """A plain LoRA on every linear layer and 1x1 convolution of attention; `size` scales it."""
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for (part, module), shape in targets_of(detect(read_header(checkpoint))).shapes.items():
        if part not in only or not ("attn" in module or "attentions" in module) or len(shape) < 2:
            continue
        name = PREFIXES[part] + module.replace(".", "_")
        rest = (1,) * (len(shape) - 2)
        down = random.standard_normal((rank, shape[1], *rest)) / np.sqrt(shape[1])
        up = size * random.standard_normal((shape[0], rank, *rest)) / np.sqrt(rank)
        tensors[f"{name}.lora_down.weight"] = down.astype(np.float16)
        tensors[f"{name}.lora_up.weight"] = up.astype(np.float16)
        tensors[f"{name}.alpha"] = np.array(rank, np.float32)
    return write_tensors(path, tensors | (extra or {}), metadata)

import json

import pytest

from darkroom.library.index import Index
from darkroom.library.models import Library


def write_header(path, names, metadata=None, fill=b"\0"):
    """A small safetensors file of F16 tensors `{name: shape}`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table, at = {"__metadata__": metadata or {}}, 0
    for name, shape in names.items():
        size = 2
        for side in shape:
            size *= side
        table[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at := at + size]}
    raw = json.dumps(table).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + fill * at)
    return path


@pytest.fixture
def lora():
    """Writes a LoRA of SD1's names."""

    def write(path, metadata=None, fill=b"\0"):
        layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
        names = {f"{layer}.lora_down.weight": (4, 768), f"{layer}.lora_up.weight": (320, 4)}
        return write_header(path, names, metadata, fill)

    return write


@pytest.fixture
def library_of(tmp_path):
    """A library of some folders, with an index of its own."""

    def make(*folders, own=()):
        return Library(folders, Index(tmp_path / "library.sqlite"), own=own)

    return make

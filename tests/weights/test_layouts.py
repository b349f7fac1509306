"""The renames, against the key map that the official conversion scripts produced."""

import json
from pathlib import Path

import pytest

from bench.make_checkpoint import sd15
from darkroom.weights.layouts.checkpoint import entries, to_file
from tiny import tiny_layout

GOLDEN = Path(__file__).parents[1] / "goldens" / "sd15_key_map.json"
FOLDERS = {"unet": "unet", "vae": "vae", "text": "text_encoder"}


def test_sd15_names_and_shapes_equal_the_official_ones():
    got = {
        row.source: {"diffusers": f"{FOLDERS[component]}/{row.target}", "shape": list(row.shape)}
        for component, rows in sd15().items()
        for row in rows
    }
    assert got == json.loads(GOLDEN.read_text())


def test_the_way_back_gives_every_name_in_the_file_once():
    want = json.loads(GOLDEN.read_text())
    back = {
        f"{FOLDERS[component]}/{name}": row
        for component, rows in sd15().items()
        for name, row in to_file(rows).items()
    }
    assert {ours: row.source for ours, row in back.items()} == {
        row["diffusers"]: source for source, row in want.items()
    }


def test_only_the_attention_of_the_vae_has_another_shape_in_the_file():
    other = [row for row in entries(sd15()) if row.stored != row.shape]
    assert len(other) == 8
    assert all("attn_1" in row.source and row.stored == (*row.shape, 1, 1) for row in other)


@pytest.mark.parametrize(
    "dims",
    [
        {},
        {"unet": (32,), "depths": (1,)},
        {"unet": (32, 64, 96), "layers": 2, "depths": (1, 1, 0)},
        {"unet": (32, 32, 64, 64, 64), "layers": 3, "depths": (0, 2, 2, 0, 2)},
        {"vae": (8, 16, 16, 16), "vae_layers": 3, "text_layers": 1},
        {"linear": True},
    ],
)
def test_any_number_of_levels_and_layers_fits_the_networks(dims):
    from darkroom.engine.networks import make_text, make_unet, make_vae
    from darkroom.weights.detect import detect
    from tiny import tiny_header

    found = detect(tiny_header(**dims))
    made = {
        "unet": make_unet(found.unet),
        "vae": make_vae(found.vae),
        "text": make_text(found.text),
    }
    for component, rows in tiny_layout(**dims).items():
        want = {name: tuple(t.shape) for name, t in made[component].state_dict().items()}
        assert {row.target: row.shape for row in rows} == want


def test_tiny_unet_and_vae_convert_as_in_diffusers(tmp_path):
    """Also for level counts other than SD1.5's: diffusers' own converter on the same tensors."""
    import torch
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    from darkroom.weights.header import read_header
    from darkroom.weights.reader import open_tensors
    from tiny import tiny_checkpoint

    layout = tiny_layout(unet=(32, 32, 64), layers=2, depths=(1, 1, 0))
    header = read_header(
        tiny_checkpoint(tmp_path / "m.safetensors", unet=(32, 32, 64), layers=2, depths=(1, 1, 0))
    )
    convert = {"unet": convert_ldm_unet_checkpoint, "vae": convert_ldm_vae_checkpoint}
    levels = {"unet": (1,) * 3, "vae": (1,) * 4}
    with open_tensors(header) as file:
        whole = {name: file.tensor(name) for name in header.tensors}
        for component, function in convert.items():
            config = {"layers_per_block": 2, "down_block_types": levels[component]}
            theirs = function(dict(whole), config | {"up_block_types": levels[component]})
            rows = layout[component]
            assert theirs.keys() == {row.target for row in rows}
            for row in rows:
                ours = whole[row.source].reshape(row.shape)
                assert torch.equal(ours, theirs[row.target].reshape(row.shape)), row.target

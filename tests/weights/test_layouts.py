"""The renames, against the key map that the official conversion scripts produced."""

import json
from pathlib import Path

import pytest

from checkpoints import FOLDERS, real_folder, real_header, real_layout
from darkroom.core.model import Arch
from darkroom.weights.layouts.checkpoint import Layout, entries, stored, to_file
from tiny import made_header, tiny_layout

GOLDENS = Path(__file__).parents[1] / "goldens"
MAPS = {Arch.SD1: "sd15", Arch.SD2: "sd21", Arch.SDXL: "sdxl"}


def key_map(arch: Arch) -> dict[str, dict]:
    return json.loads((GOLDENS / f"{MAPS[arch]}_key_map.json").read_text())


def theirs(component: str, target: str) -> str:
    """A name of ours as the key maps write it."""
    inner = component == "text_2" and not target.startswith("text_projection")
    return ("text_model." if inner else "") + target


def as_key_map(layout: Layout) -> dict[str, dict]:
    """Rows that read parts of one tensor become one row, their names joined by a plus."""
    found: dict[str, list] = {}
    for component, rows in layout.items():
        for row in rows:
            name = theirs(component, row.target)
            found.setdefault(row.source, [FOLDERS[component], [], []])
            found[row.source][1].append(name)
            found[row.source][2].append(list(row.shape))
    return {
        source: {
            "diffusers": folder + "+".join(names),
            "shape": shapes if len(shapes) > 1 else shapes[0],
        }
        for source, (folder, names, shapes) in found.items()
    }


@pytest.mark.parametrize("arch", MAPS)
def test_names_and_shapes_equal_the_official_ones(arch):
    assert as_key_map(real_layout(arch)) == key_map(arch)


@pytest.mark.parametrize("arch", MAPS)
def test_the_way_back_gives_every_name_in_the_file_once(arch):
    want = {}
    for source, row in key_map(arch).items():
        folder, _, names = row["diffusers"].partition("/")
        want |= {f"{folder}/{name}": source for name in names.split("+")}
    back = {
        FOLDERS[component] + theirs(component, name): row.source
        for component, rows in real_layout(arch).items()
        for name, row in to_file(rows).items()
    }
    assert back == want


def test_which_rows_have_another_shape_in_the_file():
    other = [row for row in entries(real_layout(Arch.SD1)) if row.stored != row.shape]
    assert len(other) == 8
    assert all("attn_1" in row.source and row.stored == (*row.shape, 1, 1) for row in other)
    parts = [row for row in real_layout(Arch.SD2)["text"] if row.part]
    assert len(parts) == 23 * 6 and {row.part for row in parts} == {(0, 3), (1, 3), (2, 3)}
    assert all(row.stored == (3 * row.shape[0], *row.shape[1:]) for row in parts)
    turned = [row for row in entries(real_layout(Arch.SDXL)) if row.transposed]
    assert [row.target for row in turned] == ["text_projection.weight"]


def test_rows_give_the_numbers_that_the_networks_want():
    """OpenCLIP's fused and turned tensors, small enough to look at."""
    import torch

    from darkroom.weights.layouts.open_clip import open_clip
    from darkroom.weights.topology import TextDims

    dims = TextDims(width=4, layers=1, intermediate=8, positions=3, vocab=5, projection=6)
    rows = {row.target: row for row in open_clip(dims)}
    fused = torch.arange(48.0).reshape(12, 4)
    taken = []
    for name in "qkv":
        row = rows[f"encoder.layers.0.self_attn.{name}_proj.weight"]
        assert row.stored == tuple(fused.shape)
        index, count = row.part
        taken.append(fused.chunk(count, 0)[index])
    assert torch.equal(torch.cat(taken), fused)
    row = rows["text_projection.weight"]
    assert (row.stored, row.shape, row.transposed) == ((4, 6), (6, 4), True)


@pytest.mark.parametrize("arch", MAPS)
@pytest.mark.parametrize("inner", [True, False])
def test_folders_have_our_own_names(arch, inner):
    from darkroom.weights.detect import detect

    shapes = real_folder(arch, inner=inner)
    layout = detect(made_header(shapes)).layout
    assert stored(layout) == shapes
    single = real_layout(arch)
    for component, rows in layout.items():
        ours = {row.target: row.shape for row in rows}
        assert ours == {row.target: row.shape for row in single[component]}
        assert all(row.stored == row.shape and not row.part for row in rows)


def test_old_diffusers_vae_names():
    from darkroom.weights.detect import detect_vae

    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    rows = real_layout(Arch.SD1)["vae"]
    names = {}
    for row in rows:
        parts = [name for name in old if f".attentions.0.{name}." in row.target]
        names[row.target] = row.target.replace(parts[0], old[parts[0]]) if parts else row.target
    assert len(set(names.items()) - set(zip(names, names, strict=True))) == 16
    for prefix in ("", "vae/"):
        shapes = {prefix + names[row.target]: row.shape for row in rows}
        header = made_header(shapes)
        found = {row.target: row.source for row in detect_vae(header).rows}
        assert found == {target: prefix + name for target, name in names.items()}


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
        "text": make_text(found.texts[0]),
    }
    for component, rows in tiny_layout(**dims).items():
        want = {name: tuple(t.shape) for name, t in made[component].state_dict().items()}
        assert {row.target: row.shape for row in rows} == want


@pytest.mark.slow
@pytest.mark.parametrize("channels", [4, 8, 9])
@pytest.mark.parametrize("arch", [*MAPS, Arch.SDXL_REFINER])
def test_the_real_families_fit_the_networks(arch, channels):
    from darkroom.engine.networks import make_text, make_unet, make_vae
    from darkroom.weights.detect import detect

    found = detect(real_header(arch, in_channels=channels))
    made = {"unet": make_unet(found.unet), "vae": make_vae(found.vae)}
    made |= zip(("text", "text_2"), map(make_text, found.texts), strict=False)
    assert made.keys() == found.layout.keys()
    for component, rows in found.layout.items():
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

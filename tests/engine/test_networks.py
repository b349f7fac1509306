"""Networks from a file: every tensor as it lies there, nothing twice, nothing left without memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.make_checkpoint import COMPONENTS, KINDS, in_folder, make_checkpoint, make_folder
from darkroom.core.errors import BadFile
from darkroom.engine import networks as networks_module
from darkroom.engine.networks import (
    Placement,
    load_networks,
    load_vae,
    make_text,
    make_unet,
    make_vae,
)
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from darkroom.weights.layouts.checkpoint import entries
from darkroom.weights.reader import open_tensors
from tiny import tiny_checkpoint, tiny_layout, write_tensors

ROOT = Path(__file__).parents[2]
DIMS = {"unet": (32, 64), "text_layers": 1}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "m.safetensors", **DIMS)


def loaded(path, **placement):
    """Every network of a file, by its name in the layout."""
    header, want = read_header(path), Placement(**placement)
    detected = detect(header)
    networks = load_networks(header, detected, want)
    vae = load_vae(header, detected.vae, rows=detected.layout["vae"], placement=want)
    assert networks.bytes + vae.bytes == sum(
        tensor.nbytes for module in [*networks.modules.values(), vae.module]
        for tensor in tensors(module)
    )  # fmt: skip
    return {**networks.modules, "vae": vae.module}


@pytest.fixture(scope="module")
def networks(path):
    return loaded(path)


def tensors(module):
    return [*module.parameters(), *module.buffers()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("channels_last", "wide", "reordered"),
    [(False, 128, ()), (True, 128, ("vae",)), (True, 8, ("unet", "vae"))],
)
def test_every_tensor_equals_the_file_to_the_bit(
    path, monkeypatch, dtype, channels_last, wide, reordered
):
    monkeypatch.setattr(networks_module, "WIDE", wide)  # the UNet here is a narrow one
    header = read_header(path)
    got = loaded(path, dtype=dtype, channels_last=channels_last)
    with open_tensors(header) as file:
        for component, rows in tiny_layout(**DIMS).items():
            state = got[component].state_dict()
            assert state.keys() == {row.target for row in rows}
            for row in rows:
                want = file.tensor(row.source).reshape(row.shape).to(dtype)
                assert torch.equal(state[row.target], want), row.target
                last = component in reordered and want.ndim == 4
                form = torch.channels_last if last else torch.contiguous_format
                assert state[row.target].is_contiguous(memory_format=form)


def test_nothing_is_on_meta_trains_or_needs_gradients(networks):
    for module in networks.values():
        assert not module.training
        for tensor in tensors(module):
            assert not tensor.is_meta and not tensor.requires_grad


def test_float32_on_disk_float16_in_memory(tmp_path):
    path = tiny_checkpoint(tmp_path / "m.safetensors", dtype=np.float32, **DIMS)
    got = loaded(path, dtype=torch.float16)
    assert {p.dtype for p in got["unet"].parameters()} == {torch.float16}


def test_the_networks_run_and_give_finite_numbers(networks):
    with torch.inference_mode():
        states = networks["text"](torch.randint(0, 49408, (2, 77)))
        noise = networks["unet"](torch.randn(2, 4, 16, 8), torch.tensor(500), states).sample
        pixels = networks["vae"].decode(noise).sample
        back = networks["vae"].encode(pixels).latent_dist.mean
    assert states.shape == (2, 77, 64) and noise.shape == (2, 4, 16, 8)
    assert pixels.shape == (2, 3, 128, 64) and back.shape == noise.shape
    assert all(bool(t.isfinite().all()) for t in (states, noise, pixels))


def test_the_old_text_layout_gives_the_same_text_encoder(tmp_path, networks):
    old = tiny_checkpoint(
        tmp_path / "m.safetensors", text_prefix="cond_stage_model.transformer.", **DIMS
    )
    got = loaded(old)["text"].state_dict()
    assert all(torch.equal(t, got[name]) for name, t in networks["text"].state_dict().items())


def test_the_file_may_go_away_after_loading(tmp_path):
    path = tiny_checkpoint(tmp_path / "m.safetensors", **DIMS)
    got = loaded(path, dtype=torch.float16)
    if sys.platform != "win32":
        path.unlink()
    assert bool(got["unet"].conv_in.weight.isfinite().all())


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"<html>")
    with pytest.raises(BadFile, match="web page"):
        loaded(path)


SD15_CONFIG = {  # unet/config.json and vae/config.json of the real model
    "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False, "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1,
    "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
    "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}  # fmt: skip
VAE_CONFIG = {
    "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3, "latent_channels": 4,
    "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
    "up_block_types": ["UpDecoderBlock2D"] * 4, "scaling_factor": 0.18215,
}  # fmt: skip


XL_BLOCKS = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}
REFINER_BLOCKS = {
    "block_out_channels": [384, 768, 1536, 1536],
    "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
}
ADDED = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}
UNET_CONFIGS = {  # what differs in the real models' files; parameters where they are published
    "sd15": ({}, 859_520_964),
    "inpaint": ({"in_channels": 9}, 859_535_364),
    "edit": ({"in_channels": 8}, 859_532_484),
    "sd21": (
        {
            "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024,
            "use_linear_projection": True,
        },
        865_910_724,
    ),
    "sdxl": (
        {
            **XL_BLOCKS, **ADDED, "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048,
            "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True,
            "projection_class_embeddings_input_dim": 2816,
        },
        2_567_463_684,
    ),
    "refiner": (
        {
            **REFINER_BLOCKS, **ADDED, "attention_head_dim": [6, 12, 24, 24],
            "cross_attention_dim": 1280, "transformer_layers_per_block": 4,
            "use_linear_projection": True, "projection_class_embeddings_input_dim": 2560,
        },
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNET_CONFIGS)
def test_every_unet_is_configured_as_the_real_one(kind):
    config, parameters = UNET_CONFIGS[kind]
    unet = make_unet(KINDS[kind].unet)
    with torch.device("meta"):
        want = type(unet)(**{**SD15_CONFIG, **config})
    assert str(unet) == str(want)  # every layer with its sizes
    heads, wanted = ([m.heads for m in u.modules() if hasattr(m, "heads")] for u in (unet, want))
    assert heads == wanted
    if parameters is not None:
        assert sum(p.numel() for p in unet.parameters()) == parameters
    assert unet.config["flip_sin_to_cos"] and unet.config["freq_shift"] == 0


def test_the_vae_is_configured_as_the_real_one():
    for kind, scale in (("sd15", 0.18215), ("sdxl", 0.13025)):
        vae = make_vae(KINDS[kind].vae)
        for key, value in {**VAE_CONFIG, "scaling_factor": scale}.items():
            got = vae.config[key]
            assert (list(got) if isinstance(got, tuple) else got) == value, key
        assert sum(p.numel() for p in vae.parameters()) == 83_653_863


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("sd15", [123_060_480]), ("sd21", [340_387_840]), ("sdxl", [123_060_480, 694_659_840])],
)
def test_text_encoders_are_as_large_as_the_real_ones(kind, parameters):
    made = [make_text(dims) for dims in KINDS[kind].texts]
    assert [sum(p.numel() for p in text.parameters()) for text in made] == parameters


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl", "refiner", "inpaint"])
def test_a_diffusers_folder_is_loaded_as_it_lies_there(tmp_path, kind):
    from safetensors.torch import load_file

    make_folder(tmp_path / "m", KINDS[kind].tiny())
    for component, module in loaded(tmp_path / "m").items():
        folder, name = COMPONENTS[in_folder(component, KINDS[kind].arch)]
        there = load_file(tmp_path / "m" / folder / f"{name}.safetensors")
        state = module.state_dict()
        assert len(state) == len(there)
        for key, tensor in there.items():
            assert torch.equal(state[key.removeprefix("text_model.")], tensor.float()), key


@pytest.mark.parametrize("kind", ["sd21", "sdxl", "refiner"])
def test_a_single_file_has_the_networks_of_the_folder(tmp_path, kind):
    family = KINDS[kind].tiny()
    make_checkpoint(tmp_path / "m.safetensors", family.layout(), metadata=family.metadata())
    make_folder(tmp_path / "m", family)
    one, two = loaded(tmp_path / "m.safetensors"), loaded(tmp_path / "m")
    assert one.keys() == two.keys()
    for name, module in one.items():
        state, other = module.state_dict(), two[name].state_dict()
        assert [(key, t.shape) for key, t in state.items()] == [
            (key, t.shape) for key, t in other.items()
        ]
        assert all(tensor.is_contiguous() for tensor in state.values())


def test_fused_rows_and_a_transposed_projection_are_taken_apart(tmp_path):
    family = KINDS["sdxl"].tiny()
    path = tmp_path / "m.safetensors"
    make_checkpoint(path, family.layout())
    got = loaded(path)["text_2"].state_dict()
    with open_tensors(read_header(path)) as file:
        at = "conditioner.embedders.1.model."
        fused = file.tensor(f"{at}transformer.resblocks.1.attn.in_proj_weight").float()
        parts = fused.view(3, 64, 64)
        for name, part in zip("qkv", parts, strict=True):
            assert torch.equal(got[f"encoder.layers.1.self_attn.{name}_proj.weight"], part)
        projection = file.tensor(f"{at}text_projection").float()
        assert torch.equal(got["text_projection.weight"], projection.T)


RUN = """
import json, sys
from pathlib import Path
import torch
from darkroom.engine.networks import Placement, load_networks, load_vae
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def load(path, dtype=torch.float32):
    header, want = read_header(path), Placement(dtype=dtype)
    found = detect(header)
    vae = load_vae(header, found.vae, rows=found.layout["vae"], placement=want)
    return load_networks(header, found, want), vae

load(sys.argv[1])
out = {}
for dtype in (torch.float16, torch.float32):  # the peak of the second is the peak of all
    before = resident("VmRSS")
    networks, vae = load(sys.argv[2], dtype)
    size = networks.bytes + vae.bytes
    out[str(dtype)] = {"grown": resident("VmHWM") - before, "bytes": size}
    del networks, vae
with torch.inference_mode():
    networks, _ = load(sys.argv[1])
    networks.texts[0](torch.zeros(1, 77, dtype=torch.long))
slow = [n for n in ("torch._dynamo", "scipy", "sympy", "transformers", "peft") if n in sys.modules]
print(json.dumps(out | {"slow": slow}))
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory, path):
    """A larger checkpoint loaded in a process of its own, as it lies there and as fp32."""
    big = tmp_path_factory.mktemp("big") / "m.safetensors"
    layout = tiny_layout(unet=(192, 384))
    write_tensors(big, {row.source: np.zeros(row.stored, np.float16) for row in entries(layout)})
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, str(path), str(big)],
        capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": "src", "PATH": ""},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_second_copy_is_ever_alive(measured):
    wide, mapped = measured["torch.float32"], measured["torch.float16"]
    assert wide["bytes"] > 80e6
    assert wide["grown"] < 1.15 * wide["bytes"]  # the fp16 pages beside it would make 1.5
    assert mapped["grown"] < 0.5 * mapped["bytes"]  # stays in the file until it is used


def test_loading_imports_nothing_that_it_does_not_need(measured):
    assert measured["slow"] == []

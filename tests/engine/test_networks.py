"""Networks from a file: every tensor as it lies there, nothing twice, nothing left without memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.make_checkpoint import SD15_TEXT, SD15_UNET, SD15_VAE
from darkroom.core.errors import BadFile
from darkroom.engine import networks as networks_module
from darkroom.engine.networks import Placement, load_networks, make_text, make_unet, make_vae
from darkroom.weights.header import read_header
from darkroom.weights.layouts.checkpoint import entries
from darkroom.weights.reader import open_tensors
from tiny import tiny_checkpoint, tiny_layout, write_tensors

ROOT = Path(__file__).parents[2]
DIMS = {"unet": (32, 64), "text_layers": 1}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "m.safetensors", **DIMS)


@pytest.fixture(scope="module")
def networks(path):
    return load_networks(read_header(path))


def parts(networks):
    return {"unet": networks.unet, "vae": networks.vae, "text": networks.text}


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
    got = parts(load_networks(header, Placement(dtype=dtype, channels_last=channels_last)))
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
    for module in parts(networks).values():
        assert not module.training
        for tensor in tensors(module):
            assert not tensor.is_meta and not tensor.requires_grad
    assert networks.bytes == sum(t.nbytes for m in parts(networks).values() for t in tensors(m))


def test_float32_on_disk_float16_in_memory(tmp_path):
    path = tiny_checkpoint(tmp_path / "m.safetensors", dtype=np.float32, **DIMS)
    got = load_networks(read_header(path), Placement(dtype=torch.float16))
    assert {p.dtype for p in got.unet.parameters()} == {torch.float16}


def test_the_networks_run_and_give_finite_numbers(networks):
    with torch.inference_mode():
        states = networks.text(torch.randint(0, 49408, (2, 77)))
        noise = networks.unet(torch.randn(2, 4, 16, 8), torch.tensor(500), states).sample
        pixels = networks.vae.decode(noise).sample
        back = networks.vae.encode(pixels).latent_dist.mean
    assert states.shape == (2, 77, 64) and noise.shape == (2, 4, 16, 8)
    assert pixels.shape == (2, 3, 128, 64) and back.shape == noise.shape
    assert all(bool(t.isfinite().all()) for t in (states, noise, pixels))


def test_the_old_text_layout_gives_the_same_text_encoder(tmp_path, networks):
    old = tiny_checkpoint(
        tmp_path / "m.safetensors", text_prefix="cond_stage_model.transformer.", **DIMS
    )
    got = load_networks(read_header(old)).text.state_dict()
    assert all(torch.equal(t, got[name]) for name, t in networks.text.state_dict().items())


def test_the_file_may_go_away_after_loading(tmp_path):
    path = tiny_checkpoint(tmp_path / "m.safetensors", **DIMS)
    got = load_networks(read_header(path), Placement(dtype=torch.float16))
    if sys.platform != "win32":
        path.unlink()
    assert bool(got.unet.conv_in.weight.isfinite().all())


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"<html>")
    with pytest.raises(BadFile, match="web page"):
        load_networks(read_header(path))


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


def test_sd15_is_configured_as_the_real_one():
    unet, vae = make_unet(SD15_UNET), make_vae(SD15_VAE)
    with torch.device("meta"):
        want = type(unet)(**SD15_CONFIG)
    assert str(unet) == str(want)  # every layer with its sizes
    heads = [m.heads for m in want.modules() if hasattr(m, "heads")]
    assert [m.heads for m in unet.modules() if hasattr(m, "heads")] == heads == [8] * 32
    for key, value in VAE_CONFIG.items():
        got = vae.config[key]
        assert (list(got) if isinstance(got, tuple) else got) == value, key
    for key in SD15_CONFIG.keys() - {"attention_head_dim"}:
        got = unet.config[key]
        assert (list(got) if isinstance(got, tuple) else got) == SD15_CONFIG[key], key
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert sum(p.numel() for p in make_text(SD15_TEXT).parameters()) == 123_060_480


RUN = """
import json, sys
from pathlib import Path
import torch
from darkroom.engine.networks import Placement, load_networks
from darkroom.weights.header import read_header

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

load_networks(read_header(sys.argv[1]))
header, out = read_header(sys.argv[2]), {}
for dtype in (torch.float16, torch.float32):  # the peak of the second is the peak of all
    before = resident("VmRSS")
    networks = load_networks(header, Placement(dtype=dtype))
    out[str(dtype)] = {"grown": resident("VmHWM") - before, "bytes": networks.bytes}
    del networks
with torch.inference_mode():
    networks = load_networks(read_header(sys.argv[1]))
    networks.text(torch.zeros(1, 77, dtype=torch.long))
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

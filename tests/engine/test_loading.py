"""Checkpoints and VAEs: what is read when, what stays, what does not fit."""

import time

import pytest
import torch

from bench.make_checkpoint import KINDS, make_checkpoint, make_folder
from bench.parity import card_of
from darkroom.core.errors import BadFile, BadRequest
from darkroom.core.model import Arch, Kind, ModelCard, Prediction, Variant
from darkroom.engine import loading
from darkroom.engine.device import choose_device
from darkroom.engine.engine import Engine
from darkroom.sampling import NoiseTable
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from darkroom.weights.layouts.checkpoint import stored
from darkroom.weights.writer import write_safetensors

torch.set_num_threads(1)
PREFIX = "first_stage_model."


def write(path, rows, *, seed=0, extra=()):
    """A file with random tensors of these names and shapes."""
    random = torch.Generator().manual_seed(seed)
    table = {name: ("F32", shape) for name, shape in {**rows, **dict(extra)}.items()}
    pieces = (torch.randn(shape, generator=random).numpy().tobytes() for _, shape in table.values())
    write_safetensors(path, table, pieces)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("loading")


@pytest.fixture(scope="module")
def checkpoint(folder):
    path = folder / "full.safetensors"
    make_checkpoint(path, KINDS["sd15"].tiny().layout())
    return card_of(path, detect(read_header(path)))


@pytest.fixture(scope="module")
def without_vae(folder):
    layout = KINDS["sd15"].tiny().layout()
    del layout["vae"]
    path = folder / "bare.safetensors"
    make_checkpoint(path, layout)
    return card_of(path, detect(read_header(path)))


def vae_card(path, sha256="f" * 64):
    return ModelCard(
        sha256=sha256, path=str(path), name=path.stem, kind=Kind.VAE, arch=Arch.OTHER,
        variant=Variant.BASE, prediction=Prediction.EPS, bytes=0, native_size=512,
    )  # fmt: skip


def vae_rows():
    """Names and shapes of a VAE alone, as LDM names it."""
    rows = KINDS["sd15"].tiny().layout()["vae"]
    return {row.source.removeprefix(PREFIX): row.stored for row in rows}


@pytest.fixture
def engine():
    return Engine(choose_device("cpu"), cache_bytes=1 << 30)


@pytest.fixture
def read(monkeypatch):
    """The files whose tables were read."""
    names = []

    def reading(path):
        names.append(path.name)
        return read_header(path)

    monkeypatch.setattr(loading, "read_header", reading)
    return names


@pytest.mark.parametrize("form", ["ldm", "prefixed", "ckpt", "diffusers"])
def test_a_vae_may_come_from_any_kind_of_file(folder, engine, without_vae, form):
    rows, path = vae_rows(), folder / f"{form}.vae.safetensors"
    if form == "diffusers":
        path = folder / "parts" / "vae"
        make_folder(path.parent, KINDS["sd15"].tiny())
        from safetensors.torch import load_file

        want = load_file(path / "diffusion_pytorch_model.safetensors")["decoder.conv_in.weight"]
    else:
        prefix = PREFIX if form == "prefixed" else ""
        write(path, {prefix + name: shape for name, shape in rows.items()})
        from safetensors.torch import load_file

        state = load_file(path)
        want = state[f"{prefix}decoder.conv_in.weight"]
        if form == "ckpt":
            path = folder / "old.vae.pt"
            torch.save({"state_dict": state, "global_step": 3}, path)
    model = engine.model(without_vae, vae_card(path))
    assert torch.equal(model.vae.module.decoder.conv_in.weight, want.float())
    assert model.vae_card.path == str(path) and model.vae.dims.scale == 0.18215
    assert model.bytes == model.networks.bytes + model.vae.bytes


def test_a_checkpoint_without_vae_says_how_to_get_one(engine, without_vae, read):
    with pytest.raises(BadRequest, match="bare has no VAE") as caught:
        engine.model(without_vae)
    assert "--vae" in caught.value.hint and "bare.vae.safetensors" in caught.value.hint


def test_another_vae_is_another_vae_and_nothing_else(folder, engine, checkpoint, read):
    other = vae_card(write(folder / "other.safetensors", vae_rows(), seed=5))
    first = engine.model(checkpoint)
    second = engine.model(checkpoint, other)
    assert read == ["full.safetensors", "other.safetensors"]
    assert second.networks is first.networks and second.text is first.text
    assert second.vae is not first.vae
    assert engine.model(checkpoint).vae is first.vae
    assert engine.model(checkpoint, other).vae is second.vae
    assert len(read) == 2


def test_the_checkpoint_decides_the_scale_of_latents(folder, engine):
    """The tensors of SD1's VAE and SDXL's have the same shapes."""
    path = folder / "xl.safetensors"
    make_checkpoint(path, KINDS["sdxl"].tiny().layout())
    card = card_of(path, detect(read_header(path)))
    other = vae_card(write(folder / "unnamed.safetensors", vae_rows(), seed=6), "e" * 64)
    assert engine.model(card, other).vae.dims.scale == 0.13025
    assert engine.model(card).vae.dims.scale == 0.13025


def test_a_vae_of_other_latents_is_refused(folder, engine, checkpoint):
    rows = vae_rows()
    wide = {
        "decoder.conv_in.weight": (32, 16, 3, 3), "encoder.conv_out.weight": (32, 32, 3, 3),
        "encoder.conv_out.bias": (32,), "quant_conv.weight": (32, 32, 1, 1),
        "quant_conv.bias": (32,), "post_quant_conv.weight": (16, 16, 1, 1),
        "post_quant_conv.bias": (16,),
    }  # fmt: skip
    path = write(folder / "flux.safetensors", rows, extra=wide.items())
    with pytest.raises(BadFile):
        engine.model(checkpoint, vae_card(path, "d" * 64))


def test_a_file_that_is_no_vae_is_refused(folder, engine, checkpoint):
    path = write(folder / "lora.safetensors", {"lora_unet_x.lora_up.weight": (4, 4)})
    with pytest.raises(BadFile, match=r"lora\.safetensors"):
        engine.model(checkpoint, vae_card(path, "c" * 64))


def test_back_to_a_checkpoint_in_memory_takes_no_time(folder, engine, checkpoint, read):
    path = folder / "second.safetensors"
    make_checkpoint(path, KINDS["sd15"].tiny().layout(), seed=9)
    second = card_of(path, detect(read_header(path)))
    first = engine.model(checkpoint)
    engine.model(second)
    began = time.perf_counter()
    again = engine.model(checkpoint)
    assert time.perf_counter() - began < 0.05
    assert again == first and read == ["full.safetensors", "second.safetensors"]


def test_a_small_budget_keeps_the_model_of_the_moment_only(folder, checkpoint, read):
    engine = Engine(choose_device("cpu"), cache_bytes=0)
    other = vae_card(write(folder / "third.safetensors", vae_rows(), seed=7), "b" * 64)
    first = engine.model(checkpoint)
    assert engine.model(checkpoint).networks is first.networks  # made room for its VAE, kept itself
    assert engine.model(checkpoint, other).networks is first.networks
    assert engine.model(checkpoint).vae is not first.vae


def test_making_room_keeps_what_is_in_use(folder, engine, checkpoint, without_vae, read):
    other = vae_card(write(folder / "fourth.safetensors", vae_rows(), seed=8), "a" * 64)
    engine.model(checkpoint)
    used = engine.model(without_vae, other)
    engine.make_room(used)
    read.clear()
    assert engine.model(without_vae, other) == used and not read
    engine.model(checkpoint)
    assert read


def test_zero_terminal_snr_has_its_own_noise_table(folder, engine):
    layout = KINDS["sd15"].tiny().layout()
    path = folder / "zero.safetensors"
    write(path, stored(layout), extra={"v_pred": (1,), "ztsnr": (1,)}.items())
    model = engine.model(card_of(path, detect(read_header(path))))
    assert model.networks.detected.prediction is Prediction.V
    assert model.table.high == NoiseTable.zero_terminal().high > 4000


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_names_its_networks_as_the_layout_does(folder, engine, kind):
    path = folder / f"{kind}-names.safetensors"
    make_checkpoint(path, KINDS[kind].tiny().layout())
    model = engine.model(card_of(path, detect(read_header(path))))
    assert {*model.networks.modules, "vae"} == model.networks.detected.layout.keys()
    assert model.text.widths == (64,) * len(model.networks.texts)

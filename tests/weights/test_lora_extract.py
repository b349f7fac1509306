"""What a checkpoint learned over another, as a LoRA: against a difference of known rank."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from darkroom.core.errors import BadRequest
from darkroom.core.model import Arch
from darkroom.weights.header import read_header
from darkroom.weights.lora import fit, read_network
from darkroom.weights.lora.extract import (
    Extraction,
    _svd,
    described,
    extract,
    kohya,
    write_lora,
)
from darkroom.weights.whole import open_whole
from lora_files import targets_for, tiny_targets
from tiny import tiny_checkpoint

CHANGED = {  # in the file -> the module
    "model.diffusion_model.middle_block.1.proj_in.weight": ("unet", "mid_block.attentions.0.proj_in"),
    "model.diffusion_model.middle_block.0.emb_layers.1.weight": ("unet", "mid_block.resnets.0.time_emb_proj"),
    "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight": ("text", "encoder.layers.1.mlp.fc1"),
    "model.diffusion_model.middle_block.0.in_layers.2.weight": ("unet", "mid_block.resnets.0.conv1"),
}  # fmt: skip
CONV = "model.diffusion_model.middle_block.0.in_layers.2.weight"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny checkpoint, and the same with differences of rank 2 in four modules."""
    folder = tmp_path_factory.mktemp("models")
    base = tiny_checkpoint(folder / "base.safetensors", dtype=np.float32)
    tensors = load_file(base)
    torch.manual_seed(3)
    for name in CHANGED:
        weight = tensors[name]
        change = torch.randn(len(weight), 2) @ torch.randn(2, weight[0].numel()) * 0.01
        tensors[name] = weight + change.view_as(weight)
    tuned = folder / "tuned.safetensors"
    save_file(tensors, tuned)
    return tuned, base


def made(models, path, how, title="mine"):
    with open_whole(read_header(models[0])) as tuned, open_whole(read_header(models[1])) as base:
        found = list(extract(tuned, base, how))
        metadata = described(tuned.detected, how, title=title, base="base.safetensors")
    return found, write_lora(path, found, metadata)


def test_a_difference_of_that_rank_comes_back(models, tmp_path):
    path = tmp_path / "lora.safetensors"
    found, _ = made(models, path, Extraction(rank=4, conv_rank=4))
    assert all(each.lost < 1e-5 * each.total for each in found)
    header = read_header(path)
    fitted = fit(header, tiny_targets())
    fitted.check()
    assert set(fitted.modules) == set(CHANGED.values())
    network = read_network(header, fitted)
    tuned, base = map(load_file, models)
    for name, place in CHANGED.items():
        got = network.adapters[place].delta(base[name], 1.0)
        torch.testing.assert_close(base[name] + got, tuned[name], rtol=0, atol=1e-4)


def test_a_lower_rank_says_what_is_lost(models, tmp_path):
    found, _ = made(models, tmp_path / "lora.safetensors", Extraction(rank=1, conv_rank=1))
    tuned, base = map(load_file, models)
    for name, each in zip(CHANGED, sorted(found, key=lambda each: order(each.name)), strict=True):
        values = torch.linalg.svdvals((tuned[name] - base[name]).flatten(1)).square()
        assert each.total == pytest.approx(float(values.sum()), rel=1e-4)
        assert each.lost == pytest.approx(float(values[1:].sum()), rel=1e-2)


def order(name):
    wanted = ["proj_in", "time_emb_proj", "fc1", "conv1"]
    return next(i for i, ending in enumerate(wanted) if name.endswith(ending))


@pytest.mark.parametrize(
    ("how", "count"),
    [(Extraction(rank=2), 3), (Extraction(rank=2, texts=False), 2), (Extraction(rank=2, conv_rank=1), 4)],
)  # fmt: skip
def test_convolutions_and_texts_are_a_choice(models, tmp_path, how, count):
    found, _ = made(models, tmp_path / "lora.safetensors", how)
    assert len(found) == count


def test_the_metadata_tell_what_it_is_and_the_hash_is_of_the_data(models, tmp_path):
    path = tmp_path / "lora.safetensors"
    _, short = made(models, path, Extraction(rank=2))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    digest = hashlib.sha256(data[8 + length :]).hexdigest()
    told = read_header(path).metadata
    assert short == digest[:12]
    assert told["sshs_model_hash"] == digest
    assert told["ss_output_name"] == "mine"
    assert told["ss_base_model_version"] == "sd_v1"
    assert told["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert told["ss_network_dim"] == "2"


def test_the_same_two_files_give_the_same_lora(models, tmp_path):
    hashes = [made(models, tmp_path / f"{i}.safetensors", Extraction(rank=3))[1] for i in (1, 2)]
    assert hashes[0] == hashes[1]


def test_equal_models_make_no_lora(models, tmp_path):
    with pytest.raises(BadRequest, match="are equal"):
        made((models[1], models[1]), tmp_path / "lora.safetensors", Extraction())


def test_models_of_another_make_are_refused(models, tmp_path):
    other = tiny_checkpoint(tmp_path / "other.safetensors", unet=(32, 64, 96))
    with pytest.raises(BadRequest, match="not of one make"):
        made((models[0], other), tmp_path / "lora.safetensors", Extraction())


@pytest.mark.parametrize("shape", [(300, 700), (700, 300)])
def test_the_sketch_finds_what_the_full_decomposition_finds(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) * 0.01 + torch.randn(shape[0], 20) @ torch.randn(20, shape[1])
    left, values, right = _svd(matrix, 8)
    full = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(values, full.S[:8], rtol=1e-4, atol=0)
    best = (full.U[:, :8] * full.S[:8]) @ full.Vh[:8]
    torch.testing.assert_close((left * values) @ right, best, rtol=0, atol=1e-2)


@pytest.mark.parametrize("arch", [Arch.SD1, Arch.SD2, Arch.SDXL])
def test_every_name_written_is_read_as_the_same_module(arch):
    targets = targets_for(arch)
    for place in targets.shapes:
        assert targets.index.find(kohya(targets, place)) == place
    base = kohya(targets, ("unet", "mid_block.attentions.0.proj_in"))
    assert base == ("lora_unet_middle_block_1_proj_in" if arch is Arch.SDXL else "lora_unet_mid_block_attentions_0_proj_in")  # fmt: skip

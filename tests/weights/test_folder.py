"""Folders as diffusers and caches of Hugging Face have them, read as one model."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.core.errors import BadFile
from darkroom.weights.header import read_header
from darkroom.weights.reader import open_tensors
from tiny import write_tensors

UNET, TEXT = "diffusion_pytorch_model", "model"


def weights(path: Path, number: float = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tensors(path, {"a": np.full(3, number, np.float32)})


def pickled(path: Path, number: float = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"a": torch.full((3,), number)}, path)
    return path


def config(path: Path, **table: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table))
    return path


@pytest.fixture
def model(tmp_path):
    """A model of three components with weights, and others without."""
    top = tmp_path / "model"
    index = {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0",
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"], "scheduler": ["diffusers", "DDIM"],
        "safety_checker": ["x", "y"], "tokenizer": ["x", "y"], "image_encoder": [None, None],
    }  # fmt: skip
    config(top / "model_index.json", **index)
    weights(top / "unet" / f"{UNET}.safetensors", 1)
    weights(top / "vae" / f"{UNET}.safetensors", 2)
    pickled(top / "text_encoder" / "pytorch_model.bin", 3)
    weights(top / "safety_checker" / f"{TEXT}.safetensors", 9)
    config(top / "unet" / "config.json", sample_size=64)
    config(top / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    config(top / "tokenizer" / "tokenizer_config.json", secret=1)
    return top


def values(path: Path) -> dict[str, float]:
    header = read_header(path)
    with open_tensors(header) as file:
        return {name: float(file.tensor(name)[0]) for name in header.tensors}


def refusal(path: Path) -> str:
    with pytest.raises(BadFile) as caught:
        read_header(path)
    assert caught.value.hint
    return caught.value.sentence()


def test_a_model_is_the_files_of_its_components(model):
    header = read_header(model)
    assert header.form == "folder" and header.path == model
    assert values(model) == {"unet/a": 1, "vae/a": 2, "text_encoder/a": 3}
    assert [path.parent.name for path in header.files] == ["unet", "vae", "text_encoder"]
    assert header.size == sum(path.stat().st_size for path in header.files)
    said = {name: json.loads(text) for name, text in header.metadata.items()}
    assert said.keys() == {
        "model_index.json",
        "unet/config.json",
        "scheduler/scheduler_config.json",
    }
    assert said["unet/config.json"] == {"sample_size": 64}


def test_without_an_index_the_known_components_are_taken(model):
    (model / "model_index.json").unlink()
    assert values(model) == {"unet/a": 1, "vae/a": 2, "text_encoder/a": 3}


def test_a_component_alone_keeps_its_names(model):
    header = read_header(model / "vae")
    assert header.tensors.keys() == {"a"} and header.form == "folder"
    assert read_header(model / "unet").metadata == {"config.json": '{"sample_size": 64}'}
    weights(model / "lora" / "pytorch_lora_weights.safetensors", 5)
    assert values(model / "lora") == {"a": 5}


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        ((".fp16.safetensors", ".safetensors", ".non_ema.safetensors"), ".safetensors"),
        ((".fp16.safetensors", ".non_ema.safetensors"), ".fp16.safetensors"),
        ((".fp16.safetensors", ".bin"), ".bin"),
        ((".safetensors", ".bin"), ".safetensors"),
        ((".non_ema.bin", ".fp16.bin"), ".fp16.bin"),
        ((".non_ema.safetensors",), ".non_ema.safetensors"),
    ],
)
def test_the_plain_file_first_then_variants(tmp_path, files, taken):
    for n, ending in enumerate(files):
        make = pickled if ending.endswith("bin") else weights
        make(tmp_path / "unet" / f"{UNET}{ending}", n)
    assert values(tmp_path) == {"unet/a": files.index(taken)}


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_pieces(tmp_path, index, variant):
    folder, names = tmp_path / "unet", "abc"
    for n, name in enumerate(names, 1):
        piece = folder / f"{UNET}{variant}-0000{n}-of-00003.safetensors"
        folder.mkdir(exist_ok=True)
        write_tensors(piece, {name: np.full(2, n, np.float32)})
    if index:
        table = {
            name: f"{UNET}{variant}-0000{n}-of-00003.safetensors" for n, name in enumerate(names, 1)
        }
        config(folder / f"{UNET}.safetensors.index{variant}.json", weight_map=table)
    assert values(tmp_path) == {"unet/a": 1, "unet/b": 2, "unet/c": 3}
    (folder / f"{UNET}{variant}-00002-of-00003.safetensors").unlink()
    assert "is incomplete: " in (said := refusal(tmp_path)) and "2" in said and "is missing" in said


def test_the_variant_that_was_downloaded_before_the_index_of_another(tmp_path):
    config(tmp_path / f"{UNET}.safetensors.index.json", weight_map={"a": f"{UNET}-00001-of-00002"})
    weights(tmp_path / f"{UNET}.fp16.safetensors", 4)
    assert values(tmp_path) == {"a": 4}


def test_pieces_whose_variant_comes_last(tmp_path):
    """As diffusers named them until 0.31."""
    for number in (1, 2):
        path = tmp_path / f"{UNET}-0000{number}-of-00002.fp16.safetensors"
        write_tensors(path, {f"t{number}": np.full(3, number, np.float32)})
    assert values(tmp_path) == {"t1": 1, "t2": 2}


def test_an_index_may_call_its_files_anything(tmp_path):
    weights(tmp_path / "one.safetensors", 1)
    write_tensors(tmp_path / "two.safetensors", {"b": np.full(2, 2, np.float32)})
    table = {"a": "one.safetensors", "b": "two.safetensors"}
    config(tmp_path / f"{UNET}.safetensors.index.json", weight_map=table)
    assert values(tmp_path) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "name", ["../out.safetensors", "/etc/passwd", "a/b", "..", "C:x", "a\\b", ""]
)
def test_an_index_never_leaves_its_folder(tmp_path, name):
    weights(tmp_path / "out.safetensors")
    folder = tmp_path / "vae"
    config(folder / f"{UNET}.safetensors.index.json", weight_map={"a": name})
    assert "names files outside its folder" in refusal(folder)


def test_a_component_never_leaves_the_folder(model):
    index = {"../vae": ["x", "y"], "unet": ["x", "y"]}
    config(model / "model_index.json", **index)
    assert values(model) == {"unet/a": 1}


def test_a_tensor_in_two_pieces(tmp_path):
    for n in (1, 2):
        weights(tmp_path / f"{UNET}-0000{n}-of-00002.safetensors", n)
    assert "is in two files" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{} " + " " * 10_000_000, "far too large"),
    ],
)
def test_an_index_that_is_none(tmp_path, text, says):
    weights(tmp_path / "unet" / f"{UNET}.safetensors")
    (tmp_path / "model_index.json").write_text(text)
    assert says in refusal(tmp_path)


def test_an_index_that_lists_nothing(tmp_path):
    config(tmp_path / f"{UNET}.safetensors.index.json", weight_map=[1])
    assert "lists no files" in refusal(tmp_path)


def test_folders_that_are_no_model(tmp_path):
    assert "is a folder without a model" in refusal(tmp_path)
    weights(tmp_path / "ink.safetensors")
    assert "is a folder that holds ink.safetensors. Name the" in refusal(tmp_path)


def test_a_wrong_file_in_it_is_named(model):
    (model / "vae" / f"{UNET}.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert f"{UNET}.safetensors is a Git-LFS pointer" in refusal(model)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_cache_of_links(model, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1234"
    blobs.mkdir()
    for n, file in enumerate(each for each in sorted(model.rglob("*")) if each.is_file()):
        link = snapshot / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.rename(blobs / str(n)))
    assert values(snapshot) == {"unet/a": 1, "vae/a": 2, "text_encoder/a": 3}


def test_a_file_that_changed_since(model):
    header = read_header(model)
    (model / "vae" / f"{UNET}.safetensors").write_bytes(b"")
    with pytest.raises(BadFile, match="changed while it was read"), open_tensors(header):
        pass

"""LoRAs at the command line: quick refusals, and pictures whose files have other names here."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from darkroom.media.metadata import read_recipe
from network_files import kohya_lora
from tiny import write_tensors


@pytest.fixture
def loras(checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "loras"
    folder.mkdir()
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", f"{checkpoint.parent}:{folder}")
    kohya_lora(folder / "detail.safetensors", checkpoint)
    return folder


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def made(result):
    assert result.exit_code == 0, result.stderr
    return Path(result.stdout.split()[-1])


def draw(call, prompt, *more):
    return call("txt2img", prompt, "--model", "tiny", "--steps", 2, "--seed", 7, *more)


def pasted(tmp_path, text):
    path = tmp_path / "theirs.png"
    info = PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize(
    ("prompt", "told"),
    [("a <lora:details:1>", "'detail'"), ("a <lora:detail:x>", "is no number")],
)
def test_what_cannot_work_is_refused_at_once(call, loras, prompt, told):
    result = draw(call, prompt)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    ("tag", "told"), [("lora:gone:1", "'gone'"), ("hypernet:wide:1", "contexts 2048 wide")]
)
def test_a_refusal_needs_no_torch(loras, checkpoint, tag, told):
    wide = {
        f"2048.{side}.linear.{layer}.weight": np.zeros(shape, np.float32)
        for side in (0, 1)
        for layer, shape in enumerate([(1, 2048), (2048, 1)])
    }
    write_tensors(loras / "wide.safetensors", wide)
    code = (
        "import sys; from darkroom.cli.main import main\n"
        f"try: main(['txt2img', 'a <{tag}>', '--model', 'tiny'])\n"
        "except SystemExit as end: assert end.code in (1, 2), end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert told in done.stderr


def test_redo_finds_a_lora_by_its_hash_when_it_has_another_name(call, loras):
    ours = made(draw(call, "a fox<lora:detail:0.8>"))
    (loras / "detail.safetensors").rename(loras / "renamed.safetensors")
    result = call("redo", ours)
    again = made(result)
    assert np.array_equal(pixels(ours), pixels(again))
    assert read_recipe(again).request.prompt == "a fox<lora:renamed:0.8>"
    assert "Note: the lora 'detail' is here as 'renamed'" in " ".join(result.stderr.split())


def test_redo_finds_a_lora_by_its_hash_when_its_tag_has_a_folder(call, loras, checkpoint):
    for folder, seed in (("styles", 1), ("b", 2)):
        (loras / folder).mkdir()
        kohya_lora(loras / folder / "ink.safetensors", checkpoint, seed=seed)
    ours = made(draw(call, "a fox<lora:styles/ink:0.2><lora:b/ink:0.3>"))
    (loras / "styles" / "ink.safetensors").rename(loras / "styles" / "tusche.safetensors")
    again = made(call("redo", ours))
    assert np.array_equal(pixels(ours), pixels(again))
    told = read_recipe(again).request.prompt
    assert told == "a fox<lora:styles/tusche:0.2><lora:b/ink:0.3>"


def test_redo_says_what_a_lora_was_that_is_gone_and_the_way_out(call, loras):
    ours = made(draw(call, "a fox<lora:detail:0.8>"))
    (used,) = read_recipe(ours).used("lora")
    (loras / "detail.safetensors").unlink()
    result = call("redo", ours)
    told = " ".join(result.stderr.split())
    assert result.exit_code == 2
    assert "the lora 'detail' is not here" in told
    assert used.sha256[:10] in told
    assert "--set prompt=" in told
    assert call("redo", ours, "--set", "prompt=a fox").exit_code == 0


@pytest.fixture
def words(tmp_path, monkeypatch):
    folder = tmp_path / "embeddings"
    folder.mkdir()
    monkeypatch.setenv("DARKROOM_EMBEDDINGS_DIRS", str(folder))
    save_file({"emb_params": torch.ones(2, 64)}, folder / "easy.safetensors")
    return folder


def test_redo_finds_an_embedding_by_its_hash_when_it_has_another_name(call, loras, words):
    ours = made(draw(call, "a fox, (Easy:1.2)", "--negative-prompt", "easy, uneasy"))
    assert read_recipe(ours).used("embedding")
    (words / "easy.safetensors").rename(words / "hard.safetensors")
    result = call("redo", ours)
    again = read_recipe(made(result))
    assert np.array_equal(pixels(ours), pixels(made(result)))
    assert again.request.prompt == "a fox, (hard:1.2)"
    assert again.request.negative_prompt == "hard, uneasy"
    told = " ".join(result.stderr.split())
    assert told.count("embedding 'easy'") == 1
    assert "is here as 'hard'" in told


def test_redo_leaves_the_name_of_an_embedding_that_is_gone_and_says_so(call, loras, words):
    ours = made(draw(call, "a fox, easy"))
    (words / "easy.safetensors").unlink()
    result = call("redo", ours)
    assert read_recipe(made(result)).request.prompt == "a fox, easy"
    assert "embedding 'easy': " in " ".join(result.stderr.split())


def test_a_text_of_a1111_just_works_and_its_hash_goes_before_its_alias(
    call, loras, checkpoint, tmp_path
):
    ours = made(draw(call, "a fox<lora:detail:0.8>"))
    (used,) = read_recipe(ours).used("lora")
    kohya_lora(loras / "alias.safetensors", checkpoint, seed=4)
    text = (
        "a fox<lora:{name}:0.8>\nSteps: 2, Sampler: DPM++ 2M, CFG scale: 7, Seed: 7, Size: 64x64,"
        ' RNG: CPU, Model: tiny, Lora hashes: "{name}: {hash}", Version: v1.10.1'
    )
    for name in ("detail", "alias", "gone", "styles/gone"):
        path = pasted(tmp_path, text.format(name=name, hash=used.autov3))
        again = made(call("redo", path))
        assert np.array_equal(pixels(ours), pixels(again))
        assert read_recipe(again).request.prompt == "a fox<lora:detail:0.8>"
    result = call("redo", pasted(tmp_path, text.format(name="gone", hash="0" * 12)))
    assert result.exit_code == 2
    assert "'gone'" in result.stderr
    result = call("redo", pasted(tmp_path, text.format(name="alias", hash="0" * 12)))
    assert made(result)
    assert "another file" in " ".join(result.stderr.split())


def test_a_vae_that_is_not_here_is_said_and_a_path_is_never_opened(call, loras, tmp_path):
    text = (
        "a fox\nSteps: 2, Sampler: DPM++ 2M, CFG scale: 7, Seed: 7, Size: 64x64, Model: tiny,"
        " VAE: {vae}, Version: v1.10.1"
    )
    for vae in ("gone.vae.pt", str(loras / "detail.safetensors")):
        result = call("redo", pasted(tmp_path, text.format(vae=vae)))
        assert made(result)
        assert re.search(r"the VAE '[\w.]+' is not here", " ".join(result.stderr.split()))


def test_a_hypernetwork_that_old_versions_set_outside_the_prompt_is_a_tag(call, tmp_path):
    text = (
        "a fox\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 7, Size: 64x64,"
        " Hypernet: anime(0a1b2c3d), Hypernet strength: 0.6"
    )
    result = call("info", pasted(tmp_path, text), "--json")
    assert '"prompt": "a fox<hypernet:anime:0.6>"' in result.stdout


def of_comfyui(tmp_path, *loras):
    """A picture whose graph loads LoRAs: (kind of node, name, strengths)."""
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["1", 1]}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
    }
    model = ["1", 0]
    for number, (kind, name, strengths) in enumerate(loras, 10):
        graph[str(number)] = {
            "class_type": kind, "inputs": {"model": model, "lora_name": name, **strengths}
        }  # fmt: skip
        model = [str(number), 0]
    inputs = {
        "model": model, "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0],
        "seed": 7, "steps": 2, "cfg": 7, "sampler_name": "dpmpp_2m", "scheduler": "karras",
        "denoise": 1,
    }  # fmt: skip
    graph["9"] = {"class_type": "KSampler", "inputs": inputs}
    path, info = tmp_path / "graph.png", PngInfo()
    info.add_text("prompt", json.dumps(graph))
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)
    return path


def test_loras_in_the_nodes_of_comfyui_become_tags(call, loras, checkpoint, tmp_path):
    kohya_lora(loras / "style.safetensors", checkpoint, seed=4)
    path = of_comfyui(
        tmp_path,
        ("LoraLoader", "sub\\detail.safetensors", {"strength_model": 0.8, "strength_clip": 0.5}),
        ("LoraLoaderModelOnly", "style.safetensors", {"strength_model": -0.4}),
        ("LoraLoader", "gone.safetensors", {"strength_model": 1, "strength_clip": 1}),
    )
    result = call("redo", path)
    tags = "<lora:style.safetensors:te=0:unet=-0.4><lora:detail.safetensors:te=0.5:unet=0.8>"
    assert read_recipe(made(result)).request.prompt == f"a fox{tags}"
    told = " ".join(result.stderr.split())
    assert f"added to the prompt, where such things stand here: {tags}" in told
    assert re.findall("not used: lora '([^']+)'", told) == ["gone.safetensors"]
    own = call("redo", path, "--set", "prompt=a wolf")
    assert read_recipe(made(own)).request.prompt == "a wolf"
    assert "not used: lora 'detail.safetensors'" in " ".join(own.stderr.split())


def test_redo_says_which_embeddings_are_not_what_they_were(call, loras, tmp_path, monkeypatch):
    words = tmp_path / "embeddings"
    words.mkdir()
    monkeypatch.setenv("DARKROOM_EMBEDDINGS_DIRS", str(words))
    for name in ("same", "other"):
        save_file({"emb_params": torch.zeros(1, 64)}, words / f"{name}.safetensors")
    digest = hashlib.sha256((words / "same.safetensors").read_bytes()).hexdigest()[:12]
    text = (
        "a fox, same, other, gone\nSteps: 2, Sampler: DPM++ 2M, CFG scale: 7, Seed: 7, Size: 64x64,"
        f' Model: tiny, TI hashes: "same: {digest}, other: 0123456789ab, gone: 0123456789ab"'
    )
    result = call("redo", pasted(tmp_path, text))
    assert made(result)
    told = " ".join(result.stderr.split())
    assert "the embedding 'other' here is another file" in told
    assert "the embedding 'gone' is not here" in told
    assert "'same'" not in told
    assert "not used: embedding" not in told

"""LoRAs at the command line: quick refusals, and pictures whose files have other names here."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.media.metadata import read_recipe
from network_files import kohya_lora


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


def test_a_refusal_needs_no_torch(loras, checkpoint, tmp_path):
    code = (
        "import sys; from darkroom.cli.main import main\n"
        "try: main(['txt2img', 'a <lora:gone:1>', '--model', 'tiny'])\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'gone'" in done.stderr


def test_redo_finds_a_lora_by_its_hash_when_it_has_another_name(call, loras):
    ours = made(draw(call, "a fox<lora:detail:0.8>"))
    (loras / "detail.safetensors").rename(loras / "renamed.safetensors")
    result = call("redo", ours)
    again = made(result)
    assert np.array_equal(pixels(ours), pixels(again))
    assert read_recipe(again).request.prompt == "a fox<lora:renamed:0.8>"
    assert "Note" not in result.stderr


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
    for name in ("detail", "alias", "gone"):
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

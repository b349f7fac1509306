"""`redo`: pictures again, ours and those of other programs, with changes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.media.metadata import read_recipe

INFOTEXT = """an apple on a table
Negative prompt: blurry
Steps: 2, Sampler: DPM++ 2M Karras, CFG scale: 5, Seed: 11, Size: 64x64, Model hash: {hash}, \
Model: {name}, Hires upscale: 2, Hires upscaler: Latent, Version: v1.10.1"""


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def ours(call):
    result = call("txt2img", "an apple", "--model", "tiny", "--steps", 2, "--seed", 7)
    return Path(result.stdout.strip())


@pytest.fixture
def theirs(tmp_path):
    def make(name="tiny", digest="0123456789"):
        path = tmp_path / "theirs.png"
        info = PngInfo()
        info.add_text("parameters", INFOTEXT.format(name=name, hash=digest))
        Image.new("RGB", (64, 64)).save(path, pnginfo=info)
        return path

    return make


def redone(result):
    assert result.exit_code == 0, result.stderr
    return Path(result.stdout.split()[-1])


def test_ours_is_the_same_to_the_last_bit_in_every_format(call, ours):
    for suffix in (".png", ".webp"):
        target = ours.with_name(f"again{suffix}")
        path = redone(call("redo", ours, "-o", target, "--image-quality", 100))
        assert np.array_equal(pixels(path), pixels(ours))
        assert np.array_equal(pixels(redone(call("redo", path))), pixels(ours))


def test_a_seed_or_any_other_field_may_be_changed(call, ours):
    path = redone(
        call("redo", ours, "--seed", 8, "--set", "cfg-scale=9", "--set", "sampler=Euler a")
    )
    recipe = read_recipe(path)
    assert (recipe.seed, recipe.request.cfg_scale, recipe.request.sampler) == (8, 9.0, "Euler a")
    assert recipe.request.prompt == "an apple"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("cfg_scal=9", "unknown field 'cfg_scal'"),
        ("cfg_scale", "has no value"),
        ("cfg_scale=nan", "cfg_scale"),
        ("steps=many", "steps"),
        ("sampler=Eulr", "unknown sampler"),
    ],
)
def test_a_change_that_cannot_be_is_refused_in_words(call, ours, change, said):
    result = call("redo", ours, "--set", change)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_picture_of_another_program_is_made_with_its_settings(call, theirs):
    result = call("redo", theirs())
    recipe = read_recipe(redone(result))
    request = recipe.request
    assert (request.prompt, request.negative_prompt) == ("an apple on a table", "blurry")
    assert (request.sampler, request.scheduler, request.steps) == ("DPM++ 2M", "Karras", 2)
    assert (recipe.seed, request.cfg_scale) == (11, 5.0)
    assert request.rng == "nv"  # what A1111 does not say is its default: noise of the card
    assert "another file than the one that made this picture" in result.stderr
    assert request.hires is not None
    assert (request.hires.scale, pixels(redone(result)).shape) == (2, (128, 128, 3))


def test_a_model_that_is_not_here_is_named_and_another_may_be_chosen(call, theirs):
    path = theirs(name="dreamshaper_8", digest="879db523c3")
    result = call("redo", path)
    assert result.exit_code == 2
    assert "'dreamshaper_8' is not here" in result.stderr
    assert "879db523c3" in result.stderr
    assert "--model" in result.stderr
    assert call("redo", path, "--model", "tiny").exit_code == 0


def test_a_picture_that_says_nothing_is_said(call, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    result = call("redo", tmp_path / "plain.png")
    assert result.exit_code == 1
    assert "says nothing about how it was made" in result.stderr


def test_pictures_are_saved_in_the_format_that_was_asked_for(call, tmp_path):
    words = ["txt2img", "x", "--model", "tiny", "--steps", 1, "--image-format", "jpeg"]
    path = redone(call(*words))
    assert path.suffix == ".jpg"
    with Image.open(path) as image:
        assert image.format == "JPEG"
    told = json.loads(call("info", "--json", path).stdout)
    assert told["source"] == "darkroom"
    bare = redone(call(*words, "--no-image-metadata", "-o", tmp_path / "bare.avif"))
    assert call("info", bare).exit_code == 1
    hidden = redone(call(*words, "--image-stealth", "-o", tmp_path / "hidden.png"))
    Image.open(hidden).save(tmp_path / "stripped.png")
    assert json.loads(call("info", "--json", tmp_path / "stripped.png").stdout)["prompt"] == "x"


def test_a_recipe_that_a_jpeg_cannot_hold_is_refused_before_any_step(call, tmp_path):
    words = ["apple " * 20_000, "--model", "tiny", "--steps", 1, "-o", tmp_path / "long.jpg"]
    result = call("txt2img", *words)
    assert result.exit_code == 2
    assert "PNG" in result.stderr
    assert not (tmp_path / "data" / "unfinished").exists() or not any(
        (tmp_path / "data" / "unfinished").iterdir()
    )


def test_models_of_a_stranger_s_blocks_that_are_not_here_are_replaced_and_said(call, tmp_path):
    path, info = tmp_path / "theirs.png", PngInfo()
    info.add_text(
        "parameters",
        "an apple\nSteps: 2, Sampler: Euler, Seed: 1, CFG scale: 1, Size: 64x64, Model: tiny,"
        " Hires upscale: 1.5, Hires upscaler: R-ESRGAN 4x+, Denoising strength: 0.4,"
        " Refiner: xl [8d0ce6c016], Refiner switch at: 0.8, ADetailer model: hand_yolov8n.pt",
    )
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)
    result = call("redo", path, "--set", "detail=object")
    recipe = read_recipe(redone(result))
    assert recipe.drawn.hires is not None
    assert recipe.drawn.hires.upscaler != "R-ESRGAN 4x+"
    assert recipe.drawn.refiner is None
    assert recipe.used("upscaler")
    assert "the upscaler 'R-ESRGAN 4x+' is not here; the one that comes with" in result.stderr
    assert "the checkpoint 'xl' is not here; the picture is made without it" in result.stderr
    assert "hand_yolov8n" not in result.stderr  # it was not asked for

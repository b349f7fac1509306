"""The verbs that begin with a picture, and those for finished ones, on a tiny model."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.core.errors import OutputError
from darkroom.media.metadata import read_recipe

TINY = ("--model", "tiny", "--steps", 2, "--seed", 7)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 72, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def mask(tmp_path):
    Image.new("L", (72, 64)).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as image:
        image.paste(255, (16, 16, 48, 48))
        image.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def made(result):
    assert result.exit_code == 0, result.stderr
    return Path(result.stdout.split()[-1])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_picture_from_a_picture(call, photo):
    with Image.open(photo) as image:
        image.resize((128, 64)).save(photo)
    path = made(call("img2img", photo, "an apple", *TINY, "--strength", 0.5, "--width", 128))
    request = read_recipe(path).drawn
    assert request.init is not None
    assert request.init.strength == 0.5
    assert request.init.image.startswith("sha256:")
    assert (request.width, request.height) == (128, 64)  # the shape of the photo
    assert str(photo) not in read_recipe(path).model_dump_json()
    again = made(call("redo", path))
    assert np.array_equal(pixels(again), pixels(path))


def test_inpainting_leaves_all_else_as_it_is(call, photo, mask):
    words = ("--mask", mask, "--mask-blur", 0)
    path = made(call("inpaint", photo, "an apple", *TINY, *words))
    before, after = pixels(photo), pixels(path)
    painted = pixels(mask) > 0
    assert after.shape == before.shape
    assert np.array_equal(after[~painted], before[~painted])
    assert not np.array_equal(after[painted], before[painted])


def test_a_picture_is_continued(call, photo):
    path = made(call("outpaint", photo, "an apple", *TINY, "--left", 16, "--outpaint-blur", 0))
    assert pixels(path).shape == (64, 88, 3)
    assert np.array_equal(pixels(path)[:, 16:], pixels(photo))


def test_a_finished_picture_gets_its_second_run(call):
    first = made(call("txt2img", "an apple", *TINY))
    path = made(call("hires", first, "--hires-scale", 1.5, "--hires-strength", 0.5))
    recipe = read_recipe(path)
    hires = recipe.drawn.hires
    assert hires is not None
    assert (recipe.drawn.prompt, recipe.seed, hires.scale) == ("an apple", 7, 1.5)
    assert hires.first is not None
    assert pixels(path).shape == (96, 96, 3)


def test_a_picture_that_says_nothing_needs_a_prompt(call, photo):
    result = call("hires", photo)
    assert result.exit_code == 2
    assert "--prompt" in result.stderr
    words = ("--prompt", "x", *TINY, "--hires-scale", 1, "--hires-strength", 0.3)
    assert pixels(made(call("hires", photo, *words))).shape == (64, 72, 3)


def test_a_picture_is_made_larger_and_its_words_are_kept(call):
    first = made(call("txt2img", "an apple", *TINY))
    path = made(call("upscale", first, "--upscaler", "Lanczos", "--scale", 2))
    assert pixels(path).shape == (128, 128, 3)
    told = json.loads(call("info", "--json", path).stdout)
    assert (told["prompt"], told["request"]["kind"]) == ("an apple", "upscale")
    assert np.array_equal(pixels(made(call("redo", path))), pixels(path))
    wider = pixels(made(call("redo", path, "--set", "scale=3")))
    assert wider.shape == (192, 192, 3)


def test_a_request_is_run_from_a_file_and_from_standard_input(call, tmp_path, photo):
    asked = {"prompt": "an apple", "model": "tiny", "steps": 2, "hires": {"scale": 1.5}}
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    assert pixels(made(call("run", tmp_path / "asked.json"))).shape == (96, 96, 3)
    upscale = {"kind": "upscale", "image": str(photo), "upscaler": "Nearest"}
    (tmp_path / "larger.json").write_text(json.dumps(upscale))
    result = call("run", tmp_path / "larger.json", "--json")
    (image,) = json.loads(result.stdout)["images"]
    assert pixels(image["path"]).shape == (128, 144, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON in line 1"),
        ("[1]", "a request is an object with fields"),
        ('{"kind": "imgae"}', "unknown kind of request 'imgae'"),
        ('{"hires": {"scal": 2}}', "hires.scal: there is no such field"),
        ('{"init": {"image": "none.png"}}', "there is no file none.png"),
        ('{"mask": {}}', "mask needs a picture"),
        ('{"kind": "upscale"}', "image: is missing"),
    ],
)
def test_a_request_that_cannot_be_is_refused_in_one_line(call, tmp_path, text, said):
    (tmp_path / "asked.json").write_text(text)
    result = call("run", tmp_path / "asked.json")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["img2img", "none.png", "x"], "there is no file none.png"),
        (["inpaint", "PHOTO", "x", "--mask", "none.png"], "there is no file none.png"),
        (["outpaint", "PHOTO", "x"], "--left 64"),
        (["outpaint", "PHOTO", "x", "--left", "-8"], "--left must be at least 0"),
        (
            ["img2img", "PHOTO", "x", "--strength", "60"],
            "--strength must be at most 1 (you gave 60); write 0.6",
        ),
        (["img2img", "PHOTO", "x", "--strengt", "1"], "did you mean --strength"),
        (["img2img", "PHOTO", "x", "--denoising-strength", "1"], "did you mean --strength?"),
        (
            ["grid", "x", "--x", "steps=1,2", "--hires-scale", "9"],
            "--hires-scale must be at most 8",
        ),
        (["txt2img", "x", "--detail", "faces"], "Did you mean 'face'? Without a file there are"),
        (["txt2img", "x", "--hires-upscaler", "4x-Ultra"], "unknown upscaler '4x-Ultra'"),
        (["txt2img", "x", "--refiner", "none"], "unknown model 'none'"),
        (["txt2img", "x", "--refiner-on", "both"], "--refiner is missing"),
        (["txt2img", "x", "--no-hires", "--hires-scale", "2"], "contradict"),
        (["txt2img", "x", "--detail", "face,strengthy=1"], "'strengthy'"),
        (["txt2img", "x", "--region", "a cat"], "--region 'a cat' cannot be read"),
        (["txt2img", "x", "--region", "0,0,2,1: a cat"], "--region (width) must be at most 1"),
        (["upscale", "PHOTO", "--upscaler", "none.pth"], "none"),
        (["upscale", "PHOTO", "--scale", "0"], "scale"),
        (["upscale", "none.png"], "there is no file none.png"),
        (["cutout", "PHOTO", "--model", "rmbg"], "unknown model for cut-outs 'rmbg'"),
        (["detail", "none.png"], "there is no file none.png"),
    ],
)
def test_what_cannot_be_is_refused_before_torch_is_loaded(call, photo, monkeypatch, words, said):
    monkeypatch.setattr("darkroom.cli.running.work", None)  # whoever gets there fails otherwise
    result = call(*(photo if word == "PHOTO" else word for word in words))
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_a_picture_began_with_can_be_named_when_it_is_made_again(call, tmp_path, photo):
    info = PngInfo()
    info.add_text(
        "parameters",
        "an apple\nSteps: 2, Sampler: Euler, Seed: 3, CFG scale: 1, Size: 64x64, Model: tiny,"
        " Denoising strength: 0.5, Noise multiplier: 0.9, Init image hash: abc",
    )
    path = tmp_path / "theirs.png"
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)
    plain = call("redo", path)
    assert "Denoising strength: 0.5 (it began with a picture" in plain.stderr
    request = read_recipe(made(call("redo", path, "--init", photo))).drawn
    assert request.init is not None
    assert (request.init.strength, request.init.noise_multiplier) == (0.5, 0.9)


def test_blocks_are_changed_and_taken_away_when_a_picture_is_made_again(call):
    words = ("--hires-scale", 1.5, "--hires-strength", 0.4)
    path = made(call("txt2img", "an apple", *TINY, *words))
    wider = read_recipe(made(call("redo", path, "--set", "hires.scale=2"))).drawn
    assert wider.hires is not None
    assert (wider.hires.scale, wider.hires.strength) == (2, 0.4)
    assert read_recipe(made(call("redo", path, "--set", "hires="))).drawn.hires is None
    result = call("redo", path, "--set", "hires.scal=2")
    assert "unknown field 'hires.scal'. Did you mean 'hires.scale'" in result.stderr


def test_info_shows_the_fields_of_blocks(call, photo):
    path = made(call("img2img", photo, "an apple", *TINY, "--strength", 0.5))
    lines = call("info", path).stdout.splitlines()
    assert "init strength    0.5" in lines
    assert any(re.fullmatch("init image       [0-9a-f]{10}", line) for line in lines)


def test_info_says_what_was_done_to_a_finished_picture(call, photo):
    larger = made(call("upscale", photo, "--upscaler", "Lanczos", "--scale", 2))
    lines = call("info", larger).stdout.splitlines()
    assert lines[0] == "upscaled         2x with Lanczos"
    assert not any(line.startswith("seed") for line in lines)


def test_a_text_that_is_called_a_picture_is_refused_early(call, tmp_path, monkeypatch):
    monkeypatch.setattr("darkroom.cli.running.work", None)  # whoever gets there fails otherwise
    (tmp_path / "words.png").write_text("an apple\nSteps: 3, Seed: 4, Sampler: Euler")
    told = "words.png is a text, not a picture"
    assert told in call("img2img", tmp_path / "words.png", "x").stderr
    assert told in call("info", tmp_path / "words.png").stderr


def test_a_mask_without_white_is_refused_early(call, photo, tmp_path, monkeypatch):
    monkeypatch.setattr("darkroom.cli.running.work", None)
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    result = call("inpaint", photo, "x", "--mask", tmp_path / "black.png")
    assert result.exit_code == 2
    assert "--mask-invert" in result.stderr
    assert "nothing of the picture is transparent" in call("inpaint", photo, "x").stderr


def test_what_needs_no_file_is_listed_too(call):
    assert (
        "face                      comes with Darkroom"
        in call("models", "list", "--kind", "detector").stdout
    )


def test_a_part_that_was_sampled_and_never_saved_is_recovered(call, photo, mask, monkeypatch):
    words = ("inpaint", photo, "an apple", *TINY, "--mask", mask)
    whole = pixels(made(call(*words)))
    with monkeypatch.context() as patch:
        patch.setattr("darkroom.tasks.image.save", full)
        assert call(*words).exit_code == 1
    photo.unlink()
    mask.unlink()
    assert np.array_equal(pixels(made(call("recover"))), whole)


def full(*_given, **_named):
    raise OutputError("the disk is full")

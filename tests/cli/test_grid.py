import json

import pytest
from PIL import Image

from darkroom.media.metadata import read_recipe

TINY = ("--model", "tiny", "--steps", "1", "--threads", "1", "--preview-seconds", "0")


def answer(result):
    return json.loads(result.stdout)


def test_a_grid_from_the_command_line(call, tmp_path):
    out = tmp_path / "grid"
    command = (
        "grid", "a cat", "--x", "cfg_scale=1,3", "--y", "sampler=Euler a, DPM++ 2M", *TINY,
        "--margin", "2", "--json", "-o", out,
    )  # fmt: skip
    result = call(*command)
    assert result.exit_code == 0, result.output
    told = answer(result)
    assert len(told["images"]) == 4
    assert told["warnings"][0] == "this makes 4 pictures"
    assert told["sheets"] == [str(out / "grid.png"), str(out / "grid.html")]
    recipe = read_recipe(out / "1-1-0.png")
    assert (recipe.request.cfg_scale, recipe.request.sampler) == (3, "DPM++ 2M")
    with Image.open(out / "grid.png") as image:
        assert "X Type: cfg_scale" in image.text["parameters"]
    assert str(tmp_path) not in (out / "grid.html").read_text()
    again = call(*command)
    assert answer(again)["images"] == []
    other = call("grid", "a dog", "--x", "cfg_scale=1,3", *TINY, "-o", out)
    assert other.exit_code == 2
    assert "--fresh" in other.output
    fresh = call("grid", "a dog", "--x", "cfg_scale=1", *TINY, "--json", "-o", out, "--fresh")
    assert [each["path"] for each in answer(fresh)["images"]] == [str(out / "0-0-0-1.png")]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--x", "steps"), "names no values"),
        (("--x", "stepz=1"), "unknown axis 'stepz'"),
        (("--x", "model=nothing here"), "nothing here"),
        (("--matrix",), "nothing to choose"),
        (("--fresh",), "--fresh needs a folder"),
        (("--x", "init.strength=0.5"), "init.image"),
        (("--x", "seed=1-200", "--y", "steps=1-100"), "would make 20,000 pictures"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(call, tmp_path, words, error):
    result = call("grid", "a cat", "--model", "tiny", *words)
    assert result.exit_code == 2
    assert error in result.output
    assert not (tmp_path / "out").exists()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("1_red_cup.png", "2_tree.jpg"):
        Image.new("RGB", (64, 64), "red").save(folder / name)
    return folder


def test_a_batch_from_the_command_line(call, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no picture")
    command = (
        "batch", "img2img", photos, "--prompt", "flat", "--prompt-from", "name", "--strength",
        "0.5", *TINY, "--json", "-o", tmp_path / "painted",
    )  # fmt: skip
    result = call(*command)
    assert result.exit_code == 1
    told = answer(result)
    assert "broken.png" in told["text"]
    assert {p.name for p in (tmp_path / "painted").glob("*.png")} == {"1_red_cup.png", "2_tree.png"}
    recipe = read_recipe(tmp_path / "painted" / "1_red_cup.png")
    assert recipe.request.prompt == "red cup, flat"
    assert recipe.request.init.strength == 0.5
    (photos / "broken.png").unlink()
    assert answer(call(*command))["images"] == []


def test_a_list_of_prompts_from_the_command_line(call, tmp_path):
    (tmp_path / "p.txt").write_text('a cat\n--prompt "a dog" --seed 4\n')
    result = call("batch", "txt2img", tmp_path / "p.txt", *TINY, "--json", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    recipes = [read_recipe(tmp_path / "out" / f"p-0000{n}.png") for n in (1, 2)]
    assert [recipe.request.prompt for recipe in recipes] == ["a cat", "a dog"]
    assert recipes[1].seed == 4


def test_a_batch_says_what_is_wrong_before_it_begins(call, tmp_path, photos):
    (tmp_path / "t.csv").write_text("prompt,stepz\na,1\n")
    result = call("batch", "txt2img", tmp_path / "t.csv", *TINY)
    assert result.exit_code == 2
    assert "unknown column 'stepz'" in result.output
    result = call("batch", "txt2img", photos, *TINY)
    assert "does nothing with the pictures" in result.output
    assert call("batch", "nothing").exit_code == 2


def test_pictures_are_made_larger_and_described(call, photos, tmp_path):
    flags = ("--threads", "1", "--json", "-o", tmp_path / "large")
    result = call("batch", "upscale", photos, "--upscaler", "Lanczos", "--scale", "2", *flags)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "large" / "2_tree.png") as image:
        assert image.size == (128, 128)

import json

import pytest
from PIL import Image

from darkroom.core.errors import OutputError
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
        ((), "nothing changes in this grid"),
        (("--x", "steps=1,2", "--fresh"), "--fresh needs a folder"),
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


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kind": "grid", "base": {"prompt": "a", "model": "none"}}, "unknown model 'none'"),
        ({"kind": "grid", "base": {}, "x": {"field": "sampler", "values": "a?"}}, "'a?'"),
        (
            {"kind": "grid", "base": {}, "x": {"field": "hires.upscaler", "values": "Latent,4x"}},
            "unknown upscaler '4x'",
        ),
        ({"base": {"kind": "upscale", "image": "each", "upscaler": "4x"}}, "unknown upscaler '4x'"),
        ({"base": {"kind": "upscale", "image": "each"}, "inputs": ["none"]}, "no file none"),
    ],
)
def test_a_series_that_cannot_be_is_refused_before_torch_is_loaded(
    call, photos, tmp_path, monkeypatch, asked, said
):
    monkeypatch.setattr("darkroom.cli.running.work", None)  # whoever gets there fails otherwise
    usual = {} if "kind" in asked else {"kind": "batch", "inputs": [str(photos)]}
    (tmp_path / "asked.json").write_text(json.dumps(usual | asked))
    result = call("run", tmp_path / "asked.json")
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr


def test_every_verb_that_works_off_many_can_begin_anew(call, photos, tmp_path):
    flags = ("--upscaler", "Lanczos", "--threads", "1", "-o", tmp_path / "large")
    assert call("upscale", photos, "--scale", "2", *flags).exit_code == 0
    other = call("upscale", photos, "--scale", "3", *flags)
    assert other.exit_code == 2
    assert "--fresh" in other.stderr
    assert call("upscale", photos, "--scale", "3", *flags, "--fresh").exit_code == 0
    assert len(list((tmp_path / "large").glob("2_tree*.png"))) == 2
    alone = call("upscale", photos / "2_tree.jpg", "--upscaler", "Lanczos", "--fresh")
    assert "--fresh has no effect" in alone.stderr


def test_a_cell_that_was_sampled_and_never_saved_is_made_once(call, tmp_path, monkeypatch):
    command = ("grid", "a cat", "--x", "cfg_scale=1,3", *TINY, "-o", tmp_path / "grid")
    other = ("txt2img", "a dog", *TINY)
    with monkeypatch.context() as patch:
        patch.setattr("darkroom.tasks.image.save", full)
        for words in (command, other):
            assert call(*words).exit_code == 1
    latents = tmp_path / "data" / "unfinished"
    assert len(list(latents.glob("*/*.safetensors"))) == 3
    assert call(*command).exit_code == 0
    assert len(list(latents.glob("*/*.safetensors"))) == len(list(latents.iterdir())) == 1
    assert len(answer(call("recover", "--json"))["images"]) == 1


def full(*_given, **_named):
    raise OutputError("the disk is full")


def test_many_finished_pictures_get_their_second_run(call, photos, tmp_path):
    command = (
        "batch", "hires", photos, "--prompt", "a cup", "--hires-scale", "1.5",
        "--hires-upscaler", "Lanczos", *TINY, "-o", tmp_path / "large",
    )  # fmt: skip
    result = call(*command)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "large" / "2_tree.png") as image:
        assert image.size == (96, 96)
    assert read_recipe(tmp_path / "large" / "2_tree.png").request.prompt == "a cup"


def test_pictures_are_made_larger_and_described(call, photos, tmp_path):
    flags = ("--threads", "1", "--json", "-o", tmp_path / "large")
    result = call("batch", "upscale", photos, "--upscaler", "Lanczos", "--scale", "2", *flags)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "large" / "2_tree.png") as image:
        assert image.size == (128, 128)

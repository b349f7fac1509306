import io
import json

import pytest
from click.testing import CliRunner
from PIL import Image

from darkroom.cli.main import main
from darkroom.core.recipe import Recipe, UsedModel
from darkroom.core.request import ResolvedRequest
from darkroom.media.image import Saving, save

TEXT = (
    "a cat\nNegative prompt: dog\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 5,"
    " Size: 512x768, Model hash: 6ce0161689, Model: v1-5, Hires upscale: 2, Version: v1.6.0"
)
RECIPE = Recipe(
    request=ResolvedRequest(prompt="a fox", width=64, height=64, steps=3, cfg_scale=7, seed=5),
    seed=5,
    models=(UsedModel(name="tiny", sha256="ab" * 32),),
    device="cpu float32",
    versions={"darkroom": "0.1"},
)


def info(*words, given=None):
    return CliRunner().invoke(main, ["info", *map(str, words)], input=given, prog_name="darkroom")


def answer(*words, **options):
    result = info(*words, "--json", **options)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def picture(folder, name="a.png"):
    return save(Image.new("RGB", (8, 8)), RECIPE, iter([folder / name])).path


def test_a_text_from_standard_input():
    found = answer("-", given=TEXT)
    assert list(found)[:5] == ["prompt", "negative_prompt", "settings", "models", "source"]
    assert (found["prompt"], found["negative_prompt"], found["source"]) == ("a cat", "dog", "a1111")
    settings = found["settings"]
    assert settings["Sampler"] == "DPM++ 2M Karras"
    assert (settings["Size"], settings["Size-1"], settings["Size-2"]) == ("512x768", "512", "768")
    assert found["models"] == [{"role": "checkpoint", "name": "v1-5", "hash": "6ce0161689"}]
    assert found["request"]["scheduler"] == "Karras"
    hires = {"scale": 2, "strength": 0.7, "upscaler": "Latent"}  # what A1111 does unless told
    assert found["request"]["hires"] == hires
    assert found["left_out"] == [
        "Downcast alphas_cumprod: the table of noise levels was rounded to half precision",
    ]
    assert found["implied"]["RNG"] == settings["RNG"] == "GPU"
    assert (settings["Mask mode"], settings["Masked area padding"]) == ("Inpaint masked", 32)


def test_a_picture_from_standard_input():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "GIF", comment=TEXT.encode())
    assert answer("-", given=buffer.getvalue())["prompt"] == "a cat"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif"])
def test_our_own_files_give_their_recipe_too(tmp_path, kind):
    path = tmp_path / "a"
    save(Image.new("RGB", (8, 8)), RECIPE, iter([path]), saving=Saving(format=kind))
    found = answer(path)
    assert found["source"] == "darkroom"
    assert found["settings"]["Model hash"] == "ab" * 5
    assert found["models"] == [{"role": "checkpoint", "name": "tiny", "hash": "ab" * 32}]
    assert (found["seed"], found["device"]) == (5, "cpu float32")
    assert found["request"] == RECIPE.model_dump(mode="json")["request"]


def test_for_people():
    lines = info("-", given=TEXT).stdout.splitlines()
    assert "made with        a1111" in lines
    assert "prompt           a cat" in lines
    assert "Steps            20" in lines
    assert "checkpoint       v1-5 (6ce0161689)" in lines
    assert not any(line.startswith(("RNG", "Mask mode", "Clip skip")) for line in lines)
    assert "Hires upscale    2" in lines


def test_nothing_of_a_stranger_reaches_the_terminal_as_it_is():
    shown = info("-", given="\x1b[31m\nSteps: 1, Sampler: \x9b5m, Seed: 2, \u202eKey: x\x07").stdout
    assert "\\x1b[31m" in shown
    assert shown.replace("\n", "").isprintable()


def test_a_picture_without_metadata_is_a_failure_with_a_word(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    result = info(tmp_path / "plain.png")
    assert result.exit_code == 1
    assert "plain.png says nothing about how it was made" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    failed = info(tmp_path / "plain.png", "--json")
    assert json.loads(failed.stdout)["error"] == "NoMetadata"
    for text in ("", "[1,2]", "null", "{"):
        assert info("-", given=text).exit_code == 1


def test_what_is_no_picture_is_a_bad_request(tmp_path):
    (tmp_path / "page.png").write_text("<html></html>")
    (tmp_path / "null.png").write_bytes(bytes(100))
    (tmp_path / "empty.png").touch()
    for name in ("page.png", "null.png", "none.png", "empty.png"):
        assert info(tmp_path / name).exit_code == 2


def test_many_files_and_folders(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(folder, "b.png")
    picture(folder, "a.png")
    (folder / "notes.md").write_text("not looked at")
    (tmp_path / "text.txt").write_text(TEXT)
    rows = answer(folder, tmp_path / "text.txt")
    assert [row["prompt"] for row in rows] == ["a fox", "a fox", "a cat"]
    assert [row["file"] for row in rows] == [
        str(folder / "a.png"), str(folder / "b.png"), str(tmp_path / "text.txt"),
    ]  # fmt: skip
    shown = info(folder, tmp_path / "text.txt").stdout
    assert shown.index("a.png") < shown.index("b.png") < shown.index("a cat")


def test_one_bad_file_costs_no_other(tmp_path):
    good = picture(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = info(tmp_path / "bad.png", good, "--json")
    assert result.exit_code == 1
    bad, fine = json.loads(result.stdout)
    assert (bad["error"], fine["prompt"]) == ("BadFile", "a fox")
    shown = info(tmp_path / "bad.png", good)
    assert shown.exit_code == 1
    assert "cut off" in shown.stderr
    assert "a fox" in shown.stdout


def test_help_names_the_programs():
    text = info("--help").output
    assert all(name in text for name in ("ComfyUI", "InvokeAI", "NovelAI", "Draw Things"))

"""`caption`, `compare`, `diff` and `sheet`."""

import json
from pathlib import Path

import pytest
from PIL import Image

from darkroom.core.recipe import Recipe
from darkroom.core.request import ResolvedRequest
from darkroom.media.image import save
from darkroom.media.picture import picture_size


@pytest.fixture
def pictures(tmp_path):
    """Two pictures with recipes in a folder, and one without."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, seed in (("a.png", 5), ("b.png", 6)):
        request = ResolvedRequest(
            prompt="a fox", width=64, height=64, steps=3, cfg_scale=7, seed=seed
        )
        made = Image.new("RGB", (64, 64), (seed * 20, 0, 0))
        save(made, Recipe(request=request, seed=seed), iter([folder / name]))
    Image.new("RGB", (64, 64), "blue").save(folder / "plain.png")
    return folder


def test_diff_tells_recipe_and_pixels(call, pictures):
    done = call("diff", pictures / "a.png", pictures / "b.png")
    assert done.exit_code == 0
    assert "5 → 6" in done.stdout
    assert "100.00% of 64 x 64 differ" in done.stdout


def test_diff_as_json(call, pictures):
    told = json.loads(call("diff", pictures / "a.png", pictures / "b.png", "--json").stdout)
    assert told["recipe"] == [{"name": "seed", "before": 5, "after": 6}]
    assert told["pixels"]["largest"] == 20
    assert told["same"] is False
    told = json.loads(call("diff", pictures / "a.png", pictures / "a.png", "--json").stdout)
    assert told["same"] is True


def test_diff_of_a_picture_that_says_nothing(call, pictures):
    done = call("diff", pictures / "a.png", pictures / "plain.png")
    assert done.exit_code == 0
    assert "says nothing about how it was made" in done.stderr
    assert "differ" in done.stdout


def test_diff_saves_a_map_and_never_over_something(call, pictures, tmp_path):
    words = ("diff", pictures / "a.png", pictures / "b.png", "-o", tmp_path / "map.png")
    assert call(*words).exit_code == 0
    assert picture_size(tmp_path / "map.png") == (64, 64)
    again = call(*words)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_diff_of_other_sizes(call, pictures):
    Image.new("RGB", (9, 8)).save(pictures / "small.png")
    done = call("diff", pictures / "a.png", pictures / "small.png")
    assert "64 x 64 → 9 x 8" in done.stdout
    refused = call("diff", pictures / "a.png", pictures / "small.png", "-o", pictures / "m.png")
    assert refused.exit_code == 2
    assert "different sizes" in refused.stderr


def test_compare_makes_a_page(call, pictures, tmp_path):
    page = tmp_path / "page.html"
    done = call("compare", pictures, "-o", page)
    assert done.exit_code == 0, done.stderr
    assert page.read_text().count("<figure>") == 3
    assert call("compare", pictures, "-o", page).exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [(("-o", "page.png"), "ends in .html"), ((), "1 picture cannot be compared")],
)
def test_compare_refuses_in_words(call, pictures, words, said):
    done = call("compare", pictures / "a.png", *words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_sheets_have_pages(call, pictures, tmp_path):
    done = call("sheet", pictures, "-o", tmp_path / "s.png", "--columns", 2, "--rows", 1, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)["sheets"]
    assert told == [str(tmp_path / "s.png"), str(tmp_path / "s-2.png")]
    first, second = (picture_size(Path(name)) for name in told)
    assert first[0] > second[0]


def test_a_sheet_of_nothing(call, tmp_path):
    (tmp_path / "empty").mkdir()
    done = call("sheet", tmp_path / "empty", "-o", tmp_path / "s.png")
    assert done.exit_code == 2
    assert "no pictures" in done.stderr


def test_captions_of_a_folder(call, pictures):
    done = call("caption", pictures)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == sorted(map(str, pictures.iterdir()))
    assert "on a blue background" in lines[2]


def test_a_caption_as_json(call, pictures):
    told = json.loads(call("caption", pictures / "plain.png", "--json").stdout)
    assert told["heads"]["background"][0][0] == "blue"
    assert told["file"] == str(pictures / "plain.png")


def test_one_bad_picture_does_not_lose_the_others(call, pictures):
    (pictures / "z.png").write_bytes(b"nothing")
    done = call("caption", pictures, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert ["error" in row for row in told] == [False, False, False, True]


def test_a_captioner_that_is_not_here(call, pictures):
    done = call("caption", pictures / "a.png", "--model", "blip")
    assert done.exit_code == 2
    assert "unknown captioner 'blip'" in done.stderr
    assert "darkroom models pull" in done.stderr

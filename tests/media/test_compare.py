"""What differs between two pictures: recipes of any program, and pixels."""

import numpy as np
import pytest
from PIL import Image

from darkroom.core.recipe import Recipe, UsedModel
from darkroom.core.request import ResolvedRequest
from darkroom.media.brief import brief
from darkroom.media.compare import (
    MOST_WORDS,
    STRIPE,
    heat_map,
    pixel_change,
    recipe_changes,
    words,
)
from darkroom.media.image import save
from darkroom.media.metadata import find

TINY = (UsedModel(name="tiny", sha256="ab" * 32),)


def recipe(*, models=TINY, versions=None, **fields):
    usual = {
        "prompt": "a red fox",
        "width": 64,
        "height": 64,
        "steps": 3,
        "cfg_scale": 7,
        "seed": 5,
    }
    request = ResolvedRequest.parse(usual | fields)
    return Recipe(
        request=request,
        seed=request.seed,
        models=models,
        device="cpu float32",
        versions=versions or {"darkroom": "0.1"},
    )


@pytest.fixture
def found(tmp_path):
    """What a file with a recipe says about itself."""

    def read(**fields):
        names = (tmp_path / f"{n}.png" for n in range(99))
        return find(save(Image.new("RGB", (8, 8)), recipe(**fields), names).path)

    return read


def shown(changes):
    return {change.name: change.shown() for change in changes}


def test_equal_recipes_differ_in_nothing(found):
    assert recipe_changes(found(), found()) == []


def test_fields_models_and_versions(found):
    other = found(
        prompt="a blue fox",
        steps=20,
        hires={"scale": 1.5},
        seed=6,
        models=(UsedModel(name="big", sha256="cd" * 32),),
        versions={"darkroom": "0.2"},
    )
    said = shown(recipe_changes(found(), other))
    assert said["prompt"] == "a [-red-] {+blue+} fox"
    assert said["steps"] == "3 → 20"
    assert said["seed"] == "5 → 6"
    assert said["checkpoint"] == "tiny (ababababab) → big (cdcdcdcdcd)"
    assert said["version of darkroom"] == "0.1 → 0.2"
    assert said["hires"] == "none → scale 1.5"
    assert "width" not in said
    assert "negative_prompt" not in said


def test_of_several_files_of_a_role_each_is_told(found):
    loras = [UsedModel(role="lora", name=name, sha256=f"{n:064x}") for n, name in enumerate("abc")]
    said = recipe_changes(found(models=tuple(loras[:2])), found(models=tuple(loras[1:])))
    assert {(each.before, each.after) for each in said if each.name == "lora"} == {
        ("a (0000000000)", None),
        (None, "c (0000000000)"),
    }


def test_pictures_of_different_programs(found, tmp_path):
    text = tmp_path / "theirs.txt"
    text.write_text(
        "a red fox\nSteps: 3, Sampler: Euler a, CFG scale: 7, Seed: 9, Size: 64x64,"
        " Model hash: ababababab, Model: other name"
    )
    said = shown(recipe_changes(found(), find(text)))
    assert said["program"] == "darkroom → a1111"
    assert said["seed"] == "5 → 9"
    assert "checkpoint" not in said, "a short hash of the same file is the same file"
    assert "prompt" not in said


def test_who_says_nothing_differs_in_nothing_known(found):
    assert recipe_changes(found(), None) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a red fox, masterpiece", "a fox, best quality"),
        ("", "a fox"),
        ("a fox", ""),
        ("fox", "fox"),
        ("a b c d e", "e d c b a"),
        ("x " * (MOST_WORDS + 5), "y " * (MOST_WORDS + 5) + "z"),
    ],
)
def test_pieces_make_both_texts_again(before, after):
    pieces = words(before, after)
    for which, text in (("before", before), ("after", after)):
        kept = "".join(part for how, part in pieces if how in ("both", which))
        assert kept.split() == text.split()


def test_pixels_have_a_known_difference():
    first = Image.new("RGB", (100, 2 * STRIPE + 10), (10, 20, 30))
    second = first.copy()
    second.paste((10, 20, 80), (40, STRIPE - 5, 60, STRIPE + 5))
    change = pixel_change(first, second)
    share = 200 / (100 * (2 * STRIPE + 10))
    assert change.box == (40, STRIPE - 5, 60, STRIPE + 5)
    assert change.largest == 50
    assert change.changed == pytest.approx(share)
    assert change.mean == pytest.approx(50 / 3 * share)
    assert change.psnr == pytest.approx(10 * np.log10(255**2 / (2500 / 3 * share)))


def test_equal_pixels_and_other_sizes():
    picture = Image.new("RGB", (9, 7), "red")
    same = pixel_change(picture, picture.copy())
    assert same.equal
    assert (same.largest, same.mean, same.psnr, same.changed) == (0, 0, None, 0)
    assert pixel_change(picture, Image.new("RGB", (7, 9))) is None


def test_the_map_is_bright_where_they_differ_and_grey_where_not():
    first = Image.new("RGB", (40, 300), (200, 200, 200))
    second = first.copy()
    second.putpixel((3, 290), (0, 0, 0))
    second.putpixel((4, 290), (198, 200, 200))
    map_ = np.asarray(heat_map(first, second))
    assert map_[0, 0].tolist() == [60, 60, 60]
    assert map_[290, 3].sum() > map_[290, 4].sum()
    assert (map_ != 60).any(-1).sum() == 2


def test_a_picture_in_one_line(found):
    assert brief(None) == ""
    said = brief(found())
    assert "seed 5" in said
    assert "3 steps" in said
    assert said.endswith("tiny")

"""The starter's captioner on its own file: what it says, and what it says of what it does not know."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from darkroom.core.errors import BadFile, Cancelled
from darkroom.engine.caption.starter import (
    HEADS,
    SIDE,
    UNNAMED,
    Sight,
    Starter,
    Words,
    article,
    captioner_path,
)

WORDS = Words(
    {
        "object": ("apple", "grapes", "umbrella"),
        "colour": ("red", "orange", UNNAMED),
        "background": ("blue", "orange gradient"),
        "style": ("3d render", "flat illustration"),
    },
    frozenset({"grapes"}),
)


@pytest.fixture(scope="module")
def captioner():
    torch.set_num_threads(1)
    return Starter.shipped()


def heart(ground="white"):
    """A red heart of plain shapes, as a flat drawing has it."""
    picture = Image.new("RGB", (512, 512), ground)
    draw = ImageDraw.Draw(picture)
    for left in (96, 246):
        draw.ellipse((left, 106, left + 170, 276), fill=(214, 40, 44))
    draw.polygon([(112, 238), (400, 238), (256, 420)], fill=(214, 40, 44))
    return picture


def test_the_file_that_is_shipped_is_small_and_knows_the_starters_words():
    assert captioner_path().stat().st_size <= 3_000_000
    found = Starter.shipped().scores([Image.new("RGB", (SIDE, SIDE))])[0]
    assert {name: len(found[name]) for name in HEADS} == {
        "object": 124,
        "colour": 12,
        "background": 16,
        "style": 4,
    }
    for scores in found.values():
        assert sum(score for _, score in scores) == pytest.approx(1, abs=1e-4)
        assert [score for _, score in scores] == sorted((s for _, s in scores), reverse=True)


@pytest.mark.parametrize("ground", ["white", "black", "blue"])
def test_it_names_the_background_and_the_colour(captioner, ground):
    colours = {"blue": (60, 125, 225), "black": (12, 12, 14), "white": (255, 255, 255)}
    found = captioner.describe(heart(colours[ground]))
    assert found.heads["background"][0][0] == ground
    assert found.heads["object"][0][0] == "heart"
    assert f"red heart on a {ground} background" in found.text


def test_sizes_modes_and_transparency_do_not_matter(captioner):
    plain = captioner.describe(heart((255, 255, 255))).text
    clear = heart((255, 255, 255)).convert("RGBA")
    pixels = np.array(clear)
    pixels[(pixels[..., :3] == 255).all(-1), 3] = 0
    assert captioner.describe(Image.fromarray(pixels)).text == plain
    assert captioner.describe(heart().resize((128, 128))).text == plain
    captioner.describe(Image.new("L", (3, 900)))
    captioner.describe(Image.new("1", (1, 1)))


def test_it_says_when_it_does_not_know_what_it_sees(captioner):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    (note,) = captioner.describe(Image.fromarray(noise)).notes
    assert "guessing" in note
    assert captioner.describe(heart()).notes == ()


def test_tags_heed_threshold_and_number(captioner):
    every = captioner.describe(heart(), threshold=0, most=1000).tags
    assert len(every) == 124 + 11 + 16 + 4
    assert len(captioner.describe(heart(), threshold=0, most=7).tags) == 7
    assert all(score >= 0.9 for _, score in captioner.describe(heart(), threshold=0.9).tags)


def test_a_stop_is_heeded(captioner):
    def stop():
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        captioner.describe(heart(), check=stop)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (("apple", "red", "blue", "3d render"), "a red apple on a blue background, 3d render"),
        (
            ("apple", UNNAMED, "orange gradient", "flat illustration"),
            "an apple on an orange gradient background, flat illustration",
        ),
        (("grapes", "red", "blue", "3d render"), "red grapes on a blue background, 3d render"),
    ],
)
def test_the_sentence_is_one_of_the_starters_prompts(told, sentence):
    assert WORDS.sentence(*told[:2], background=told[2], style=told[3]) == sentence


def test_articles():
    assert [article(word) for word in ("umbrella", "unicorn", "cat", "owl")] == [
        *("an", "a", "a", "an")
    ]


def test_a_file_says_what_its_classes_are_called(tmp_path):
    torch.manual_seed(0)
    sight = Sight({name: len(WORDS.classes[name]) for name in HEADS})
    path = tmp_path / "own.safetensors"
    save_file({k: v.contiguous() for k, v in sight.state_dict().items()}, path, WORDS.metadata())
    found = Starter.read(path).scores([heart()])[0]
    assert {name for name, _ in found["object"]} == {"apple", "grapes", "umbrella"}


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "no words", "other tensors"])
def test_a_file_that_is_none_is_refused_in_words(tmp_path, damage):
    path = tmp_path / "bad.safetensors"
    whole = captioner_path().read_bytes()
    match damage:
        case "empty":
            path.touch()
        case "cut":
            path.write_bytes(whole[:100_000])
        case "no words":
            save_file({"a": torch.zeros(1)}, path)
        case "other tensors":
            save_file({"a": torch.zeros(1)}, path, WORDS.metadata())
    with pytest.raises(BadFile, match=r"bad\.safetensors"):
        Starter.read(path)

"""How the starter's captioner is taught: labels that say what is drawn, pictures mildly spoiled."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.engine.caption.starter import HEADS, Starter
from starter.captioner import FIELDS, STYLE_SHARES, WORDS, labels_of, sampled, single, spoiled
from starter.compose import SCENE
from starter.objects_table import COLOURS, OBJECTS


def test_the_shipped_file_has_these_words():
    (found,) = Starter.shipped().scores([Image.new("RGB", (9, 9))])
    assert {name: {word for word, _ in found[name]} for name in HEADS} == {
        name: set(WORDS.classes[name]) for name in HEADS
    }


def test_a_thing_without_a_colour_of_its_own_has_a_class_for_that():
    composer = SimpleNamespace(colours=lambda thing, colour, style: np.array([-1, 2]))
    scenes = np.zeros(2, SCENE)
    scenes["thing"], scenes["ground"], scenes["style"] = [0, 5], [3, 1], [1, 2]
    found = labels_of(composer, scenes)
    assert found["colour"].tolist() == [len(COLOURS), 2]
    assert WORDS.classes["colour"][len(COLOURS)] == ""
    assert found["object"].tolist() == [0, 5]
    assert found["background"].tolist() == [3, 1]
    assert found["style"].tolist() == [1, 2]
    assert set(FIELDS) == set(HEADS)
    assert len(WORDS.classes["object"]) == len(OBJECTS)


def test_only_single_clean_objects_are_learnt_from():
    scenes = np.zeros(3, SCENE)
    scenes["other"], scenes["quality"] = [-1, 4, -1], [0, 0, 2]
    assert single(scenes).tolist() == [True, False, False]


def test_styles_are_as_frequent_as_they_should_be():
    styles = np.repeat([0, 1, 2, 3], [700, 100, 100, 100])
    rows = sampled(styles, np.random.default_rng(0), 40_000)
    shares = np.bincount(styles[rows]) / len(rows)
    assert shares == pytest.approx(STYLE_SHARES, abs=0.01)


def test_spoiled_pictures_are_still_those_pictures():
    torch.manual_seed(0)
    batch = torch.rand(24, 3, 16, 16).repeat_interleave(8, 2).repeat_interleave(8, 3) * 2 - 1
    made = spoiled(batch.clone(), np.random.default_rng(1))
    assert made.shape == batch.shape
    assert made.abs().max() <= 1
    apart = (made - batch).flatten(1).abs().mean(1)
    across = (batch[:1] - batch[1:]).flatten(1).abs().mean(1)
    assert apart.median() < across.median() / 2

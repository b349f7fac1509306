"""What the starter is taught and asked: captions say what a picture shows, prompts are fair."""

from types import SimpleNamespace

import numpy as np
import pytest

from starter.captions import caption, with_article
from starter.compose import GROUNDS, SCENE, held_out
from starter.evaluate import KEPT_BACK, LOOKED_AT, prompts, table
from starter.objects_table import OBJECTS, PAINTED, STYLES


def scene(**fields):
    made = np.zeros(1, SCENE)[0]
    made["other"] = -1
    for name, value in fields.items():
        made[name] = value
    return made


@pytest.fixture
def composer():
    """Colours by name, without the emoji that the real one reads."""
    return SimpleNamespace(colour_name=lambda thing, colour, style: PAINTED[colour - 1])


def test_there_are_a_hundred_objects_with_names_of_their_own():
    names = [name for thing in OBJECTS for name in (thing.name, *thing.synonyms)]
    assert len(OBJECTS) >= 100
    assert len(names) == len(set(names))


@pytest.mark.parametrize("thing", range(0, len(OBJECTS), 7))
def test_a_caption_names_object_colour_ground_and_style(composer, thing):
    drawn = scene(thing=thing, colour=3, ground=2, style=STYLES.index("pixel art"))
    rng = np.random.default_rng(thing)
    for _ in range(20):
        text = caption(rng, composer, drawn)
        assert any(name in text for name in (OBJECTS[thing].name, *OBJECTS[thing].synonyms))
        assert PAINTED[2] in text
        assert f"{GROUNDS[2]} background" in text
        assert "pixel art" in text


def test_what_a_caption_leaves_out_is_the_usual(composer):
    """White ground and clean are often not said; blurry and the like always are."""
    rng = np.random.default_rng(1)
    plain = {caption(rng, composer, scene(colour=1)) for _ in range(300)}
    assert any("background" not in text for text in plain)
    assert all("blurry" not in text for text in plain)
    spoiled = [caption(rng, composer, scene(colour=1, quality=1)) for _ in range(100)]
    assert all("blurry" in text or "out of focus" in text for text in spoiled)


@pytest.mark.parametrize(
    ("phrase", "said"),
    [("apple", "an apple"), ("red apple", "a red apple"), ("red grapes", "red grapes")],
)
def test_articles(phrase, said):
    assert with_article(phrase) == said


def test_prompts_are_the_same_every_time_and_those_looked_at_are_others():
    assert prompts(60, KEPT_BACK) == prompts(60, KEPT_BACK)
    assert not set(map(str, prompts(60, KEPT_BACK))) & set(map(str, prompts(60, LOOKED_AT)))


def test_prompts_ask_for_every_object_and_a_sixth_for_what_was_never_shown():
    asked = prompts(600, KEPT_BACK)
    assert {prompt.thing for prompt in asked} == set(range(len(OBJECTS)))
    assert sum(prompt.unseen for prompt in asked) == 100
    for prompt in asked:
        painted = [
            name for name in PAINTED if f"{name} {OBJECTS[prompt.thing].name}" in prompt.text
        ]
        if prompt.colour >= 0:
            assert held_out(prompt.thing, PAINTED.index(painted[0]) + 1) == prompt.unseen


def test_no_prompt_asks_for_an_object_that_cannot_be_seen():
    for prompt in prompts(600, LOOKED_AT):
        if prompt.colour >= 0 and prompt.ground >= 0:
            colour = next(n for n in PAINTED if f"{n} {OBJECTS[prompt.thing].name}" in prompt.text)
            assert GROUNDS[prompt.ground].removesuffix(" gradient") != colour


def test_the_table_shows_targets_beside_what_was_measured():
    rows = table({"object": 0.625, "vae_psnr": 27.31, "pictures": 400}).splitlines()
    assert rows[2:] == [
        "| object | 62.5% | 60% |",
        "| vae psnr | 27.31 | 27.0 dB |",
        "| pictures | 400 |  |",
    ]

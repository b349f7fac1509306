import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.fields import MAX_SEED
from darkroom.core.model import Arch, Kind, ModelCard, Prediction, Variant
from darkroom.core.recipe import Recipe, resolve
from darkroom.core.request import ImageRequest

CARD = ModelCard(
    sha256="ab" * 32,
    path="x.safetensors",
    name="x",
    kind=Kind.CHECKPOINT,
    arch=Arch.SD1,
    variant=Variant.BASE,
    prediction=Prediction.EPS,
    bytes=1,
    native_size=128,
    recommended={"cfg_scale": 5.0},
)


def parse(**fields):
    return ImageRequest.parse({"prompt": "an apple", **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 0}, ("width: must be at least 64 (you gave 0)",)),
        ({"width": 7}, ("width: must be a multiple of 8 (you gave 7)",)),
        ({"width": 100}, ("width", "multiple of 8")),
        ({"width": 100_000}, ("width", "8192")),
        ({"steps": 0}, ("steps", "1")),
        ({"steps": 10**9}, ("steps", "500")),
        ({"cfg_scale": float("nan")}, ("cfg_scale", "finite")),
        ({"cfg_scale": "nan"}, ("cfg_scale", "finite")),
        ({"cfg_scale": float("inf")}, ("cfg_scale", "finite")),
        ({"cfg_scale": "strict"}, ("cfg_scale", "must be a number", "strict")),
        ({"seed": -2}, ("seed", "0")),
        ({"seed": 2**64}, ("seed",)),
        ({"count": 0}, ("count",)),
        ({"clip_skip": 13}, ("clip_skip", "12")),
        ({"prompt": None}, ("prompt: must be text (you gave None)",)),
        ({"init": "a.png"}, ("init: must be an object with fields (you gave 'a.png')",)),
        ({"init": {}}, ("init.image: is missing",)),
        ({"regions": {}}, ("regions: must be a list",)),
        ({"dynamic_prompts": "maybe"}, ("must be true or false (you gave 'maybe')",)),
        ({"steps": 1.5}, ("steps: must be a whole number (you gave 1.5)",)),
        ({"x" * 100_000: 1}, ("x…: there is no such field",)),
        ({"{0}": "{1}"}, ("{0}: there is no such field",)),
        ({"prompt": "a" * 1_000_001}, ("prompt", "1000000")),
        ({"model": ""}, ("model",)),
        ({"guidance": 3}, ("guidance", "no such field")),
    ],
)
def test_what_cannot_be_is_one_sentence_that_names_the_field(fields, words):
    with pytest.raises(BadRequest) as caught:
        parse(**fields)
    text = caught.value.sentence()
    assert all(word in text for word in words), text
    assert "\n" not in text
    assert len(text) < 300


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownName) as caught:
        parse(sampler="eulr a")
    assert "Euler a" in caught.value.nearest
    assert "'Euler a'" in caught.value.sentence()
    with pytest.raises(UnknownName, match="unknown scheduler 'karas'") as caught:
        parse(scheduler="karas")
    assert caught.value.nearest[0] == "Karras"


def test_a_hostile_name_does_not_flood_the_message():
    with pytest.raises(BadRequest) as caught:
        parse(sampler="x" * 150)
    assert len(caught.value.sentence()) < 200


def test_old_names_hold_sampler_and_scheduler():
    request = parse(sampler="DPM++ 2M Karras")
    assert (request.sampler, request.scheduler) == ("DPM++ 2M", "Karras")
    chosen = parse(sampler="k_euler_a", scheduler="sgm_uniform")
    assert (chosen.sampler, chosen.scheduler) == ("Euler a", "SGM Uniform")


def test_an_explicit_scheduler_wins_over_the_one_in_the_name():
    assert parse(sampler="DPM++ 2M Karras", scheduler="Simple").scheduler == "Simple"


def test_minus_one_is_a_random_seed_as_in_a1111():
    assert parse(seed=-1).seed is None
    assert parse(seed="-1").seed is None
    assert parse(seed=MAX_SEED).seed == MAX_SEED


def test_the_empty_prompt_and_any_script_are_allowed():
    for prompt in ("", "🍎 תפוח أحمر 红苹果", "word " * 10_000):
        assert parse(prompt=prompt).prompt == prompt


def test_resolve_leaves_nothing_open_and_the_request_wins():
    open_request = parse()
    done = resolve(open_request, CARD)
    assert (done.width, done.height, done.steps, done.cfg_scale) == (128, 128, 20, 5.0)
    assert done.scheduler == "Karras"
    assert done.seed is not None
    assert resolve(parse(width=64, cfg_scale=9, seed=3), CARD).model_dump(
        include={"width", "height", "cfg_scale", "seed"}
    ) == {"width": 64, "height": 128, "cfg_scale": 9.0, "seed": 3}


def test_random_seeds_differ():
    assert len({resolve(parse(), CARD).seed for _ in range(20)}) == 20


@given(
    prompt=st.text(max_size=200),
    negative_prompt=st.text(max_size=200),
    seed=st.integers(0, MAX_SEED),
    steps=st.integers(1, 500),
    cfg_scale=st.floats(1, 100),
    width=st.integers(8, 1024).map(lambda n: 8 * n),
    count=st.integers(1, 10_000),
    image=st.integers(0, 9_999),
)
def test_a_recipe_survives_json(image, **fields):
    request = resolve(ImageRequest.parse(fields), CARD)
    recipe = Recipe(request=request, image=image, seed=fields["seed"], versions={"darkroom": "1"})
    again = Recipe.from_json(recipe.model_dump_json())
    assert again == recipe
    assert again.again().seed == fields["seed"]
    assert again.again().count == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', "9" * 100, '{"request": {}}'])
def test_a_broken_recipe_is_refused(text):
    with pytest.raises(BadRequest, match="recipe"):
        Recipe.from_json(text)

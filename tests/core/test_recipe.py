"""What a recipe says of the files that took part."""

import json
from dataclasses import replace

import pytest

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.processing import UpscaleRequest
from darkroom.core.recipe import Recipe, UsedModel, by_name, resolve
from darkroom.core.request import ImageRequest

A, B = "a" * 64, "b" * 64


def card(name, kind=Kind.CHECKPOINT):
    return ModelCard(
        sha256=A, path=f"/home/me/{name}.safetensors", name=name, kind=kind, arch=Arch.SD1, bytes=1
    )


def recipe(*models):
    request = resolve(ImageRequest(seed=1), card("base"))
    return Recipe(request=request, seed=1, models=models)


@pytest.mark.parametrize(
    ("role", "shown"),
    [
        ("vae", "VAE"),
        ("lora", "LoRA"),
        ("hypernetwork", "hypernetwork"),
        ("embedding", "embedding"),
    ],
)
def test_another_file_is_a_difference_and_another_name_is_none(role, shown):
    def used(name, digest):
        return recipe(UsedModel(role=role, name=name, sha256=digest))

    assert used("x", A).differences(used("x", A)) == []
    assert used("x", A).differences(used("y", A)) == []
    assert used("x", A).differences(used("x", B)) == [
        f"{shown} 'x': {A[:10]} when it was made, {B[:10]} now"
    ]
    assert used("x", A).differences(recipe()) == [
        f"{shown} 'x': {A[:10]} when it was made, none now"
    ]
    assert recipe().differences(used("x", A)) == [
        f"{shown} 'x': none when it was made, {A[:10]} now"
    ]


def test_the_request_of_a_recipe_names_the_vae_that_was_found_and_no_path():
    asked = ImageRequest(vae="/home/me/fine.safetensors")
    vae = card("fine", Kind.VAE)
    assert resolve(asked, card("base"), vae).vae == "fine"
    assert resolve(ImageRequest(), card("base"), vae).vae == "fine"
    assert resolve(ImageRequest(), card("base")).vae == "baked"


def test_a_role_or_hash_that_is_none_is_refused():
    good = recipe(UsedModel(role="lora", name="x", sha256=A, autov3="0123456789ab"))
    text = good.model_dump_json()
    assert Recipe.from_json(text) == good
    for bad in (text.replace('"lora"', '"spell"'), text.replace("0123456789ab", "xyz")):
        with pytest.raises(BadFile):
            Recipe.from_json(bad)


def test_the_size_follows_the_picture_where_it_is_open():
    asked = ImageRequest.parse({"init": {"image": "a.png"}, "mask": {"image": "m.png"}})
    free = resolve(asked, card("base"), picture=(640, 384))
    assert (free.width, free.height) == (640, 384)
    assert free.mask is not None
    assert free.mask.full_size is True
    given = asked.model_copy(update={"width": 512})
    fixed = resolve(given, card("base"), picture=(640, 384))
    assert (fixed.width, fixed.height) == (512, 384)
    assert fixed.mask is not None
    assert fixed.mask.full_size is False


def test_models_in_blocks_are_named_and_no_path_is_in_a_recipe():
    path = "/home/me/4x.pth"
    asked = ImageRequest.parse({"hires": {"upscaler": path, "steps": None}})
    cards = {(Kind.UPSCALER, path): card("4x", Kind.UPSCALER)}
    hires = resolve(asked, card("base"), cards=cards).hires
    assert hires is not None
    assert (hires.upscaler, hires.steps) == ("4x", None)
    assert list(by_name(cards)) == [(Kind.UPSCALER, "4x")]


def test_two_files_of_one_name_are_told_apart_by_their_hash():
    one, other = card("fine"), replace(card("fine"), sha256=B, path="/elsewhere/fine.safetensors")
    cards = {(Kind.CHECKPOINT, "fine"): one, (Kind.CHECKPOINT, other.path): other}
    assert set(by_name(cards)) == {(Kind.CHECKPOINT, "fine"), (Kind.CHECKPOINT, B)}


@pytest.mark.parametrize(
    ("role", "shown"),
    [("upscaler", "upscaler"), ("refiner", "refiner"), ("hires", "checkpoint of the second run")],
)
def test_other_models_are_compared_by_their_role(role, shown):
    before = recipe(UsedModel(role=role, name="x", sha256=A))
    after = recipe(UsedModel(role=role, name="x", sha256=B))
    assert before.differences(after) == [f"{shown} 'x': {A[:10]} when it was made, {B[:10]} now"]


def test_a_recipe_of_a_finished_picture_comes_back():
    asked = UpscaleRequest(image="sha256:" + A, scale=3)
    made = Recipe(request=asked, source="an apple\nSteps: 20, Sampler: Euler, Seed: 1")
    again = Recipe.from_json(made.model_dump_json())
    assert again == made
    assert again.again() == asked
    with pytest.raises(BadFile, match="not of a picture from a prompt"):
        _ = again.drawn


def test_recipes_from_before_there_were_blocks_are_read():
    old = recipe().model_dump(mode="json")
    blocks = ("init", "mask", "outpaint", "loopback", "hires", "refiner", "regions", "detail")
    for name in (*blocks, "restore", "tiling"):
        del old["request"][name]
    del old["source"]
    assert Recipe.from_json(json.dumps(old)) == recipe()

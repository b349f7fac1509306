"""What a recipe says of the files that took part."""

import pytest

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.recipe import Recipe, UsedModel, resolve
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

"""The models in the blocks of a request: found before a weight is read."""

import json

import pytest

from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.processing import UpscaleRequest
from darkroom.core.recipe import Recipe, UsedModel
from darkroom.core.request import ImageRequest
from darkroom.library.again import merged
from darkroom.library.named import checkpoint_of, named, named_again


class Shelf:
    """A library that has what it is given."""

    def __init__(self, **cards):
        self.cards = cards

    def find(self, name):
        return self.find_of(Kind.CHECKPOINT, name)

    def find_of(self, kind, name):
        for card in self.cards.values():
            if card.kind is kind and name in (card.name, card.sha256):
                return card
        raise UnknownName(str(kind), name, [])


def card(name, arch=Arch.SD1, kind=Kind.CHECKPOINT, digit="a"):
    return ModelCard(sha256=digit * 64, path=f"/m/{name}", name=name, kind=kind, arch=arch, bytes=1)


SHELF = Shelf(
    base=card("base"),
    xl=card("xl", Arch.SDXL),
    refiner=card("refiner", Arch.SDXL_REFINER),
    two=card("two", Arch.SD2),
    up=card("4x", Arch.OTHER, Kind.UPSCALER, "b"),
)


def ask(**fields):
    return named(SHELF, ImageRequest.parse(fields))


def test_each_is_found_by_its_kind():
    found = ask(model="base", hires={"upscaler": "4x", "model": "two"})
    assert found[Kind.UPSCALER, "4x"].sha256 == "b" * 64
    assert found[Kind.CHECKPOINT, "two"].arch is Arch.SD2
    assert ask(model="base", hires={}) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "base", "refiner": {"model": "xl"}},
        {"model": "base", "hires": {"model": "xl", "upscaler": "Latent (bicubic)"}},
    ],
)
def test_a_checkpoint_with_other_latents_cannot_go_on(fields):
    with pytest.raises(BadRequest, match="cannot go on from latents of 'base'"):
        ask(**fields)


def test_it_can_from_pixels_and_within_a_family():
    ask(model="base", hires={"model": "xl", "upscaler": "Lanczos"})
    ask(model="xl", refiner={"model": "refiner"})


def test_unknown_names_are_told_with_their_kind():
    with pytest.raises(UnknownName, match="unknown upscaler 'none'"):
        ask(model="base", hires={"upscaler": "none"})


def test_painting_an_upscaled_picture_needs_a_checkpoint_and_upscaling_none():
    assert checkpoint_of(UpscaleRequest(image="a")) is None
    assert checkpoint_of(UpscaleRequest(image="a", paint={})) == "starter"
    assert checkpoint_of(UpscaleRequest(image="a", paint={"model": "base"})) == "base"


def test_a_recipe_finds_its_models_by_their_hashes():
    asked = UpscaleRequest(image="a", upscaler="old name")
    used = UsedModel(role="upscaler", name="old name", sha256="b" * 64)
    recipe = Recipe(request=asked, models=(used,))
    assert named_again(SHELF, recipe)[Kind.UPSCALER, "old name"].name == "4x"
    with pytest.raises(UnknownName):
        named_again(SHELF, Recipe(request=asked))


def test_what_is_asked_for_goes_over_what_a_picture_says_field_by_field():
    said = {"steps": 20, "hires": {"scale": 2, "steps": 9}, "init": None}
    asked = {"hires": {"scale": 1.5}, "init": {"image": "a"}}
    whole = {"steps": 20, "hires": {"scale": 1.5, "steps": 9}, "init": {"image": "a"}}
    assert merged(said, asked) == whole
    assert merged(said, {"hires": None})["hires"] is None
    assert json.dumps(said) == '{"steps": 20, "hires": {"scale": 2, "steps": 9}, "init": null}'

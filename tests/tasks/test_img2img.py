"""Image to image through the worker: what a picture to begin with changes, and what is kept."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.core.errors import OutOfMemory
from darkroom.core.model import Variant
from darkroom.core.request import ResolvedRequest
from darkroom.media.metadata import read_recipe
from darkroom.media.picture import read_picture
from darkroom.tasks import canvas
from darkroom.tasks.passes import Passes
from darkroom.tasks.remarks import without_effect


def made(events):
    return [Path(event.data["path"]) for event in events if event.kind == "artifact"]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture
def picture(tmp_path):
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    path = tmp_path / "photo.png"
    Image.fromarray(np.stack([4 * x, 4 * y, 255 - 4 * x], -1).astype(np.uint8)).save(path)
    return path


def test_strength_zero_gives_the_picture_back_without_a_step(worker, ask, tmp_path, picture):
    events = list(worker.run(ask(init={"image": str(picture), "strength": 0}), output=tmp_path))
    assert not [event for event in events if event.kind == "step"]
    assert np.array_equal(pixels(*made(events)), pixels(picture))


@pytest.mark.parametrize("size", [(1, 1), (30, 20), (101, 99), (8300, 70)])
def test_strength_zero_gives_back_a_picture_of_any_size(worker, ask, tmp_path, size):
    path = tmp_path / "odd.png"
    Image.effect_noise(size, 64).convert("RGB").save(path)
    request = ask(init={"image": str(path), "strength": 0}, width=None, height=None)
    events = list(worker.run(request, output=tmp_path / "out"))
    assert np.array_equal(pixels(*made(events)), pixels(path))


def test_the_steps_that_are_told_are_those_that_are_walked(worker, ask, tmp_path, picture):
    for init, steps in (({"strength": 0.5}, 6), ({"strength": 0.5, "exact_steps": True}, 10)):
        request = ask(init={"image": str(picture), **init}, steps=10)
        events = list(worker.run(request, output=tmp_path))
        walked = [event for event in events if event.kind == "step"]
        assert events[0].data["steps"] == len(walked) == walked[-1].data["done"] == steps


def test_a_picture_of_a_batch_is_the_same_picture_alone(worker, ask, tmp_path, picture):
    init = {"image": str(picture), "strength": 0.7}
    batch = made(worker.run(ask(init=init, count=2), output=tmp_path))
    (alone,) = made(worker.run(ask(init=init, seed=8), output=tmp_path))
    assert np.array_equal(pixels(batch[1]), pixels(alone))
    assert not np.array_equal(pixels(batch[0]), pixels(alone))


@pytest.mark.parametrize(
    ("fields", "times"),
    [
        ({"count": 3}, 1),
        ({"count": 3, "prompt": "a {red|blue} apple", "dynamic_prompts": True}, 1),
        ({"count": 2, "hires": {"scale": 1.5}}, 1),
        ({"loopback": {"loops": 3}}, 3),
    ],
)
def test_what_pictures_begin_with_is_read_once(
    worker, ask, tmp_path, picture, monkeypatch, fields, times
):
    read = []

    def reading(path, **how):
        read.append(path)
        return read_picture(path, **how)

    monkeypatch.setattr(canvas, "read_picture", reading)
    made(worker.run(ask(init={"image": str(picture), "strength": 0.5}, **fields), output=tmp_path))
    assert len(read) == times


def test_every_round_of_a_loopback_is_an_ordinary_picture(worker, ask, tmp_path, picture):
    init = {"image": str(picture), "strength": 0.6}
    request = ask(init=init, loopback={"loops": 3, "final_strength": 0.3})
    events = list(worker.run(request, output=tmp_path / "loop.png"))
    rounds = made(events)
    assert events[0].data["images"] == len(rounds) == 3
    assert [Path(path).name for path in rounds] == ["loop-1.png", "loop-2.png", "loop-3.png"]
    assert [e.data["image"] for e in events if e.kind == "artifact"] == [0, 1, 2]
    recipes = [read_recipe(path) for path in rounds]
    assert [recipe.request.loopback for recipe in recipes] == [None] * 3
    assert recipes[0].request.init.strength == 0.6
    assert recipes[2].request.init.strength == pytest.approx(0.3)
    last = recipes[2].again()
    assert worker.inputs.path(last.init.image).exists()
    (again,) = made(worker.run(last, output=tmp_path))
    assert np.array_equal(pixels(again), pixels(rounds[2]))


def test_a_recipe_finds_its_picture_again_when_the_file_is_gone(worker, ask, tmp_path, picture):
    (first,) = made(worker.run(ask(init={"image": str(picture)}), output=tmp_path))
    picture.unlink()
    recipe = read_recipe(first)
    assert str(tmp_path) not in recipe.model_dump_json()
    (again,) = made(worker.run(recipe.again(), output=tmp_path))
    assert np.array_equal(pixels(first), pixels(again))


def test_memory_that_runs_out_between_two_pictures_costs_neither(
    worker, ask, tmp_path, picture, monkeypatch
):
    sampled, failures = Passes._sampled, iter([None, OutOfMemory("full"), None, None, None])

    def sampling(self, *given, **more):
        if (failure := next(failures)) is not None:
            raise failure
        return (yield from sampled(self, *given, **more))

    monkeypatch.setattr(Passes, "_sampled", sampling)
    init = {"image": str(picture), "strength": 0.5}
    events = list(worker.run(ask(init=init, count=3), output=tmp_path))
    assert len(made(events)) == 3
    assert any("memory ran out" in e.data["text"] for e in events if e.kind == "warning")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"init": {"strength": 0}}, "gives the picture back"),
        ({"init": {"strength": 0, "exact_steps": True}}, "exact_steps has no effect"),
        ({"init": {"image_cfg_scale": 3}}, "image_cfg_scale has no effect"),
        ({"hires": {"scale": 1.5, "width": 64}}, "hires_scale has no effect"),
        ({"hires": {"scale": 1, "strength": 0}}, "only enlarges"),
        ({"hires": {"scale": 1.5, "upscaler": "Latent"}}, "leaves the picture blurred"),
    ],
)
def test_what_does_nothing_is_said(worker, ask, tmp_path, picture, fields, told):
    if "init" in fields:
        fields = {"init": fields["init"] | {"image": str(picture)}}
    events = worker.run(ask(**fields), output=tmp_path)
    said = [event.data["text"] for event in events if event.kind == "warning"]
    assert any(told in text for text in said)


@pytest.mark.parametrize(
    ("variant", "strength", "blocks", "told"),
    [
        (Variant.BASE, 0, {}, "gives the picture back"),
        (Variant.BASE, 0, {"mask": {"image": "mask.png"}}, "gives the picture back"),
        (Variant.BASE, 0, {"mask": {"image": "mask.png", "fill": "fill"}}, "the new part is"),
        (Variant.BASE, 0, {"mask": {}}, "the new part is"),
        (Variant.BASE, 0, {"outpaint": {"left": 8}}, "the new part is"),
        (Variant.EDIT, 0.75, {}, "best at strength 1"),
        (Variant.EDIT, 1, {}, None),
        (Variant.BASE, 0.75, {}, None),
    ],
)
def test_what_a_strength_means_is_said(variant, strength, blocks, told):
    init = {"image": "photo.png", "strength": strength}
    size = {"width": 64, "height": 64, "steps": 4, "cfg_scale": 7, "seed": 1}
    asked = ResolvedRequest.parse({"prompt": "x", **size, "init": init, **blocks})
    said = without_effect(asked, variant)
    assert [told in text for text in said] == ([] if told is None else [True])

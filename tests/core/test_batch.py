from pathlib import Path

import pytest

from darkroom.core.batch import Item, Located, column, joined, request_of, seeded
from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.lines import read_line
from darkroom.core.processing import UpscaleRequest
from darkroom.core.request import ImageRequest
from darkroom.core.series import BatchRequest


def batch(base, **fields):
    return BatchRequest.parse({"base": base, "inputs": ["x"], **fields})


def request(asked, item=None, *, image=None, mask=None, said=None, drawn=9):
    item = item or Item(name="cat", told="cat.png")
    paths = {"image": image and Path(image), "mask": mask and Path(mask)}
    paths = {name: path for name, path in paths.items() if path}
    return request_of(asked, item, paths, said=said or {}, drawn=drawn)


def test_a_line_without_dashes_is_a_prompt():
    assert read_line("  a cat --in a hat ").fields == {"prompt": "a cat --in a hat"}


def test_the_tags_of_a1111_become_fields():
    line = read_line(
        '--prompt "a red apple" --negative_prompt leaves and sticks --steps 30 --cfg_scale 5.5'
        " --sampler_name 'Euler a' --seed 7 --subseed 3 --subseed_strength 0.2 --width 64"
        ' --height 128 --sd_model base --batch_size 2 --n_iter 3 --tiling true --styles "a, b"'
        " --restore_faces false --seed_resize_from_w -1 --seed_resize_from_h 96"
    )
    assert ImageRequest.parse(dict(line.fields)) == ImageRequest.parse(
        {
            "prompt": "a red apple", "negative_prompt": "leaves and sticks", "steps": 30,
            "cfg_scale": 5.5, "sampler": "Euler a", "seed": 7, "variation_seed": 3,
            "variation_strength": 0.2, "width": 64, "height": 128, "model": "base", "count": 6,
            "tiling": "both", "styles": ["a", "b"], "seed_resize_height": 96,
        }
    )  # fmt: skip


def test_what_has_no_effect_is_said():
    line = read_line("--prompt x --outpath_samples /tmp --do_not_save_grid true")
    assert line.fields == {"prompt": "x"}
    assert len(line.notes) == 2
    assert all("has no effect" in note for note in line.notes)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('--prompt "a cat', "quote is not closed"),
        ("--promptz cat", "unknown setting '--promptz'"),
        ("--steps", "has no value"),
        ("--steps 20 30", "belongs to no setting"),
        ("--sampler_index 3", "by its place"),
        ("--restore_faces true", "names no model"),
        ("--n_iter many", "must be a number"),
    ],
)
def test_lines_that_cannot_be_read_are_refused_in_words(text, error):
    with pytest.raises(BadRequest, match=error):
        read_line(text)


def test_columns_are_fields_of_what_is_done():
    base = ImageRequest()
    names = {"Prompt": "prompt", "CFG Scale": "cfg_scale", "file_name": "image", "text": "prompt"}
    names |= {"hires.strength": "hires.strength", "negative": "negative_prompt", "Seed": "seed"}
    assert {name: column(name, base) for name in names} == names
    assert column("scale", UpscaleRequest(image="each")) == "scale"
    for name, model in (("promptz", base), ("steps", UpscaleRequest(image="each")), ("kind", base)):
        with pytest.raises(UnknownName, match="unknown column"):
            column(name, model)


def test_each_picture_takes_its_place_in_the_request():
    asked = batch({"kind": "image", "prompt": "p", "init": {"image": "each", "strength": 0.4}})
    made = request(asked, image="a.png", mask="m.png")
    assert (made.init.image, made.init.strength, made.mask.image) == ("a.png", 0.4, "m.png")
    hires = batch({"kind": "image", "prompt": "p", "hires": {"first": "each"}})
    assert request(hires, image="a.png").hires.first == "a.png"
    assert request(hires, image="a.png").init is None
    upscale = batch({"kind": "upscale", "image": "each", "scale": 3})
    assert request(upscale, image="a.png") == UpscaleRequest(image="a.png", scale=3)
    with pytest.raises(BadRequest, match="has no picture"):
        request(asked)


def test_what_an_item_says_goes_before_what_the_request_says():
    asked = batch({"kind": "image", "prompt": "style", "steps": 5, "hires": {}})
    item = Item(
        name="x", told="x", fields={"prompt": "a cat", "steps": "7", "hires.strength": "0.3"}
    )
    made = request(asked, item, said={"prompt": "not this", "steps": 9, "cfg_scale": 3})
    assert (made.prompt, made.steps, made.hires.strength) == ("a cat, not this, style", 7, 0.3)
    assert made.cfg_scale == 3


def test_where_the_prompt_of_an_item_goes():
    assert joined("own", "its", "before") == "its, own"
    assert joined("own", "its", "after") == "own, its"
    assert joined("own", "its", "replace") == "its"
    assert joined("", "its", "after") == "its"


def test_seeds_of_items():
    free = batch({"kind": "image", "prompt": "p"})
    one, other = (Item(name=name, told=name, number=n) for n, name in enumerate(("a", "b")))
    assert request(free, one).seed != request(free, other).seed
    assert request(free, one) == request(free, one)
    given = batch({"kind": "image", "prompt": "p", "seed": 4})
    assert request(given, one).seed == request(given, other).seed == 4
    counted = batch({"kind": "image", "prompt": "p", "seed": 4}, seeds="count")
    assert request(counted, other).seed == 5
    same = batch({"kind": "image", "prompt": "p"}, seeds="same")
    assert request(same, one).seed == request(same, other).seed == 9
    own = Item(name="b", told="b", fields={"seed": "3"}, number=5)
    assert request(counted, own).seed == 3


def test_no_seed_is_left_open():
    request = ImageRequest(variation_strength=0.5)
    assert (seeded(request, 7).seed, seeded(request, 7).variation_seed) == (7, 7)
    upscale = UpscaleRequest.parse({"image": "a.png", "paint": {}})
    assert seeded(upscale, 7).paint.seed == 7


def test_located():
    assert str(Located(Path("a.zip"), "b.png")) == "a.zip: b.png"

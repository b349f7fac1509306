import pytest

from darkroom.core.axes import ALIASES, canonical, field_names
from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.grid import cells, layout, pictures
from darkroom.core.request import ImageRequest
from darkroom.core.series import Axis, GridRequest

BASE = {"prompt": "a red cat, at night", "seed": 5}


def made(base=None, **axes):
    pairs = {name: axes.pop(name) for name in ("x", "y", "z") if name in axes}
    read = {name: Axis(field=pair[0], values=pair[1]) for name, pair in pairs.items()}
    request = ImageRequest.parse({**BASE, **(base or {})})
    return GridRequest(base=request, **read, **axes)


def values(grid, name):
    found = []
    for cell in cells(grid):
        value = cell.request
        for part in name.split("."):
            value = value[int(part)] if part.isdigit() else getattr(value, part)
        found.append(value)
    return found


def test_every_combination_is_a_cell_with_its_place_and_its_words():
    grid = made(x=("steps", "10,20"), y=("cfg_scale", "4-8 (+4)"))
    assert [(c.key, c.request.steps, c.request.cfg_scale) for c in cells(grid)] == [
        ("0-0-0", 10, 4), ("1-0-0", 20, 4), ("0-1-0", 10, 8), ("1-1-0", 20, 8),
    ]  # fmt: skip
    assert cells(grid)[1].labels == ("steps: 20", "cfg_scale: 4", "")
    assert layout(grid).x == ("steps: 10", "steps: 20")
    assert layout(grid).z == ("",)


@pytest.mark.parametrize(
    ("field", "text", "name", "expected"),
    [
        ("CFG Scale", "1, 2.5", "cfg_scale", [1, 2.5]),
        ("Var. strength", "0-1 [3]", "variation_strength", [0, 0.5, 1]),
        ("Clip skip", "1-2", "clip_skip", [1, 2]),
        ("RNG source", "CPU,NV", "rng", ["cpu", "nv"]),
        ("VAE", "Automatic, None, mine", "vae", ["auto", "baked", "mine"]),
        ("Schedule type", "karras", "scheduler", ["Karras"]),
        ("hires.strength", "0.2,0.4", "hires.strength", [0.2, 0.4]),
        ("Hires steps", "5", "hires.steps", [5]),
        ("sgm-noise", "true, no", "sgm_noise", [True, False]),
        ("tiling", "Both,x", "tiling", ["both", "x"]),
        ("Refiner checkpoint", "big", "refiner.model", ["big"]),
        ("styles", '"a, b", c', "styles", [("a", "b"), ("c",)]),
        ("steps", "default, 7", "steps", [None, 7]),
        ("seed", "1-3", "seed", [1, 2, 3]),
    ],
)
def test_axes_go_by_our_names_and_by_those_of_a1111(field, text, name, expected):
    assert values(made(x=(field, text)), name) == expected


def test_all_axes_of_a1111_are_known_and_lead_somewhere():
    assert len(ALIASES) == 44  # 45 entries, of which Sampler is there twice
    base = ImageRequest.parse({**BASE, "hires": {}})
    own = {"prompt order", "denoising", "size"}
    for name, field in ALIASES.items():
        if field and field not in own:
            assert canonical(name, base) in field_names()
        elif field is None:
            with pytest.raises(BadRequest, match="nothing that Darkroom has"):
                canonical(name, base)


def test_denoising_is_that_of_the_picture_or_else_of_the_second_run():
    picture = {"init": {"image": "a.png"}}
    assert values(made(picture, x=("Denoising", ".3")), "init.strength") == [0.3]
    assert values(made({"hires": {}}, x=("Denoising", ".3")), "hires.strength") == [0.3]
    with pytest.raises(BadRequest, match="does nothing here"):
        cells(made(x=("Denoising", ".3")))


def test_fields_in_lists_are_counted():
    base = {"detail": [{"detector": "face"}, {"detector": "hand"}]}
    assert values(made(base, x=("detail.1.strength", "0.1,0.2")), "detail.1.strength") == [0.1, 0.2]
    with pytest.raises(UnknownName, match=r"detail\.strength"):
        cells(made(base, x=("detail.strength", "0.1")))
    with pytest.raises(BadRequest, match="is not there"):
        cells(made(base, x=("detail.2.strength", "0.1")))


def test_search_and_replace_keeps_the_first_word_and_looks_into_every_prompt():
    base = {"negative_prompt": "red eyes", "hires": {"prompt": "a red cat, sharp"}}
    grid = made(base, x=("prompt", 'red, blue, ""'))
    assert values(grid, "prompt") == [
        "a red cat, at night", "a blue cat, at night", "a  cat, at night",
    ]  # fmt: skip
    assert values(grid, "negative_prompt") == ["red eyes", "blue eyes", " eyes"]
    assert values(grid, "hires.prompt")[1] == "a blue cat, sharp"
    with pytest.raises(BadRequest, match="did not find 'dog'") as caught:
        cells(made(x=("Prompt S/R", "dog,cat")))
    assert caught.value.hint


def test_without_a_prompt_the_values_are_the_prompts():
    assert values(made({"prompt": ""}, x=("prompt", "a, b")), "prompt") == ["a", "b"]


def test_two_axes_may_both_search():
    grid = made(x=("prompt", "red,blue"), y=("prompt", "cat,dog"))
    assert [cell.request.prompt for cell in cells(grid)] == [
        f"a {color} {animal}, at night" for animal in ("cat", "dog") for color in ("red", "blue")
    ]


def test_prompt_order_permutes_the_words_in_their_places():
    grid = made({"prompt": "red, cat and night"}, x=("Prompt order", "night,red,cat"))
    found = values(grid, "prompt")
    assert len(found) == len(set(found)) == 6
    assert found[0] == "night, red and cat"
    with pytest.raises(BadRequest, match="too many orders"):
        cells(made({"prompt": "a b c d e f g h"}, x=("prompt order", "a,b,c,d,e,f,g,h")))


def test_a_loras_strength_is_changed_in_its_tag_or_added():
    assert values(made(x=("lora:ink", "0,0.5")), "prompt") == [
        "a red cat, at night<lora:ink:0>", "a red cat, at night<lora:ink:0.5>",
    ]  # fmt: skip
    base = {"prompt": "a cat <lora:ink:1:0.2:start=0.5> <lora:other:1>"}
    assert values(made(base, x=("lora:ink", "0.7")), "prompt") == [
        "a cat <lora:ink:0.7:start=0.5> <lora:other:1>"
    ]


def test_a_sampler_with_a_schedule_in_its_name_brings_it():
    grid = made({"scheduler": "Exponential"}, x=("sampler", "DPM++ 2M Karras, Euler a"))
    assert values(grid, "sampler") == ["DPM++ 2M", "Euler a"]
    assert values(grid, "scheduler") == ["Karras", "Exponential"]


def test_sizes():
    grid = made(x=("Size", "64x128, 128×64"))
    assert values(grid, "width") == [64, 128]
    assert values(grid, "height") == [128, 64]


def test_models_are_switched_as_seldom_as_can_be():
    grid = made(x=("model", "a,folder/b.safetensors"), y=("steps", "1,2"), z=("vae", "v,w"))
    order = [(c.request.model, c.request.vae) for c in cells(grid)]
    assert order == sorted(order, key=lambda pair: (pair[0] != "a", pair[1] != "v"))
    assert layout(grid).x == ("model: a", "model: b.safetensors")


def test_the_seed_is_the_same_for_all_unless_it_is_to_vary():
    assert values(made(x=("steps", "1-3")), "seed") == [5, 5, 5]
    every = made({"count": 2}, x=("steps", "1-3"), y=("eta", "0,1"), random_seeds=True)
    assert sorted(values(every, "seed")) == [5, 7, 9, 11, 13, 15]
    along_y = made(x=("steps", "1,2"), y=("eta", "0,1"), vary_seeds=("y",))
    assert values(along_y, "seed") == [5, 5, 6, 6]


def test_a_matrix_is_every_choice_of_its_parts():
    grid = made({"prompt": "a cat | in a hat | {wet|dry} | at night"}, matrix=True)
    found = {cell.key: cell.request.prompt for cell in cells(grid)}
    assert len(found) == 8
    assert found["0-0-0"] == "a cat"
    assert found["3-0-0"] == "a cat, in a hat, {wet|dry}"
    assert found["3-1-0"] == "a cat, in a hat, {wet|dry}, at night"
    assert layout(grid).x[1] == "in a hat"
    first = made({"prompt": "a|b|c"}, matrix=True, matrix_at_start=True, matrix_join="space")
    assert {cell.request.prompt for cell in cells(first)} == {"a", "b a", "c a", "b c a"}
    negative = made({"negative_prompt": "x|y"}, matrix=True, matrix_of="negative_prompt")
    assert values(negative, "negative_prompt") == ["x", "x, y"]


def test_a_matrix_has_the_axis_z_beside_it():
    grid = made({"prompt": "a|b"}, matrix=True, z=("steps", "1,2"))
    assert pictures(grid) == 4
    with pytest.raises(BadRequest, match="takes the axes x and y"):
        cells(made({"prompt": "a|b"}, matrix=True, x=("steps", "1,2")))
    with pytest.raises(BadRequest, match="nothing to choose"):
        cells(made(matrix=True))


def test_too_many_pictures_are_refused_before_they_are_made_up():
    assert pictures(made({"count": 10}, x=("steps", "1-100"), y=("seed", "1-10"))) == 10_000
    with pytest.raises(BadRequest, match="1,000,000 pictures"):
        cells(made(x=("seed", "1-100"), y=("steps", "1-100"), z=("eta", "0-1 [100]")))


@pytest.mark.parametrize(
    ("axis", "error"),
    [
        (("stepz", "1"), "unknown axis 'stepz'"),
        (("kind", "grid"), "unknown axis"),
        (("hires", "1"), "more than one setting"),
        (("regions.0.box", "1"), "its values are lists"),
        (("steps", "700"), "steps: must be at most 500"),
        (("steps", " , "), "has no values"),
        (("sgm_noise", "maybe"), "neither true nor false"),
        (("tiling", "bth"), "unknown value of tiling"),
        (("init.strength", "0.5"), r"init\.image: is missing"),
        (("size", "big"), "is no size"),
        (("lora:", "1"), "names no LoRA"),
        (("sampler", "Eulr"), "unknown sampler"),
    ],
)
def test_what_cannot_be_is_said_at_once_and_where(axis, error):
    with pytest.raises(BadRequest, match=error):
        cells(made(x=axis))


def test_nothing_is_no_axis():
    assert layout(made(x=("Nothing", ""))).cells == 1

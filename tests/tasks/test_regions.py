"""Prompts by region: their masks, what is refused and said, and pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.core.blocks import Region
from darkroom.tasks.regions import mask_of, within


def of_box(*box, size=(128, 64), feather=0):
    region = Region(prompt="a cat", box=box, feather=feather)
    return mask_of(region, size, pictures=None)


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1)),
        ((0, 0, 1, 0.5), (0, 0, 1, 0.5)),
        ((0, 0.25, 0.5, 0.25), (0, 0, 0.5, 0.5)),
        ((0.5, 0.5, 0.5, 0.125), (0.5, 0.5, 0.5, 0.25)),
        ((0, 0, 1, 0.25), (0, 0, 1, 0)),
    ],
)
def test_a_box_in_the_middle_half_of_its_picture(box, inside):
    region = Region(prompt="a cat", box=box)
    assert within(region, (0, 0.25, 1, 0.75)).box == inside


def test_a_box_is_a_share_of_the_picture():
    mask, note = of_box(0.25, 0, 0.5, 1)
    assert mask.shape == (1, 1, 8, 16)
    assert mask[0, 0, 3].tolist() == [0] * 4 + [1] * 8 + [0] * 4
    assert note == ""


def test_a_pixel_that_is_inside_in_part_counts_in_part():
    mask, _ = of_box(0, 0, 4 / 128, 1)
    assert mask[0, 0, 0, :2].tolist() == pytest.approx([0.5, 0], abs=0.01)


def test_the_border_fades_half_inside_and_not_at_the_edge_of_the_picture():
    mask, _ = of_box(0, 0, 0.5, 1, feather=33)
    row = mask[0, 0, 3]
    assert row[:6].tolist() == [1] * 6
    assert row[10:].tolist() == [0] * 6
    assert row[7:9].sum() == pytest.approx(1, abs=0.01)
    assert (row.diff() <= 0).all()


@pytest.mark.parametrize("feather", [0, 16, 47])
def test_neighbours_leave_no_gap_and_do_not_overlap(feather):
    left, right = of_box(0, 0, 0.5, 1, feather=feather), of_box(0.5, 0, 0.5, 1, feather=feather)
    assert torch.allclose(left[0] + right[0], torch.ones(1), atol=0.01)


@pytest.mark.parametrize(
    ("box", "beyond"),
    [((0.5, 0, 0.6, 1), True), ((0, 0.9, 1, 0.2), True), ((2 / 3, 0, 0.333334, 1), False)],
)
def test_a_box_beyond_the_picture_is_cut_and_said(box, beyond):
    assert ("beyond the picture" in of_box(*box)[1]) is beyond


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_a_mask_of_any_kind(tmp_path, mode):
    white = Image.new("L", (32, 16), 0)
    white.paste(255, (16, 0, 32, 16))
    picture = white.convert(mode)
    if mode == "RGBA":
        picture.putalpha(white)
    picture.save(tmp_path / "mask.png")
    region = Region(prompt="a cat", mask="sha256:", feather=0)
    mask, note = mask_of(region, (128, 64), lambda source: tmp_path / "mask.png")
    assert mask[0, 0, 4].round().tolist() == [0] * 8 + [1] * 8
    assert note == ""


# ---- pictures ------------------------------------------------------------------------------------


@pytest.fixture
def make(worker, ask, tmp_path):
    """The pixels of a request, and the notes on it."""

    def made(*regions, **fields):
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        events = list(worker.run(ask(regions=list(regions), **fields), output=target))
        assert events[-1].kind == "done", events[-1].data
        said = [event.data["text"] for event in events if event.kind == "warning"]
        return np.asarray(Image.open(target).convert("RGB")).astype(int), said

    return made


LEFT = {"prompt": "a green cat", "box": [0, 0, 0.5, 1]}


def change(one, other):
    """How much two pictures differ, on the left and on the right."""
    columns = abs(one - other).mean(axis=(0, 2))
    return columns[: len(columns) // 4].mean(), columns[-len(columns) // 4 :].mean()


def test_a_region_changes_mostly_itself(make):
    """Attention sees the whole picture, so the rest is not untouched."""
    plain, _ = make(width=128, sampler="Euler", steps=1)
    left, right = change(make(LEFT, width=128, sampler="Euler", steps=1)[0], plain)
    assert left > 2 * right


def test_a_region_over_all_is_its_prompt_for_the_picture(make):
    everywhere = {"prompt": "a green cat", "box": [0, 0, 1, 1], "feather": 0}
    # One call for two prompts and two calls for one each round differently.
    assert abs(make(everywhere)[0] - make(prompt="a green cat")[0]).max() <= 1


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"box": [1, 0, 0.5, 1]}, "it covers nothing of the picture"),
        ({"weight": 0}, "its weight is 0"),
        ({"start": 0.6, "end": 0.4}, "it ends where it starts"),
    ],
)
def test_what_has_no_effect_is_said(make, fields, why):
    pixels, said = make({**LEFT, **fields})
    assert f"region 1 has no effect: {why}" in said
    assert (pixels == make()[0]).all()


def test_the_last_steps_alone_change_less(make):
    plain, _ = make(steps=6)
    late, early = (
        abs(make({**LEFT, **span}, steps=6)[0] - plain).mean()
        for span in ({"start": 0.6}, {"end": 0.4})
    )
    assert 0 < late < early


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a fox AND a hill :0.5"},
        {"sampler": "DDIM CFG++"},
        {"cfg_scale": 1},
        {"guidance_start": 0.3},
        {"hires": {"steps": 2}},
        {"tiling": "both"},
        {"sampler": "DPM++ SDE"},
    ],
)
def test_regions_go_with_everything(make, fields):
    assert (make(LEFT, **fields)[0] != make(**fields)[0]).any()


def test_prompts_of_regions_may_change_and_compose(make):
    plain, _ = make(LEFT, steps=4)
    for prompt in ("a green [cat:dog:0.5]", "a green cat AND a hill", "(a green cat:1.4)"):
        assert (make({**LEFT, "prompt": prompt}, steps=4)[0] != plain).any()


def test_a_lora_in_a_region_is_refused(worker, ask, tmp_path):
    request = ask(regions=[{**LEFT, "prompt": "a cat <lora:one:0.5>"}])
    *_, failed = worker.run(request, output=tmp_path)
    assert failed.data["error"] == "BadRequest"
    assert "<lora:one:0.5>, which would change the whole picture" in failed.data["text"]
    assert "prompt of the picture" in failed.data["hint"]
    assert not list(tmp_path.iterdir())

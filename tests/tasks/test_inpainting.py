"""Pictures painted over, from the request to the file; the networks are tiny and random."""

import numpy as np
import pytest
from PIL import Image

from darkroom.media.mask import blurred

SIDE = 64


@pytest.fixture
def files(tmp_path):
    """A picture of noise and a mask whose right third is white."""
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "picture.png")
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (42, 0, SIDE, SIDE))
    mask.save(tmp_path / "mask.png")
    return {"image": str(tmp_path / "picture.png")}, {"image": str(tmp_path / "mask.png")}


def run(worker, request, output):
    events = list(worker.run(request, output=output))
    assert events[-1].kind == "done", events[-1].data
    return [event for event in events if event.kind == "artifact"]


@pytest.mark.parametrize("softness", ["hard", "soft", "differential"])
@pytest.mark.parametrize("sampler", ["Euler a", "DDIM"])
def test_outside_of_the_mask_nothing_changes_and_inside_much(
    worker, ask, tmp_path, files, softness, sampler
):
    init, mask = files
    asked = ask(
        init={**init, "strength": 1},
        mask={**mask, "softness": softness, "blur": 2},
        sampler=sampler,
    )
    run(worker, asked, tmp_path / "made.png")
    before, made, black = (
        np.array(each).astype(int)
        for each in (
            Image.open(init["image"]),
            Image.open(tmp_path / "made.png").convert("RGB"),
            blurred(Image.open(mask["image"]), 2, 2),
        )
    )
    assert (made == before)[black == 0].all() and (black == 0).sum() > SIDE * SIDE / 2
    assert np.abs(made - before)[:, 52:].mean() > 20


def test_each_round_of_a_loop_is_a_picture_with_a_seed_of_its_own(worker, ask, tmp_path, files):
    init, mask = files
    asked = ask(
        init={**init, "strength": 0.9}, mask=mask, loopback={"loops": 3, "final_strength": 0.6}
    )
    made = run(worker, asked, tmp_path / "made")
    assert [event.data["seed"] for event in made] == [7, 8, 9]
    pictures = [Image.open(event.data["path"]).convert("RGB").tobytes() for event in made]
    assert len(set(pictures)) == 3

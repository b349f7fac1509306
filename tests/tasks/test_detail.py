"""The detailer: what it finds it paints, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from darkroom.core.blocks import Detail
from darkroom.core.errors import Cancelled
from darkroom.core.recipe import resolve
from darkroom.engine.detect import Found
from darkroom.tasks.detail import chosen, detailed, mask_of, part_of, request_for
from darkroom.tasks.passes import opened
from drawn import ball


def found(left, top, right, bottom, score=0.9):
    return Found(box=(left, top, right, bottom), score=score, label="thing")


def test_the_largest_are_chosen_and_the_smallest_passed_over():
    things = [found(0, 0, 10, 10), found(0, 0, 30, 30), found(0, 0, 20, 20), found(5, 5, 5, 9)]
    sizes = lambda **fields: [each.box[2] for each in chosen(things, Detail(**fields), (100, 100))]
    assert sizes() == [30, 20, 10]
    assert sizes(most=2) == [30, 20]
    assert sizes(smallest=0.03) == [30, 20]


@pytest.mark.parametrize(("grow", "reach"), [(0, 0), (5, 5), (-5, -5), (-100, 0)])
def test_a_box_is_grown_or_shrunk(grow, reach):
    mask = np.asarray(mask_of(found(40, 30, 80, 60), Detail(grow=grow), (120, 100)))
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max()) == (40 - reach, 79 + reach)
    assert (rows.min(), rows.max()) == (30 - reach, 59 + reach)


def test_a_mask_goes_before_the_box():
    own = Image.new("L", (40, 30))
    own.paste(255, (10, 10, 20, 20))
    thing = Found(box=(40, 30, 80, 60), score=1, label="thing", mask=own)
    assert mask_of(thing, Detail(grow=0), (120, 100)).getbbox() == (50, 40, 60, 50)
    assert mask_of(thing, Detail(grow=2), (120, 100)).getbbox() == (48, 38, 62, 52)
    assert mask_of(thing, Detail(grow=-2), (120, 100)).getbbox() == (52, 42, 58, 48)
    own.paste(0, (0, 0, 40, 30))
    assert mask_of(thing, Detail(grow=0), (120, 100)).getbbox() == (40, 30, 80, 60)


@pytest.mark.parametrize(
    ("box", "region"),
    [
        ((10.2, 10.3, 10.4, 10.4), (10, 10, 11, 11)),
        ((119.7, 0, 120, 0.2), (119, 0, 120, 1)),
        ((0, 0, 120, 100), (0, 0, 120, 100)),
    ],
)
@pytest.mark.parametrize("grow", [-512, 0])
def test_specks_and_things_at_the_border_have_a_mask(box, region, grow):
    assert mask_of(found(*box), Detail(grow=grow), (120, 100)).getbbox() == region


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        (None, ["whole", "whole"]),
        ("a smile", ["a smile", "a smile"]),
        ("a smile [SEP] a frown", ["a smile", "a frown", "a frown"]),
        ("[SKIP][SEP]a frown", [None, "a frown"]),
        (" [SEP] [PROMPT], close", ["whole", "whole, close"]),
    ],
)
def test_prompts_have_parts_for_one_after_the_other(prompt, parts):
    assert [part_of(prompt, number, "whole") for number in range(len(parts))] == parts


@pytest.fixture
def resolved(worker, ask):
    def make(**fields):
        request = ask(width=64, height=64, **fields)
        return resolve(request, worker.library.find(request.model))

    return make


def test_a_block_changes_what_it_says_and_nothing_else(resolved):
    block = {
        "detector": "object",
        "steps": 9,
        "cfg_scale": 3.0,
        "sampler": "Euler a",
        "strength": 0.3,
    }
    request = resolved(detail=[block], hires={}, tiling="both", negative_prompt="blur")
    own = request_for(request, request.detail[0], 0)
    assert (own.steps, own.cfg_scale, own.sampler, own.init.strength) == (9, 3.0, "Euler a", 0.3)
    assert (own.prompt, own.negative_prompt) == (request.prompt, "blur")
    assert own.scheduler == "Uniform"  # Euler a's own
    assert own.hires is None and own.detail == () and own.tiling == "none"


def run(worker, request, picture, *, stop=bool):
    """(the picture, stages, notes)"""
    job = worker._job("test", None, stop)
    model = worker.engine.model(worker.library.find(request.model))
    stages, notes = [], []
    with opened(worker.engine, model, request, job=job) as passes:
        events = detailed(passes, request, 0, picture)
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                return end.value, list(dict.fromkeys(stages)), notes + passes.notes
            if event.kind == "step":
                stages.append(event.data["stage"])
            else:
                notes.append(event.data.get("text"))


@pytest.fixture
def two_balls():
    picture, _ = ball((200, 120), box=(20, 20, 90, 90))
    _, small = ball((60, 60), box=(10, 10, 45, 45))
    picture.paste((30, 40, 200), (130, 50), small)
    return picture


def test_each_thing_is_painted_and_the_rest_stays_bit_for_bit(worker, resolved, two_balls):
    request = resolved(detail=[{"detector": "object", "blur": 2, "grow": 3, "padding": 8}])
    done, stages, notes = run(worker, request, two_balls)
    assert stages == ["object 1 of 2", "object 2 of 2"] and notes == []
    changed = (np.asarray(done) != np.asarray(two_balls)).any(-1)
    assert done.size == two_balls.size and changed[50, 50] and changed[80, 160]
    reach = 3 + 6  # grown, and blurred by two standard deviations and a half
    outside = np.ones_like(changed)
    outside[20 - reach : 91 + reach, 20 - reach : 91 + reach] = False
    outside[60 - reach : 96 + reach, 140 - reach : 176 + reach] = False
    assert not changed[outside].any()


def test_a_speck_under_the_widest_blur_is_painted(worker, resolved, monkeypatch):
    """Nothing would be left of its mask, and a picture that is all but finished would be lost."""
    speck = SimpleNamespace(find=lambda picture, confidence: [found(50.2, 40.1, 51.1, 40.9)])
    monkeypatch.setattr(type(worker.engine), "detector", lambda self, name, card: speck)
    request = resolved(detail=[{"detector": "object", "blur": 256, "grow": 0}])
    _, stages, _ = run(worker, request, Image.new("RGB", (120, 100), "teal"))
    assert stages == ["object 1 of 1"]


def test_the_same_seed_paints_the_same(worker, resolved, two_balls):
    request = resolved(detail=[{"detector": "object", "most": 1}])
    first, _, _ = run(worker, request, two_balls)
    again, _, _ = run(worker, request, two_balls)
    other, _, _ = run(worker, request.model_copy(update={"seed": 8}), two_balls)
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_where_nothing_is_found_that_is_said(worker, resolved):
    wall = Image.new("RGB", (100, 80), (220, 220, 220))
    done, stages, notes = run(worker, resolved(detail=[{"detector": "face"}]), wall)
    assert done is wall and stages == [] and notes == ["picture 1: no face was found"]


def test_no_strength_is_said_to_do_nothing(worker, resolved, two_balls):
    done, _, notes = run(
        worker, resolved(detail=[{"detector": "object", "strength": 0}]), two_balls
    )
    assert done is two_balls and notes == ["detail of object has no effect: its strength is 0"]


def test_skipped_things_keep_their_pixels(worker, resolved, two_balls):
    request = resolved(detail=[{"detector": "object", "prompt": "[SKIP][SEP]a pear"}])
    done, stages, _ = run(worker, request, two_balls)
    changed = (np.asarray(done) != np.asarray(two_balls)).any(-1)
    assert stages == ["object 2 of 2"] and not changed[50, 50] and changed[80, 160]


def test_it_can_be_stopped_between_steps(worker, resolved, two_balls):
    asked = iter([False])
    with pytest.raises(Cancelled):
        run(
            worker,
            resolved(detail=[{"detector": "object"}]),
            two_balls,
            stop=lambda: next(asked, True),
        )

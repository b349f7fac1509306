import math

import pytest

from darkroom.core.blocks import Loopback
from darkroom.core.request import ResolvedRequest
from darkroom.tasks.loopback import round_of, strengths

FILE = "sha256:" + "0" * 64


def rounds(first=0.75, loops=5, **fields):
    return strengths(Loopback.model_validate({"loops": loops, **fields}), first)


def test_the_strength_goes_from_the_first_to_the_last():
    assert rounds(final_strength=0.25) == pytest.approx((0.75, 0.625, 0.5, 0.375, 0.25))
    assert rounds(0.5, loops=2, final_strength=1.0) == (0.5, 1.0)


@pytest.mark.parametrize("curve", ["linear", "aggressive", "lazy"])
def test_without_a_final_strength_it_stays(curve):
    assert rounds(curve=curve) == (0.75,) * 5


def test_aggressive_is_early_and_lazy_late_along_a_quarter_of_a_sine():
    share = math.sin(math.pi / 8), math.sin(math.pi / 4), math.sin(3 * math.pi / 8)
    early = rounds(0.0, final_strength=1.0, curve="aggressive")
    late = rounds(0.0, final_strength=1.0, curve="lazy")
    assert early == pytest.approx((0, *share, 1))
    assert late == pytest.approx((0, *(1 - each for each in reversed(share)), 1))


def request(**fields):
    return ResolvedRequest.model_validate(
        {
            "prompt": "x", "width": 64, "height": 64, "steps": 4, "cfg_scale": 5.0, "seed": 3,
            "init": {"image": FILE, "strength": 0.8}, **fields,
        }
    )  # fmt: skip


def test_a_round_has_its_own_picture_seed_and_strength_and_goes_on_with_what_was_painted():
    whole = request(
        loopback={"loops": 3, "final_strength": 0.4},
        mask={"image": FILE, "fill": "latent noise"},
        count=2,
    )
    made = [round_of(whole, index, source=f"sha256:{index:064}", seed=9) for index in range(3)]
    assert [one.init.strength for one in made] == pytest.approx([0.8, 0.6, 0.4])
    assert [one.mask.fill for one in made] == ["latent noise", "original", "original"]
    assert [one.seed for one in made] == [9, 10, 11]
    assert [int(one.init.image[-1]) for one in made] == [0, 1, 2]
    assert {(one.count, one.loopback) for one in made} == {(1, None)}

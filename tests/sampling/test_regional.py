"""Prompts by region: which estimate holds where, and when."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darkroom.sampling import At, Guidance, apart, composed, steer
from darkroom.sampling.regional import Place, Region, prompted, regional

AT = At(2.0, 0.5)
X = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LEFT = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 4, 4)


def always(value):
    return lambda x, at: torch.full_like(x, value)


def refuses(x, at):
    raise AssertionError("this prompt must not be asked")


def region(value, mask=LEFT, **place):
    return Region(Place(mask=mask, **place), [(always(value), 1.0)])


def mixed(*regions, base=1.0, uncond=0.0, at=AT):
    both, alone = regional(apart(always(base), always(uncond)), always(base), regions)
    cond, negative = both(X, at)
    assert torch.equal(negative, torch.full_like(X, uncond))
    assert torch.equal(alone(X, at), cond)
    return cond[0, 0, 0].tolist()


def test_a_region_has_its_prompt_and_the_rest_that_of_the_picture():
    assert mixed(region(5.0)) == [5, 5, 1, 1]


def test_without_regions_nothing_changes_to_the_last_bit():
    both, alone = regional(lambda x, at: (x, -x), lambda x, at: x, [])
    assert torch.equal(both(X, AT)[0], X)
    assert torch.equal(alone(X, AT), X)


def test_a_soft_border_blends():
    border = torch.tensor([1.0, 0.75, 0.25, 0.0]).expand(1, 1, 4, 4)
    assert mixed(region(5.0, border)) == [5, 4, 2, 1]


def test_the_picture_has_a_say_where_the_weight_is_below_1():
    assert mixed(region(5.0, weight=0.25)) == [2, 2, 1, 1]
    assert mixed(region(5.0, weight=3.0)) == [5, 5, 1, 1]


def test_where_regions_overlap_their_weights_count():
    everywhere = torch.ones(1, 1, 4, 4)
    assert mixed(region(8.0, weight=3.0), region(4.0, everywhere)) == [7, 7, 4, 4]


@pytest.mark.parametrize(
    ("progress", "value"), [(0.0, 1), (0.2, 5), (0.59, 5), (0.6, 1), (0.99, 1)]
)
def test_it_holds_in_its_window(progress, value):
    assert mixed(region(5.0, window=(0.2, 0.6)), at=At(2.0, progress))[0] == value


def test_a_window_to_the_end_has_the_last_call():
    assert mixed(region(5.0, window=(0.5, 1.0)), at=At(0.1, 0.99))[0] == 5


def test_a_region_that_does_not_hold_is_not_asked():
    idle = Region(Place(mask=LEFT, window=(0.7, 1.0)), [(refuses, 1.0)])
    weightless = Region(Place(mask=LEFT, weight=0.0), [(refuses, 1.0)])
    assert mixed(idle, weightless) == [1, 1, 1, 1]


def test_parts_of_a_region_pull_away_from_the_shared_negative():
    parts = [(always(3.0), 1.0), (always(5.0), 0.5)]
    both, _ = regional(apart(always(1.0), always(2.0)), refuses, [Region(Place(mask=LEFT), parts)])
    assert both(X, AT)[0][0, 0, 0].tolist() == [2 + 1 + 0.5 * 3] * 2 + [1, 1]
    assert torch.equal(prompted(both)(X, AT), both(X, AT)[0])


def test_it_is_guided_like_any_prompt_and_goes_with_composition():
    base = composed([(always(2.0), 1.0), (always(3.0), 1.0)], always(1.0))  # 1 + 1 + 2 = 4
    both, alone = regional(base, always(2.0), [region(5.0)])
    guidance = Guidance(scale=3.0, window=(0.0, 0.5))
    guided = steer(both, alone, guidance)
    assert guided(X, At(2.0, 0.2))[0, 0, 0].tolist() == [13, 13, 10, 10]
    assert guided(X, At(2.0, 0.7))[0, 0, 0].tolist() == [5, 5, 2, 2]


def test_cfgpp_gets_both_estimates():
    both, alone = regional(apart(always(1.0), always(0.0)), always(1.0), [region(5.0)])
    found = steer(both, alone, Guidance(scale=0.5, paired=True))(X, AT)
    assert found.shape == (2, *X.shape)
    assert found[0, 0, 0, 0].tolist() == [2.5, 2.5, 0.5, 0.5]
    assert not found[1].any()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10), st.floats(-9, 9)), max_size=5))
def test_the_mix_lies_between_what_is_mixed(given):
    """Weights and masks of any kind: no place is empty, and none counts beyond the estimates."""
    regions = [
        region(value, torch.full((1, 1, 4, 4), share), weight=weight)
        for share, weight, value in given
    ]
    found = mixed(*regions)[0]
    values = [1.0, *(value for _, _, value in given)]
    assert min(values) - 1e-4 <= found <= max(values) + 1e-4

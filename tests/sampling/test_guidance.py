"""Guidance: its formulas, when it acts, and that no call is wasted."""

import math

import pytest
import torch

from darkroom.sampling import (
    At,
    Guidance,
    apart,
    compose,
    composed,
    hold,
    near,
    stack,
    steer,
    tiles,
    together,
    windows,
)

AT = At(2.0, 0.5)


def latent(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def times(factor):
    return lambda x, at: factor * x


def refuses(x, at):
    raise AssertionError("this branch must not be called")


BOTH = apart(times(3.0), times(1.0))
ALONE = times(3.0)


def guided(at, **fields):
    """Whether a call was guided."""
    x = latent(1, 2, 3, 3)
    found = steer(BOTH, ALONE, Guidance(scale=7.0, **fields))(x, at)
    off, on = torch.allclose(found, 3 * x), torch.allclose(found, 15 * x)
    assert off is not on
    return on


def test_guidance_acts_in_its_interval_of_noise_levels():
    seen = [guided(At(s, 0.5), interval=(0.3, 5.0)) for s in (9.0, 5.0, 1.0, 0.3, 0.2)]
    assert seen == [False, True, True, True, False]


def test_skipping_early_leaves_out_the_start_of_the_run():
    assert [guided(At(1.0, p), skip_early=0.3) for p in (0.0, 0.3, 0.31)] == [False, False, True]
    assert guided(At(1.0, 0.0), skip_early=0.0)


def test_below_a_level_every_second_call_is_not_guided_or_none_is():
    at = [At(sigma, 0.5, call) for sigma, call in ((3.0, 1), (1.0, 2), (1.0, 3), (1.0, 4))]
    assert [guided(each, skip_below=2.0) for each in at] == [True, True, False, True]
    seen = [guided(each, skip_below=2.0, skip_every=True) for each in at]
    assert seen == [True, False, False, False]


def test_a_call_that_is_not_guided_costs_one_branch():
    off = steer(refuses, ALONE, Guidance(scale=7.0, interval=(5.0, 9.0)))
    x = latent(1, 2, 3, 3)
    assert torch.equal(off(x, AT), 3 * x)
    assert steer(refuses, ALONE, Guidance(scale=1.0)) is ALONE


def test_rescaling_brings_back_the_spread_of_the_prompt():
    x, cond, uncond = latent(3, 2, 4, 5, 5)
    both = lambda x, at: (cond, uncond)
    still = x / (1 + AT.sigma**2)
    plain, whole, half = (
        steer(both, refuses, Guidance(scale=9.0, rescale=share))(x, AT) - still
        for share in (0.0, 1.0, 0.5)
    )
    spread = lambda v: v.std(dim=(1, 2, 3))
    assert torch.allclose(spread(whole), spread(cond - still))
    assert torch.allclose(half, (plain + whole) / 2)


def test_rescaling_does_not_depend_on_the_batch_and_survives_an_empty_estimate():
    x, cond, uncond = latent(3, 2, 4, 5, 5)
    wanted = Guidance(scale=9.0, rescale=0.7)
    batch = steer(lambda x, at: (cond, uncond), refuses, wanted)(x, AT)
    alone = steer(lambda x, at: (cond[1:], uncond[1:]), refuses, wanted)(x[1:], AT)
    assert torch.equal(batch[1:], alone)
    zero = torch.zeros(1, 4, 5, 5)
    assert steer(lambda x, at: (zero, zero), refuses, wanted)(zero, AT).isfinite().all()


# ---- composition --------------------------------------------------------------------------------


def test_every_part_pulls_with_its_weight_and_scale():
    x = latent(1, 2, 3, 3)
    parts = [(times(3.0), 1.0), (times(5.0), 0.5), (times(2.0), -0.25)]
    found = compose(parts, times(1.0), 7.0)(x, AT)
    assert torch.allclose(found, (1 + 7 * (1.0 * 2 + 0.5 * 4 - 0.25 * 1)) * x)


def test_one_part_of_weight_1_is_plain_guidance():
    x = latent(1, 2, 3, 3)
    found = compose([(times(3.0), 1.0)], times(1.0), 7.0)(x, AT)
    assert torch.allclose(found, steer(BOTH, ALONE, Guidance(scale=7.0))(x, AT))


@pytest.mark.parametrize(
    ("weights", "scale"), [((1.0,), 1.0), ((0.5, 0.5), 1.0), ((0.1, 0.1), 5.0)]
)
def test_uncond_is_not_called_where_nothing_of_it_is_left(weights, scale):
    x = latent(1, 2, 3, 3)
    parts = [(times(3.0), weight) for weight in weights]
    assert torch.allclose(compose(parts, refuses, scale)(x, AT), 3 * x)


def test_at_scale_1_weights_that_do_not_add_up_still_count():
    x = latent(1, 2, 3, 3)
    parts = [(times(3.0), 1.0), (times(5.0), 0.5)]
    assert torch.allclose(compose(parts, times(1.0), 1.0)(x, AT), (1 + 2 + 2) * x)


def test_without_guidance_the_first_part_stands_for_uncond():
    x = latent(1, 2, 3, 3)
    parts = [(times(3.0), 1.0), (times(5.0), 0.5)]
    off = steer(composed(parts, refuses), together(parts), Guidance(scale=7.0, skip_early=0.9))
    assert torch.allclose(off(x, AT), (3 + 0.5 * 2) * x)


# ---- CFG++: two estimates through every wrapper ---------------------------------------------------

PAIRED = Guidance(scale=0.6, paired=True)


def paired(denoise):
    """What a wrapper makes of the two estimates at once, and of each by itself."""
    pair = steer(apart(times(3.0), times(1.0)), ALONE, PAIRED)
    at_once = denoise(pair)
    each = [denoise(times(1 + 0.6 * 2)), denoise(times(1.0))]
    return at_once, each


@pytest.mark.parametrize(
    "wrap",
    [
        lambda d: hold(d, torch.ones(2, 4, 9, 9).double(), latent(1, 1, 9, 9).sigmoid()),
        lambda d: hold(
            d, torch.ones(1, 4, 9, 9).double(), latent(1, 1, 9, 9).sigmoid(), latent(2, 4, 9, 9)
        ),
        lambda d: tiles(d, 4, 2),
        lambda d: windows(d, 2, 1),
        lambda d: stack(d, spread=lambda inner: tiles(inner, 5, 1), check=lambda estimate: None),
    ],
    ids=["hold", "hold with noise", "tiles", "windows", "stack"],
)
def test_wrappers_treat_both_estimates_alike(wrap):
    x = latent(2, 4, 9, 9)
    at_once, each = paired(wrap)
    found = at_once(x, AT)
    assert found.shape == (2, *x.shape)
    for one, alone in zip(found, each, strict=True):
        assert torch.allclose(one, alone(x, AT), atol=1e-14)


def test_both_branches_are_called_for_a_pair_even_at_scale_1():
    x = latent(1, 4, 3, 3)
    found = steer(BOTH, refuses, Guidance(scale=1.0, paired=True))(x, AT)
    assert torch.equal(found, torch.stack([3 * x, x]))


def test_a_pair_where_guidance_is_off_is_one_estimate():
    x = latent(1, 4, 3, 3)
    off = Guidance(scale=0.6, paired=True, interval=(0, 1.0))
    assert torch.equal(steer(refuses, ALONE, off)(x, AT), 3 * x)


def test_the_whole_run_is_the_interval_by_itself():
    assert Guidance(scale=2.0).acts(At(math.inf, 0.0))
    assert Guidance(scale=2.0).acts(At(0.0, 0.99, 7))


@pytest.mark.parametrize(("text", "image"), [(7.5, 1.5), (7.5, 1.0), (1.0, 1.5), (3.0, 0.0)])
def test_an_edit_model_is_guided_by_the_prompt_and_by_the_picture(text, image):
    """InstructPix2Pix, equation 3, with the branches 5x, 3x and 2x."""
    x = latent(1, 2, 3, 3)
    both = near(apart(times(5.0), times(3.0)), times(2.0), image)
    found = steer(both, lambda x, at: both(x, at)[0], Guidance(scale=text))(x, AT)
    assert torch.allclose(found, (2 + image * (3 - 2) + text * (5 - 3)) * x)

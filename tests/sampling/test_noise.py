"""Noise per image: independent of the batch, and Brownian paths that are paths."""

import math

import pytest
import torch

from darkroom.sampling import Seeds, Variation
from darkroom.sampling.brownian import BrownianPath
from darkroom.sampling.noise import centred, generator, turned

SPAN = (0.03, 14.6)
SOURCES = pytest.mark.parametrize("source", ["cpu", "nv"])


def path(seed, span=SPAN, shape=(4, 4, 4), source="cpu"):
    return BrownianPath(seed, span, lambda node: generator(node, source)(shape))


@SOURCES
def test_noise_of_an_image_does_not_depend_on_its_batch(source):
    batch = Seeds(values=(1, 2, 3), source=source).start(SPAN)
    alone = Seeds(values=(2,), source=source).start(SPAN)
    for _ in range(3):
        assert torch.equal(batch(torch.zeros(3, 4, 5, 5))[1], alone(torch.zeros(1, 4, 5, 5))[0])
    whole = batch.between(9.0, 3.5, torch.zeros(3, 4, 5, 5))
    assert torch.equal(whole[1], alone.between(9.0, 3.5, torch.zeros(1, 4, 5, 5))[0])


@SOURCES
def test_draws_are_fresh_and_starting_again_repeats_them(source):
    seeds = Seeds(values=(7,), source=source)
    noise, again = seeds.start(SPAN), seeds.start(SPAN)
    like = torch.zeros(1, 4, 8, 8)
    first, second = noise(like), noise(like)
    assert not torch.equal(first, second)
    assert torch.equal(again(like), first)


@SOURCES
def test_noise_is_unit_normal(source):
    draw = generator(3, source)((100_000,)).double()
    assert draw.mean().abs() < 0.02
    assert draw.std().item() == pytest.approx(1, abs=0.01)
    assert (draw**4).mean().item() == pytest.approx(3, abs=0.15)


@SOURCES
@pytest.mark.parametrize("seed", [0, -1, 2**32 - 1, 2**63 - 1, 2**64 - 1])
def test_any_64_bit_seed_works(source, seed):
    noise = Seeds(values=(seed,), source=source).start(SPAN)
    like = torch.zeros(1, 2, 2, 2)
    assert noise(like).isfinite().all()
    assert noise.between(5.0, 1.0, like).isfinite().all()


def test_noise_takes_dtype_and_shape_of_what_it_is_for():
    noise = Seeds(values=(1, 2)).start(SPAN)
    like = torch.zeros(2, 4, 3, 5, dtype=torch.bfloat16)
    assert noise(like).dtype == noise.between(4.0, 2.0, like).dtype == torch.bfloat16
    assert noise(like).shape == noise.between(4.0, 2.0, like).shape == like.shape


def test_a_batch_that_does_not_fit_the_seeds_is_refused():
    with pytest.raises(ValueError, match="2 seeds for a batch of 3"):
        Seeds(values=(1, 2)).start(SPAN)(torch.zeros(3, 4, 2, 2))


def test_brownian_numbers_are_those_of_torchsde():
    # torchsde.BrownianTree(0.03, zeros(2, 2), 14.6, entropy=1234)(low, high), version 0.2.6
    wanted = {
        (0.03, 14.6): [2.987498, -0.907325, -0.851193, -7.925332],
        (7.0, 14.6): [1.365023, -0.14219, 0.157244, -2.366881],
        (3.25, 7.0): [0.361778, 0.63631, -1.527289, -1.991973],
        (0.5, 0.75): [0.54614, 0.490123, -0.437135, -0.722146],
        (0.03, 0.04): [0.152952, -0.070426, 0.147325, 0.041118],
    }
    found = path(1234, shape=(2, 2))
    for (low, high), values in wanted.items():
        assert found.increment(low, high).flatten().tolist() == pytest.approx(values, abs=2e-5)


def test_a_brownian_path_does_not_depend_on_what_was_asked_before():
    times = [14.6, 7.0, 3.3, 0.4, 0.031, 0.03]
    once = [path(5).at(time) for time in times]
    walked = path(5)
    for time in [1.0, *times, *reversed(times)]:
        walked.at(time)
    assert all(torch.equal(walked.at(t), w) for t, w in zip(times, once, strict=True))


def test_brownian_increments_add_up():
    found = path(9)
    whole = found.increment(0.5, 12.0)
    assert torch.allclose(found.increment(0.5, 3.0) + found.increment(3.0, 12.0), whole, atol=1e-5)
    assert torch.equal(found.at(0.03), torch.zeros(4, 4, 4))


def test_brownian_increments_are_independent_and_have_the_variance_of_their_length():
    found = path(11, shape=(4, 64, 64))
    parts = [found.increment(a, b) / math.sqrt(b - a) for a, b in ((0.1, 0.2), (0.2, 3), (3, 14))]
    for part in parts:
        assert part.mean().abs() < 0.03
        assert part.std().item() == pytest.approx(1, abs=0.03)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (parts[one] * parts[other]).mean().abs() < 0.03


def test_times_outside_the_span_are_its_ends():
    found = path(1)
    assert torch.equal(found.at(20.0), found.at(14.6))
    assert torch.equal(found.at(0.0), found.at(0.03))


def test_levels_closer_than_the_path_resolves_give_finite_noise():
    noise = Seeds(values=(1,)).start(SPAN)
    assert noise.between(1.0000001, 1.0, torch.zeros(1, 2, 2, 2)).isfinite().all()


# ---- variation, resize, ENSD (A1111's numbers are in test_golden_samplers) ---------------------

LIKE = torch.zeros(2, 4, 8, 8)


def first(like=LIKE, **fields):
    return Seeds(**{"values": (1, 2), **fields}).start(SPAN).first(like)


def test_the_first_noise_is_the_first_draw():
    noise = Seeds(values=(1, 2)).start(SPAN)
    again = Seeds(values=(1, 2)).start(SPAN)
    assert torch.equal(noise.first(LIKE), again(LIKE))
    assert torch.equal(noise(LIKE), again(LIKE))


def test_the_gpu_source_on_the_cpu_is_the_cpu_source():
    assert torch.equal(first(source="gpu"), first(source="cpu"))


def test_a_variation_goes_from_one_noise_to_the_other():
    other = first(values=(7, 8))
    for strength, wanted in ((0.0, first()), (1.0, other)):
        found = first(variation=Variation(seeds=(7, 8), strength=strength))
        assert torch.allclose(found, wanted, atol=1e-6)
    half = first(variation=Variation(seeds=(7, 8), strength=0.5))
    assert half.std().item() == pytest.approx(1, abs=0.1)  # which a plain mean would not have
    assert (half * first()).mean() > 0.5
    assert (half * other).mean() > 0.5


def test_variation_resize_and_ensd_do_not_depend_on_the_batch():
    whole = {
        "variation": Variation(seeds=(7, 8), strength=0.3),
        "resize_from": (6, 10),
        "ensd": 31337,
    }
    part = {**whole, "variation": Variation(seeds=(8,), strength=0.3)}
    batch, alone = Seeds(values=(1, 2), **whole).start(SPAN), Seeds(values=(2,), **part).start(SPAN)
    assert torch.equal(batch.first(LIKE)[1], alone.first(LIKE[1:])[0])
    assert torch.equal(batch(LIKE)[1], alone(LIKE[1:])[0])


def test_variation_and_resize_leave_later_draws_alone():
    plain = Seeds(values=(1, 2)).start(SPAN)
    varied = Seeds(
        values=(1, 2), variation=Variation(seeds=(7, 8), strength=0.3), resize_from=(4, 4)
    ).start(SPAN)
    assert not torch.equal(plain.first(LIKE), varied.first(LIKE))
    assert torch.equal(plain(LIKE), varied(LIKE))


def test_ensd_moves_later_draws_and_neither_the_first_noise_nor_brownian_paths():
    plain, moved = (Seeds(values=(1, 2), ensd=ensd).start(SPAN) for ensd in (0, 31337))
    assert torch.equal(plain.first(LIKE), moved.first(LIKE))
    later = moved(LIKE)
    assert not torch.equal(plain(LIKE), later)
    assert torch.equal(later, first(values=(1 + 31337, 2 + 31337)))
    assert torch.equal(plain.between(9.0, 3.0, LIKE), moved.between(9.0, 3.0, LIKE))


@pytest.mark.parametrize("ensd", [-5, 2**64 - 1])
def test_any_ensd_works_with_any_seed(ensd):
    noise = Seeds(values=(0, 2**64 - 1), ensd=ensd).start(SPAN)
    assert noise.first(LIKE).isfinite().all()
    assert noise(LIKE).isfinite().all()


def test_resizing_keeps_the_middle_of_the_smaller_noise():
    small = first(torch.zeros(2, 4, 4, 6))
    found = first(resize_from=(4, 6))
    assert torch.equal(found[..., 2:6, 1:7], small)
    assert torch.equal(found[..., 0, :], first()[..., 0, :])


@pytest.mark.parametrize("size", [(3, 3), (4, 9), (9, 4), (11, 12), (8, 8), (1, 30)])
def test_what_is_pasted_is_centred_whatever_the_sizes(size):
    noise = torch.arange(1.0, 1 + 2 * math.prod(size)).reshape(2, *size)
    around = torch.zeros(2, 8, 8)
    found = centred(noise, around)
    kept = (found != 0).sum() // 2
    # A larger odd size loses a row on either side where one would do, as in A1111.
    inside = [s if s <= 8 else s + 2 * ((8 - s) // 2) for s in size]
    assert kept == math.prod(inside)


def test_a_column_of_one_pixel_is_turned_without_nan():
    one, other = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[3.0, 1.0]]])
    for strength in (0.0, 0.3, 1.0):
        assert turned(one, other, strength).isfinite().all()


def test_as_many_variation_seeds_as_seeds_are_needed():
    with pytest.raises(ValueError, match="variation seeds"):
        first(variation=Variation(seeds=(7,), strength=0.3))

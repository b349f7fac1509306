"""Noise levels: properties of every schedule, and the walks made from them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.core import sampler_table
from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler
from darkroom.sampling import SCHEDULES, NoiseTable, img2img_steps, levels, table_for
from darkroom.sampling.schedules import SPACINGS, timesteps

TABLE = NoiseTable.stable_diffusion()
OWN = find_scheduler(AUTOMATIC)
STEPS = st.integers(1, 200)
STRENGTH = st.floats(0, 1)


def falls(sigmas):
    return bool((sigmas.diff() < 0).all())


@given(name=st.sampled_from(sorted(SCHEDULES)), steps=STEPS)
@settings(deadline=None, max_examples=150)
def test_a_schedule_falls_from_the_highest_level_to_0(name, steps):
    sigmas = SCHEDULES[name](TABLE, steps)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float64
    assert sigmas.isfinite().all()
    assert falls(sigmas)
    assert sigmas[-1] == 0
    assert sigmas[0].item() == pytest.approx(TABLE.high, rel=1e-6)
    assert sigmas[-2].item() >= TABLE.low * (1 - 1e-6)


@given(name=st.sampled_from(sorted(SPACINGS)), steps=STEPS)
@settings(deadline=None, max_examples=60)
def test_a_timestep_spacing_falls_and_stops_above_0(name, steps):
    times = timesteps(TABLE, steps)
    assert len(times) >= steps
    for walked, whole in ((times, True), (times[: steps // 2 + 1], False)):
        sigmas = SPACINGS[name](TABLE, walked, whole)
        assert falls(sigmas)
        assert sigmas[-1] > 0
        assert sigmas[0].item() <= TABLE.high * (1 + 1e-6)


@given(spec=st.sampled_from(sampler_table.SAMPLERS), steps=STEPS, strength=STRENGTH)
@settings(deadline=None, max_examples=200)
def test_every_walk_is_a_tail_that_falls(spec, steps, strength):
    table = table_for(spec, TABLE)
    whole = levels(spec, OWN, table, steps)
    for exact in (False, True):
        if exact and steps / max(strength, 1e-9) > 1000:
            continue  # more steps than noise levels
        walk = levels(spec, OWN, table, steps, strength=strength, exact=exact)
        assert 1 <= len(walk.sigmas) <= max(len(whole.sigmas), steps + 1)
        assert falls(walk.sigmas)
        assert math.isfinite(walk.start)
        assert walk.span[0] <= walk.span[1]
        if not walk.preserving:
            assert walk.start == walk.sigmas[0]
            assert walk.sigmas[-1] == 0
        if not walk.preserving and not exact:
            assert torch.equal(walk.sigmas, whole.sigmas[-len(walk.sigmas) :])
            assert walk.span == whole.span


@given(steps=STEPS, strength=st.floats(0.05, 1))
def test_exact_leaves_the_steps_that_were_asked_for(steps, strength):
    planned, kept = img2img_steps(steps, strength, exact=True)
    assert kept + 1 == steps
    assert planned >= steps


def test_exact_at_strength_0_takes_no_step_and_changes_nothing():
    for name in ("Euler", "DDIM"):
        walk = levels(find_sampler(name)[0], OWN, TABLE, 20, strength=0.0, exact=True)
        assert walk.sigmas.tolist() == [0.0]
        assert walk.start == 0


def test_text_to_image_starts_at_the_highest_level_or_from_noise_alone():
    assert levels(find_sampler("Euler")[0], OWN, TABLE, 20).start == pytest.approx(TABLE.high)
    assert levels(find_sampler("DDIM")[0], OWN, TABLE, 20).start == math.inf


def test_samplers_with_a_spacing_of_their_own_ignore_the_scheduler():
    ddim, _ = find_sampler("DDIM")
    asked = levels(ddim, find_scheduler("Karras"), TABLE, 20)
    assert torch.equal(asked.sigmas, levels(ddim, OWN, TABLE, 20).sigmas)


def test_discard_penultimate_plans_one_step_more():
    from dataclasses import replace

    euler = replace(find_sampler("Euler")[0], discard_penultimate=True)
    longer = SCHEDULES["karras"](TABLE, 6)
    found = levels(euler, find_scheduler("Karras"), TABLE, 5)
    assert found.sigmas.tolist() == [*longer[:5].tolist(), 0.0]


def test_more_steps_than_noise_levels_repeat_levels_and_nothing_worse():
    for name in SCHEDULES:
        assert (SCHEDULES[name](TABLE, 3000).diff() <= 0).all()
    assert len(timesteps(TABLE, 3000)) == 999


def test_beta_spaces_by_quantiles():
    sigmas = SCHEDULES["beta"](TABLE, 3)
    assert sigmas[1].item() == pytest.approx((TABLE.low + TABLE.high) / 2)

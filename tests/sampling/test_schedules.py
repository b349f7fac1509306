"""Noise levels: properties of every schedule, and the walks made from them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.core import sampler_table
from darkroom.core.sampler_options import ScheduleOptions
from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler
from darkroom.sampling import SCHEDULES, NoiseTable, img2img_steps, levels, table_for
from darkroom.sampling.schedules import SPACINGS, timesteps

TABLE = NoiseTable.stable_diffusion()
OWN = find_scheduler(AUTOMATIC)
STEPS = st.integers(1, 200)
STRENGTH = st.floats(0, 1)


def falls(sigmas):
    return bool((sigmas.diff() < 0).all())


# The lists of others have ends of their own, and these two stop where they are meant to.
LISTED = {"align_your_steps", "align_your_steps_32", "gits"}
ABOVE_0, LONGER = {"kl_optimal"}, {"ddim_uniform"}
REPEATING = {"beta_times"}  # levels of the table, which samplers then take as one


@given(name=st.sampled_from(sorted(SCHEDULES)), steps=STEPS)
@settings(deadline=None, max_examples=250)
def test_a_schedule_falls_from_the_highest_level_to_0(name, steps):
    sigmas = SCHEDULES[name](TABLE, steps)
    if name in LONGER:
        assert len(sigmas) >= steps + 1
    else:
        assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float64
    assert sigmas.isfinite().all()
    assert falls(sigmas) or name in REPEATING
    assert bool((sigmas.diff() <= 0).all())
    assert bool(sigmas[-1] == 0) is (name not in ABOVE_0)
    if name in LISTED:
        assert sigmas[0].item() == pytest.approx(14.615)
        assert sigmas[-2].item() >= 0.015 * (1 - 1e-6)
    elif name not in LONGER:
        assert sigmas[0].item() == pytest.approx(TABLE.high, rel=1e-6)
        assert sigmas[-2].item() >= TABLE.low * (1 - 1e-6)


@given(
    name=st.sampled_from(sorted(SPACINGS)),
    steps=STEPS,
    skip=st.sampled_from([None, "time_uniform", "time_quadratic", "logSNR"]),
)
@settings(deadline=None, max_examples=60)
def test_a_timestep_spacing_falls_and_stops_above_0(name, steps, skip):
    options = ScheduleOptions(skip=skip)
    times = timesteps(TABLE, steps)
    assert len(times) >= steps
    for walked, whole in ((times, True), (times[: steps // 2 + 1], False)):
        sigmas = SPACINGS[name](TABLE, walked, whole, options)
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
        assert 1 <= len(walk.sigmas) <= max(len(whole.sigmas), steps + 3)
        planned = steps / max(min(strength, 0.999), 1e-9) if exact else steps
        crowded = spec.trained_levels is not None and planned > spec.trained_levels
        assert falls(walk.sigmas) or spec.walk == "restart" or crowded
        assert walk.steps is None or walk.steps <= max(whole.steps, steps)
        assert math.isfinite(walk.start)
        assert walk.span[0] <= walk.span[1]
        if not walk.preserving:
            assert walk.start == walk.sigmas[0]
            assert bool(walk.sigmas[-1] == 0) is (spec.walk in ("tail", "restart"))
        if spec.walk == "tail" and not walk.preserving and not exact:
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
    euler, karras = find_sampler("Euler")[0], find_scheduler("Karras")
    longer = SCHEDULES["karras"](TABLE, 6)
    asked = levels(euler, karras, TABLE, 5, options=ScheduleOptions(discard_penultimate=True))
    own = levels(find_sampler("DPM2")[0], karras, TABLE, 5)
    assert asked.sigmas.tolist() == own.sigmas.tolist() == [*longer[:5].tolist(), 0.0]


def test_more_steps_than_noise_levels_repeat_levels_and_nothing_worse():
    for name in SCHEDULES:
        assert (SCHEDULES[name](TABLE, 3000).diff() <= 0).all()
    assert len(timesteps(TABLE, 3000)) == 999


def test_beta_spaces_by_quantiles():
    sigmas = SCHEDULES["beta"](TABLE, 3)
    assert sigmas[1].item() == pytest.approx((TABLE.low + TABLE.high) / 2)


# ---- options ----------------------------------------------------------------------------------

ENDED = [row for row in sampler_table.SCHEDULERS if "sigma_min" in row.takes]


@pytest.mark.parametrize("row", ENDED, ids=lambda row: row.name)
def test_the_ends_that_are_asked_for_are_the_ends(row):
    sigmas = SCHEDULES[row.function](TABLE, 20, ScheduleOptions(sigma_min=0.1, sigma_max=10))
    positive = sigmas[sigmas > 0]
    assert positive[0].item() == pytest.approx(10, rel=1e-4)
    if row.name != "SGM Uniform":  # which leaves the lowest out
        assert positive[-1].item() == pytest.approx(0.1, rel=1e-4)
    assert falls(sigmas)


@pytest.mark.parametrize("row", sampler_table.SCHEDULERS[1:], ids=lambda row: row.name)
def test_an_option_has_an_effect_if_and_only_if_the_row_takes_it(row):
    values = {
        "sigma_min": 0.2, "sigma_max": 9.0, "rho": 3.0, "beta_alpha": 0.9, "beta_beta": 0.4,
        "family": "sdxl",
    }  # fmt: skip
    plain = SCHEDULES[row.function](TABLE, 12)
    for name, value in values.items():
        found = SCHEDULES[row.function](TABLE, 12, ScheduleOptions(**{name: value}))
        assert (not torch.equal(found, plain)) is (name in row.takes)


def test_the_rho_of_a_row_is_what_its_schedule_takes_by_itself():
    for row in sampler_table.SCHEDULERS:
        if row.rho is not None:
            schedule = SCHEDULES[row.function]
            assert torch.equal(schedule(TABLE, 9), schedule(TABLE, 9, ScheduleOptions(rho=row.rho)))


def test_lists_are_kept_at_their_own_length_and_stretched_in_the_logarithm():
    for name, steps in (("align_your_steps", 11), ("align_your_steps_32", 32), ("gits", 11)):
        for family in ("sd1", "sdxl", "svd"):
            options = ScheduleOptions(family=family)
            known = SCHEDULES[name](TABLE, 11 if family == "svd" else steps, options)[:-1]
            wider = SCHEDULES[name](TABLE, 2 * len(known) - 1, options)[:-1]
            assert torch.allclose(wider[::2], known, rtol=1e-6)
            assert torch.allclose(wider[1::2] ** 2, known[1:] * known[:-1], rtol=1e-5)
    svd = SCHEDULES["align_your_steps"](TABLE, 11, ScheduleOptions(family="svd"))
    assert (svd[0].item(), svd[-2].item()) == pytest.approx((700, 0.002))


def test_turbo_takes_the_last_level_of_each_part():
    assert [round(TABLE.time(s)) for s in SCHEDULES["turbo"](TABLE, 4)[:-1].tolist()] == [
        999, 749, 499, 249,
    ]  # fmt: skip


def test_unipc_can_space_its_steps_in_three_ways():
    unipc = find_sampler("UniPC")[0]
    found = {
        skip: levels(unipc, OWN, TABLE, 10, options=ScheduleOptions(skip=skip)).sigmas
        for skip in ("time_uniform", "time_quadratic", "logSNR")
    }
    times = [TABLE.time(s) + 1 for s in found["time_quadratic"].tolist()]
    roots = torch.tensor(times).sqrt().diff()
    assert torch.allclose(roots, roots.mean().expand_as(roots), rtol=1e-3)
    ratios = found["logSNR"].log().diff()
    assert torch.allclose(ratios, ratios.mean().expand_as(ratios))
    ends = {(round(s[0].item(), 4), round(s[-1].item(), 5)) for s in found.values()}
    assert ends == {(14.6146, 0.02917)}


def test_sgm_noise_starts_from_unit_variance():
    euler = find_sampler("Euler")[0]
    options = ScheduleOptions(sgm_noise=True)
    assert levels(euler, OWN, TABLE, 8, options=options).start == math.inf
    picture = levels(euler, OWN, TABLE, 8, strength=0.5, options=options)
    assert picture.start == picture.sigmas[0]


def test_dpm_solver_stops_where_the_cut_schedule_does():
    for name in ("DPM fast", "DPM adaptive"):
        spec = find_sampler(name)[0]
        whole = levels(spec, OWN, TABLE, 20).sigmas
        assert (whole[0].item(), whole[-1].item()) == pytest.approx((TABLE.high, TABLE.low))
        karras = find_scheduler("Karras")
        cut = levels(spec, karras, TABLE, 20, strength=0.5).sigmas
        wanted = SCHEDULES["karras"](TABLE, 20)[9:]
        assert (cut[0].item(), cut[-1].item()) == pytest.approx(
            (wanted[0].item(), wanted[-2].item())
        )

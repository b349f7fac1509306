"""Every sampler of the table against denoisers whose answers are known."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from darkroom.core import sampler_table
from darkroom.core.model import Prediction
from darkroom.core.sampler_options import SamplerOptions
from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler
from darkroom.sampling import (
    SAMPLERS,
    Course,
    NoiseTable,
    Seeds,
    levels,
    predict,
    sample,
    sampler_for,
    table_for,
)
from darkroom.sampling.samplers.dpm_solver import group_levels, group_orders
from sampling.closed_form import (
    STD,
    Traced,
    centred,
    centred_consistency,
    falling,
    gaussian,
    gaussian_path,
    last,
    mixture,
)

ROWS = sampler_table.SAMPLERS
EVERY = pytest.mark.parametrize("spec", ROWS, ids=lambda spec: spec.name)
# Rows that share a function with an earlier row differ in options only.
DISTINCT = [
    spec for i, spec in enumerate(ROWS) if spec.function not in {s.function for s in ROWS[:i]}
]
TABLE = NoiseTable.stable_diffusion()
EMPTY = torch.zeros(1, 1, 1, 1)
HIGH = 1000.0  # so high that what multistep samplers do at their start does not show in the order


def named(name):
    return find_sampler(name)[0]


def course(spec, steps, seeds=(1,), strength=None, source="cpu", **fields):
    table = table_for(spec, TABLE)
    walk = levels(spec, find_scheduler(AUTOMATIC), table, steps, strength=strength)
    return Course(
        sampler=sampler_for(spec),
        levels=walk,
        shape=(len(seeds), 4, 4, 4),
        seeds=Seeds(values=seeds, source=source),
        **fields,
    )


def toy(spec):
    """A network that no sampler is made for."""
    network = lambda x, t: 0.9 * x + 0.15 * torch.sin(3 * x + t.view(-1, 1, 1, 1) / 500)
    return predict(network, table_for(spec, TABLE), Prediction.EPS)


def start():
    return torch.linspace(-1.2 * HIGH, 1.2 * HIGH, 25, dtype=torch.float64).view(1, 1, 1, -1) + 13


def path_error(run, steps, exact):
    end = last(run(mixture, start(), falling(steps, HIGH), Traced())).x
    return (end - exact).abs().mean().item()


def variance(run, denoise, sigmas, begin):
    """The variance of the result, when the first latent has the standard deviation `begin`."""
    x = torch.zeros(1, 1, 1, 4 * len(sigmas), dtype=torch.float64)
    x[..., 0] = begin
    return last(run(denoise, x, sigmas, Traced())).x.square().sum().item()


def spread_error(run, steps):
    sigmas = falling(steps, HIGH)
    low = sigmas[-1].item()
    return abs(variance(run, centred, sigmas, math.hypot(STD, HIGH)) - STD**2 - low**2)


@pytest.fixture(scope="module")
def exact_path():
    fine = partial(SAMPLERS["unipc"], lower_order_final=False, variant="bh2", order=4)
    return last(fine(mixture, start(), falling(1200, HIGH), Traced())).x


ORDERED = [spec for spec in DISTINCT if spec.order is not None]
# As its order is declared: without the first-order step at the end; without noise, and with a
# number of calls that does not end in a step of first order.
PURE = {
    "unipc": partial(SAMPLERS["unipc"], lower_order_final=False),
    "dpm_fast": partial(SAMPLERS["dpm_fast"], eta=0.0),
}


@pytest.mark.parametrize("spec", ORDERED, ids=lambda spec: spec.name)
def test_the_measured_order_is_the_declared_one(spec, exact_path):
    run = PURE.get(spec.function, SAMPLERS[spec.function])
    if spec.stochastic and spec.walk != "fast":
        coarse, fine = spread_error(run, 149), spread_error(run, 299)
    else:
        coarse, fine = (path_error(run, steps, exact_path) for steps in (149, 299))
    assert math.log2(coarse / fine) == pytest.approx(spec.order, abs=0.2)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("dpmpp_2s_ancestral", 2),
        ("dpm_2_ancestral", 2),
        ("dpmpp_sde", 2),
        ("dpmpp_2m_sde", 2),
        ("dpmpp_2m_sde_heun", 2),
        ("dpmpp_3m_sde", 2),
        ("sa_solver", 4),
        ("seeds_2", 2),
        ("seeds_3", 3),
        ("euler_ancestral", 1),
    ],
)
def test_without_their_noise_stochastic_samplers_follow_the_path(name, order, exact_path):
    run = partial(SAMPLERS[name], eta=0.0)
    coarse, fine = (path_error(run, steps, exact_path) for steps in (150, 300))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


def test_unipc_with_its_last_step_in_first_order_is_still_of_second_order(exact_path):
    error = [path_error(SAMPLERS["unipc"], steps, exact_path) for steps in (300, 600)]
    assert math.log2(error[0] / error[1]) == pytest.approx(2, abs=0.15)


def test_the_varying_coefficients_of_unipc_are_those_that_were_released(exact_path):
    # Of first order: the released corrector weighs the newest difference by one power only.
    run = partial(SAMPLERS["unipc"], variant="vary_coeff", lower_order_final=False)
    error = [path_error(run, steps, exact_path) for steps in (300, 600)]
    assert math.log2(error[0] / error[1]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_an_order_that_is_asked_for_is_reached(order, exact_path):
    wanted = {"deis": min(order, 4), "unipc": order + 1}
    for name, expected in wanted.items():
        options = {"lower_order_final": False, "variant": "bh2"} if name == "unipc" else {}
        run = partial(SAMPLERS[name], order=order, **options)
        error = [path_error(run, steps, exact_path) for steps in (150, 300)]
        assert math.log2(error[0] / error[1]) == pytest.approx(expected, abs=0.35)


@EVERY
def test_the_result_has_the_right_distribution(spec):
    if spec.name == "TCD":
        pytest.skip("its model estimates another thing than the end of the path")
    walk = levels(spec, find_scheduler(AUTOMATIC), table_for(spec, TABLE), 60)
    high, low = walk.sigmas[0].item(), walk.sigmas[-1].item()
    denoise = centred_consistency if spec.function == "lcm" else centred
    tight = None if walk.counted else SamplerOptions(rtol=1e-3, atol=1e-3)
    sigmas = walk.sigmas if walk.counted else falling(100, high, low)  # room for its draws
    found = variance(sampler_for(spec, tight), denoise, sigmas, math.hypot(STD, high))
    assert found == pytest.approx(STD**2 + low**2, rel=0.15 if spec.order == 1 else 0.04)


def calls_of(spec, count, to_zero):
    """How often the network is asked in `count` steps."""
    match spec.function:
        case "plms":
            return count + (count > 0)
        case "heunpp2":
            return sum(min(3, count - i) for i in range(count))
        case "dpm_fast":
            return count
    return spec.calls * count - (spec.calls - 1) * (count > 0) * to_zero


@EVERY
def test_every_number_of_steps_is_finite_and_takes_the_declared_calls(spec):
    for steps in (1, 2, 3, 4, 7, 20, 36):
        calls = []
        inner = toy(spec)

        def counted(x, at, inner=inner, calls=calls):
            calls.append(at)
            return inner(x, at)

        run = course(spec, steps)
        step = last(sample(counted, run, EMPTY))
        assert step.x.isfinite().all()
        progress = [at.progress for at in calls]
        assert progress == sorted(progress)
        assert all(0 <= share < 1 for share in progress)
        assert [at.call for at in calls] == list(range(len(calls)))
        if spec.walk == "adaptive":
            assert run.steps is None
            assert len(calls) % spec.calls == 0
            assert len(calls) >= spec.calls * step.count
        else:
            assert step.count == run.steps
            assert len(calls) == calls_of(spec, step.count, bool(run.levels.sigmas[-1] == 0))


@EVERY
@pytest.mark.parametrize("strength", [0.0, 0.05, 0.5, 1.0])
def test_image_to_image_works_at_every_strength(spec, strength):
    clean = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 20):
        steps_seen = list(
            sample(toy(spec), course(spec, steps, strength=strength, clean=clean), EMPTY)
        )
        assert steps_seen[-1].x.isfinite().all()
        assert steps_seen[-1].index == steps_seen[-1].count - 1
        assert [step.index for step in steps_seen[:-1]] == list(range(len(steps_seen) - 1))


@EVERY
def test_one_step_to_zero_is_the_estimate(spec):
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64) * 10
    step = last(SAMPLERS[spec.function](gaussian, x, torch.tensor([10.0, 0.0]), Traced()))
    estimate = gaussian(x, type("At", (), {"sigma": 10.0}))
    assert torch.allclose(step.x, estimate, atol=1e-12)
    assert (step.index, step.count) == (0, 1)


@pytest.mark.parametrize("spec", DISTINCT, ids=lambda spec: spec.name)
@pytest.mark.parametrize("source", ["cpu", "nv"])
def test_a_batch_has_the_bits_of_its_singles(spec, source):
    if spec.alone:
        pytest.skip("it says that it wants one picture at a time")
    seeds = (5, 2**40 + 1, 7)
    batch = last(sample(toy(spec), course(spec, 6, seeds, source=source), EMPTY)).x
    for row, seed in zip(batch, seeds, strict=True):
        alone = last(sample(toy(spec), course(spec, 6, (seed,), source=source), EMPTY)).x
        assert torch.equal(row, alone[0])


@EVERY
def test_a_course_gives_the_same_bits_twice(spec):
    run = course(spec, 5, (3, 4))
    first, second = (last(sample(toy(spec), run, EMPTY)).x for _ in range(2))
    assert torch.equal(first, second)


@EVERY
@pytest.mark.parametrize("strength", [None, 0.0, 0.4, 1.0])
def test_what_is_held_keeps_its_bits(spec, strength):
    clean = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1
    run = course(spec, 7, (1, 2), strength, clean=clean, mask=mask)
    step = last(sample(toy(spec), run, EMPTY))
    assert torch.equal(step.x[..., :2], clean[..., :2])
    assert not torch.equal(step.x[..., 2:], clean[..., 2:])


@EVERY
def test_half_precision_latents_stay_in_half_precision(spec):
    step = last(sample(toy(spec), course(spec, 4), EMPTY.half()))
    assert step.x.dtype == torch.half


@EVERY
def test_check_stops_within_one_network_call(spec):
    calls = []

    def check(estimate):
        if len(calls) == 3:
            raise KeyboardInterrupt

    counted = lambda x, at: calls.append(at) or x * 0
    with pytest.raises(KeyboardInterrupt):
        last(sample(counted, course(spec, 24, check=check), EMPTY))
    assert len(calls) == 3


def test_deterministic_samplers_follow_the_exact_path():
    x = torch.tensor([[[[3.0, -8.0, 14.0]]]], dtype=torch.float64)
    for spec in DISTINCT:
        if not spec.stochastic:
            end = last(SAMPLERS[spec.function](gaussian, x, falling(200), Traced())).x
            assert torch.allclose(end, gaussian_path(x, 10.0, 0.05), atol=0.01)


@EVERY
def test_equal_levels_are_one(spec):
    sigmas = torch.tensor([5.0, 5.0, 1.0, 1.0, 0.0])
    x = torch.ones(1, 1, 1, 8, dtype=torch.float64)
    step = last(SAMPLERS[spec.function](gaussian, x, sigmas, Traced()))
    assert step.count == 2 or spec.walk == "adaptive"
    assert step.x.isfinite().all()


def test_samplers_without_noise_draw_none():
    for spec in ROWS:
        noise = Traced()
        steps = 40 if spec.walk == "restart" else 5
        walk = course(spec, steps).levels.sigmas if spec.walk == "restart" else falling(5)
        last(SAMPLERS[spec.function](gaussian, torch.ones(1, 1, 1, 20), walk, noise))
        assert bool(noise.draws) is spec.stochastic


ETA = [spec for spec in DISTINCT if "eta" in spec.takes]


@pytest.mark.parametrize("spec", ETA, ids=lambda spec: spec.name)
def test_eta_0_draws_nothing_and_eta_1_does(spec):
    sigmas = torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5])
    for eta in (0.0, 1.0):
        noise = Traced()
        run = sampler_for(spec, SamplerOptions(eta=eta))
        last(run(gaussian, torch.ones(1, 1, 1, 60), sigmas, noise))
        assert bool(noise.draws) is (eta > 0)


# ---- options ----------------------------------------------------------------------------------

SCALED = [spec for spec in DISTINCT if "s_noise" in spec.takes and "s_churn" not in spec.takes]


@pytest.mark.parametrize("spec", SCALED, ids=lambda spec: spec.name)
def test_s_noise_scales_what_is_drawn(spec):
    walk = course(spec, 40).levels.sigmas[:-1] if spec.walk == "restart" else falling(6)
    still = lambda x, at: x * 0
    x = torch.zeros(1, 1, 1, 60, dtype=torch.float64)
    plain, twice, none = (
        last(sampler_for(spec, SamplerOptions(s_noise=s))(still, x, walk, Traced())).x
        for s in (None, 2.0, 0.0)
    )
    assert plain.abs().max() > 0
    assert torch.allclose(twice, 2 * plain, atol=1e-14)
    assert torch.equal(none, x)


@pytest.mark.parametrize("name", ["Euler", "Heun", "DPM2", "HeunPP2"])
def test_churn_adds_noise_between_its_limits_and_keeps_the_distribution(name):
    run = sampler_for(named(name), SamplerOptions(s_churn=30.0, s_tmin=0.3, s_tmax=5.0))
    sigmas = falling(150)
    found = variance(run, centred, sigmas, math.hypot(STD, 10.0))
    assert found == pytest.approx(STD**2 + 0.05**2, rel=0.06 if named(name).order == 2 else 0.12)
    seen = []
    counted = lambda x, at: seen.append(at.sigma) or gaussian(x, at)
    noise = Traced()
    last(run(counted, torch.ones(1, 1, 1, 200), sigmas, noise))
    raised = [sigma for sigma in seen if min(abs(sigma / s - 1) for s in sigmas.tolist()) > 1e-9]
    assert raised
    assert all(0.3 <= sigma <= 5.0 * math.sqrt(2) for sigma in raised) or name == "DPM2"
    assert noise.draws == 150  # one per step, so that the limits do not shift the draws


def test_churn_is_limited_and_an_end_of_0_is_none():
    seen = []
    counted = lambda x, at: seen.append(at.sigma) or x * 0
    run = sampler_for(named("Euler"), SamplerOptions(s_churn=1e5, s_tmax=0))
    last(run(counted, torch.ones(1, 1, 1, 9), torch.tensor([4.0, 1.0, 0.0]), Traced()))
    assert seen == pytest.approx([4 * math.sqrt(2), math.sqrt(2)])


def test_options_that_a_sampler_does_not_take_change_nothing():
    x = torch.ones(1, 1, 1, 9, dtype=torch.float64)
    for name in ("LMS", "DPM++ 2M", "LCM"):
        spec = named(name)
        plain, asked = (
            last(sampler_for(spec, options)(gaussian, x, falling(5), Traced())).x
            for options in (None, SamplerOptions(eta=0.3, s_churn=5, order=1, rtol=0.1))
        )
        assert torch.equal(plain, asked)


# ---- samplers with a walk of their own ---------------------------------------------------------


def test_dpm_fast_spends_its_calls_in_groups():
    assert [group_orders(n) for n in range(1, 8)] == [
        [1], [2], [2, 1], [3, 1], [3, 2], [3, 2, 1], [3, 3, 1],
    ]  # fmt: skip
    for calls in range(1, 60):
        found = group_levels(14.6, 0.03, calls)
        assert sum(group_orders(calls)) == calls == len(found) - 1
        assert found[0] == 14.6
        assert found[-1] == 0.03
        assert all(a > b for a, b in pairwise(found))


def adaptive(options, denoise=mixture):
    x = torch.linspace(-12, 12, 25, dtype=torch.float64).view(1, 1, 1, -1) + 0.13
    return list(sampler_for(named("DPM adaptive"), options)(denoise, x, falling(1), Traced()))


def test_dpm_adaptive_gets_as_near_as_it_is_told_and_takes_more_steps_for_it():
    x = torch.linspace(-12, 12, 25, dtype=torch.float64).view(1, 1, 1, -1) + 0.13
    fine = partial(SAMPLERS["unipc"], lower_order_final=False)
    exact = last(fine(mixture, x, falling(800), Traced())).x
    found = []
    for tolerance in (0.05, 0.005, 0.0005):
        steps = adaptive(SamplerOptions(eta=0, rtol=tolerance, atol=tolerance))
        found.append((len(steps), (steps[-1].x - exact).abs().max().item()))
    counts, errors = zip(*found, strict=True)
    assert counts[0] < counts[1] < counts[2]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2e-3


def test_dpm_adaptive_says_how_many_steps_it_expects_and_is_right_at_the_end():
    for eta in (0.0, 1.0):
        steps = adaptive(SamplerOptions(eta=eta), gaussian)
        assert [step.index for step in steps] == list(range(len(steps)))
        assert all(step.count > step.index + 1 for step in steps[:-1])
        assert steps[-1].count == len(steps)
        assert steps[-1].sigma_next == pytest.approx(0.05)


def test_dpm_adaptive_ends_where_rounding_or_nonsense_hides_the_error():
    noisy = torch.Generator().manual_seed(0)
    rough = lambda x, at: torch.randn(x.shape, generator=noisy, dtype=x.dtype)
    assert len(adaptive(SamplerOptions(eta=0, rtol=1e-6, atol=1e-6), rough)) < 2000
    assert len(adaptive(None, lambda x, at: x * math.nan)) < 1000


def test_restart_walks_again_within_the_steps_that_were_asked():
    spec = named("Restart")
    for steps, rises in ((10, 0), (19, 0), (20, 1), (35, 1), (36, 2), (60, 2)):
        run = course(spec, steps)
        jumps = run.levels.sigmas.diff() > 0
        assert run.steps == steps
        assert int(jumps.sum()) == rises
        for index in jumps.nonzero().flatten().tolist():
            assert run.levels.sigmas[index].item() == pytest.approx(0.1, rel=0.5)
            assert run.levels.sigmas[index + 1].item() == pytest.approx(2.0, rel=0.5)


def test_a_course_tells_the_steps_that_it_takes():
    taken = {
        "DDIM": 19,
        "PLMS": 19,
        "UniPC": 20,
        "DPM fast": 20,
        "Restart": 20,
        "DPM adaptive": None,
    }
    for name, steps in taken.items():
        assert course(named(name), 20).steps == steps


# ---- distilled models ---------------------------------------------------------------------------


def test_tcd_goes_to_a_share_of_the_next_time_and_back_up():
    sigmas = torch.tensor([14.6, 2.0, 0.0])
    still = lambda x, at: x * 0
    x = torch.zeros(1, 1, 1, 8, dtype=torch.float64)
    x[..., 0] = 14.6
    step = next(SAMPLERS["tcd"](still, x, sigmas, Traced(), eta=0.3))
    down = TABLE.level(torch.tensor([0.7 * TABLE.time(2.0)])).item()
    assert step.x[..., 0].item() == pytest.approx(down, rel=1e-6)
    assert step.x.square().sum().item() == pytest.approx(4.0)
    plain = [
        last(SAMPLERS[name](gaussian, x, sigmas, Traced(), **options)).x
        for name, options in (("tcd", {"eta": 0.0}), ("euler", {}))
    ]
    assert torch.equal(*plain)


def test_tcd_starts_where_its_models_were_trained():
    walk = course(named("TCD"), 4).levels.sigmas
    assert [round(TABLE.time(s)) for s in walk[:-1].tolist()] == [999, 759, 499, 259]


# ---- CFG++ -----------------------------------------------------------------------------------------

PAIRED = [spec for spec in ROWS if spec.paired]


def pair(x, at):
    """A guided estimate, and one without the prompt."""
    return torch.stack([gaussian(x, at), centred(x, at)])


@pytest.mark.parametrize("spec", PAIRED, ids=lambda spec: spec.name)
def test_two_estimates_that_agree_are_as_one(spec):
    x = torch.randn(1, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    twice = lambda x, at: torch.stack([gaussian(x, at)] * 2)
    one, two = (
        last(sampler_for(spec)(denoise, 10 * x, falling(9), Seeds(values=(3,)).start((0.05, 10)))).x
        for denoise in (gaussian, twice)
    )
    assert torch.allclose(one, two, atol=1e-12)


def test_cfg_plus_plus_measures_noise_from_the_estimate_without_the_prompt():
    x = torch.full((1, 1, 1, 8), 9.0, dtype=torch.float64)
    at = type("At", (), {"sigma": 10.0})
    guided, plain = pair(x, at)
    sigmas = torch.tensor([10.0, 4.0, 1.0])
    wanted = guided + (x - plain) * 0.4
    for name in ("Euler CFG++", "DDIM CFG++", "DPM++ 2M CFG++", "Res Multistep CFG++"):
        found = next(sampler_for(named(name))(pair, x, sigmas, Traced())).x
        assert torch.allclose(found, wanted, atol=1e-12)
    # k-diffusion's ancestral step: the noise that is kept is that of the lower level
    down = math.sqrt(4.0**2 - 4.0**2 * (10.0**2 - 4.0**2) / 10.0**2)
    found = next(sampler_for(named("Euler a CFG++"))(pair, x, sigmas, Traced())).x
    assert torch.allclose(found[..., 2:], (guided + (x - plain) * down / 10.0)[..., 2:], atol=1e-12)


def test_two_steps_of_dpmpp_2m_cfg_plus_plus_look_back_on_the_plain_estimate():
    x = torch.full((1, 1, 1, 4), 9.0, dtype=torch.float64)
    sigmas = torch.tensor([10.0, 4.0, 1.6], dtype=torch.float64)
    steps = sampler_for(named("DPM++ 2M CFG++"))(pair, x, sigmas, Traced())
    first, second = next(steps).x, next(steps).x
    old = pair(x, type("At", (), {"sigma": 10.0}))[1]
    guided, plain = pair(first, type("At", (), {"sigma": 4.0}))
    bend = 0.5 * (plain - old)  # both steps are of one length in the logarithm
    wanted = guided + 0.4 * (first - plain) + 0.6 * bend
    assert torch.allclose(second, wanted, atol=1e-12)

"""Every sampler of the table against denoisers whose answers are known."""

import math
from functools import partial

import pytest
import torch

from darkroom.core import sampler_table
from darkroom.core.model import Prediction
from darkroom.core.sampler_table import AUTOMATIC, find_scheduler
from darkroom.sampling import (
    SAMPLERS,
    Course,
    NoiseTable,
    Seeds,
    levels,
    predict,
    sample,
    table_for,
)
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

EVERY = pytest.mark.parametrize("spec", sampler_table.SAMPLERS, ids=lambda spec: spec.name)
TABLE = NoiseTable.stable_diffusion()
EMPTY = torch.zeros(1, 1, 1, 1)


def function(spec):
    """The sampler as its order is declared: UniPC without the first-order step at the end."""
    run = SAMPLERS[spec.function]
    return partial(run, lower_order_final=False) if spec.function == "unipc" else run


def course(spec, steps, seeds=(1,), strength=None, source="cpu", **fields):
    table = table_for(spec, TABLE)
    walk = levels(spec, find_scheduler(AUTOMATIC), table, steps, strength=strength)
    return Course(
        sampler=SAMPLERS[spec.function],
        levels=walk,
        shape=(len(seeds), 4, 4, 4),
        seeds=Seeds(values=seeds, source=source),
        **fields,
    )


def toy(spec):
    """A network that no sampler is made for."""
    network = lambda x, t: 0.9 * x + 0.15 * torch.sin(3 * x + t.view(-1, 1, 1, 1) / 500)
    return predict(network, table_for(spec, TABLE), Prediction.EPS)


def path_error(spec, steps, exact):
    x = torch.linspace(-12, 12, 25, dtype=torch.float64).view(1, 1, 1, -1) + 0.13
    return (last(function(spec)(mixture, x, falling(steps), Traced())).x - exact).abs().mean()


def variance(run, denoise, sigmas, start):
    """The variance of the result, when the first latent has the standard deviation `start`."""
    x = torch.zeros(1, 1, 1, 2 * len(sigmas), dtype=torch.float64)
    x[..., 0] = start
    return last(run(denoise, x, sigmas, Traced())).x.square().sum().item()


def spread_error(spec, steps):
    sigmas = falling(steps)
    high, low = sigmas[0].item(), sigmas[-1].item()
    found = variance(function(spec), centred, sigmas, math.hypot(STD, high))
    return abs(found - STD**2 - low**2)


@pytest.fixture(scope="module")
def exact_path():
    x = torch.linspace(-12, 12, 25, dtype=torch.float64).view(1, 1, 1, -1) + 0.13
    fine = partial(SAMPLERS["unipc"], lower_order_final=False)
    return last(fine(mixture, x, falling(1500), Traced())).x


ORDERED = [spec for spec in sampler_table.SAMPLERS if spec.order is not None]


@pytest.mark.parametrize("spec", ORDERED, ids=lambda spec: spec.name)
def test_the_measured_order_is_the_declared_one(spec, exact_path):
    if spec.stochastic:
        coarse, fine = spread_error(spec, 100), spread_error(spec, 200)
    else:
        coarse, fine = path_error(spec, 200, exact_path), path_error(spec, 400, exact_path)
    assert math.log2(coarse / fine) == pytest.approx(spec.order, abs=0.15)


def test_unipc_with_its_last_step_in_first_order_is_still_of_second_order(exact_path):
    x = torch.linspace(-12, 12, 25, dtype=torch.float64).view(1, 1, 1, -1) + 0.13
    error = [
        (last(SAMPLERS["unipc"](mixture, x, falling(steps), Traced())).x - exact_path).abs().mean()
        for steps in (160, 320)
    ]
    assert math.log2(error[0] / error[1]) == pytest.approx(2, abs=0.15)


@EVERY
def test_the_result_has_the_right_distribution(spec):
    walk = levels(spec, find_scheduler(AUTOMATIC), table_for(spec, TABLE), 60)
    high, low = walk.sigmas[0].item(), walk.sigmas[-1].item()
    denoise = centred_consistency if spec.function == "lcm" else centred
    found = variance(SAMPLERS[spec.function], denoise, walk.sigmas, math.hypot(STD, high))
    assert found == pytest.approx(STD**2 + low**2, rel=0.15 if spec.order == 1 else 0.03)


@EVERY
def test_every_number_of_steps_is_finite_and_takes_the_declared_calls(spec):
    for steps in (1, 2, 3, 4, 5, 7, 11, 30, 75, 150):
        calls = []
        inner = toy(spec)

        def counted(x, at, inner=inner, calls=calls):
            calls.append(at.progress)
            return inner(x, at)

        run = course(spec, steps)
        step = last(sample(counted, run, EMPTY))
        assert step.x.isfinite().all()
        assert step.count == len(run.levels.sigmas) - 1
        ends_in_zero = run.levels.sigmas[-1] == 0
        spared = (spec.calls - 1) * (step.count > 0) * bool(ends_in_zero)
        assert len(calls) == spec.calls * step.count - spared
        assert calls == sorted(calls)
        assert all(0 <= progress < 1 for progress in calls)


@EVERY
def test_one_step_to_zero_is_the_estimate(spec):
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64) * 10
    step = last(SAMPLERS[spec.function](gaussian, x, torch.tensor([10.0, 0.0]), Traced()))
    estimate = gaussian(x, type("At", (), {"sigma": 10.0}))
    assert torch.allclose(step.x, estimate, atol=1e-12)


@EVERY
@pytest.mark.parametrize("source", ["cpu", "nv"])
def test_a_batch_has_the_bits_of_its_singles(spec, source):
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


def test_deterministic_samplers_follow_the_exact_path():
    x = torch.tensor([[[[3.0, -8.0, 14.0]]]], dtype=torch.float64)
    for spec in sampler_table.SAMPLERS:
        if not spec.stochastic:
            end = last(SAMPLERS[spec.function](gaussian, x, falling(200), Traced())).x
            assert torch.allclose(end, gaussian_path(x, 10.0, 0.05), atol=0.01)


@EVERY
def test_equal_levels_are_one(spec):
    sigmas = torch.tensor([5.0, 5.0, 1.0, 1.0, 0.0])
    x = torch.ones(1, 1, 1, 8, dtype=torch.float64)
    step = last(SAMPLERS[spec.function](gaussian, x, sigmas, Traced()))
    assert step.count == 2
    assert step.x.isfinite().all()


def test_samplers_without_noise_draw_none():
    for spec in sampler_table.SAMPLERS:
        noise = Traced()
        last(SAMPLERS[spec.function](gaussian, torch.ones(1, 1, 1, 20), falling(5), noise))
        assert bool(noise.draws) is spec.stochastic


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde", "ddim"])
def test_eta_0_draws_nothing_and_eta_1_does(name):
    for eta, draws in ((0.0, 0), (1.0, 4)):
        noise = Traced()
        sigmas = torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5])
        last(SAMPLERS[name](gaussian, torch.ones(1, 1, 1, 9), sigmas, noise, eta=eta))
        assert noise.draws == draws

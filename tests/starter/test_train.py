"""The learning rate, and the noise levels that are learned from."""

from types import SimpleNamespace

import pytest
import torch

from starter.train import Run, alphas_bar


def run(*, seen=0, step=10_000, seconds=0.0, train_seconds=0):
    recipe = SimpleNamespace(warmup=300, train_seconds=train_seconds, first_batch=16, batch=32)
    made = Run.__new__(Run)
    made.recipe, made.seen, made.step, made.seconds = recipe, seen, step, seconds
    made.plan, made.warm_from, made.where = {"samples": 1000, "rate": 1.0}, 0, torch.device("cpu")
    return made


@pytest.mark.parametrize(
    ("seen", "rate"), [(0, 1.0), (600, 1.0), (800, 0.52), (1000, 0.04), (5000, 0.04)]
)
def test_the_rate_is_level_and_then_falls_to_a_floor(seen, rate):
    assert run(seen=seen).rate() == pytest.approx(rate)


def test_the_first_steps_warm_up_and_so_does_a_new_optimizer():
    assert run(step=149).rate() == pytest.approx(0.5)
    carried = run(step=1149)
    carried.warm_from = 1000
    assert carried.rate() == pytest.approx(0.5)


def test_a_run_by_time_ends_with_its_time():
    assert run(seconds=600.0, train_seconds=600).share() == 1
    assert run(seconds=150.0, train_seconds=600).batch_size() == 16


def test_strong_noise_is_learned_twice_as_often():
    torch.manual_seed(0)
    times = run().draw_times(40_000)
    weak = (times < 200).float().mean().item()
    assert weak == pytest.approx(0.1, abs=0.01)
    assert times.min() >= 0 and times.max() == 999


def test_the_noise_schedule_is_stable_diffusions():
    bar = alphas_bar()
    assert bar[0].item() == pytest.approx(1 - 0.00085)
    assert ((1 - bar[-1]) / bar[-1]).sqrt().item() == pytest.approx(14.6146, abs=1e-3)

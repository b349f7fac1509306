"""Options: what is out of range is refused, and what would do nothing is said."""

import dataclasses

import pytest

from darkroom.core.errors import BadRequest
from darkroom.core.sampler_options import SamplerOptions, ScheduleOptions, given, notes
from darkroom.core.sampler_table import (
    AUTOMATIC,
    SAMPLERS,
    SCHEDULERS,
    find_sampler,
    find_scheduler,
)


def told(sampler, scheduler=AUTOMATIC, steps=30, options=None, spacing=None):
    return notes(
        find_sampler(sampler)[0],
        find_scheduler(scheduler),
        steps=steps,
        options=options,
        spacing=spacing,
    )


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (SamplerOptions, {"eta": -0.1}),
        (SamplerOptions, {"eta": float("nan")}),
        (SamplerOptions, {"s_churn": float("inf")}),
        (SamplerOptions, {"order": 0}),
        (SamplerOptions, {"rtol": 0.0}),
        (ScheduleOptions, {"rho": 0.0}),
        (ScheduleOptions, {"sigma_min": -1.0}),
        (ScheduleOptions, {"sigma_min": 3.0, "sigma_max": 3.0}),
        (ScheduleOptions, {"beta_alpha": 0.0}),
    ],
)
def test_values_that_cannot_work_are_refused_with_a_cure(kind, values):
    with pytest.raises(BadRequest) as caught:
        kind(**values)
    assert next(iter(values)) in str(caught.value)
    assert caught.value.hint


def test_an_open_end_of_churn_is_no_error():
    assert given(SamplerOptions(s_tmax=float("inf"))) == {"s_tmax": float("inf")}


def test_nothing_asked_is_nothing_said():
    for row in SAMPLERS:
        assert given(SamplerOptions()) == {}
        assert [
            n for n in notes(row, find_scheduler(AUTOMATIC), steps=30) if "steps" not in n
        ] == []


def test_what_other_programs_send_along_is_not_worth_a_word():
    usual = SamplerOptions(s_churn=0.0, s_tmin=0.0, s_tmax=0.0, s_noise=1.0)
    assert told("DPM++ 2M", options=usual, spacing=ScheduleOptions(sgm_noise=False)) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sampler": "Euler", "options": SamplerOptions(eta=0.5)}, "Euler has no eta"),
        ({"sampler": "Euler", "options": SamplerOptions(s_noise=1.1)}, "without s_churn"),
        (
            {"sampler": "DPM++ 2M", "options": SamplerOptions(s_churn=3.0)},
            "DPM++ 2M has no s_churn",
        ),
        ({"sampler": "DDIM", "scheduler": "Karras"}, "the scheduler Karras has no effect"),
        ({"sampler": "DPM fast", "scheduler": "Karras"}, "the scheduler Karras has no effect"),
        ({"sampler": "DDIM", "steps": 1}, "needs 2 steps or more"),
        ({"sampler": "DPM adaptive"}, "its own number of steps"),
        ({"sampler": "Restart", "steps": 12}, "restarts from 20 steps on"),
        ({"sampler": "Euler", "spacing": ScheduleOptions(rho=5.0)}, "scheduler Uniform has no rho"),
        ({"sampler": "DDIM", "spacing": ScheduleOptions(rho=5.0)}, "DDIM has no rho"),
        ({"sampler": "Euler", "spacing": ScheduleOptions(skip="logSNR")}, "has no skip"),
    ],
)
def test_what_has_no_effect_is_said(arguments, words):
    assert any(words in note for note in told(**arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampler": "Euler", "options": SamplerOptions(s_churn=5.0, s_noise=1.1)},
        {"sampler": "Euler a", "options": SamplerOptions(eta=0.5, s_noise=1.1)},
        {"sampler": "DPM++ 2M", "spacing": ScheduleOptions(rho=5.0, sigma_min=0.1)},
        {"sampler": "UniPC", "spacing": ScheduleOptions(skip="logSNR")},
        {"sampler": "Euler", "spacing": ScheduleOptions(discard_penultimate=True, sgm_noise=True)},
        {"sampler": "Euler", "scheduler": "Beta", "spacing": ScheduleOptions(beta_alpha=0.7)},
        {"sampler": "Restart", "steps": 20},
    ],
)
def test_what_has_an_effect_is_not(arguments):
    assert told(**arguments) == []


def test_rows_only_take_options_that_exist():
    known = {field.name for field in dataclasses.fields(SamplerOptions)}
    spacing = {field.name for field in dataclasses.fields(ScheduleOptions)}
    assert all(set(row.takes) <= known and set(row.schedule_takes) <= spacing for row in SAMPLERS)
    assert all(set(row.takes) <= spacing for row in SCHEDULERS)
    assert {name for row in SAMPLERS for name in row.takes} == known

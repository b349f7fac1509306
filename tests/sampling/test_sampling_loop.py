"""The one loop: where runs start, what they yield, and how they end."""

import math
from dataclasses import replace

import pytest
import torch

import darkroom.sampling
from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler
from darkroom.sampling import SAMPLERS, Course, NoiseTable, Seeds, levels, sample, tiles
from sampling.closed_form import last

TABLE = NoiseTable.stable_diffusion()
EMPTY = torch.zeros(1, 1, 1, 1)


def course(name="Euler", steps=6, strength=None, exact=False, **fields):
    spec, _ = find_sampler(name)
    walk = levels(spec, find_scheduler(AUTOMATIC), TABLE, steps, strength=strength, exact=exact)
    run = Course(
        sampler=SAMPLERS[spec.function],
        levels=walk,
        shape=(1, 4, 8, 8),
        seeds=Seeds(values=(1,)),
    )
    return replace(run, **fields)


def nothing(x, at):
    return x * 0


def noise():
    return Seeds(values=(1,)).start((0.1, 1.0))(torch.zeros(1, 4, 8, 8))


def starts(run):
    """What the network sees first, and the noise level there."""
    seen = []
    last(sample(lambda x, at: seen.append((x, at)) or x * 0, run, EMPTY))
    return seen[0]


def test_text_to_image_starts_from_noise_at_the_highest_level():
    x, at = starts(course())
    assert at.progress == 0
    assert torch.equal(x, at.sigma * noise())
    x, at = starts(course("DDIM"))
    assert torch.allclose(x, math.hypot(1, at.sigma) * noise())


def test_image_to_image_starts_from_the_noised_picture():
    clean = torch.randn(1, 4, 8, 8)
    x, at = starts(course(strength=0.5, clean=clean))
    assert at.sigma < TABLE.high / 2
    assert torch.allclose(x, clean + at.sigma * noise())


def test_the_latent_of_nothing_need_not_be_0():
    empty = torch.full((1, 4, 1, 1), 0.5)
    seen = []
    last(sample(lambda x, at: seen.append((x, at)) or x, course(), empty))
    assert torch.allclose(seen[0][0], 0.5 + seen[0][1].sigma * noise())


def test_steps_count_up_and_end_at_the_last_level():
    steps = list(sample(nothing, course(steps=6), EMPTY))
    assert [step.index for step in steps] == list(range(6))
    assert {step.count for step in steps} == {6}
    assert steps[-1].sigma_next == 0


@pytest.mark.parametrize("name", ["Euler", "DDIM", "UniPC"])
def test_a_run_without_steps_still_yields_the_picture(name):
    clean = torch.randn(1, 4, 8, 8)
    run = course(name, strength=0.0, exact=True, clean=clean)
    (step,) = sample(nothing, run, EMPTY)
    assert (step.index, step.count) == (-1, 0)
    assert torch.equal(step.x, clean)


def test_ddim_in_one_step_is_its_noise_as_in_a1111():
    (step,) = sample(nothing, course("DDIM", steps=1), EMPTY)
    assert torch.allclose(step.x, noise(), atol=1e-6)


def test_leaving_the_loop_stops_the_network():
    calls = []
    for step in sample(lambda x, at: calls.append(at) or x * 0, course(steps=10), EMPTY):
        if step.index == 2:
            break
    assert len(calls) == 3


def test_check_stops_within_one_network_call():
    calls = []

    def check(estimate):
        if len(calls) == 2:
            raise KeyboardInterrupt

    run = course("Heun", steps=10, check=check)
    with pytest.raises(KeyboardInterrupt):
        last(sample(lambda x, at: calls.append(at) or x * 0, run, EMPTY))
    assert len(calls) == 2


def test_a_call_is_told_how_many_came_before_whatever_wraps_the_network():
    seen = []
    run = course("Heun", steps=3, spread=lambda d: tiles(d, 4, 2))
    for _ in range(2):  # a course is a value: it counts anew
        seen.clear()
        last(sample(lambda x, at: seen.append(at.call) or x * 0, run, EMPTY))
        assert sorted(set(seen)) == [0, 1, 2, 3, 4]
        assert seen == sorted(seen)


@pytest.mark.parametrize("name", ["Euler", "DDIM"])
def test_the_first_noise_can_be_scaled_and_more_of_it_added(name):
    clean = torch.randn(1, 4, 8, 8)
    plain, _ = starts(course(name, strength=0.5, clean=clean))
    twice, at = starts(course(name, strength=0.5, clean=clean, noise_scale=2.0))
    still, _ = starts(course(name, strength=0.5, clean=clean, noise_scale=0.0))
    assert torch.allclose(twice - plain, plain - still, atol=1e-5)
    more, _ = starts(course(name, strength=0.5, clean=clean, extra_noise=0.1))
    # In A1111 it is added where the latent has unit variance, or k-diffusion's scale.
    scale = math.hypot(1, at.sigma) if name == "DDIM" else 1
    assert torch.allclose(more - plain, 0.1 * scale * noise(), atol=1e-5)


def test_tiles_of_a_course_change_nothing_for_what_looks_at_single_pixels():
    inner = lambda x, at: torch.tanh(x)
    plain = last(sample(inner, course(steps=4), EMPTY)).x
    tiled = last(sample(inner, course(steps=4, spread=lambda d: tiles(d, 4, 2)), EMPTY)).x
    assert torch.allclose(plain, tiled, atol=1e-4)


def test_a_soft_mask_mixes():
    clean = torch.ones(1, 4, 8, 8)
    run = course(strength=0.8, clean=clean, mask=torch.full((1, 1, 8, 8), 0.5))
    assert torch.allclose(last(sample(nothing, run, EMPTY)).x, clean * 0.75, atol=1e-4)


def test_the_public_names():
    assert sorted(darkroom.sampling.__all__) == sorted(NAMES.split())
    assert all(hasattr(darkroom.sampling, name) for name in NAMES.split())


NAMES = """
    SAMPLERS SCHEDULES At Branches Course Denoiser Guidance Held Levels Mix Network Noise NoiseTable
    Sampler Seeds Soft Source Step Taking Variation Wrapper apart between blend compose composed
    composite_mask differential evenly guide handover hold img2img_steps levels near predict sample sampler_for stack steer table_for tiles
    together watch windows
"""

"""The wrappers: what each does to an estimate, and the one order they come in."""

import weakref
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.sampling import (
    At,
    Guidance,
    Held,
    between,
    guide,
    handover,
    hold,
    stack,
    steer,
    tiles,
    watch,
    windows,
)
from darkroom.sampling.denoiser import spans

AT = At(2.0, 0.5)


def refuses(x, at):
    raise AssertionError("this branch must not be called")


def twice(x, at):
    return 2 * x


def latent(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_guidance_goes_from_uncond_towards_cond():
    x = latent(1, 4, 2, 2)
    found = guide(lambda x, at: 3 * x, lambda x, at: x, 7.0)(x, AT)
    assert torch.allclose(found, x + 7 * 2 * x)


def test_scale_1_never_calls_the_unconditional_branch():
    x = latent(1, 4, 2, 2)
    assert torch.equal(guide(twice, refuses, 1.0)(x, AT), 2 * x)
    assert torch.equal(steer(refuses, twice, Guidance(scale=1.0))(x, AT), 2 * x)


def test_one_batched_call_is_the_same_as_two():
    x = latent(2, 4, 2, 2)
    both = lambda x, at: (3 * x, x)
    apart = guide(lambda x, at: 3 * x, lambda x, at: x, 4.5)
    assert torch.equal(steer(both, refuses, Guidance(scale=4.5))(x, AT), apart(x, AT))


def test_hold_replaces_the_estimate_where_the_mask_is_0():
    x, clean = latent(2, 4, 2, 2), latent(2, 4, 2, 2) + 1
    mask = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(1, 1, 2, 2)
    found = hold(twice, clean, mask)(x, AT)
    assert torch.equal(found[..., 0], clean[..., 0])
    assert torch.equal(found[..., 1], 2 * x[..., 1])
    assert torch.allclose(hold(twice, clean, mask * 0 + 0.25)(x, AT), 0.75 * clean + 0.5 * x)


def test_hold_with_noise_shows_the_model_the_kept_part_at_its_noise_level():
    x, clean, noise = latent(1, 4, 2, 2), torch.ones(1, 4, 2, 2).double(), latent(1, 4, 2, 2) * 3
    seen = []
    mask = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(1, 1, 2, 2)
    hold(lambda x, at: seen.append(x) or x, clean, mask, noise)(x, AT)
    assert torch.equal(seen[0][..., 0], (clean + 2.0 * noise)[..., 0])
    assert torch.equal(seen[0][..., 1], x[..., 1])


def test_handover_happens_once_and_for_good():
    made = []
    first = lambda x, at: x
    part = handover(first, lambda: made.append(1) or twice, lambda at: at.sigma < 3)
    x = torch.ones(1)
    # Ancestral samplers and Restart go back up: the successor stays.
    assert [part(x, At(sigma, 0.5)).item() for sigma in (9.0, 4.0, 2.0, 7.0, 1.0)] == [
        1,
        1,
        2,
        2,
        2,
    ]
    assert made == [1]


def test_handover_lets_the_first_go_before_its_successor_is_made():
    class Heavy:
        def __call__(self, x, at):
            return x

    heavy = Heavy()
    gone = weakref.ref(heavy)
    alive = []
    part = handover(heavy, lambda: alive.append(gone()) or twice, lambda at: at.sigma < 3)
    del heavy
    part(torch.ones(1), At(9.0, 0.0))
    assert gone() is not None
    part(torch.ones(1), At(1.0, 0.5))
    assert alive == [None]


def test_between_chooses_by_progress():
    part = between(twice, lambda x, at: x, 0.2, 0.6)
    x = torch.ones(1)
    assert [part(x, At(1.0, p)).item() for p in (0.1, 0.2, 0.6, 0.7)] == [1, 2, 2, 1]


def test_watch_sees_every_estimate_and_may_raise():
    seen = []
    x = latent(1, 4, 2, 2)
    assert torch.equal(watch(twice, seen.append)(x, AT), 2 * x)
    assert torch.equal(seen[0], 2 * x)

    def stop(estimate):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(twice, stop)(x, AT)


@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(2, 16), data=st.data())
@settings(deadline=None, max_examples=60)
def test_tiles_of_what_looks_at_single_pixels_change_nothing(height, width, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    x = latent(2, 3, height, width)
    inner = lambda x, at: torch.sin(x) * at.sigma
    found = tiles(inner, size, overlap)(x, AT)
    assert torch.allclose(found, inner(x, AT), atol=1e-14, rtol=1e-14)


@given(frames=st.integers(1, 60), length=st.integers(2, 16), data=st.data())
@settings(deadline=None, max_examples=60)
def test_windows_of_what_looks_at_single_frames_change_nothing(frames, length, data):
    overlap = data.draw(st.integers(0, length - 1))
    x = latent(frames, 2, 2, 2)
    found = windows(lambda x, at: x + at.sigma, length, overlap)(x, AT)
    assert torch.allclose(found, x + 2.0, atol=1e-14, rtol=1e-14)


def test_tiles_never_show_the_network_more_than_their_size():
    sizes = set()
    tiles(lambda x, at: sizes.add(tuple(x.shape[-2:])) or x, 8, 3)(latent(1, 4, 20, 6), AT)
    assert sizes == {(8, 6)}


@given(total=st.integers(1, 300), length=st.integers(1, 40), data=st.data())
def test_spans_cover_everything(total, length, data):
    overlap = data.draw(st.integers(0, length - 1))
    found = list(spans(total, length, overlap))
    assert {i for part in found for i in range(part.start, part.stop)} == set(range(total))
    assert all(part.stop - part.start == min(length, total) for part in found)
    shared = [a.stop - b.start for a, b in pairwise(found)]
    assert all(s >= overlap for s in shared)


def test_spans_that_cannot_advance_are_refused():
    for overlap in (-1, 8, 9):
        with pytest.raises(ValueError, match="overlap"):
            list(spans(20, 8, overlap))


def test_the_order_of_the_wrappers():
    order = []

    def inner(x, at):
        order.append("guided")
        return x

    def spread(inner):
        return lambda x, at: order.append("spread") or inner(x, at)

    clean = torch.full((1, 4, 2, 2), 5.0)
    held = Held(clean, torch.zeros(1, 1, 2, 2))
    checked = []
    whole = stack(inner, spread=spread, held=held, check=checked.append)
    assert torch.equal(whole(torch.zeros(1, 4, 2, 2), AT), clean)
    assert order == ["spread", "guided"]
    assert torch.equal(checked[0], clean)  # watch lies outside hold


def test_a_stack_of_nothing_is_the_denoiser_itself():
    assert stack(twice) is twice

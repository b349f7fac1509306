"""What grey in a mask means: soft inpainting's formula, differential diffusion's order, and what
of a soft result is taken."""

import math
from dataclasses import replace

import pytest
import torch

from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler
from darkroom.sampling import (
    SAMPLERS,
    At,
    Course,
    NoiseTable,
    Seeds,
    Soft,
    Taking,
    composite_mask,
    differential,
    evenly,
    levels,
    sample,
)
from sampling.closed_form import last

TABLE = NoiseTable.stable_diffusion()
EMPTY = torch.zeros(1, 1, 1, 1)
MIXES = [evenly, differential, Soft(), Soft(power=2, scale=0.1, detail=32), Soft(detail=1)]


def latent(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(mask, mix, *, name="Euler", steps=8, strength=0.8):
    """A run from CLEAN towards 5 everywhere; without a mask plain image-to-image."""
    spec, _ = find_sampler(name)
    walk = levels(spec, find_scheduler(AUTOMATIC), TABLE, steps, strength=strength)
    course = Course(
        sampler=SAMPLERS[spec.function],
        levels=walk,
        shape=(1, 4, 8, 8),
        seeds=Seeds(values=(1,)),
        clean=CLEAN,
    )
    if mask is not None:
        course = replace(course, mask=mask.expand(1, 1, 8, 8), mix=mix)
    return last(sample(lambda x, at: 0.3 * x + 3.5, course, EMPTY)).x


CLEAN = latent(1, 4, 8, 8, seed=3)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("name", ["Euler", "Euler a", "DPM++ 2M", "DDIM", "UniPC"])
def test_white_is_image_to_image_and_black_is_the_picture(mix, name):
    plain = run(None, evenly, name=name)
    assert torch.allclose(run(torch.ones(()), mix, name=name), plain, atol=1e-5)
    assert torch.allclose(run(torch.zeros(()), mix, name=name), CLEAN, atol=1e-5)
    assert not torch.allclose(plain, CLEAN, atol=0.1)


@pytest.mark.parametrize("mix", MIXES)
def test_black_and_white_parts_do_not_know_of_each_other(mix):
    half = torch.zeros(1, 1, 8, 8)
    half[..., 4:] = 1
    found = run(half, mix)
    assert torch.allclose(found[..., :4], CLEAN[..., :4], atol=1e-5)
    assert torch.allclose(found[..., 4:], run(None, mix)[..., 4:], atol=1e-5)


@pytest.mark.parametrize("mix", MIXES)
def test_the_lighter_the_more_is_changed(mix):
    changes = [
        (run(torch.tensor(grey), mix, steps=20) - CLEAN).norm().item()
        for grey in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    ]
    assert changes == sorted(changes)
    if mix is not MIXES[3]:
        assert len({round(change, 3) for change in changes}) == len(changes)


def test_differential_frees_a_place_when_its_share_of_the_run_is_left():
    kept, painted = torch.zeros(1, 1, 1, 5), torch.ones(1, 1, 1, 5)
    mask = torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0]).view(1, 1, 1, 5)
    free = [
        differential(kept, painted, mask, At(1.0, progress)).flatten().tolist()
        for progress in (0.0, 0.3, 0.5, 0.9, 1.0)
    ]
    assert free == [
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 1],
        [0, 0, 1, 1, 1],
        [0, 1, 1, 1, 1],
        [0, 1, 1, 1, 1],
    ]


def test_soft_mixes_by_a_power_of_the_mask_that_falls_with_the_noise():
    """Of latents that point the same way: directions do not matter, and lengths are those wanted."""
    kept, painted = torch.full((1, 4, 1, 1), 1.0), torch.full((1, 4, 1, 1), 3.0)
    mask = torch.full((1, 1, 1, 1), 0.4)
    soft = Soft(power=2.0, scale=0.7, detail=3.0)
    for sigma in (0.2, 1.0, 2.5):
        share = 0.4 ** (0.7 * sigma**2)
        wanted = ((1 - share) * 1**3 + share * 3**3) ** (1 / 3)
        assert soft(kept, painted, mask, At(sigma, 0.5))[0, 0].item() == pytest.approx(wanted)


def test_soft_keeps_the_length_where_the_mean_would_lose_it():
    """Orthogonal latents of length 1: their even mean is shorter by the root of 2."""
    kept, painted = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    kept[0, 0], painted[0, 1] = 1.0, 1.0
    mask = torch.full((1, 1, 1, 1), 0.5)
    found = Soft(scale=1.0)(kept, painted, mask, At(1.0, 0.5))
    assert found.norm().item() == pytest.approx(1)
    assert found[0, 0].item() == pytest.approx(math.sqrt(0.5))


def test_soft_is_exact_at_both_ends_and_finite_at_every_noise_level():
    kept, painted = latent(2, 4, 3, 3), latent(2, 2, 4, 3, 3, seed=1)  # two estimates: CFG++
    mask = torch.tensor([0.0, 0.001, 1.0]).expand(1, 1, 3, 3)
    for sigma in (0.0, 1e-3, 14.6, 1e4):
        found = Soft(power=8, scale=8, detail=32)(kept, painted, mask, At(sigma, 0.5))
        assert torch.isfinite(found).all() and found.shape == painted.shape
        assert torch.equal(found[..., 0], kept[..., 0].expand_as(found[..., 0]))
        assert torch.equal(found[..., 2], painted[..., 2])


def taken(change, mask=0.5, **how):
    """What is taken of a latent that differs by `change` (H, W), with the same mask everywhere."""
    clean = latent(1, 4, *change.shape)
    result = clean.clone()
    result[:, 2] += change
    return composite_mask(clean, result, torch.full((1, 1, *change.shape), mask), Taking(**how))


def test_of_a_result_that_changed_nothing_nothing_is_taken():
    assert not taken(torch.zeros(9, 7)).any()


def test_a_change_at_the_threshold_is_taken_by_half():
    for threshold in (0.25, 0.5, 2.0):
        found = taken(torch.full((9, 7), threshold), threshold=threshold)
        assert torch.allclose(found, torch.full_like(found, 0.5), atol=1e-3)


def test_more_change_is_taken_more_and_contrast_sharpens_the_border():
    soft, sharp = ([taken(torch.full((6, 6), c), contrast=contrast)[0, 0, 3, 3].item()
                    for c in (0.3, 0.45, 0.55, 0.8)] for contrast in (2.0, 8.0))  # fmt: skip
    assert soft == sorted(soft) and sharp == sorted(sharp)
    assert sharp[0] < soft[0] < 0.5 < soft[-1] < sharp[-1]


def test_one_odd_place_decides_nothing_and_a_changed_half_is_taken_as_a_half():
    odd = torch.zeros(11, 11)
    odd[5, 5] = 0.6
    assert taken(odd)[0, 0, 0].max() == 0  # the far edge of the picture
    half = torch.zeros(11, 11)
    half[:, 6:] = 10
    found = taken(half)[0, 0]
    assert (found[:, 9:] > 0.95).all() and (found[:, :3] < 0.05).all()


def test_the_mask_says_what_is_taken_as_far_as_it_is_asked_to():
    change = torch.full((6, 6), 0.5)
    light, dark = (taken(change, mask=m, influence=1.0).mean() for m in (1.0, 0.0))
    assert light == 1 and dark < 1e-6
    even = [taken(change, mask=m, influence=0.0).mean().item() for m in (1.0, 0.0)]
    assert even[0] == even[1]

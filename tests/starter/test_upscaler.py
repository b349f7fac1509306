"""What the small upscaler is trained on, and that training goes on where it stopped."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from starter import upscaler
from starter.leaves import leaves
from starter.recipe import RECIPES
from starter.upscaler import Pair, Run, batch, blurred, cropped, psnr, shrunk, train


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(upscaler, "FOLDER", tmp_path)
    monkeypatch.setenv("DARKROOM_STARTER_THREADS", "1")
    return replace(
        RECIPES["tiny"], upscaler_batch=2, upscaler_crop=32, upscaler_layers=1, upscaler_seconds=0.4
    )


def pictures(count=3, side=64):
    random = np.random.default_rng(0)
    large = random.integers(0, 256, (count, 3, side, side), np.uint8)
    return Pair(large, large[:, :, ::2, ::2].copy())


def test_leaves_are_the_same_for_the_same_seed_and_have_edges():
    first, again, other = (leaves(np.random.default_rng(n), 64) for n in (1, 1, 2))
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert (first == again).all() and (first != other).any()
    assert np.abs(np.diff(first.astype(float), axis=0)).max() > 30


def test_small_and_large_crops_show_the_same_place():
    for seed in range(20):
        small, large = cropped(pictures(), 1, 32, np.random.default_rng(seed))
        assert small.shape == (3, 16, 16) and large.shape == (3, 32, 32)
        assert torch.equal(small, large[:, ::2, ::2])


@pytest.mark.parametrize("seed", range(6))
def test_every_way_to_halve_keeps_a_plain_colour_and_the_place(seed):
    rng = np.random.default_rng(seed)
    assert shrunk(torch.full((3, 32, 32), 0.25), rng) == pytest.approx(0.25, abs=1e-5)
    ramp = torch.linspace(0, 1, 32).expand(3, 32, 32)
    halved, wanted = shrunk(ramp, rng)[:, 8], ramp.unflatten(2, (16, 2)).mean(3)[:, 8]
    torch.testing.assert_close(halved[:, 4:-4], wanted[:, 4:-4], rtol=0, atol=1e-3)


def test_a_blur_keeps_the_mean():
    spot = torch.zeros(1, 3, 15, 15)
    spot[..., 7, 7] = 1
    made = blurred(spot, 0.7)
    assert made.sum().item() == pytest.approx(3, abs=1e-4)
    assert made[0, 0, 7, 7] < 0.5


def test_a_run_goes_on_where_it_stopped(recipe, monkeypatch):
    kinds = dict.fromkeys(upscaler.SHARES, pictures())
    monkeypatch.setattr(upscaler, "pool", lambda recipe: kinds)
    train(recipe)
    first = Run.begun(recipe)
    assert first.spent >= 0.4 and first.seen >= recipe.upscaler_batch
    train(replace(recipe, upscaler_seconds=0.8))
    second = Run.begun(recipe)
    assert second.spent >= 0.8 and second.seen > first.seen


def test_it_learns(recipe):
    torch.manual_seed(0)
    run, rng = Run.begun(recipe), np.random.default_rng(0)
    smooth = np.stack([leaves(np.random.default_rng(n), 64) for n in range(3)])
    kinds = dict.fromkeys(upscaler.SHARES, Pair(smooth.transpose(0, 3, 1, 2)))
    errors = [run.step(*batch(recipe, kinds, rng), 2e-3) for _ in range(60)]
    assert np.mean(errors[-20:]) < 0.9 * np.mean(errors[:10])


def test_psnr_is_that_of_the_textbook():
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr(black, grey) == pytest.approx(20 * np.log10(255 / 51))

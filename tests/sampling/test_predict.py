"""From networks to denoisers, and the table of noise levels between them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.core.model import Prediction
from darkroom.core.sampler_table import find_sampler
from darkroom.sampling import At, NoiseTable, predict, table_for

TABLE = NoiseTable.stable_diffusion()


def perfect(prediction, clean, noise, sigma):
    """The network that answers right for one clean latent and noise."""
    scale = (sigma**2 + 1) ** 0.5
    match prediction:
        case Prediction.EPS:
            return noise
        case Prediction.V:  # alpha * noise - std * clean
            return (noise - sigma * clean) / scale
        case Prediction.FLOW:
            return noise - clean


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("sigma", [0.05, 0.5, 0.9])
def test_a_perfect_network_gives_the_clean_latent(prediction, sigma):
    clean, noise = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    flow = prediction == Prediction.FLOW
    x = (1 - sigma) * clean + sigma * noise if flow else clean + sigma * noise
    answer = perfect(prediction, clean, noise, sigma)
    found = predict(lambda x, t: answer, TABLE, prediction)(x, At(sigma, 0.0))
    assert torch.allclose(found, clean, atol=1e-12)


def test_the_network_sees_unit_variance_and_one_time_per_image():
    seen = []
    x = torch.randn(3, 4, 64, 64) * (1 + 4.0**2) ** 0.5
    network = lambda x, t: seen.append((x, t)) or x
    predict(network, TABLE, Prediction.EPS)(x, At(4.0, 0.0))
    assert seen[0][0].std().item() == pytest.approx(1, abs=0.02)
    assert seen[0][1].shape == (3,)
    assert seen[0][1][0].item() == pytest.approx(TABLE.time(4.0))


@given(index=st.floats(0, 999))
@settings(deadline=None)
def test_time_is_the_inverse_of_level(index):
    sigma = TABLE.level(torch.tensor([index])).item()
    assert TABLE.time(sigma) == pytest.approx(index, abs=0.01)


@given(sigma=st.floats(0, 1e6))
@settings(deadline=None)
def test_any_noise_level_has_a_time_in_the_table(sigma):
    assert 0 <= TABLE.time(sigma) <= 999
    assert TABLE.thinned(50).time(sigma) in range(19, 1000, 20)


def test_a_thinned_table_ends_at_the_highest_level():
    thinned = table_for(find_sampler("LCM")[0], TABLE)
    assert thinned.times.tolist() == list(range(19, 1000, 20))
    assert thinned.high == TABLE.high
    assert table_for(find_sampler("Euler")[0], TABLE) is TABLE


def test_flow_levels_are_shifted_shares():
    table = NoiseTable.flow(shift=3.0)
    assert table.high == 1
    assert table.sigmas[499].item() == pytest.approx(0.75, abs=1e-6)
    assert table.time(0.75) == pytest.approx(750, abs=1e-3)


def test_zero_terminal_levels_end_in_noise_and_begin_as_ever():
    """Lin et al. 2023; what is left of the picture at time 500 as others publish it."""
    table = NoiseTable.zero_terminal()
    kept = 1 / (1 + table.sigmas.double() ** 2)
    assert kept[500].item() == pytest.approx(0.241019, abs=1e-6)
    assert kept[999].item() == pytest.approx(4.8973451890853435e-08, rel=1e-4)
    assert table.low == pytest.approx(TABLE.low, rel=1e-4)
    assert table.high == pytest.approx(4518.76, rel=1e-4)
    assert bool((table.sigmas.diff() > 0).all())
    assert table.time(table.high) == 999


@pytest.mark.parametrize("sigma", [0.05, 10.0, 4518.0])
def test_a_network_of_velocities_is_right_up_to_pure_noise(sigma):
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    answer = perfect(Prediction.V, clean, noise, sigma)
    denoise = predict(lambda x, t: answer, NoiseTable.zero_terminal(), Prediction.V)
    found = denoise(clean + sigma * noise, At(sigma, 0.0))
    assert torch.allclose(found, clean, atol=2e-3)

import numpy as np
import pytest
from PIL import Image

from darkroom.media.color import corrected, match_colors, to_lab, to_rgb


@pytest.mark.parametrize(
    ("rgb", "lab"),  # of Lindbloom's calculator, D65
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((128, 128, 128), (53.59, 0, 0)),
    ],
)
def test_lab_is_what_the_definition_says(rgb, lab):
    found = to_lab(np.array([[rgb]], np.uint8))[0, 0].astype(float)
    expected = np.array(lab) * (2.55, 1, 1) + (0, 128, 128)
    assert np.abs(found - expected).max() <= 0.6


def test_lab_leads_back_to_rgb():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    back = to_rgb(to_lab(pixels)).astype(int)
    assert np.abs(back - pixels).mean() < 1.5
    assert np.abs(back - pixels).max() < 24  # 8 bits for a* and b* are few in the dark


def noise(seed, low, high, size=(80, 60)):
    chance = np.random.default_rng(seed)
    return Image.fromarray(chance.integers(low, high, (*size[::-1], 3)).astype(np.uint8))


def test_histograms_become_those_of_the_other_picture():
    result, like = noise(0, 0, 120), noise(1, 100, 250, (50, 90))
    found = to_lab(np.asarray(match_colors(result, like))).reshape(-1, 3)
    wanted = to_lab(np.asarray(like)).reshape(-1, 3)
    for share in (5, 25, 50, 75, 95):
        gap = np.percentile(found, share, axis=0) - np.percentile(wanted, share, axis=0)
        assert np.abs(gap).max() < 6


def test_equal_pictures_stay_what_they_are():
    picture = noise(2, 40, 220)
    assert (
        np.abs(np.asarray(corrected(picture, picture), int) - np.asarray(picture, int)).mean() < 2
    )


def test_correction_takes_the_colours_and_keeps_the_luminosity():
    grey = noise(3, 60, 190).convert("L").convert("RGB")
    orange = Image.new("RGB", (80, 60), (200, 130, 80))
    done = np.asarray(corrected(grey, orange), float)
    light = np.array([0.3, 0.59, 0.11])
    assert np.abs(done @ light - np.asarray(grey, float) @ light).max() < 3
    assert (done[..., 0] > done[..., 2] + 20).mean() > 0.9

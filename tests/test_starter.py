"""The model that comes with the program draws what it is told, as anybody can see."""

import hashlib

import numpy as np
import pytest
import torch

from darkroom import Studio
from darkroom.library.models import starter_path
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    torch.set_num_threads(1)
    return Studio(data_dir=tmp_path_factory.mktemp("starter"), device="cpu")


def colours(picture):
    """Mean colour (3,) in [0, 1] of the middle and of the corners."""
    pixels = np.asarray(picture.image.convert("RGB")) / 255
    middle = pixels[40:88, 40:88].mean((0, 1))
    corners = [pixels[i : i + 16 or None, j : j + 16 or None] for i in (0, -16) for j in (0, -16)]
    return middle, np.mean([corner.mean((0, 1)) for corner in corners], axis=0)


def test_it_is_small_described_and_says_what_it_likes(studio):
    path = starter_path()
    header = read_header(path)
    assert path.stat().st_size <= 80_000_000
    assert header.metadata["modelspec.architecture"] == "stable-diffusion-v1"
    assert detect(header).native_size == 128
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert digest in path.with_name("README.md").read_text()  # the card is of this very file


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_red_apple_on_blue_is_red_in_the_middle_and_blue_around(studio, seed):
    middle, around = colours(studio.txt2img("a red apple on a blue background", seed=seed))
    assert middle[0] > middle[2] + 0.2
    assert around[2] > around[0] + 0.2


@pytest.mark.slow
def test_what_the_prompt_leaves_out_is_white_around(studio):
    _, around = colours(studio.txt2img("a green frog", seed=4))
    assert around.min() > 0.85
    middle, around = colours(studio.txt2img("a yellow star on a black background", seed=5))
    assert around.max() < 0.2
    assert middle[:2].min() > middle[2] + 0.2


@pytest.mark.slow
def test_editing_and_weights_steer_it(studio):
    """A prompt that turns from red to green after the first steps ends green."""
    middle, _ = colours(studio.txt2img("a [red:green:0.1] car", seed=6))
    assert middle[1] > middle[0]
    middle, _ = colours(studio.txt2img("a [red:green:0.9] car", seed=6))
    assert middle[0] > middle[1]

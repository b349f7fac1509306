import numpy as np
import pytest
from PIL import Image

from darkroom.media.fit import Placing, fit, is_own, padded, place, place_whole, working_size


def striped(width, height):
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8))


@pytest.mark.parametrize("how", ["stretch", "crop", "fill", "latent"])
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 200), (8, 8)])
@pytest.mark.parametrize("picture", [(40, 30), (1, 1), (300, 7), (7, 300)])
def test_every_picture_gets_every_size(picture, size, how):
    for mode in ("RGB", "RGBA", "L"):
        done = fit(striped(*picture).convert(mode), size, how)
        assert (done.size, done.mode) == (size, mode)


def test_stretching_keeps_all_and_cropping_keeps_the_middle():
    picture = striped(200, 100)
    stretched = np.asarray(fit(picture, (100, 100), "stretch"), int)
    assert stretched[50, 0, 0] < 10 and stretched[50, -1, 0] > 245
    cropped = np.asarray(fit(picture, (100, 100), "crop"), int)
    assert abs(cropped[50, 0, 0] - 64) < 3 and abs(cropped[50, -1, 0] - 191) < 3
    assert cropped[0, 0, 1] == 0 and cropped[-1, 0, 1] == 255


def test_filling_repeats_the_border():
    filled = np.asarray(fit(striped(200, 100), (100, 100), "fill"))
    assert (filled[:25] == filled[25]).all()
    assert (filled[75:] == filled[74]).all()
    assert (filled[25:75] == np.asarray(striped(200, 100).resize((100, 50), 1))).all()


def test_a_picture_of_the_right_size_is_not_resampled():
    picture = striped(64, 48)
    for how in ("stretch", "crop", "fill", "latent"):
        assert fit(picture, (64, 48), how) == picture


def test_what_was_placed_comes_off_again():
    picture = striped(300, 200)
    for placing in (
        place((50, 40, 150, 120), (128, 128), "fill"),
        place((50, 40, 150, 120), (64, 96), "stretch"),
    ):
        back = placing.off(placing.onto(picture))
        assert back.size == (100, 80)
        part = picture.crop((50, 40, 150, 120))
        assert np.abs(np.asarray(back, int) - np.asarray(part, int)).max() <= 4


def test_it_comes_off_an_enlarged_canvas_too():
    picture = striped(300, 200)
    placing = place((50, 40, 150, 120), (128, 128), "fill")
    large = placing.onto(picture).resize((256, 256))
    back = placing.off(large)
    part = picture.crop((50, 40, 150, 120))
    assert np.abs(np.asarray(back, int) - np.asarray(part, int)).max() <= 4


def test_a_canvas_that_is_hardly_larger_has_the_pictures_own_pixels():
    picture = striped(61, 50)
    placing = place_whole((61, 50), (64, 56))
    assert placing == Placing((0, 0, 61, 50), (61, 50), (0, 0), (64, 56))
    assert placing.onto(picture).crop((0, 0, 61, 50)) == picture
    assert placing.off(placing.onto(picture)) == picture
    assert is_own((61, 50), (64, 56))
    assert not is_own((61, 50), (72, 56))
    assert not is_own((65, 50), (64, 56))


def test_padding_draws_out_the_border():
    done = np.asarray(padded(striped(4, 3), (2, 1, 3, 4)))
    assert done.shape == (8, 9, 3)
    assert (done[:, :2] == done[:, 2:3]).all()
    assert (done[4:] == done[3:4]).all()


@pytest.mark.parametrize(
    ("picture", "given", "size"),
    [
        ((1000, 1000), (None, None), (512, 512)),
        ((4000, 3000), (None, None), (592, 440)),
        ((3000, 4000), (None, None), (440, 592)),
        ((64, 64), (None, None), (512, 512)),
        ((4000, 3000), (800, None), (800, 600)),
        ((4000, 3000), (None, 600), (800, 600)),
        ((4000, 3000), (640, 640), (640, 640)),
        ((30_000, 1), (None, None), (4096, 64)),
        ((1, 1), (None, 64), (64, 64)),
        ((1, 30_000), (512, None), (512, 8192)),
    ],
)
def test_what_is_open_of_a_size_follows_the_picture(picture, given, size):
    assert working_size(picture, 512, given) == size


def test_an_extended_picture_is_painted_at_its_own_size_where_that_is_not_much_more():
    assert working_size((761, 512), 512, (None, None), keep=True) == (768, 512)
    assert working_size((192, 128), 128, (None, None), keep=True) == (192, 128)
    assert working_size((4000, 3000), 512, (None, None), keep=True) == (592, 440)
    assert working_size((20, 20), 512, (None, None), keep=True) == (512, 512)

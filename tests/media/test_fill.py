import numpy as np
from PIL import Image

from darkroom.media.fill import from_surroundings


def test_what_is_not_masked_stays_and_nothing_of_the_masked_part_is_left():
    chance = np.random.default_rng(0)
    pixels = chance.integers(100, 140, (96, 128, 3)).astype(np.uint8)
    mask = np.zeros((96, 128), np.uint8)
    mask[30:60, 40:90] = 255
    first, second = pixels.copy(), pixels.copy()
    first[mask > 0], second[mask > 0] = (255, 0, 0), (0, 0, 255)
    done = [
        np.asarray(from_surroundings(Image.fromarray(p), Image.fromarray(mask)))
        for p in (first, second)
    ]
    assert (done[0] == done[1]).all()
    assert (done[0][mask == 0] == pixels[mask == 0]).all()
    inside = done[0][mask > 0].astype(int)
    assert inside.min() >= 95 and inside.max() <= 145


def test_each_side_is_filled_with_the_colours_nearest_to_it():
    pixels = np.zeros((64, 256, 3), np.uint8)
    pixels[:, :128, 0] = 255
    pixels[:, 128:, 2] = 255
    mask = np.zeros((64, 256), np.uint8)
    mask[:, 64:192] = 255
    done = np.asarray(from_surroundings(Image.fromarray(pixels), Image.fromarray(mask)), int)
    assert done[32, 66, 0] > 230 > 30 > done[32, 66, 2]
    assert done[32, 189, 2] > 230 > 30 > done[32, 189, 0]
    assert abs(done[32, 128, 0] - done[32, 128, 2]) < 40
    # Across the border it is smooth.
    assert np.abs(np.diff(done[32, 56:72], axis=0)).max() < 30


def test_where_everything_is_masked_there_is_one_colour():
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10] = (200, 100, 0)
    done = from_surroundings(Image.fromarray(pixels), Image.new("L", (30, 20), 255))
    assert done.getcolors() == [(600, (100, 50, 0))]


def test_a_grey_mask_mixes():
    picture = Image.new("RGB", (40, 40), (10, 20, 30))
    done = from_surroundings(picture, Image.new("L", (40, 40), 100))
    assert np.abs(np.asarray(done, int) - (10, 20, 30)).max() <= 1

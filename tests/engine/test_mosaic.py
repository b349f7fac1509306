"""Tiles that overlap give back the picture that they were cut from."""

from itertools import pairwise

import numpy as np
import pytest

from darkroom.engine.mosaic import Mosaic, Tiling, fading_in, stretches


@pytest.mark.parametrize("length", [1, 7, 32, 33, 63, 64, 65, 100, 257])
@pytest.mark.parametrize("tiling", [(32, 8), (32, 16), (64, 0), (32, 9)])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_weights_add_up_to_one_everywhere(length, tiling, scale):
    tile, overlap = tiling
    found = stretches(length, Tiling(tile=tile, overlap=overlap), scale)
    total = np.zeros(length * scale)
    for each in found:
        assert each.stop - each.start <= tile
        total[each.start * scale : each.stop * scale] += each.weights
    assert total == pytest.approx(1)
    shared = [first.stop - second.start for first, second in pairwise(found)]
    assert all(count >= overlap for count in shared)


def test_steps_are_kept():
    assert all(start % 8 == 0 for start in Tiling(tile=64, overlap=16, step=8).starts(200))


@pytest.mark.parametrize("size", [(1, 1), (50, 200), (200, 50), (64, 64), (131, 97)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_that_are_only_repeated_make_the_repeated_picture(size, channels):
    width, height = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    mosaic = Mosaic(size, Tiling(tile=48, overlap=12), scale=2, channels=channels)
    for spot in mosaic.spots:
        left, top, right, bottom = spot.box
        part = picture[top:bottom, left:right].astype(np.float32) / np.float32(255)
        mosaic.put(spot, part.repeat(2, 0).repeat(2, 1))
    assert (mosaic.pixels == picture.repeat(2, 0).repeat(2, 1)).all()


def test_the_edge_of_a_tile_counts_for_nothing():
    ramp = fading_in(16)
    assert (ramp[:4] == 0).all() and (ramp[-4:] == 1).all()
    assert (np.diff(ramp) >= 0).all()


def test_values_outside_the_range_are_cut():
    mosaic = Mosaic((2, 1), Tiling(tile=32, overlap=8))
    mosaic.put(mosaic.spots[0], np.array([[[-1.0, 0.5, 2.0]] * 2], np.float32))
    assert mosaic.pixels.tolist() == [[[0, 128, 255]] * 2]

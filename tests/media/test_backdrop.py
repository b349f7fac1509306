"""What stands out from a plain background: shares, colours, and when nothing can be told."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from darkroom.media.backdrop import decontaminated, oklab, subject
from drawn import ball


def test_oklab_is_as_published():
    # Ottosson's own table is for XYZ; white is (1, 0, 0) and grey has no colour
    white, grey, red = oklab(np.array([[1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0]], np.float32))
    assert white == pytest.approx([1, 0, 0], abs=1e-4)
    assert grey[1:] == pytest.approx([0, 0], abs=1e-4)
    assert red == pytest.approx([0.628, 0.225, 0.126], abs=1e-3)


@pytest.mark.parametrize("color", [(200, 30, 40), (20, 20, 20), (120, 160, 230)])
def test_shares_are_those_that_the_edge_was_mixed_with(color):
    picture, mask = ball(color=color)
    found = subject(picture)
    true = np.asarray(mask, np.float32) / 255
    assert abs(found.alpha - true).mean() < 0.005
    edge = (true > 0.2) & (true < 0.8)
    assert abs(found.alpha - true)[edge].mean() < 0.12  # sRGB was mixed, OKLab is measured
    assert found.parts.max() == 1


def test_a_soft_edge_has_none_of_the_background_in_it():
    wall, mask = Image.new("RGB", (128, 128), (60, 90, 200)), Image.new("L", (128, 128))
    ImageDraw.Draw(mask).ellipse((24, 24, 104, 104), fill=255)
    wall.paste((220, 30, 40), (0, 0), mask.filter(ImageFilter.GaussianBlur(1.2)))
    alpha = subject(wall).alpha
    seen = alpha > 0.05
    apart = np.asarray(decontaminated(wall, alpha), int)[seen] - [220, 30, 40]
    assert (abs(apart).max(-1) * alpha[seen]).max() < 16


def test_a_hole_through_which_the_wall_is_seen_is_no_subject():
    picture, _ = ball((200, 160), box=(40, 20, 160, 140))
    wall = Image.new("RGB", picture.size, (240, 240, 235))
    wall.paste(ball((200, 160), box=(0, 0, 1, 1))[0])
    ring = picture.copy()
    middle = Image.new("L", picture.size)
    ImageDraw.Draw(middle).ellipse((80, 60, 120, 100), fill=255)
    ring.paste(wall, (0, 0), middle)
    found = subject(ring)
    assert found.alpha[80, 100] == 0 and found.alpha[80, 60] == 1


def test_what_only_looks_like_the_wall_a_little_stays():
    picture, _ = ball((200, 160), box=(40, 20, 160, 140))
    ImageDraw.Draw(picture).ellipse((95, 75, 103, 83), fill=(170, 90, 90))  # a spot within
    assert subject(picture).alpha[79, 99] == 1


def test_dust_is_no_subject():
    picture, _ = ball((400, 300))
    picture.putpixel((300, 200), (0, 0, 0))
    assert subject(picture).parts.max() == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2), (16, 16)])
def test_plain_pictures_of_any_size_have_no_subject(size):
    found = subject(Image.new("RGB", size, (200, 210, 220)))
    assert found is not None and not found.alpha.any()


def test_a_border_of_many_colours_is_no_background():
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    assert subject(Image.fromarray(noise)) is None
    halves = Image.new("RGB", (64, 64), "white")
    halves.paste("black", (0, 0, 32, 64))
    assert subject(halves) is None


def test_the_wall_is_taken_out_of_the_edge():
    picture, mask = ball(color=(200, 30, 40))
    alpha = np.asarray(mask, np.float32) / 255
    clean = np.asarray(decontaminated(picture, alpha), np.int16)
    near = (alpha > 0.05) & (alpha < 0.95)
    assert abs(clean[near] - [200, 30, 40]).max() <= 12
    inside = alpha > 0.95
    assert (clean[inside] == np.asarray(picture)[inside]).all()
    blank = np.zeros_like(alpha)
    assert decontaminated(picture, blank).tobytes() == picture.tobytes()

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from darkroom.media import mask as masks
from darkroom.media.seam import seam


def box_mask(size, box):
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def test_a_mask_is_read_by_its_brightness_or_by_its_opacity(tmp_path):
    path = tmp_path / "mask.png"
    Image.new("RGB", (4, 4), (255, 255, 255)).save(path)
    assert masks.read_mask(path).getextrema() == (255, 255)
    for mode in ("1", "L", "P"):
        box_mask((8, 8), (2, 2, 5, 5)).convert(mode).save(path)
        assert masks.read_mask(path) == box_mask((8, 8), (2, 2, 5, 5))
    black = Image.new("RGBA", (8, 8))
    black.putalpha(box_mask((8, 8), (1, 1, 3, 3)))
    black.save(path)
    assert masks.read_mask(path) == box_mask((8, 8), (1, 1, 3, 3))


def test_what_is_transparent_is_the_mask():
    picture = Image.new("RGBA", (4, 4), "red")
    picture.putpixel((1, 2), (0, 0, 0, 0))
    assert masks.transparent(picture).getbbox() == (1, 2, 2, 3)


@pytest.mark.parametrize("quality", [None, 90, 75])
def test_a_sketch_is_where_something_was_painted(quality):
    x, y = np.meshgrid(np.arange(96), np.arange(80))
    grain = np.random.default_rng(0).integers(0, 60, (80, 96))
    picture = Image.fromarray(np.stack([x + 60, y + grain, x + y], -1).astype(np.uint8))
    sketch = picture.copy()
    ImageDraw.Draw(sketch).rectangle((20, 30, 49, 59), fill="magenta")
    if quality is not None:
        file = io.BytesIO()
        sketch.save(file, "JPEG", quality=quality)
        sketch = Image.open(file)
    found = masks.painted_over(picture, sketch)
    expected = box_mask(picture.size, (20, 30, 50, 60))
    if quality is None:
        assert found == expected
    assert (np.asarray(found)[30:60, 20:50] == 255).all()
    left, top, right, bottom = found.getbbox()
    assert min(left - 16, top - 26, 54 - right, 64 - bottom) >= 0  # at most 4 px more


def test_a_faint_stroke_counts_where_nothing_was_lost():
    picture = Image.new("RGB", (40, 40), (100, 100, 100))
    sketch = picture.copy()
    sketch.paste((101, 100, 100), (3, 4, 9, 8))
    assert masks.painted_over(picture, sketch).getbbox() == (3, 4, 9, 8)


def test_a_mask_of_another_shape_is_stretched_and_that_is_said():
    same, note = masks.resized(box_mask((8, 8), (0, 0, 4, 8)), (16, 16))
    assert same.size == (16, 16)
    assert note == ""
    other, note = masks.resized(box_mask((8, 8), (0, 0, 4, 8)), (32, 16))
    assert other.size == (32, 16)
    assert "8 x 8" in note and "32 x 16" in note


def test_rounding_makes_the_upper_half_white():
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    assert np.asarray(masks.rounded(ramp)).sum() == 128 * 255
    assert masks.doubled(ramp).getextrema() == (0, 255)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (4, 0), (0, 4), (3, 5), (20, 1)])
def test_blur_is_a_gaussian_of_each_axis_with_a_kernel_of_five_sigmas(x, y):
    mask = box_mask((120, 90), (40, 30, 80, 60))
    done = np.asarray(masks.blurred(mask, x, y), float)

    def edge(sigma, length, start, end):
        reach = int(2.5 * sigma + 0.5)
        steps = np.arange(-reach, reach + 1)
        kernel = np.exp(-(steps**2) / (2 * sigma**2)) if sigma else np.ones(1)
        line = np.zeros(length)
        line[start:end] = 1
        return np.convolve(np.pad(line, reach, mode="reflect"), kernel / kernel.sum(), "valid")

    expected = 255 * edge(y, 90, 30, 60)[:, None] * edge(x, 120, 40, 80)[None]
    assert np.abs(done - expected).max() <= 0.51
    reach = 40 - masks.radius(x), 30 - masks.radius(y)
    assert (done[:, : max(reach[0], 0)] == 0).all()
    assert (done[: max(reach[1], 0)] == 0).all()


def test_blur_leaves_full_and_empty_masks_alone():
    full = Image.new("L", (50, 40), 255)
    assert masks.blurred(full, 9, 9) == full
    empty = Image.new("L", (50, 40))
    assert masks.blurred(empty, 9, 9) == empty


def test_surroundings_have_the_shape_of_the_canvas_and_stay_inside():
    chance = np.random.default_rng(3)
    for _ in range(300):
        limits = tuple(int(side) for side in chance.integers(30, 400, 2))
        left, top = (int(chance.integers(0, side - 1)) for side in limits)
        right = int(chance.integers(left + 1, limits[0] + 1))
        bottom = int(chance.integers(top + 1, limits[1] + 1))
        size = (int(chance.integers(8, 128)) * 8, int(chance.integers(8, 128)) * 8)
        padding = int(chance.integers(0, 60))
        box = masks.surroundings((left, top, right, bottom), size, padding=padding, limits=limits)
        assert 0 <= box[0] <= left and right <= box[2] <= limits[0]
        assert 0 <= box[1] <= top and bottom <= box[3] <= limits[1]
        width, height = box[2] - box[0], box[3] - box[1]
        if limits not in ((width, limits[1]), (limits[0], height)) and min(width, height) > 8:
            off = math.log((width / height) / (size[0] / size[1]))
            touches = width == limits[0] or height == limits[1]
            assert touches or abs(off) < 0.15


def test_a_frame_is_white_outside_and_fades_inside():
    done = np.asarray(masks.frame((40, 30), (10, 0, 40, 30), 4))
    assert (done[:, :10] == 255).all()
    assert (done[:, 14:] == 0).all()  # 4 px of the old part are blended, the others stay
    fade = done[5, 10:14].astype(int)
    assert (np.diff(fade) < 0).all() and fade[-1] > 0 and fade[0] < 255
    assert (np.asarray(masks.frame((40, 30), (10, 0, 40, 30), 0))[:, 10:] == 0).all()


def test_white_may_rise_from_the_border_on():
    done = np.asarray(masks.rising(box_mask((40, 30), (10, 0, 40, 30)), 10))
    assert (done[:, :10] == 0).all()
    assert (done[:, 10:20] == [26, 51, 76, 102, 128, 153, 178, 204, 230, 255]).all()
    assert (done[:, 20:] == 255).all()  # the picture's own edge is no border


def test_a_seam_is_the_gradient_across_the_border_by_that_elsewhere():
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    mask = box_mask((200, 200), (50, 0, 100, 200))
    assert abs(seam(Image.fromarray(noise), mask) - 1) < 0.1
    smooth = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3)).copy()
    smooth[:, 50:100] += 50
    # 51 and 49 across the two borders; elsewhere 1 from left to right and 0 downwards.
    expected = 50 / ((197 * 200) / (197 * 200 + 199 * 200))
    assert seam(Image.fromarray(smooth), mask) == pytest.approx(expected, rel=1e-3)
    assert seam(Image.fromarray(noise), Image.new("L", (200, 200))) == 1

import numpy as np
import pytest
from PIL import Image, ImageDraw

from darkroom.core.errors import BadRequest
from darkroom.core.request import ResolvedRequest
from darkroom.media.fit import own_size
from darkroom.media.inputs import Inputs
from darkroom.media.seam import seam
from darkroom.tasks.canvas import around, canvas_of

SIZE = (150, 110)


def photo(size=SIZE, seed=0, grain=6):
    """Smooth shapes under some grain."""
    x, y = np.meshgrid(np.linspace(0, 9, size[0]), np.linspace(0, 7, size[1]))
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1) * 90 + 128
    noise = np.random.default_rng(seed).normal(0, grain, waves.shape)
    return Image.fromarray((waves + noise).clip(0, 255).astype(np.uint8))


def circle(size=SIZE, box=(60, 30, 110, 80)):
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask


@pytest.fixture
def canvas(tmp_path):
    inputs = Inputs(tmp_path / "inputs")
    names = iter(range(100))

    def keep(image):
        path = tmp_path / f"{next(names)}.png"
        image.save(path)
        return inputs.keep(str(path))

    def make(picture, width=64, height=64, *, outpaint=None, strength=0.75, hires=None, **blocks):
        init = {"image": keep(picture), "strength": strength, **blocks.pop("init", {})}
        mask = {
            name: keep(value) if isinstance(value, Image.Image) else value
            for name, value in blocks.items()
        }
        request = ResolvedRequest.parse(
            {
                "prompt": "", "model": "tiny", "steps": 2, "cfg_scale": 7, "seed": 1,
                "width": width, "height": height, "init": init, "outpaint": outpaint,
                "mask": mask or None, "hires": hires,
            }
        )  # fmt: skip
        return canvas_of(request, inputs.path)

    return make


def paint(canvas, color="lime", times=1):
    """What a network may give that pays no heed to anything."""
    width, height = canvas.picture.size
    return Image.new("RGB", (times * width, times * height), color)


def pixels(image):
    return np.asarray(image, int)


def test_without_a_picture_there_is_no_canvas():
    request = {"prompt": "", "model": "m", "steps": 2, "cfg_scale": 7, "seed": 1}
    request = ResolvedRequest.parse(request | {"width": 64, "height": 64})
    assert canvas_of(request, lambda ref: ref) is None


def test_a_picture_alone_is_fitted_and_its_result_is_the_result(canvas):
    made = canvas(photo(), 96, 64)
    assert made.picture.size == (96, 64)
    assert made.mask is None
    assert made.back(paint(made)) == paint(made)
    assert made.notes == ()


def test_resized_as_a_latent_it_keeps_nearly_its_own_size(canvas):
    assert canvas(photo(), 96, 64, init={"resize": "latent"}).picture.size == (144, 104)
    masked = canvas(photo(), 96, 64, init={"resize": "latent"}, image=circle(), full_size=False)
    assert masked.picture.size == masked.mask.size == (144, 104)
    assert masked.back(Image.new("RGB", (96, 64))).size == (96, 64)


def test_colour_correction_brings_the_colours_back(canvas):
    made = canvas(photo(), 64, 64, init={"color_correction": True})
    tinted = made.picture.point(lambda value: 40 + value * 3 // 4)
    tinted.putdata([(red, green, blue // 2) for red, green, blue in tinted.get_flattened_data()])
    gap = [np.abs(pixels(i) - pixels(made.picture)).mean() for i in (made.back(tinted), tinted)]
    assert gap[0] < 0.75 * gap[1]


def test_strength_0_gives_the_picture_itself_back(canvas):
    made = canvas(photo(), 152, 112, strength=0)
    assert made.picture.size == (152, 112)
    assert made.back(paint(made)) == photo()
    other = canvas(photo(), 64, 64, strength=0)
    assert other.back(other.picture) == other.picture
    for size in ((1, 1), (40, 9000)):  # no canvas is so small or so large
        odd = canvas(photo(size), *own_size(size), strength=0)
        assert odd.back(paint(odd)) == photo(size)
    for area in ("whole", "masked"):  # enlarged paint would be less sharp
        part = canvas(photo(), 64, 64, strength=0, image=circle(), area=area, full_size=True)
        assert part.back(part.picture) == photo()
    begun = canvas(photo(), 64, 64, strength=0, image=circle(), fill="fill", full_size=True)
    assert begun.back(begun.picture) != photo()
    second = canvas(photo(), 152, 112, strength=0, hires={})
    assert second.back(paint(second, times=2)) == paint(second, times=2)


@pytest.mark.parametrize("softness", ["hard", "differential"])
@pytest.mark.parametrize("fill", ["fill", "original", "latent noise", "latent nothing"])
@pytest.mark.parametrize("area", ["whole", "masked"])
def test_outside_the_mask_the_picture_stays_to_the_last_bit(canvas, area, fill, softness):
    made = canvas(
        photo(), 64, 64, image=circle(), area=area, fill=fill, softness=softness, full_size=True,
        blur=2, padding=8,
    )  # fmt: skip
    assert made.picture.size == made.mask.size == (64, 64)
    done = made.back(paint(made))
    assert (done.size, done.mode) == (SIZE, "RGB")
    distance = np.hypot(*(np.indices(SIZE[::-1]) - np.array([55, 85])[:, None, None]))
    outside, inside = distance > 25 + 8, distance < 24
    assert (pixels(done) == pixels(photo()))[outside].all()
    assert (pixels(done) == (0, 255, 0))[inside].all()


def test_only_the_masked_part_is_seen_with_its_surroundings(canvas):
    made = canvas(photo(), 64, 64, image=circle(), area="masked", padding=10, blur=1)
    placing = made.patch.placing
    assert placing.region == (47, 17, 124, 94)  # the mask, 3 px of blur, 10 of padding
    assert np.abs(pixels(made.picture) - pixels(placing.onto(photo()))).max() == 0
    assert np.abs(pixels(made.back(made.picture)) - pixels(photo())).mean() < 3


def test_everything_has_the_requests_size_where_one_was_given(canvas):
    made = canvas(photo(), 96, 64, image=circle(), full_size=False)
    done = made.back(paint(made))
    assert done.size == (96, 64)
    black = pixels(made.mask) == 0
    assert (pixels(done) == pixels(made.picture))[black].all()
    assert not black.all()


@pytest.mark.parametrize("extra", [{"area": "masked"}, {"full_size": True}, {"full_size": False}])
def test_the_result_of_a_second_run_is_put_back_too(canvas, extra):
    made = canvas(photo(), 96, 64, image=circle(), **extra)
    done = made.back(paint(made, times=2))
    assert done.size == ((192, 128) if extra == {"full_size": False} else SIZE)
    greenest = pixels(done)[55 * done.height // 110, 85 * done.width // 150]
    assert tuple(greenest) == (0, 255, 0)
    assert tuple(pixels(done)[2, 2]) != (0, 255, 0)


def test_less_may_be_taken_than_the_mask_lets_through(canvas):
    made = canvas(photo(), 64, 64, image=circle(), area="masked", softness="soft")
    none = made.back(paint(made), only=Image.new("L", (64, 64)))
    assert none == photo()
    every = made.back(paint(made), only=Image.new("L", (64, 64), 255))
    hard = pixels(made.patch.mask.point(lambda value: 255 if value else 0))
    left, top, right, bottom = made.patch.placing.region
    green = (pixels(every) == (0, 255, 0)).all(-1)[top:bottom, left:right]
    assert (green == (hard > 0)).all()


def test_the_mask_is_inverted_before_anything_else(canvas):
    made = canvas(photo(), 64, 64, image=circle(), invert=True, full_size=True, blur=0)
    done = made.back(paint(made))
    assert tuple(pixels(done)[2, 2]) == (0, 255, 0)
    assert (pixels(done) == pixels(photo()))[55, 85].all()


def test_hard_masks_are_rounded_and_others_keep_their_grey(canvas):
    grey = Image.new("L", SIZE, 120)
    grey.paste(140, (60, 30, 110, 80))
    hard = canvas(photo(), 64, 64, image=grey, blur=0)
    assert hard.mask.getextrema() == (0, 255)
    for softness in ("soft", "differential"):
        assert canvas(photo(), 64, 64, image=grey, blur=0, softness=softness).mask.getextrema() == (
            120,
            140,
        )


def test_a_full_mask_works_and_an_empty_one_is_refused(canvas):
    made = canvas(photo(), 64, 64, image=Image.new("L", SIZE, 255), fill="fill", full_size=True)
    assert made.back(paint(made)) == Image.new("RGB", SIZE, "lime")
    with pytest.raises(BadRequest, match="mask is empty") as caught:
        canvas(photo(), 64, 64, image=Image.new("L", SIZE))
    assert "invert" in caught.value.hint
    with pytest.raises(BadRequest, match="mask is empty"):
        canvas(photo(), 64, 64, sketch=photo())
    with pytest.raises(BadRequest, match="transparent"):
        canvas(photo(), 64, 64, blur=2)


def test_a_mask_of_another_size_fits_and_of_another_shape_is_told(canvas):
    small = canvas(photo(), 64, 64, image=circle().resize((75, 55)))
    assert small.notes == ()
    other = canvas(photo(), 64, 64, image=Image.new("L", (10, 200), 255))
    assert any("10 x 200" in note for note in other.notes)


def test_the_transparent_part_is_painted_and_becomes_opaque(canvas):
    picture = photo().convert("RGBA")
    picture.putalpha(circle().point(lambda value: 255 - value))
    made = canvas(picture, 64, 64, full_size=True, blur=1)
    done = made.back(paint(made))
    assert done.mode == "RGBA"
    assert done.getpixel((85, 55)) == (0, 255, 0, 255)
    kept = pixels(made.patch.mask) == 0
    assert (pixels(done) == pixels(picture))[kept].all()
    # What nobody could see is not what the masked part begins with.
    picture.paste((255, 0, 0, 0), mask=circle())
    assert canvas(picture, 64, 64, full_size=True, blur=1).picture == made.picture


def test_a_mask_of_its_own_leaves_what_is_transparent_alone(canvas):
    picture = photo().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(SIZE))
    done = canvas(picture, 64, 64, image=circle(), full_size=True)
    done = done.back(paint(done))
    assert done.getchannel("A") == picture.getchannel("A")


def test_the_paint_of_a_sketch_is_what_the_result_begins_with(canvas):
    sketch = photo()
    sketch.paste("magenta", (60, 30, 110, 80))
    made = canvas(photo(), 152, 112, sketch=sketch, full_size=True, blur=0)
    assert made.picture.getpixel((86, 56)) == (255, 0, 255)
    done = made.back(paint(made))
    expected = photo()
    expected.paste("lime", (60, 30, 110, 80))
    assert done == expected
    assert any("sketch" in n for n in canvas(photo(), sketch=sketch, fill="fill").notes)


def test_settings_without_effect_are_told(canvas):
    assert any(
        "resize fill" in n
        for n in canvas(photo(), init={"resize": "fill"}, image=circle(), area="masked").notes
    )
    assert any("padding" in n for n in canvas(photo(), image=circle(), padding=5).notes)
    assert any(
        "enlarged" in n for n in canvas(photo((640, 480)), image=circle(), full_size=True).notes
    )


def test_what_is_lost_of_a_mask_is_told_with_a_cure(canvas):
    """Where the network sees only the part already, to say so again would not help."""
    dot = circle(box=(80, 50, 82, 52))
    whole = canvas(photo(), image=dot, blur=0, full_size=True).notes
    assert any("too small for 64 x 64: mask area masked" in note for note in whole)
    masked = canvas(photo(), image=dot, blur=8, area="masked").notes
    assert [note.partition(": ")[2] for note in masked] == ["a smaller mask blur leaves more of it"]
    soft = canvas(photo(), image=dot, blur=64, softness="soft", full_size=True).notes
    assert any("too small" in note for note in soft)
    thin = canvas(photo((64, 64)), 72, 64, outpaint={"left": 1}).notes
    assert thin == ("the margins are too thin for 72 x 64: they are the border drawn out",)
    assert canvas(photo((64, 64)), 72, 64, outpaint={"left": 8}).notes == ()


@pytest.mark.parametrize(
    "margins", [{"left": 32}, {"right": 20, "down": 11}, {"up": 40, "left": 8}]
)
@pytest.mark.parametrize("fill", ["fill", "original", "latent noise"])
def test_outpainting_keeps_the_old_part_but_for_a_blended_border(canvas, margins, fill):
    left, up = margins.get("left", 0), margins.get("up", 0)
    size = (SIZE[0] + left + margins.get("right", 0), SIZE[1] + up + margins.get("down", 0))
    width, height = (-(-side // 8) * 8 for side in size)
    made = canvas(photo(), width, height, outpaint={**margins, "blur": 4, "fill": fill})
    assert made.picture.size == made.mask.size == (width, height)
    done = made.back(paint(made))
    assert done.size == size
    old = pixels(done)[up : up + SIZE[1], left : left + SIZE[0]]
    inner = (
        slice(4 if up else 0, -4 if "down" in margins else None),
        slice(4 if left else 0, -4 if "right" in margins else None),
    )
    assert (old[inner] == pixels(photo())[inner]).all()
    new = np.ones(size[::-1], bool)
    new[up : up + SIZE[1], left : left + SIZE[0]] = False
    assert (pixels(done) == (0, 255, 0))[new].all()


def test_an_outpainted_picture_may_be_painted_smaller_and_keeps_its_pixels(canvas):
    made = canvas(photo((300, 220)), 96, 64, outpaint={"left": 60})
    done = made.back(paint(made))
    assert done.size == (360, 220)
    assert (pixels(done)[:, 64:] == pixels(photo((300, 220)))[:, 4:]).all()
    assert made.notes == (
        "the picture is painted at 96 x 64 and enlarged 3.8 times; a larger size gives more detail",
    )


def test_margins_begin_without_a_seam(canvas):
    made = canvas(photo(grain=0), 216, 112, outpaint={"left": 32, "right": 32})
    border = Image.new("L", (214, 110), 255)
    border.paste(0, (32, 0, 182, 110))
    assert seam(made.back(made.picture), border) <= 1.05


def test_margins_begin_with_colours_near_the_border_alone(canvas):
    picture = Image.new("RGB", SIZE, "white")
    picture.paste("red", (50, 0, 100, 110))
    made = canvas(picture, 216, 112, outpaint={"left": 32, "right": 32})
    assert pixels(made.picture)[:, :32].min() > 250


@pytest.mark.parametrize("blur", [0, 6])
def test_around_a_mask_everything_else_stays(blur):
    made = around(photo(), circle(), size=(128, 128), padding=12, blur=blur)
    assert made.picture.size == (128, 128)
    done = made.back(paint(made))
    assert done.size == SIZE
    assert done.getpixel((85, 55)) == (0, 255, 0)
    reach = 25 + 1 + int(2.5 * blur + 0.5)
    distance = np.hypot(*(np.indices(SIZE[::-1]) - np.array([55, 85])[:, None, None]))
    assert (pixels(done) == pixels(photo()))[distance > reach * 1.42].all()
    with pytest.raises(BadRequest, match="empty"):
        around(photo(), Image.new("L", SIZE), size=(64, 64), padding=0, blur=blur)


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3)])
def test_pictures_of_any_shape_have_a_canvas(canvas, size):
    picture, mask = photo(size), Image.new("L", size, 255)
    for blocks in (
        {},
        {"image": mask, "area": "masked"},
        {"image": mask, "full_size": True},
        {"image": mask},
    ):
        for resize in ("stretch", "crop", "fill", "latent"):
            made = canvas(picture, 64, 64, init={"resize": resize}, **blocks)
            made.back(Image.new("RGB", (64, 64)))
    made = canvas(picture, 64, 64, outpaint={"left": 16, "down": 16})
    assert made.back(paint(made)).size == (size[0] + 16, size[1] + 16)


def test_equal_requests_have_equal_canvases(canvas):
    first, second = (canvas(photo(), image=circle(), fill="fill", area="masked") for _ in range(2))
    assert first.picture == second.picture
    assert first.mask == second.mask
    assert first.back(paint(first)) == second.back(paint(second))


def test_what_is_not_in_the_result_is_said(canvas):
    clear = photo()
    clear.putalpha(circle())
    assert any("taken as white" in note for note in canvas(clear).notes)
    assert not any("white" in note for note in canvas(photo()).notes)
    small = canvas(photo(), 304, 224, image=circle(), full_size=True, hires={})
    assert any("no larger" in note for note in small.notes)
    coarse = canvas(photo(), 64, 64, image=circle(), full_size=True, hires={})
    copied = canvas(photo(), 304, 224, image=circle(), hires={})
    assert not any("no larger" in note for made in (coarse, copied) for note in made.notes)
    around = canvas(photo(), 368, 224, outpaint={"left": 32}, hires={})
    assert any("no larger" in note for note in around.notes)

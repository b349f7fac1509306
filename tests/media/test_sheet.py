import json

import pytest
from PIL import Image

from darkroom.media.lettering import Lettering
from darkroom.media.sheet import KEY, Labels, draw, png


@pytest.fixture
def colors(tmp_path):
    """Pictures of one colour: (x, y, z) -> path."""

    def make(*places, size=(40, 30)):
        made = {}
        for place in places:
            path = tmp_path / f"{'-'.join(map(str, place))}.png"
            Image.new("RGB", size, tuple(60 * part + 20 for part in place)).save(path)
            made[place] = path
        return made

    return make


def test_cells_stand_in_their_places_to_the_pixel(colors):
    pictures = colors((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0))
    sheet = draw(Labels(x=("a", "b"), y=("c", "d"), legend=False), pictures, margin=3)
    assert sheet.image.size == (83, 63)
    assert sheet.image.getpixel((0, 0)) == (20, 20, 20)
    assert sheet.image.getpixel((43, 33)) == (80, 80, 20)
    assert sheet.image.getpixel((41, 31)) == (255, 255, 255)


def test_labels_take_room_and_are_written_there(colors):
    pictures = colors((0, 0, 0), size=(128, 128))
    bare = draw(Labels(legend=False), pictures).image
    named = draw(Labels(x=("steps: 20",), y=("Euler",), z=("cfg 7",)), pictures).image
    assert named.width > bare.width
    assert named.height > bare.height
    legend = named.crop((0, 0, named.width, named.height - 128))
    assert legend.convert("L").getextrema()[0] < 80
    left = named.crop((0, named.height - 128, named.width - 128, named.height))
    assert left.convert("L").getextrema()[0] < 80
    assert named.crop((named.width - 128, named.height - 128, *named.size)).getcolors() == [
        (128 * 128, (20, 20, 20))
    ]


def test_what_is_missing_or_damaged_is_an_empty_field(colors, tmp_path):
    pictures = colors((0, 0, 0))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    pictures[1, 0, 0] = tmp_path / "broken.png"
    image = draw(Labels(x=("", "", ""), legend=False), pictures).image
    assert image.size == (120, 30)
    assert image.getpixel((60, 15)) == image.getpixel((100, 15)) == (236, 236, 236)
    assert draw(Labels(), {}).image.getcolors() == [(256 * 256, (236, 236, 236))]


def test_blocks_of_z_stand_below_each_other(colors):
    pictures = colors((0, 0, 0), (0, 0, 1))
    image = draw(Labels(z=("one", "two"), legend=False), pictures, margin=2).image
    assert image.size == (40, 62)
    assert image.getpixel((5, 40)) == (20, 20, 80)


def test_pictures_of_several_sizes_stand_in_the_middle_of_their_cells(colors):
    pictures = colors((0, 0, 0)) | colors((1, 0, 0), size=(80, 90))
    image = draw(Labels(x=("", ""), legend=False), pictures).image
    assert image.size == (160, 90)
    assert image.getpixel((40, 45)) == (20, 20, 20)
    assert image.getpixel((10, 45)) == (255, 255, 255)


def test_a_sheet_that_would_be_too_large_is_scaled_and_says_so(colors):
    pictures = colors((0, 0, 0), size=(400, 400))
    labels = Labels(x=("",) * 4, y=("",) * 4, legend=False)
    sheet = draw(labels, pictures, most=250_000)
    assert sheet.image.width * sheet.image.height <= 250_000
    assert sheet.image.width > 450
    assert "scaled" in sheet.notes[0]
    assert draw(labels, pictures).notes == ()


def test_the_file_carries_the_settings_and_the_request(colors, tmp_path):
    data = png(draw(Labels(), colors((0, 0, 0))), parameters="a cat", grid={"x": "été"})
    (tmp_path / "sheet.png").write_bytes(data)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.text["parameters"] == "a cat"
        assert json.loads(image.text[KEY]) == {"x": "été"}


def test_long_labels_are_wrapped_and_cut():
    letters = Lettering.of(14, ["a"])
    text = "a very long label that says everything about everything " * 3
    lines = letters.wrapped(text, 120, 3)
    assert len(lines) == 3
    assert all(letters.width(line) <= 120 for line in lines)
    assert lines[-1].endswith("…")
    assert lines[0].startswith("a very")
    word = letters.wrapped("x" * 500, 100, 2)
    assert len(word) == 2
    assert all(letters.width(line) <= 100 for line in word)
    assert letters.wrapped("  ", 100) == []
    assert letters.wrapped("short", 100, 1) == ["short"]


def test_letters_that_no_font_has_are_said_to_be_missing():
    assert not Lettering.of(14, ["Größe: 20 µm"]).missing
    assert Lettering.of(14, ["\U000f0000"]).missing

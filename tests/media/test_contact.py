"""Contact sheets."""

import pytest
from PIL import Image

from darkroom.media.contact import EMPTY, LEAST_FIELD, contact_sheets


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        Image.new("RGB", (300, 200), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_pictures_are_in_rows_and_pages(folder):
    pages = list(contact_sheets(sorted(folder.iterdir()), columns=2, rows=2, field=200))
    assert len(pages) == 2
    first, second = (page.image for page in pages)
    assert first.width == 2 * (200 + 16) + 16
    assert second.width == 200 + 2 * 16
    colours = {first.getpixel((16 + 100 + 216 * x, 16 + 100)) for x in (0, 1)}
    assert colours == {(0, 0, 0), (40, 0, 0)}
    assert second.getpixel((116, 116)) == (160, 0, 0)


def test_what_cannot_be_read_leaves_a_field_and_is_named(folder):
    (folder / "1.png").write_bytes(b"no picture")
    (page,) = contact_sheets(sorted(folder.iterdir()), columns=5, field=200)
    assert [path.name for path in page.unread] == ["1.png"]
    assert page.image.getpixel((16 + 216 + 5, 20)) == tuple(bytes.fromhex(EMPTY[1:]))


def test_fields_are_no_larger_than_the_pictures(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (page,) = contact_sheets([tmp_path / "a.png"], field=512)
    assert page.image.width == LEAST_FIELD + 2 * 16


def test_names_are_written_below(folder):
    (page,) = contact_sheets([folder / "0.png"], field=200)
    below = page.image.crop((16, 216, 216, page.image.height))
    assert below.convert("L").getextrema()[0] < 100

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from darkroom.core.errors import BadFile
from darkroom.core.recipe import Recipe
from darkroom.core.request import ResolvedRequest
from darkroom.media.image import save
from darkroom.media.metadata import read_recipe
from darkroom.media.metadata.png import SIGNATURE, text_chunks

PROMPT = 'תפוח 🍎 "quoted" \n<b>'
RECIPE = Recipe(
    request=ResolvedRequest(prompt=PROMPT, width=64, height=64, steps=3, cfg_scale=7, seed=5),
    seed=5,
)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks) + chunk(b"IEND", b"")


def itxt(key: bytes, text: bytes) -> bytes:
    return chunk(b"iTXt", key + b"\0\1\0\0\0" + zlib.compress(text))


@pytest.fixture
def picture(tmp_path):
    return save(Image.new("RGB", (8, 8), "red"), RECIPE, iter([tmp_path / "a.png"]))


def test_the_recipe_comes_back(picture):
    assert read_recipe(picture.path) == RECIPE
    with Image.open(picture.path) as image:
        assert image.getpixel((3, 3)) == (255, 0, 0)


def test_all_three_kinds_of_text_are_read(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(
        png(
            chunk(b"tEXt", b"a\0caf\xe9"),
            chunk(b"zTXt", b"b\0\0" + zlib.compress(b"packed")),
            itxt(b"c", "אבג".encode()),
            chunk(b"IDAT", b"123"),
            chunk(b"tEXt", b"d\0behind the pixels"),
        )
    )
    assert text_chunks(path) == {"a": "café", "b": "packed", "c": "אבג", "d": "behind the pixels"}


def test_a_zip_bomb_is_refused_by_size(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(itxt(b"darkroom", b"0" * (64 << 20))))
    assert path.stat().st_size < 100_000
    with pytest.raises(BadFile, match="unpacks to more than 16 MiB"):
        read_recipe(path)


def test_what_holds_no_recipe_says_so(tmp_path):
    plain = tmp_path / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    with pytest.raises(BadFile, match="holds no Darkroom recipe"):
        read_recipe(plain)
    with pytest.raises(BadFile, match="does not exist"):
        read_recipe(tmp_path / "none.png")
    with pytest.raises(BadFile, match="is a folder"):
        read_recipe(tmp_path)
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(BadFile, match="not a PNG"):
        read_recipe(tmp_path / "page.png")


@settings(max_examples=200)
@given(cut=st.integers(0, 400), flip=st.integers(0, 400), bit=st.integers(0, 7))
def test_a_damaged_file_is_never_more_than_a_bad_file(tmp_path_factory, cut, flip, bit):
    folder = tmp_path_factory.mktemp("png")
    whole = bytearray(
        save(Image.new("RGB", (8, 8)), RECIPE, iter([folder / "a.png"])).path.read_bytes()
    )
    whole[flip % len(whole)] ^= 1 << bit
    damaged = folder / "b.png"
    damaged.write_bytes(whole[: len(whole) - cut % len(whole)])
    try:
        recipe = read_recipe(damaged)
    except BadFile as error:
        assert "\n" not in error.sentence()
    else:
        assert isinstance(recipe, Recipe)

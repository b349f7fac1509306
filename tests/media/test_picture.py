import io
import os
import random
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from darkroom.core.errors import BadFile, TooLarge
from darkroom.media.picture import decode, flat, picture_size, read_picture

SIZE = (30, 20)


def photo(size=SIZE):
    """Smooth, with another colour in each corner."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    return Image.fromarray(np.stack([255 * x, 255 * y, 255 * (1 - x)], -1).astype(np.uint8))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(data, name="photo.png", **options):
    return decode(io.BytesIO(data), name, **options)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, color, rows):
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("kind", "most"),
    [("PNG", 0), ("BMP", 0), ("TIFF", 0), ("PPM", 0), ("WEBP", 20), ("JPEG", 20), ("AVIF", 20)],
)
def test_common_kinds_of_files_become_rgb(kind, most):
    picture = read(encoded(photo(), kind))
    assert (picture.mode, picture.size) == ("RGB", SIZE)
    assert np.abs(np.asarray(picture, int) - np.asarray(photo(), int)).max() <= most


def test_a_kind_is_told_by_its_bytes_and_targa_by_its_name():
    assert read(encoded(photo(), "JPEG"), "photo.png").size == SIZE
    assert read(encoded(photo(), "TGA"), "photo.tga") == photo()
    with pytest.raises(BadFile):
        read(encoded(photo(), "TGA"), "photo.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_other_modes_become_rgb_without_being_clipped(mode):
    grey = photo().convert("L")
    image = {
        "1": grey.convert("1"),
        "L": grey,
        "P": grey.convert("P"),
        "CMYK": grey.convert("RGB").convert("CMYK"),
        "YCbCr": grey.convert("RGB").convert("YCbCr"),
        "I;16": Image.fromarray(np.asarray(grey, np.uint16) * 257),
        "I": Image.fromarray(np.asarray(grey, np.int32) * 257),
        "F": Image.fromarray(np.asarray(grey, np.float32) / 255),
    }[mode]
    assert image.mode == mode
    picture = read(encoded(image, "TIFF"))
    expected = np.asarray(grey.convert("1").convert("L") if mode == "1" else grey, int)
    assert picture.mode == "RGB"
    assert np.abs(np.asarray(picture, int) - expected[..., None]).max() <= 1


def test_sixteen_bits_for_each_colour_are_scaled():
    values = np.linspace(0, 65535, 12).astype(">u2").reshape(2, 6)
    data = png(2, 2, 16, 2, b"".join(b"\0" + row.tobytes() for row in values))
    pixels = np.asarray(read(data), float).ravel()
    assert np.abs(pixels - values.ravel() / 257).max() <= 1


def test_measurements_that_are_no_brightness_are_refused():
    values = np.full((4, 4), 1e9, np.float32)
    with pytest.raises(BadFile, match="measurements"):
        read(encoded(Image.fromarray(values), "TIFF"))
    values[0, 0] = np.nan
    with pytest.raises(BadFile, match="measurements"):
        read(encoded(Image.fromarray(values), "TIFF"))


def test_transparent_parts_are_kept_when_asked_for_and_else_laid_on_white():
    image = photo().convert("RGBA")
    image.putpixel((3, 4), (10, 20, 30, 0))
    kept = read(encoded(image, "PNG"), alpha=True)
    assert kept.mode == "RGBA"
    assert kept.getpixel((3, 4)) == (10, 20, 30, 0)
    laid = read(encoded(image, "PNG"))
    assert laid.mode == "RGB"
    assert laid.getpixel((3, 4)) == (255, 255, 255)
    assert laid == flat(kept)


def test_a_picture_without_transparent_parts_is_rgb_whatever_its_mode():
    assert read(encoded(photo().convert("RGBA"), "PNG"), alpha=True) == photo()


@pytest.mark.parametrize("mode", ["LA", "P", "L"])
def test_transparency_of_every_kind_is_found(mode):
    image = photo().convert("L")
    options = {}
    if mode == "LA":
        image.putalpha(Image.new("L", SIZE, 100))
    else:
        image = image.convert(mode)
        options["transparency"] = image.getpixel((0, 0))
    alpha = read(encoded(image, "PNG", **options), alpha=True).getchannel("A")
    assert alpha.getpixel((0, 0)) == (100 if mode == "LA" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(orientation, kind, tmp_path):
    upright = photo((48, 32))
    stored = {
        1: lambda i: i,
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.rotate(180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
        6: lambda i: i.rotate(90, expand=True),
        7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
        8: lambda i: i.rotate(-90, expand=True),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{kind}"
    stored.save(path, kind, exif=exif)
    picture = read_picture(path)
    assert picture.size == picture_size(path) == upright.size
    assert np.abs(np.asarray(picture, int) - np.asarray(upright, int)).mean() < 3
    assert not picture.info
    assert not picture.getexif()


def test_damaged_exif_does_not_matter():
    exif = b"Exif\0\0II*\0\xff\xff\xff\xff"
    assert read(encoded(photo(), "PNG", exif=exif)) == photo()


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", SIZE, color) for color in ("red", "lime")]
    for kind in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert read(data).getpixel((0, 0)) == (255, 0, 0)


def test_colours_of_another_space_become_srgb():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    lab = ImageCms.profileToProfile(
        photo(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    picture = read(encoded(lab, "TIFF"))
    assert np.abs(np.asarray(picture, int) - np.asarray(photo(), int)).mean() < 3
    # A profile of another kind of colours, or a damaged one, is passed over.
    assert read(encoded(photo(), "PNG", icc_profile=profile)) == photo()
    assert read(encoded(photo(), "PNG", icc_profile=b"nonsense")) == photo()


def test_srgb_pixels_stay_what_they_are():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read(encoded(photo(), "PNG", icc_profile=profile)) == photo()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_is_cut_off_is_refused(kind, share):
    data = encoded(photo((90, 60)), kind)
    with pytest.raises(BadFile, match=r"cut.off|damaged") as caught:
        read(data[: int(len(data) * share)])
    if kind != "AVIF":
        assert "cut" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (bytes(100), "nothing but zeros"),
        (b'<?xml version="1.0"?>\n<svg width="9"/>', "SVG"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
        (b"\0\0\0\x18ftypisom" + bytes(50), "video"),
        (b"%PDF-1.7 and so on", "PDF"),
        (b"PK\x03\x04 and so on", "archive"),
        (b"8BPS\0\x01 and so on", "Photoshop"),
        (b"an ordinary text", "a text, not a picture"),
        (png(0, 5, 8, 2, b""), "damaged|without pixels"),
    ],
)
def test_what_is_no_picture_is_said(data, said):
    with pytest.raises(BadFile, match=said) as caught:
        read(data)
    assert "\n" not in caught.value.sentence()
    assert caught.value.hint


@pytest.mark.parametrize("size", [(20_000, 20_000), (40_000, 2), (2, 60_000)])
def test_what_is_too_large_is_refused_by_its_head(size):
    bomb = png(*size, 8, 2, b"")
    tracemalloc.start()
    with pytest.raises(TooLarge, match="pixels") as caught:
        read(bomb)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
    assert caught.value.hint


def test_a_single_pixel_is_a_picture():
    assert read(encoded(photo((1, 1)), "PNG")).size == (1, 1)


def test_what_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(BadFile, match="is a folder"):
        read_picture(tmp_path)
    with pytest.raises(BadFile, match="there is no file"):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(BadFile, match="there is no file"):
        read_picture(tmp_path / "nul\0.png")
    with pytest.raises(BadFile, match="no name of a file"):
        read_picture(tmp_path / ("x" * 300))
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(BadFile):
        read_picture(tmp_path / "loop.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadFile, match="pipe"):
        read_picture(tmp_path / "pipe.png")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(BadFile, match="permission"):
        read_picture(tmp_path / "secret.png")


def mutated(data, chance):
    """`data` with some bytes changed, cut out, doubled or exchanged."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(out) or 1)
        match chance.randrange(4):
            case 0:
                out[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del out[place : place + chance.randint(1, 40)]
            case 2:
                out[place:place] = out[place : place + chance.randint(1, 40)]
            case 3:
                out[place : place + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
    return bytes(out)


def seeds():
    clear = photo((24, 16)).convert("RGBA")
    clear.putalpha(photo((24, 16)).convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    cmyk = photo((24, 16)).convert("CMYK")
    deep = Image.fromarray(np.asarray(photo((24, 16)).convert("L"), np.uint16) * 257)
    plain = [encoded(photo((24, 16)), kind) for kind in ("PNG", "WEBP", "GIF", "BMP", "PPM")]
    return [
        *plain,
        encoded(photo((24, 16)), "JPEG", exif=exif),
        encoded(photo((24, 16)), "AVIF"),
        encoded(clear, "PNG"),
        encoded(clear, "WEBP"),
        encoded(photo((24, 16)).convert("P"), "PNG", transparency=3),
        encoded(deep, "PNG"),
        encoded(cmyk, "TIFF", compression="tiff_lzw"),
        encoded(photo((24, 16)), "TIFF", compression="tiff_adobe_deflate", exif=exif),
        encoded(deep, "TIFF"),
    ]


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_and_nothing_else(capfd):
    chance, kept = random.Random(1), seeds()
    slowest = 0.0
    for number in range(4000):
        data = mutated(chance.choice(kept), chance)
        name = chance.choice(("photo.png", "photo.tga"))
        began = time.monotonic()
        try:
            picture = read(data, name, alpha=True)
        except BadFile as error:
            assert error.hint, (number, error)
            assert "\n" not in error.sentence()
        else:
            assert picture.mode in ("RGB", "RGBA")
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5
    assert capfd.readouterr() == ("", "")

"""What is written into files: read back by us, by Pillow, and straight from the bytes."""

import io
import re
import zlib

import pytest
from PIL import Image, ImageChops

from darkroom.core.errors import BadRequest
from darkroom.core.recipe import Recipe, UsedModel
from darkroom.core.request import ResolvedRequest
from darkroom.media.files import SUFFIXES
from darkroom.media.image import Saving, encode, save
from darkroom.media.metadata import find, infotext, read_recipe, stealth
from darkroom.media.metadata.carried import carried_in
from darkroom.media.metadata.embed import EMBED

PROMPT = 'תפוח 🍎 "quoted", \n<b>&amp; it\'s \t100%'
RECIPE = Recipe(
    request=ResolvedRequest(
        prompt=PROMPT,
        negative_prompt="blurry",
        width=64,
        height=64,
        steps=3,
        cfg_scale=7,
        seed=5,
    ),
    seed=5,
    models=(UsedModel(name="tiny", sha256="ab" * 32),),
    versions={"darkroom": "0.1"},
)
INFOTEXT = infotext.write(RECIPE)
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))
USER_COMMENT = 0x9286


def noise(mode="RGB", size=(64, 64)):
    return Image.effect_noise(size, 90).convert(mode)


def with_prompt(prompt):
    return RECIPE.model_copy(
        update={"request": RECIPE.request.model_copy(update={"prompt": prompt})}
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_recipe_and_infotext_come_back(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    saved = save(noise(), RECIPE, iter([path]), saving=Saving(format=kind))
    assert saved.path == path
    assert read_recipe(path) == RECIPE
    found = find(path)
    assert (found.source, found.recipe, found.prompt) == ("darkroom", RECIPE, PROMPT)
    with path.open("rb") as file:
        texts = carried_in(file, "a").texts
    assert INFOTEXT in texts.values()


def test_a_png_holds_what_a1111_looks_for(tmp_path):
    data = encode(noise(), RECIPE, Saving())
    with Image.open(io.BytesIO(data)) as image:
        assert image.text["parameters"] == INFOTEXT
        assert Recipe.from_json(image.text["darkroom"]) == RECIPE
    plain = encode(noise(), with_prompt("a cat"), Saving())
    (found,) = re.findall(rb"tEXtparameters\0(a cat\n.*?Darkroom 0.1)", plain, re.DOTALL)
    assert found.decode("latin-1") == infotext.write(with_prompt("a cat"))


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_exif_is_what_a1111_looks_for(kind):
    data = encode(noise(), RECIPE, Saving(format=kind))
    with Image.open(io.BytesIO(data)) as image:
        comment = image.getexif().get_ifd(0x8769)[USER_COMMENT]
        assert image.format == kind.upper()
    assert comment == b"UNICODE\0" + INFOTEXT.encode("utf-16-be")
    assert comment in data  # and so for who reads the bytes
    assert b"<darkroom:recipe>" in data


def test_a_gif_has_the_infotext_as_its_comment(tmp_path):
    path = tmp_path / "a.gif"
    noise("P").save(path, **EMBED["gif"](RECIPE))
    found = find(path)
    assert (found.source, found.prompt, found.recipe) == ("darkroom", PROMPT, None)
    assert found.fields()["steps"] == 3


def test_no_metadata_if_so_chosen():
    for kind in FORMATS:
        data = encode(noise(), RECIPE, Saving(format=kind, metadata=False))
        assert not carried_in(io.BytesIO(data), "a").texts
        assert b"darkroom" not in data


def test_quality_is_kept_or_given_away():
    image = noise()
    sizes = [len(encode(image, RECIPE, Saving(format="jpeg", quality=q))) for q in (30, 90)]
    assert sizes[0] < sizes[1]
    lossless = encode(image, RECIPE, Saving(format="webp", quality=100))
    with Image.open(io.BytesIO(lossless)) as back:
        assert back.convert("RGB").tobytes() == image.tobytes()


@pytest.mark.parametrize(
    "wrong", [{"quality": 0}, {"quality": 101}, {"stealth": True, "format": "jpeg"}]
)
def test_choices_that_cannot_be(wrong):
    with pytest.raises(BadRequest):
        Saving(**wrong)


def test_what_does_not_fit_is_said():
    long = with_prompt("אב" * 20_000)
    with pytest.raises(BadRequest, match="too long for a JPEG"):
        encode(noise(), long, Saving(format="jpeg"))
    for kind in ("png", "webp", "avif"):
        data = encode(noise(), long, Saving(format=kind))
        texts = carried_in(io.BytesIO(data), "a").texts
        assert infotext.write(long) in texts.values()
    longest = with_prompt("a" * 32_000)
    assert encode(noise(), longest, Saving(format="jpeg"))
    with pytest.raises(BadRequest, match="at most 16383 pixels a side"):
        encode(Image.new("L", (16_384, 1)), RECIPE, Saving(format="webp"))


def test_a_file_that_is_there_stays(tmp_path):
    (tmp_path / "a.webp").write_bytes(b"mine")
    names = iter([tmp_path / "a.webp", tmp_path / "a-1.webp"])
    saved = save(noise(), RECIPE, names, saving=Saving(format="webp"))
    assert saved.path.name == "a-1.webp"
    assert (tmp_path / "a.webp").read_bytes() == b"mine"


def bits_of_columns(image, channels):
    """Slowly, as the form is told: x outer, y inner, the lowest bit of each channel."""
    pixels = image.load()
    for x in range(image.width):
        for y in range(image.height):
            yield from (pixels[x, y][channel] & 1 for channel in channels)


def packed(bits):
    digits = "".join(map(str, bits))
    return bytes(int(digits[k : k + 8], 2) for k in range(0, len(digits) // 8 * 8, 8))


def test_hidden_metadata_lie_where_novelai_puts_them(tmp_path):
    image = noise(size=(80, 72))
    data = encode(image, RECIPE, Saving(stealth=True))
    with Image.open(io.BytesIO(data)) as hidden:
        raw = packed(bits_of_columns(hidden, (3,)))
        assert hidden.convert("RGB").tobytes() == image.tobytes()
        assert min(hidden.getchannel("A").tobytes()) == 254
    assert raw[:15] == b"stealth_pngcomp"
    length = int.from_bytes(raw[15:19], "big") // 8
    assert zlib.decompress(raw[19 : 19 + length], 31).decode() == INFOTEXT
    path = tmp_path / "stripped.png"
    with Image.open(io.BytesIO(data)) as hidden:
        hidden.save(path)
    assert b"parameters" not in path.read_bytes()
    assert find(path).prompt == PROMPT


def test_hidden_metadata_leave_what_is_transparent(tmp_path):
    image = noise(size=(80, 72)).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    path = tmp_path / "hidden.png"
    path.write_bytes(encode(image, RECIPE, Saving(stealth=True)))
    with Image.open(path) as hidden:
        gap = ImageChops.difference(hidden.getchannel("A"), image.getchannel("A"))
        assert gap.getextrema() == (0, 1)
        assert hidden.convert("RGB").tobytes() == image.convert("RGB").tobytes()
        hidden.load()
        hidden.info.clear()
        hidden.save(path)
    assert find(path).prompt == PROMPT


def test_a_small_picture_has_no_room_to_hide_in():
    with pytest.raises(BadRequest, match="room for 8 bytes"):
        stealth.hide(Image.new("RGB", (8, 8)), "x")


@pytest.mark.parametrize(
    ("signature", "channels", "gzipped"),
    [
        (b"stealth_pnginfo", (3,), False),
        (b"stealth_pngcomp", (3,), True),
        (b"stealth_rgbinfo", (0, 1, 2), False),
        (b"stealth_rgbcomp", (0, 1, 2), True),
    ],
)
def test_every_hidden_form_is_read(tmp_path, signature, channels, gzipped):
    text = b"a cat\nSteps: 4, Sampler: Euler, Seed: 1"
    body = zlib.compress(text, wbits=31) if gzipped else text
    data = signature + (8 * len(body)).to_bytes(4, "big") + body
    bits = iter("".join(f"{byte:08b}" for byte in data))
    image = noise("RGBA" if channels == (3,) else "RGB")
    pixels = image.load()
    for x in range(image.width):
        for y in range(image.height):
            values = list(pixels[x, y])
            for channel in channels:
                values[channel] = values[channel] & 254 | int(next(bits, "0"))
            pixels[x, y] = tuple(values)
    image.save(tmp_path / "a.png")
    found = find(tmp_path / "a.png")
    assert (found.prompt, found.settings["Steps"], found.source) == ("a cat", "4", "a1111")


def hostile_alpha(data, size=(64, 64)):
    image = noise("RGBA", size)
    alpha = Image.new("L", size, 255)
    for k, bit in enumerate("".join(f"{byte:08b}" for byte in data)):
        alpha.putpixel((k // size[1], k % size[1]), 254 | int(bit))
    image.putalpha(alpha)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer


@pytest.mark.parametrize(
    "data",
    [
        b"stealth_pnginfo" + b"\xff" * 4 + b"x",
        b"stealth_pngcomp" + (80).to_bytes(4, "big") + b"not gzip!!",
        b"stealth_pngcomp" + (8 * 300).to_bytes(4, "big")
        + zlib.compress(b"0" * 40_000_000, 9, wbits=31)[:300],
    ],
)  # fmt: skip
def test_hidden_nonsense_is_no_metadata(data):
    text = stealth.find(hostile_alpha(data), "a")
    assert text is None or len(text) <= 16 << 20


def test_a_gigantic_picture_is_not_decoded(monkeypatch):
    buffer = hostile_alpha(b"stealth_pnginfo" + (8).to_bytes(4, "big") + b"x")
    assert stealth.find(buffer, "a") == "x"
    monkeypatch.setattr(stealth, "MAX_PIXELS", 64 * 64 - 1)
    assert stealth.find(buffer, "a") is None


def test_a_jpeg_of_a_transparent_picture_lies_on_white():
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    data = encode(clear, RECIPE, Saving(format="jpeg"))
    assert Image.open(io.BytesIO(data)).getpixel((8, 8)) == (255, 255, 255)

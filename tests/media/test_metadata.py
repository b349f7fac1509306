"""Files and what they carry, honest ones and hostile ones."""

import io
import json
import struct
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from darkroom.core.errors import BadFile
from darkroom.core.recipe import Recipe
from darkroom.core.request import ResolvedRequest
from darkroom.media.image import Saving, encode
from darkroom.media.metadata import Found, find, read_recipe
from darkroom.media.metadata.carried import Carried, carried_in, parse_object
from darkroom.media.metadata.readers import interpret
from media.bytes_of import (
    XMP_HEAD,
    chunk,
    exif,
    gif,
    itxt,
    jpeg,
    png,
    text,
    unicode,
    webp,
)

INFOTEXT = "a cat – תפוח 🍎\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 5"
RECIPE = Recipe(
    request=ResolvedRequest(prompt="x", width=64, height=64, steps=3, cfg_scale=7, seed=5), seed=5
)


def carried(data, name="a"):
    return carried_in(io.BytesIO(data), name)


def found_in(data):
    """As `find` has it, but for the files beside."""
    given = carried(data)
    if (found := interpret(given)) is None and given.refused:
        raise given.refused
    return found


def put(tmp_path, data, name="a.png"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_all_kinds_of_text_in_a_png_are_read_before_and_behind_the_pixels():
    data = png(
        chunk(b"tEXt", b"a\0caf\xe9"),
        chunk(b"zTXt", b"b\0\0" + zlib.compress(b"packed")),
        itxt("c", "אבג".encode()),
        itxt("d", b"plain", packed=False),
        chunk(b"IDAT", b"123"),
        text("e", "behind the pixels"),
        chunk(b"eXIf", exif({0x9286: unicode("commented", "utf-16-le")})),
    )
    found = carried(data)
    assert found.texts == {
        "a": "café", "b": "packed", "c": "אבג", "d": "plain", "e": "behind the pixels",
        "UserComment": "commented",
    }  # fmt: skip
    assert (found.kind, found.size) == ("png", (64, 48))


def comment(charset="utf-16-be", order=">"):
    return exif({0x9286: unicode(INFOTEXT, charset)}, order=order)


@pytest.mark.parametrize(
    "data",
    [
        png(itxt("parameters", INFOTEXT.encode())),
        png(chunk(b"eXIf", comment())),
        jpeg((0xE0, b"JFIF\0"), (0xE1, b"Exif\0\0" + comment())),
        jpeg((0xE1, b"Exif\0\0" + comment("utf-16-le", "<"))),
        jpeg((0xE1, b"Exif\0\0" + comment("utf-16-le", ">"))),
        jpeg((0xE1, b"Exif\0\0" + comment("utf-16-be", "<"))),
        jpeg((0xE1, b"Exif\0\0" + comment("utf-16", "<"))),
        jpeg((0xE1, b"Exif\0\0" + exif({0x9286: b"ASCII\0\0\0" + INFOTEXT.encode()}))),
        jpeg((0xE1, b"Exif\0\0" + exif({0x9286: INFOTEXT.encode()}))),
        jpeg((0xE1, b"Exif\0\0" + exif({0x010E: INFOTEXT.encode() + b"\0"}, sub=False))),
        jpeg((0xFE, INFOTEXT.encode())),
        webp((b"VP8X", bytes(10)), (b"VP8 ", b"odd"), (b"EXIF", comment())),
        webp((b"EXIF", b"Exif\0\0" + comment())),
        gif(INFOTEXT.encode() * 1),
        comment(),
        INFOTEXT.encode(),
        b"\xef\xbb\xbf" + INFOTEXT.encode(),
    ],
)
def test_an_infotext_is_found_wherever_programs_put_it(data):
    found = interpret(carried(data))
    assert (found.prompt, found.negative_prompt) == ("a cat – תפוח 🍎", "dog")
    assert found.settings == {"Steps": "20", "Sampler": "Euler a", "Seed": "5"}


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "TIFF", "PNG"])
def test_what_pillow_writes_is_read(kind):
    tags = Image.Exif()
    tags.get_ifd(0x8769)[0x9286] = unicode(INFOTEXT, "utf-16-be")
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, kind, exif=tags.tobytes())
    found = carried(buffer.getvalue())
    assert found.texts["UserComment"] == INFOTEXT
    assert found.kind == kind.lower()


def test_type_is_told_by_content_and_not_by_name(tmp_path):
    data = jpeg((0xE1, b"Exif\0\0" + comment()))
    assert find(put(tmp_path, data, "a.png")).settings["Steps"] == "20"
    assert find(put(tmp_path, INFOTEXT.encode(), "b.webp")).settings["Steps"] == "20"


@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.png.txt"])
def test_a_text_beside_the_picture_is_read(tmp_path, name):
    path = put(tmp_path, png())
    assert find(path) is None
    fields = {"c": "a fox", "steps": 3}
    put(tmp_path, json.dumps(fields).encode() if "json" in name else INFOTEXT.encode(), name)
    assert find(path).settings["Steps"] in ("3", "20")


def test_a_caption_for_training_is_no_metadata(tmp_path):
    put(tmp_path, b"a photo of a cat, outdoors", "a.txt")
    assert find(put(tmp_path, png())) is None


def test_a_camera_is_no_program_of_ours():
    tags = {0x010F: b"Canon\0", 0x0110: b"EOS 5D\0", 0x0131: b"GIMP 2.10\0"}
    data = jpeg((0xE1, b"Exif\0\0" + exif(tags, sub=False)), (0xFE, b"Created with GIMP"))
    assert interpret(carried(data)) is None


def test_xmp_is_read_as_element_and_as_attribute():
    for packet in (
        b'<rdf:Description exif:UserComment="{&quot;c&quot;: &quot;fox&quot;}"/>',
        b"<exif:UserComment><rdf:Alt><rdf:li xml:lang='x'>{&quot;c&quot;: &#34;fox&quot;}"
        b"</rdf:li></rdf:Alt></exif:UserComment>",
    ):
        expected = {"exif:UserComment": '{"c": "fox"}'}
        assert carried(jpeg((0xE1, XMP_HEAD + packet))).texts == expected
        assert carried(webp((b"XMP ", packet))).texts == expected
        assert carried(png(itxt("XML:com.adobe.xmp", packet))).texts == expected


def test_a_damaged_recipe_leaves_the_infotext():
    data = png(text("parameters", "a\nSteps: 1, Seed: 2, Version: Darkroom 9"),
               itxt("darkroom", b'{"format": 9}'))  # fmt: skip
    found = interpret(carried(data))
    assert (found.source, found.recipe, found.settings["Seed"]) == ("darkroom", None, "2")


def test_what_holds_no_recipe_says_so(tmp_path):
    with pytest.raises(BadFile, match="holds no Darkroom recipe"):
        read_recipe(put(tmp_path, png()))
    with pytest.raises(BadFile, match="does not exist"):
        read_recipe(tmp_path / "none.png")
    with pytest.raises(BadFile, match="is a folder"):
        read_recipe(tmp_path)
    with pytest.raises(BadFile, match="not a picture"):
        read_recipe(put(tmp_path, b"<html>"))
    with pytest.raises(BadFile, match="not a picture"):
        read_recipe(put(tmp_path, bytes(100)))


# ---- hostile files ------------------------------------------------------------------------------

BOMB = zlib.compress(b"0" * (64 << 20))
DEEP = b'{"prompt": ' + b"[" * 1_000_000
IFD_LOOP = b"MM\0*" + struct.pack(">IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png(chunk(b"zTXt", b"a\0\0" + BOMB)), "unpacks to more than 16 MiB"),
        (png(chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB)), "unpacks to more than 16 MiB"),
        (png(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(15 << 20)))] * 5), "more than 48 MiB"),
        (png(chunk(b"tEXt", b"a\0" + b"x" * 99, length=0x7FFFFFFF)), "too long"),
        (png(chunk(b"tEXt", b"", length=0x7FFFFFFF)), "cut off"),
        (png(text("Software", "x"), chunk(b"zTXt", b"a\0\0" + BOMB)), "more than 16 MiB"),
        (png(*[chunk(b"zTXt", b"a\0\0" + BOMB)] * 100), "more than 16 MiB"),
        (png(chunk(b"iTXt", b"a\0\1\0\0\0no zlib")), "damaged text"),
        (png(*[chunk(b"IDAT", b"")] * 100_001), "too many chunks"),
        (png()[:20], "cut off"),
        (png(chunk(b"IDAT", b"", length=0x7FFFFFFF)), "cut off"),
        (jpeg()[:3] + b"\xe1\xff\xff", "cut off"),
        (webp((b"EXIF", b""))[:18], "cut off"),
        (b"\0\0\0\x20ftypavif" + bytes(20) + b"\x7f\0\0\0meta" + bytes(20), "too long"),
    ],
)
def test_what_is_too_large_or_not_whole_is_refused_with_a_word(data, said):
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(BadFile, match=said) as error:
        found_in(data)
    assert error.value.hint
    assert time.process_time() - start < 3
    assert tracemalloc.get_traced_memory()[1] < 120 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        png(itxt("prompt", DEEP)),
        png(itxt("Comment", b'{"a":' * 200_000), text("Software", "NovelAI")),
        png(itxt("prompt", b'{"1": {"class_type": "KSampler", "inputs": 5}}')),
        png(itxt("parameters", b"\xff\xfe\xed\xa0\x80 lone surrogates")),
        png(itxt("parameters", b'"\\ud800"\nSteps: 1, Seed: 2, Note: "\\ud800"')),
        png(itxt("prompt", b'{"1": ' + b"9" * 100_000 + b"}")),
        png(itxt("prompt", b'{"1": NaN, "2": 1e999}')),
        jpeg((0xE1, b"Exif\0\0" + IFD_LOOP)),
        jpeg((0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")),
        jpeg((0xE1, b"Exif\0\0MM")),
        jpeg((0xE1, b"Exif\0\0" + exif({0x9286: b"UNICODE\0\xd8"}))),
        jpeg((0xE1, XMP_HEAD + b"<exif:UserComment" * 3000)),
        jpeg((0xE1, XMP_HEAD + b"<!DOCTYPE x [<!ENTITY a 'b'>]><exif:UserComment>&a;</exif:User")),
        webp((b"EXIF", b""), (b"XMP ", b"\xff" * 50)),
        b"RIFF\xff\xff\xff\xffWEBP" + b"EXIF\0\0\0\0" * 1000,
        gif(b""),
        gif(b"x")[:14],
        b"\0\0\0\x10ftypavif" + b"\0\0\0\0\0\0\0\x30meta\0\0\0\0" + b"\0\0\0\x10iloc" + b"\xff" * 99,
        b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 30,
        b'{"nodes": [1, null, {"type": 5}], "links": [[1], 5, {"id": []}]}',
        b'{"sui_image_params": {"loras": [[]], "prompt": 5}, "sui_models": [5]}',
        b'{"image": {"prompt": [5]}, "app_id": 1}',
        b'{"positive_prompt": [], "loras": [{"model": 5}], "model": {}}',
        b'{"nodes": {"a": {"type": "core_metadata"}}, "edges": [{"source": 5}, 7]}',
        b'{"base_model": [], "guidance_scale": {}, "loras": [[], [1, "x"]]}',
        b'{"cfgScale": {}, "resources": [{"name": []}, 5]}',
        b'{"c": [], "steps": [], "lora": [{"model": 1}]}',
        b'{"uc": 1, "scale": [], "steps": {}, "v4_prompt": {"caption": {"char_captions": [5]}}}',
        b'"' * 100_000,
        b"\xff\xfe\x00",
    ],
)  # fmt: skip
def test_what_is_odd_is_passed_over(data):
    start = time.process_time()
    try:
        found = interpret(carried(data))
    except BadFile as error:
        assert "\n" not in error.sentence()
    else:
        assert found is None or json.dumps(found.to_json())
        assert found is None or isinstance(found.left_out, list)
    assert time.process_time() - start < 3


WHOLE = text("parameters", "a\nSteps: 1, Sampler: b, Seed: 2")
BROKEN = [
    chunk(b"zTXt", b"a\0\0no zlib"),
    chunk(b"zTXt", b"a\0\0" + zlib.compress(b"some text")[:-3] + b"xyz"),
    chunk(b"iTXt", b"a\0\1\0\0\0no zlib"),
    chunk(b"zTXt", b"a\0\0" + BOMB),
    chunk(b"tEXt", b"a\0" + bytes(17 << 20)),
    chunk(b"zTXt", b""),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_text_of_another_program_costs_no_other_text(tmp_path, broken):
    for data in (png(WHOLE, broken), png(broken, WHOLE)):
        assert find(put(tmp_path, data)).settings["Seed"] == "2"


def test_of_what_is_broken_is_told_where_nothing_else_is_found(tmp_path):
    broken, program = BROKEN[0], text("Software", "x")
    with pytest.raises(BadFile, match="damaged text"):
        find(put(tmp_path, png(program, broken)))
    with pytest.raises(BadFile, match="damaged text"):
        read_recipe(put(tmp_path, png(program, broken)))
    put(tmp_path, INFOTEXT.encode(), "a.txt")
    assert find(put(tmp_path, png(program, broken))).settings["Seed"] == "5"


def test_that_the_infotext_itself_is_too_long_is_told():
    data = png(itxt("prompt", b'{"1": {}}'), chunk(b"zTXt", b"parameters\0\0" + BOMB))
    with pytest.raises(BadFile, match="more than 16 MiB"):
        carried(data)


def test_many_bombs_cost_no_more_than_the_limit_of_all_texts():
    bombs = [chunk(b"zTXt", b"a\0\0" + BOMB)] * 500
    start = time.process_time()
    assert found_in(png(WHOLE, *bombs)).settings["Seed"] == "2"
    with pytest.raises(BadFile, match="more than 48 MiB"):
        found_in(png(*bombs, text("parameters", "a" * 1000)))
    assert time.process_time() - start < 2


BOM = "\ufeff"


@pytest.mark.parametrize(
    "data",
    [
        png(itxt("parameters", f"{BOM}a fox\nSteps: 1, Sampler: b, Seed: 2".encode())),
        png(chunk(b"tEXt", f"parameters\0{BOM}a fox\nSteps: 1, Sampler: b, Seed: 2".encode())),
        png(itxt("Comment", f'{BOM}{{"c": "{BOM}a fox", "steps": 1}}'.encode())),
        f'{BOM}{{"c": "{BOM}a fox", "steps": 1}}'.encode(),
        f"{BOM}{BOM}a fox\nSteps: 1, Sampler: b, Seed: 2".encode(),
    ],
)
def test_the_mark_of_the_order_of_bytes_is_no_part_of_a_prompt(data):
    found = found_in(data)
    assert (found.prompt, found.settings["Steps"]) == ("a fox", "1")


@pytest.mark.parametrize(
    "words",
    ["[1,2]", "null", " true\n", "17", "{", "[[", '{"a": ', '[{"a": 1}', "{}", "[]", '{"a": 1}'],
)
def test_json_of_another_kind_is_no_prompt(words):
    assert found_in(words.encode()) is None
    assert found_in(png(text("parameters", words))) is None


@pytest.mark.parametrize("words", ["[a|b]", "[{a|b}|c]", "{a|b} cat", '"a cat"', "1girl", "{{a}"])
def test_a_prompt_may_start_as_json_does(words):
    assert found_in(words.encode()).prompt == words


def test_an_empty_file_is_no_picture(tmp_path):
    with pytest.raises(BadFile, match=r"a\.png is empty"):
        find(put(tmp_path, b""))


def test_a_wrong_check_sum_costs_nothing():
    data = bytearray(png(text("parameters", "a\nSteps: 1, Sampler: b, Seed: 2")))
    place = data.index(b"Seed: 2") + 7
    data[place : place + 4] = b"\0\0\0\0"
    assert interpret(carried(bytes(data))).settings["Seed"] == "2"


def test_what_stands_before_the_end_of_a_cut_file_is_read():
    data = png(text("parameters", "a\nSteps: 1, Sampler: b, Seed: 2"), chunk(b"IDAT", b"x" * 99))
    assert interpret(carried(data[:-60])).settings["Seed"] == "2"


def test_no_name_in_a_file_is_a_path():
    graph = {"1": {"class_type": "KSampler", "inputs": {"steps": 1, "positive": "x",
             "model": ["2", 0]}},
             "2": {"class_type": "CheckpointLoaderSimple",
                   "inputs": {"ckpt_name": "../../../etc/passwd"}}}  # fmt: skip
    found = interpret(Carried.of("a", {"prompt": json.dumps(graph)}))
    assert found.checkpoint.name == "passwd"
    assert "model" not in found.fields()
    easy = {"prompt": "x", "num_inference_steps": 1, "use_stable_diffusion_model": "C:\\m\\sd.ckpt"}
    assert interpret(carried(json.dumps(easy).encode())).checkpoint.name == "sd.ckpt"


def test_json_is_bounded_in_size_and_depth():
    assert parse_object('{"a": [1]}') == {"a": [1]}
    assert parse_object("[" * 1_000_000) is None
    assert parse_object('{"a":' * 1_000_000) is None
    assert parse_object("{" + " " * (8 << 20) + "}") is None


FILES = [
    encode(Image.new("RGB", (8, 8)), RECIPE, Saving(format=kind))
    for kind in ("png", "jpeg", "webp", "avif")
] + [gif(INFOTEXT.encode()), comment()]


@settings(max_examples=600)
@given(
    which=st.integers(0, len(FILES) - 1),
    cut=st.integers(0, 2000),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=6),
)
def test_a_damaged_file_is_never_more_than_a_bad_file(which, cut, changes):
    whole = bytearray(FILES[which])
    for place, value in changes:
        whole[place % len(whole)] = value
    try:
        found = interpret(carried(bytes(whole[: len(whole) - cut % len(whole)])))
    except BadFile as error:
        assert "\n" not in error.sentence()
    else:
        assert found is None or isinstance(found, Found)

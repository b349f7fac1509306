"""Embeddings in pictures, made here by an encoder of its own (numpy) after A1111's form."""

import base64
import json
import os
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.core.errors import BadFile
from darkroom.weights.embedding import read_embedding
from darkroom.weights.embedding_facts import embedding_facts
from darkroom.weights.embedding_image import only_a_picture, own_words, read_image

ROWS = np.random.default_rng(0).normal(size=(4, 96)).astype(np.float32)


def document(rows=ROWS, **more):
    tensor = {"TORCHTENSOR": rows if isinstance(rows, list) else rows.tolist()}
    said = {"name": "inner", "step": 7, "sd_checkpoint_name": "v1-5", "string_to_token": {"*": 265}}
    return {"string_to_param": {"*": tensor}} | said | more


def picture(size=(64, 128)):
    """Noise without a black column, as pictures are."""
    pixels = np.random.default_rng(1).integers(1, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_chunk(path, text, *, zipped=False):
    info = PngInfo()
    info.add_text("sd-ti-embedding", text, zip=zipped)
    picture().save(path, pnginfo=info)
    return path


def sequence(count):
    state, made = 0, []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 4294967296
        made.append(state % 255 & 0x0F)
    return np.array(made, dtype=np.uint8)


def with_pixels(packed, *, height=128, border=0):
    """A picture between the blocks of `packed`; the upper half of each value is decoration."""
    data = np.frombuffer(packed, np.uint8)
    width = -(-len(data) // (3 * height)) + 1
    data = np.resize(data, width * height * 3)  # the block is filled up with what comes again
    style = np.random.default_rng(2).integers(1, 16, data.shape, dtype=np.uint8) << 4
    low, high = (
        ((half ^ sequence(len(data))) | style).reshape(height, width, 3)
        for half in (data & 15, data >> 4)
    )
    line = np.zeros((height, 1, 3), np.uint8)
    inner = np.asarray(picture((64, height)))
    whole = np.concatenate([low, line, inner, line, high], 1)
    return Image.fromarray(np.pad(whole, ((border, border), (border, border), (0, 0))))


def packed(content):
    return zlib.compress(json.dumps(content).encode(), 9)


def coded(content):
    return base64.b64encode(json.dumps(content).encode()).decode()


FORMS = {
    "text chunk": lambda path: with_chunk(path.with_suffix(".png"), coded(document())),
    "packed chunk": lambda path: with_chunk(
        path.with_suffix(".png"), coded(document()), zipped=True
    ),
    "pixels": lambda path: saved(with_pixels(packed(document())), path.with_suffix(".png")),
    "with a border": lambda path: saved(
        with_pixels(packed(document()), border=9), path.with_suffix(".png")
    ),
    "transparent": lambda path: saved(
        with_pixels(packed(document())).convert("RGBA"), path.with_suffix(".png")
    ),
    "WebP": lambda path: saved(
        with_pixels(packed(document())), path.with_suffix(".webp"), lossless=True, exact=True
    ),
}


def saved(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_the_vectors_come_out_of_every_form(form, tmp_path):
    path = FORMS[form](tmp_path / "shown")
    (vectors,) = read_embedding(path, (96,))
    assert torch.equal(vectors, torch.from_numpy(ROWS))
    assert not only_a_picture(path)
    image = read_image(path)
    facts = embedding_facts(image.header)
    assert (image.name, facts.step, facts.vectors, facts.checkpoint) == ("inner", 7, 4, "v1-5")


def test_a_single_flat_vector(tmp_path):
    path = with_chunk(tmp_path / "a.png", coded(document(ROWS[0])))
    assert torch.equal(read_embedding(path, (96,))[0], torch.from_numpy(ROWS[:1]))


def test_the_inner_name_is_known_without_the_pixels_if_it_stands_in_the_text(tmp_path):
    assert own_words(FORMS["text chunk"](tmp_path / "a")) == ("inner",)
    assert own_words(FORMS["pixels"](tmp_path / "b")) == ()


@pytest.mark.parametrize(
    "image",
    [picture(), Image.new("RGB", (32, 32)), Image.new("L", (9, 9), 255), picture().convert("P")],
    ids=["noise", "black", "white", "palette"],
)
def test_a_picture_is_only_a_picture(image, tmp_path):
    path = saved(image, tmp_path / "cat.png")
    assert read_image(path) is None
    assert only_a_picture(path)
    with pytest.raises(BadFile, match=r"the picture cat\.png holds no embedding"):
        read_embedding(path, (96,))


def test_a_picture_with_two_black_lines_is_only_a_picture(tmp_path):
    pixels = np.asarray(picture()).copy()
    pixels[:, [20, 40]] = 0
    assert read_image(saved(Image.fromarray(pixels), tmp_path / "a.png")) is None
    pixels[:, :20] = pixels[:, 41:61]  # blocks of one size
    assert read_image(saved(Image.fromarray(pixels[:, :61]), tmp_path / "b.png")) is None


HOSTILE = {
    "no base64": "%%%",
    "no JSON": base64.b64encode(b"{").decode(),
    "no object": coded([1]),
    "another object": coded({"name": "x"}),
    "no tensor": coded({"string_to_param": {"*": [1.0]}}),
    "no parameters": coded({"string_to_param": 3}),
    "a number": coded(document([])),
    "empty rows": coded(document([[]])),
    "a scalar": coded({"string_to_param": {"*": {"TORCHTENSOR": 3}}}),
    "rows of two lengths": coded(document([[1.0, 2.0], [3.0]])),
    "lengths that add up": coded(document([[1.0, 2.0, 3.0], [4.0]])),
    "words": coded(document([["a", "b"]])),
    "three levels": coded(document([[[1.0]]])),
    "a number beyond all": coded(document([[10**400]])),
    "digits without end": base64.b64encode(b"1" * 5000).decode(),
    "deep": base64.b64encode(b"[" * 1_000_000).decode(),
    "a million lists": base64.b64encode(
        b'{"string_to_param": {"*": {"TORCHTENSOR": [' + b"[]," * 1_000_000 + b"[]]}}}"
    ).decode(),
    "long": base64.b64encode(b" " * 4_100_000).decode(),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_chunk_is_none(case, tmp_path):
    path = with_chunk(tmp_path / "evil.png", HOSTILE[case])
    with pytest.raises(BadFile, match=r"holds no embedding|not an embedding"):
        read_embedding(path, (1,))
    assert own_words(path) in ((), ("inner",))


def test_numbers_that_are_none_are_refused(tmp_path):
    for number in ("NaN", "1e999"):
        text = json.dumps(document([[1.5]])).replace("1.5", number)
        path = with_chunk(tmp_path / "evil.png", base64.b64encode(text.encode()).decode())
        with pytest.raises(BadFile, match="numbers that are none"):
            read_embedding(path, (1,))


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(b"[" * 60_000_000, 9),
        zlib.compress(b"[[]," * 15_000_000, 9),
        zlib.compress(json.dumps(document()).encode(), 9)[:200],
        b"\x78\xda" + bytes(300),
    ],
    ids=["bomb", "bomb of lists", "broken off", "noise"],
)
def test_a_bomb_in_the_pixels_takes_little_memory(data, tmp_path):
    path = saved(with_pixels(data), tmp_path / "evil.png")
    tracemalloc.start()
    try:
        assert read_image(path) is None
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def test_a_huge_picture_is_not_decoded(tmp_path):
    path = saved(Image.new("1", (7000, 7000), 1), tmp_path / "huge.png")
    assert read_image(path) is None


def test_damaged_pictures_never_raise_more_than_our_error(tmp_path):
    whole = FORMS["pixels"](tmp_path / "a").read_bytes()
    random = np.random.default_rng(3)
    path = tmp_path / "b.png"
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(8, len(data), 3):
            data[place] = random.integers(256)
        path.write_bytes(data[: random.integers(len(data))] if random.random() < 0.3 else data)
        with suppress(BadFile):
            read_embedding(path, (96,))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of Unix")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert read_image(tmp_path / "pipe.png") is None


def test_a_missing_picture_is_said(tmp_path):
    with pytest.raises(BadFile, match="none"):
        read_image(tmp_path / "none.png")


def test_a_library_reads_embeddings_without_torch():
    code = (
        "import sys, darkroom.weights.embedding_image; print({'torch', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

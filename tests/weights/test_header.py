"""Wrong files: each says what it is, and no content, however made, gives another error."""

import io
import json
import os
import pickle
import tarfile
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom.core.errors import BadFile
from darkroom.weights.header import MAX_HEADER, Header, read_header
from tiny import write_tensors


@pytest.fixture
def model(tmp_path):
    arrays = {
        "a": np.zeros((2, 3), np.float16),
        "b.c": np.ones(5, np.float32),
        "e": np.zeros((0, 4), np.float32),
    }
    return write_tensors(tmp_path / "model.safetensors", arrays, {"title": "x"})


def refusal(path) -> str:
    with pytest.raises(BadFile) as caught:
        read_header(path)
    sentence = caught.value.sentence()
    assert caught.value.hint and "\n" not in sentence and len(sentence) < 900
    return sentence


def test_reads_names_shapes_and_places(model):
    header = read_header(model)
    size = model.stat().st_size
    assert header.metadata == {"title": "x"} and header.size == size
    assert header.shape("a") == (2, 3) and header.shape("nothing") is None
    a, b, e = header.tensors["a"], header.tensors["b.c"], header.tensors["e"]
    assert (a.dtype, a.bytes, b.dtype, b.bytes, e.bytes) == ("F16", 12, "F32", 20, 0)
    assert (a.end, b.end) == (b.start, size)


def test_the_extension_does_not_matter(model):
    other = model.rename(model.with_suffix(".ckpt"))
    assert read_header(str(other)).shape("a") == (2, 3)


def tar(name: str) -> bytes:
    with tarfile.open(
        fileobj=(file := io.BytesIO()), mode="w", format=tarfile.USTAR_FORMAT
    ) as archive:
        archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty. Download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "is a Git-LFS pointer, not the model itself. Run `git lfs pull`"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "is a web page, not a model"),
        (b"\n  <html lang=en>", "is a web page"),
        (b"\xef\xbb\xbf<!doctype HTML>", "is a web page"),
        (pickle.dumps({"a": 1}, 2), "is a pickle that holds no tensors"),
        (pickle.dumps({"a": 1}, 4), "is a pickle that holds no tensors"),
        (b"PK\5\6" + bytes(18), "is an empty zip archive"),
        (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(100), "is an ONNX model"),
        (b"\x93NUMPY\x01\0" + bytes(100), "is a numpy array"),
        (b"MZ\x90\0" + bytes(100), "is a program, not a model"),
        (b"\0\0\0\0TFL3" + bytes(100), "is a TensorFlow Lite model"),
        (b"Rar!\x1a\7\0" + bytes(100), "is a RAR archive"),
        (b"\x1f\x8b\x08" + bytes(100), "is a gzip archive"),
        (b"\xfd7zXZ\0" + bytes(100), "is an xz archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "is a zstd archive"),
        (tar("model.bin"), "is a tar archive. Unpack it"),
        (tar("sys_info"), "is a PyTorch model of 2016 (tar)"),
        (b"GGUF\x03\x00\x00\x00" + bytes(100), "is a GGUF model"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "is a 7z archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a picture, not a model"),
        (b'{"error": "not found"}', "is a JSON or text file"),
        (bytes(5000), "is filled with zeros"),
        (b"hello", "is only 5 bytes long"),
        (b"Invalid username\n or password.", "is a text, not a model: 'Invalid username or password.'"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(200), "is what macOS keeps beside a file"),
        (b"\x01\x02" * 500, "is not a model file that we know"),
    ],
)  # fmt: skip
def test_every_wrong_file_has_its_own_sentence(tmp_path, content, says):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert says in refusal(path)


def test_missing_folder_pipe_and_impossible_names(tmp_path):
    assert "there is no file" in refusal(tmp_path / "no.safetensors")
    assert "there is no file" in refusal(tmp_path / "no" / "no.safetensors")
    assert "is a folder without a model" in refusal(tmp_path)
    assert "is not a file name" in refusal("a\0b")
    assert "cannot be read" in refusal(tmp_path / ("x" * 400))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "is not a regular file" in refusal(tmp_path / "pipe")


def test_no_permission(model, monkeypatch):
    model.chmod(0)
    if os.access(model, os.R_OK):  # root reads everything: say what the system would say

        def deny(*_args, **_more):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.open", deny)
    assert "no permission to read" in refusal(model)


def test_truncated_says_how_many_bytes_are_missing(model):
    content = model.read_bytes()
    model.write_bytes(content[:-7])
    assert "is truncated: 7 bytes are missing" in refusal(model)
    model.write_bytes(content[:20])
    assert "is truncated: at least" in refusal(model)
    model.write_bytes(content + b"xyz")
    assert "is 3 bytes longer than its header says" in refusal(model)


def write(path, text: str | bytes, data: bytes = b""):
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


GOOD = {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{" * 60, "not valid JSON"),
        ('{"a":' + "[" * 100_000, "nested too deep"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "nested too deep"),
        (b'{"\xff\xfe": 1}', "not UTF-8 at byte 10"),
        ('{"a": ' + json.dumps(GOOD) + ', "a": ' + json.dumps(GOOD) + "}", "a name occurs twice"),
        ('{"a": {"dtype": "F16", "dtype": "F32"}}', "a name occurs twice"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"a": NaN}', "not valid JSON"),
        ("{} []", "not valid JSON"),
        ("{}", "holds no tensors"),
        ('{"a": 1}', "not described"),
        ('{"__metadata__": [], "a": 1}', "metadata is not a table of texts"),
        ('{"__metadata__": {"x": 1}}', "metadata is not a table of texts"),
        ("{" + '"a":[],' * 1_000_000 + '"b":[' + "0," * 2_100_000 + "0]}", "millions of values"),
    ],
)
def test_hostile_headers(tmp_path, text, says):
    started = time.process_time()
    assert says in refusal(write(tmp_path / "m.safetensors", text, bytes(12)))
    assert time.process_time() - started < 3  # 0.1 s; what is quadratic takes minutes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dtype": "F17"}, "unknown type 'F17'"),
        ({"dtype": ["F16"]}, "unknown type"),
        ({"shape": [2, -3]}, "impossible shape"),
        ({"shape": [2.0, 3]}, "impossible shape"),
        ({"shape": [True, 6]}, "impossible shape"),
        ({"shape": [1] * 17 + [6]}, "impossible shape"),
        ({"shape": [10**30, 0]}, "impossible shape"),
        ({"shape": [2**40, 2**40]}, "do not match its shape"),
        ({"shape": [2, 2]}, "do not match its shape"),
        ({"data_offsets": [12, 0]}, "impossible offsets"),
        ({"data_offsets": [0, 12, 24]}, "impossible offsets"),
        ({"data_offsets": [0, 10**25]}, "impossible offsets"),
        ({"data_offsets": [4, 16]}, "overlap or leave gaps"),
        ({"more": 1}, "not described"),
    ],
)
def test_impossible_tensors(tmp_path, change, says):
    text = json.dumps({"a": GOOD | change})
    assert says in refusal(write(tmp_path / "m.safetensors", text, bytes(12)))


def test_overlapping_tensors(tmp_path):
    text = json.dumps({"a": GOOD, "b": GOOD | {"data_offsets": [6, 18]}})
    assert "overlap or leave gaps" in refusal(write(tmp_path / "m.safetensors", text, bytes(18)))


def test_a_huge_header_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes((MAX_HEADER + 1).to_bytes(8, "little") + b"{" + bytes(50))
    assert "header claims 100,000,001 bytes" in refusal(path)


@pytest.fixture(scope="module")
def seed_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    arrays = {f"block.{n}.weight": np.zeros((n, 3), np.float16) for n in range(6)}
    return write_tensors(folder / "m.safetensors", arrays, {"format": "pt"})


def only_bad_file(path):
    try:
        header = read_header(path)
    except BadFile as error:
        assert error.sentence()
    else:
        assert isinstance(header, Header)
        assert max(info.end for info in header.tensors.values()) == path.stat().st_size


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_fuzz_truncated_flipped_and_grown(seed_file, data):
    content = bytearray(seed_file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        match data.draw(st.sampled_from(["cut", "flip", "grow"])):
            case "cut":
                del content[data.draw(st.integers(0, len(content))) :]
            case "flip" if content:
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
                    st.integers(0, 255)
                )
            case _:
                at = data.draw(st.integers(0, len(content)))
                content[at:at] = data.draw(st.binary(min_size=1, max_size=40))
    path = seed_file.with_name("fuzz.safetensors")
    path.write_bytes(content)
    only_bad_file(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["F16", "F32"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(table=st.dictionaries(st.text(max_size=5), JSON, max_size=4), size=st.integers(0, 64))
def test_fuzz_any_json(seed_file, table, size):
    path = seed_file.with_name("json.safetensors")
    only_bad_file(write(path, json.dumps(table), bytes(size)))

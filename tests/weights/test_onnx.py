"""ONNX files as tables, and what they are called."""

import numpy as np
import pytest

from darkroom.core.errors import BadFile
from darkroom.core.model import Kind
from darkroom.weights.header import read_header
from darkroom.weights.identify import identify
from darkroom.weights.reader import open_tensors


def number(value):
    out = b""
    while True:
        value, low = value >> 7, value & 127
        out += bytes([low | (128 if value else 0)])
        if not value:
            return out


def field(key, value):
    if isinstance(value, int):
        return number(key << 3) + number(value)
    return number(key << 3 | 2) + number(len(value)) + value


def weight(name, array, *, packed=True, raw=True):
    dims = (
        field(1, b"".join(map(number, array.shape)))
        if packed
        else b"".join(field(1, n) for n in array.shape)
    )
    data = field(9 if raw else 4, array.astype("<f4").tobytes())
    return field(5, dims + field(2, 1) + field(8, name.encode()) + data)


def value(key, name, shape):
    sides = b"".join(
        field(1, field(1, n) if isinstance(n, int) else field(2, n.encode())) for n in shape
    )
    return field(key, field(1, name.encode()) + field(2, field(1, field(1, 1) + field(2, sides))))


def model(*parts, told=()):
    head = field(1, 8) + field(2, b"pytorch")
    properties = b"".join(field(14, field(1, k.encode()) + field(2, v.encode())) for k, v in told)
    return head + field(7, b"".join(parts)) + properties


def written(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("packed", "raw"), [(True, True), (False, True), (True, False)])
def test_weights_are_found_where_they_lie(tmp_path, packed, raw):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = model(
        weight("a.weight", array, packed=packed, raw=raw), value(11, "x", [1, 3, 8, "w"]), value(12, "y", [1, 5]),
        told=[("task", "detect")],
    )  # fmt: skip
    header = read_header(written(tmp_path, data))
    with open_tensors(header) as file:
        assert file.tensor("a.weight").tolist() == array.tolist()
    assert header.form == "onnx"
    assert header.metadata == {
        "task": "detect", "onnx.inputs": '{"x": [1, 3, 8, "w"]}', "onnx.outputs": '{"y": [1, 5]}',
    }  # fmt: skip


def test_what_a_network_gives_tells_what_it_is_for(tmp_path):
    picture, plain = value(11, "x", [1, 3, 320, 320]), weight("1", np.zeros((1, 1)))
    kinds = {
        Kind.SEGMENTER: (picture, value(12, "y", [1, 1, 320, 320]), plain),
        Kind.DETECTOR: (picture, value(12, "y", [1, 5, 2100]), weight("model.22.dfl.conv.weight", np.zeros((1, 16, 1, 1)))),
        Kind.UNKNOWN: (picture, value(12, "y", [1, 1000]), plain),
    }  # fmt: skip
    for kind, parts in kinds.items():
        assert identify(read_header(written(tmp_path, model(*parts)))).kind is kind


def test_a_damaged_file_is_refused_in_one_sentence(tmp_path):
    whole = model(weight("a", np.zeros((2, 3))), value(11, "x", [1]), value(12, "y", [1]))
    for end in range(12, len(whole), 3):
        with pytest.raises(BadFile, match="and damaged"):
            read_header(written(tmp_path, whole[:end]))
    with pytest.raises(BadFile, match="no network"):
        read_header(written(tmp_path, model(value(12, "y", [1]))))


def test_claims_that_do_not_fit_the_bytes_make_no_tensor(tmp_path):
    short = field(5, field(1, 1000) + field(2, 1) + field(8, b"a") + field(9, bytes(8)))
    header = read_header(written(tmp_path, model(short, value(12, "y", [1]))))
    assert header.tensors["a"].dtype == "ONNX 1"
    huge = field(5, field(1, 2**60) + field(2, 1) + field(8, b"a") + field(9, bytes(8)))
    with pytest.raises(BadFile, match="impossible shape"):
        read_header(written(tmp_path, model(huge, value(12, "y", [1]))))


def test_random_bytes_never_do_more_than_refuse(tmp_path):
    random = np.random.default_rng(3)
    whole = bytearray(
        model(weight("a", np.zeros((2, 3))), value(11, "x", [1]), value(12, "y", [1]))
    )
    for _ in range(300):
        changed = bytearray(whole)
        for place in random.integers(12, len(whole), 4):
            changed[place] = random.integers(256)
        try:
            read_header(written(tmp_path, bytes(changed)))
        except BadFile as error:
            assert str(error)

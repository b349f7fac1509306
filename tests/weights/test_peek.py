"""A tensor's spread, read without torch."""

import statistics
from dataclasses import replace

import numpy as np
import pytest

from darkroom.weights.header import read_header
from darkroom.weights.peek import MOST, spread
from tiny import write_tensors

VALUES = np.linspace(-1, 3, 37, dtype=np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_spread_of_floats(tmp_path, dtype):
    header = read_header(write_tensors(tmp_path / "x", {"a": VALUES.astype(dtype)}))
    assert spread(header, "a") == pytest.approx(statistics.pstdev(VALUES.tolist()), rel=1e-3)


def test_the_spread_of_bfloat16(tmp_path):
    upper = (VALUES.view(np.uint32) >> 16).astype(np.uint16)
    header = read_header(write_tensors(tmp_path / "x", {"a": upper.view(np.float16)}))
    header = replace(header, tensors={"a": replace(header.tensors["a"], dtype="BF16")})
    assert spread(header, "a") == pytest.approx(statistics.pstdev(VALUES.tolist()), rel=1e-2)


def test_what_is_not_read(tmp_path):
    large = np.zeros(MOST, np.float32)
    tensors = {"big": large, "whole": np.zeros(3, np.int64), "none": np.zeros(0, np.float32)}
    header = read_header(write_tensors(tmp_path / "x", tensors))
    assert [spread(header, name) for name in (*tensors, "missing")] == [None] * 4
    header = read_header(write_tensors(tmp_path / "y", {"a": VALUES}))
    (tmp_path / "y").write_bytes(b"")
    assert spread(header, "a") is None
    (tmp_path / "y").unlink()
    assert spread(header, "a") is None

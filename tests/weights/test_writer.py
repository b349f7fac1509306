"""Files are whole or not there, and equal to what safetensors itself would read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from bench.make_checkpoint import make_checkpoint, tiny
from darkroom.core.errors import OutputError
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from darkroom.weights.writer import write_safetensors

ROOT = Path(__file__).parents[2]


def test_pieces_of_any_size_make_the_file(tmp_path):
    path = tmp_path / "m.safetensors"
    numbers = np.arange(6, dtype=np.float16)
    data = numbers.tobytes() + np.float32([7]).tobytes()
    table = {"a": ("F16", (2, 3)), "b": ("F32", (1,))}
    write_safetensors(path, table, [data[:5], data[5:6], b"", data[6:]], metadata={"title": "ä"})
    got = load_file(path)
    assert np.array_equal(got["a"], numbers.reshape(2, 3)) and got["b"].tolist() == [7]
    header = read_header(path)
    assert header.metadata == {"title": "ä"} and header.tensors["a"].start % 8 == 0


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
    path = tmp_path / "m.safetensors"

    def failing():
        yield b"1"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_safetensors(path, {"a": ("U8", (2,))}, failing())
    with pytest.raises(ValueError, match="have 1 bytes, their table says 2"):
        write_safetensors(path, {"a": ("U8", (2,))}, [b"1"])
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        write_safetensors(tmp_path / "no" / "m", {"a": ("U8", (1,))}, [b"1"])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="is there already"):
        write_safetensors(path, {"a": ("U8", (1,))}, [b"1"])
    assert path.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [path]


def test_the_benchmark_checkpoint_is_a_checkpoint_and_repeats(tmp_path):
    one, two, other = (tmp_path / name for name in ("1", "2", "3"))
    make_checkpoint(one, tiny(), seed=5)
    make_checkpoint(two, tiny(), seed=5)
    make_checkpoint(other, tiny(), seed=6)
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()
    assert detect(read_header(one)).texts[0].vocab == 49408
    assert all(np.isfinite(array).all() for array in load_file(one).values())


def test_the_command_refuses_to_overwrite(tmp_path):
    path = tmp_path / "m.safetensors"
    command = [sys.executable, str(ROOT / "bench/make_checkpoint.py"), str(path), "--tiny"]
    path.write_bytes(b"mine")
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr.endswith("Choose another name.\n")
    assert path.read_bytes() == b"mine"

"""Tensors are views of the mapped file: nothing copied, nothing written back, nothing left open."""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from darkroom.core.errors import BadFile
from darkroom.weights.header import read_header
from darkroom.weights.reader import DTYPES, open_tensors
from tiny import tiny_checkpoint, write_tensors

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_equal_to_what_safetensors_reads(tmp_path):
    path = tiny_checkpoint(tmp_path / "m.safetensors")
    want = load_file(path)
    with open_tensors(header := read_header(path)) as file:
        got = {name: file.tensor(name) for name in header.tensors}
        assert got.keys() == want.keys()
        assert all(torch.equal(got[name], want[name]) for name in want)


def test_every_dtype_that_torch_and_safetensors_share(tmp_path):
    made = {}
    for name, dtype in DTYPES.items():
        numbers = torch.arange(6).to(dtype).reshape(2, 3)
        made[name] = numbers
    save_file(made, tmp_path / "m.safetensors")
    header = read_header(tmp_path / "m.safetensors")
    with open_tensors(header) as file:
        for name, want in made.items():
            got = file.tensor(name)
            assert header.tensors[name].dtype == name
            assert got.dtype is want.dtype and got.shape == want.shape
            assert torch.equal(got.view(torch.uint8), want.view(torch.uint8))


def test_nothing_is_copied(tmp_path):
    path = tiny_checkpoint(tmp_path / "m.safetensors")
    header = read_header(path)
    with open_tensors(header) as file:
        bases = {file.tensor(n).data_ptr() - i.start for n, i in header.tensors.items()}
    assert len(bases) == 1


@linux
def test_closed_at_the_end_of_the_block(tmp_path):
    path = tiny_checkpoint(tmp_path / "m.safetensors", unet=(32,), depths=(1,))
    with open_tensors(read_header(path)) as file:
        copy = file.tensor("model.diffusion_model.out.0.bias").clone()
        assert mapped(path)
    assert not mapped(path) and copy.shape == (32,)


@linux
def test_a_kept_view_keeps_the_map_and_the_last_one_closes_it(tmp_path):
    path = tiny_checkpoint(tmp_path / "m.safetensors", unet=(32,), depths=(1,))
    with open_tensors(read_header(path)) as file:
        one = file.tensor("model.diffusion_model.out.0.weight")
        two = file.tensor("model.diffusion_model.out.0.bias")
        want = one.clone()
    del two, file
    assert mapped(path) and torch.equal(one, want)
    del one
    gc.collect()
    assert not mapped(path)


def test_writing_to_a_view_leaves_the_file_alone(tmp_path):
    path = write_tensors(tmp_path / "m.safetensors", {"a": np.ones(3, np.float32)})
    before = path.read_bytes()
    with open_tensors(read_header(path)) as file:
        file.tensor("a").zero_()
        assert file.tensor("a").sum() == 0
    assert path.read_bytes() == before


def test_released_pages_come_back(tmp_path):
    numbers = np.arange(100_000, dtype=np.float32)
    path = write_tensors(
        tmp_path / "m.safetensors", {"a": numbers[:10], "b": numbers, "c": numbers[:9]}
    )
    with open_tensors(read_header(path)) as file:
        view = file.tensor("b")
        for name in ("a", "b", "c"):
            file.release(name)
        assert np.array_equal(view.numpy(), numbers)


def test_misaligned_and_empty_tensors(tmp_path):
    raw = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]},"c":{"dtype":"F16","shape":[0,3],"data_offsets":[9,9]}}'
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"\x07" + np.float32([1, 2]).tobytes())
    with open_tensors(read_header(path)) as file:
        assert file.tensor("b").tolist() == [1, 2]
        assert file.tensor("c").shape == (0, 3)


def test_a_file_that_changed_or_went_away(tmp_path):
    path = write_tensors(tmp_path / "m.safetensors", {"a": np.ones(3, np.float32)})
    header = read_header(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadFile, match="changed while it was read"), open_tensors(header):
        pass
    path.unlink()
    with pytest.raises(BadFile, match="there is no file"), open_tensors(header):
        pass


def test_a_type_that_torch_lacks(tmp_path):
    raw = b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"\x07")
    with (
        open_tensors(read_header(path)) as file,
        pytest.raises(BadFile, match="torch has no type F4"),
    ):
        file.tensor("a")


def test_strided_tensors_are_views_too(tmp_path):
    numbers = torch.arange(24.0).reshape(4, 6)
    made = {"t": numbers.t(), "part": numbers[1:3, ::2], "last": numbers[3:, 5:]}
    torch.save(made, tmp_path / "m.pt")
    with open_tensors(header := read_header(tmp_path / "m.pt")) as file:
        got = {name: file.tensor(name) for name in made}
        bases = {
            got[name].data_ptr() - header.tensors[name].start for name in ("t", "part", "last")
        }
        assert len(bases) == 1 and all(torch.equal(got[name], made[name]) for name in made)
        for name in made:
            file.release(name)
        assert torch.equal(file.tensor("part"), made["part"])


@linux
def test_every_file_of_a_folder_is_closed(tmp_path):
    for part in ("unet", "vae"):
        (tmp_path / part).mkdir()
        arrays = {"a": np.ones(5000, np.float32)}
        write_tensors(tmp_path / part / "diffusion_pytorch_model.safetensors", arrays)
    with open_tensors(header := read_header(tmp_path)) as file:
        kept = file.tensor("vae/a")
        file.release("vae/a")
        assert file.tensor("unet/a").sum() == 5000
        assert all(mapped(path) for path in header.files)
    del file
    assert [mapped(path) for path in header.files] == [False, True]
    assert kept.sum() == 5000
    del kept
    gc.collect()
    assert not any(mapped(path) for path in header.files)

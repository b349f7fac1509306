"""What programs really save is read as torch reads it, and mapped, not copied."""

import argparse
import collections
import datetime
import pathlib
import pickle
import shutil
import time

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.core.errors import BadFile
from darkroom.weights.header import read_header
from darkroom.weights.reader import open_tensors
from pickles import dictionary, legacy, named, storage, tensor, torch_zip, value

A, B = torch.arange(12.0).reshape(3, 4) / 7, torch.arange(5)

SAVED = {
    "zip": {},
    "legacy": {"_use_new_zipfile_serialization": False},
    "protocol 3": {"pickle_protocol": 3},
    "protocol 4": {"pickle_protocol": 4},
    "protocol 5": {"pickle_protocol": 5},
}
every_form = pytest.mark.parametrize("how", SAVED.values(), ids=SAVED.keys())


def saved(path, content, **how):
    torch.save(content, path, **how)
    return path


def tensors(path) -> dict[str, torch.Tensor]:
    header = read_header(path)
    with open_tensors(header) as file:
        return {name: file.tensor(name).clone() for name in header.tensors}


def equal(got, want) -> bool:
    return got.keys() == want.keys() and all(
        got[name].dtype is want[name].dtype
        and got[name].shape == want[name].shape
        and bytes(got[name].contiguous().flatten().view(torch.uint8).numpy())
        == bytes(want[name].detach().contiguous().flatten().view(torch.uint8).numpy())
        for name in want
    )


@every_form
def test_plain_tensors_views_and_parameters(tmp_path, how):
    made = {
        "a": A, "b": B, "turned": A.t(), "part": A[1:, 1:3], "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4), "one": nn.Parameter(A[2]), "again": A,
        "half": A.half(), "brain": A.bfloat16(), "double": A.double(), "truth": A > 1,
        "byte": B.to(torch.uint8), "short": B.short(), "complex": A.to(torch.complex64),
    }  # fmt: skip
    path = saved(tmp_path / "m.ckpt", made, **how)
    assert equal(tensors(path), made)
    header = read_header(path)
    assert header.form == "pickle" and header.size == path.stat().st_size and not header.ignored
    assert header.tensors["turned"].strides == (1, 4) and header.tensors["a"].strides is None
    assert all(0 <= info.start <= info.end <= header.size for info in header.tensors.values())


def test_types_that_only_untyped_storages_hold(tmp_path):
    made = {
        "e4m3": A.to(torch.float8_e4m3fn), "e5m2": A.to(torch.float8_e5m2),
        "u16": B.to(torch.uint16), "u32": B.to(torch.uint32),
    }  # fmt: skip
    assert equal(tensors(saved(tmp_path / "m.pt", made)), made)


def test_a_tensor_alone_a_list_and_a_tuple(tmp_path):
    assert equal(tensors(saved(tmp_path / "m.pt", A)), {"0": A})
    assert equal(tensors(saved(tmp_path / "m.pt", [A, B])), {"0": A, "1": B})
    assert equal(tensors(saved(tmp_path / "m.pt", [{"a": A}, (B,)])), {"0.a": A, "1.0": B})


class Callback:
    """Stands for what Lightning puts into a checkpoint, as a key."""


@every_form
def test_a_lightning_checkpoint(tmp_path, how):
    made = {
        "epoch": 3, "global_step": 875_000, "pytorch-lightning_version": "1.4.2",
        "state_dict": {"model.a": A, "model.b": B},
        "callbacks": {Callback: {"best_model_score": A, "best": pathlib.PurePosixPath("x")}},
        "optimizer_states": [{"state": {0: {"exp_avg": A}}}], "lr_schedulers": [{"base_lrs": [1]}],
        "hyper_parameters": argparse.Namespace(lr=1e-4), "loops": None,
    }  # fmt: skip
    path = saved(tmp_path / "m.ckpt", made, **how)
    assert equal(tensors(path), made["state_dict"])
    header = read_header(path)
    assert header.metadata == {
        "epoch": "3", "global_step": "875000", "pytorch-lightning_version": "1.4.2",
    }  # fmt: skip
    names = {"argparse.Namespace", "pathlib.PurePosixPath", f"{__name__}.Callback"}
    assert set(header.ignored) == names


@pytest.mark.parametrize("layers", range(4))
def test_layers_around_a_state_dict_come_off(tmp_path, layers):
    made = {"a": A, "b": B}
    for layer in range(layers):
        made = {"state_dict": made, "step": layer} if layer % 2 else {"model": made}
    assert equal(tensors(saved(tmp_path / "m.pt", made)), {"a": A, "b": B})


def test_other_dictionaries_are_flattened(tmp_path):
    made = {"image_proj": {"w": A}, "ip_adapter": {"1.to_k": B, "deep": {"er": A}}}
    want = {"image_proj.w": A, "ip_adapter.1.to_k": B, "ip_adapter.deep.er": A}
    assert equal(tensors(saved(tmp_path / "m.bin", made)), want)


@every_form
def test_an_embedding_in_a_parameter_dict(tmp_path, how):
    made = {
        "string_to_token": {"*": 265}, "string_to_param": nn.ParameterDict({"*": nn.Parameter(A)}),
        "name": "style", "step": 1999, "sd_checkpoint": None,
    }  # fmt: skip
    path = saved(tmp_path / "m.pt", made, **how)
    assert equal(tensors(path), {"string_to_param.*": A})
    words = {"string_to_token.*": "265", "name": "style", "step": "1999"}
    assert read_header(path).metadata == words


def test_a_hypernetwork(tmp_path):
    state = nn.Sequential(nn.Linear(2, 3)).state_dict()
    made = {768: (state, {"linear.0.weight": A}), "step": 4, "layer_structure": [1.0, 2.5]}
    path = saved(tmp_path / "m.pt", made)
    names = {"768.0.0.weight", "768.0.0.bias", "768.1.linear.0.weight"}
    assert tensors(path).keys() == names
    assert read_header(path).metadata["layer_structure.1"] == "2.5"


def test_a_whole_module_is_its_parameters(tmp_path):
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    path = saved(tmp_path / "m.pt", module)
    assert equal(tensors(path), dict(module.state_dict()))
    assert "torch.nn.modules.container.Sequential" in read_header(path).ignored


@pytest.mark.parametrize("home", ["numpy.core", "numpy._core"])
def test_numpy_of_any_version(tmp_path, home):
    dtype = named("numpy.dtype") + b"(" + value("f8") + b"\x89\x88tR"
    scalar = named(f"{home}.multiarray.scalar") + b"(" + dtype + value(b"\0" * 8) + b"tR"
    path = tmp_path / "m.ckpt"
    path.write_bytes(torch_zip(dictionary(best=scalar, w=tensor())))
    header = read_header(path)
    assert header.tensors.keys() == {"w"} and header.ignored == ()


def test_what_else_honest_files_hold(tmp_path):
    made = {
        "a": A, "more": collections.defaultdict(list, {"b": B}), "set": {1, 2}, "raw": b"\0\xff",
        "count": collections.Counter("aab"), "day": datetime.datetime(2022, 8, 22), "i": 2j,
        "array": np.ones(3), "score": np.float64(0.5), "size": torch.Size([1]), "at": torch.device("cpu"),
        "type": torch.float16, "buffer": bytearray(b"x"), "long": 10**40, "frozen": frozenset("a"),
        "torch": torch.__version__,
    }  # fmt: skip
    for protocol in range(2, 6):
        path = saved(tmp_path / "m.pt", made, pickle_protocol=protocol)
        assert equal(tensors(path), {"a": A, "more.b": B})
        assert read_header(path).ignored == (
            "datetime.datetime",
            "torch.torch_version.TorchVersion",
        )


def test_words_of_metadata_are_bounded(tmp_path):
    made = {"a": A, "note": "x" * 2_000_000, "many": list(range(20_000)), "none": None, "on": True}
    metadata = read_header(saved(tmp_path / "m.pt", made)).metadata
    assert len(metadata) == 10_000 and "note" not in metadata and metadata["many.7"] == "7"


@pytest.mark.parametrize(
    ("maker", "args", "dtype", "shape"),
    [
        ("_rebuild_qtensor", b"N" + value(0) + value((2, 3)), "QUANTIZED", (2, 3)),
        ("_rebuild_meta_tensor_no_storage", b"N" + value((5,)), "META", (5,)),
        ("_rebuild_sparse_tensor", b"NN", "SPARSE", ()),
    ],
)
def test_tensors_without_plain_numbers_keep_their_name(tmp_path, maker, args, dtype, shape):
    odd = named(f"torch._utils.{maker}") + b"(" + args + b"tR"
    path = tmp_path / "m.pt"
    path.write_bytes(torch_zip(dictionary(odd=odd, w=tensor())))
    header = read_header(path)
    assert (header.tensors["odd"].dtype, header.shape("odd")) == (dtype, shape)
    with open_tensors(header) as file:
        assert file.tensor("w").shape == (2, 3)
        with pytest.raises(BadFile, match=f"torch has no type {dtype}"):
            file.tensor("odd")


def test_a_view_of_an_old_storage(tmp_path):
    """Before 0.4, a storage could be a part of another."""
    view = storage(count=8, more=value(("0", 2, 6)))
    numbers = np.arange(8, dtype=np.float32)
    path = tmp_path / "m.pth"
    path.write_bytes(legacy(dictionary(w=tensor(view)), {"0": numbers.tobytes()}))
    assert tensors(path)["w"].flatten().tolist() == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("protocol", [0, 1])
def test_the_protocols_before_torch(tmp_path, protocol):
    path = tmp_path / "m.pt"
    path.write_bytes(pickle.dumps({"a": [1, 2.5, True, "\u00e9\n'", 10**40]}, protocol))
    with pytest.raises(BadFile, match="a pickle that holds no tensors"):
        read_header(path)


def test_nothing_is_copied(tmp_path):
    path = saved(tmp_path / "m.ckpt", {str(n): torch.zeros(100) for n in range(5)})
    header = read_header(path)
    with open_tensors(header) as file:
        bases = {file.tensor(n).data_ptr() - i.start for n, i in header.tensors.items()}
        assert len(bases) == 1
        file.tensor("3").fill_(7)
    assert tensors(path)["3"].sum() == 0  # the file is as it was


def test_a_pickle_may_have_any_name_and_place(tmp_path):
    path = saved(tmp_path / "m.ckpt", {"a": A})
    for name in ("m.safetensors", "m.bin", "no extension"):
        shutil.copy(path, tmp_path / name)
        assert equal(tensors(tmp_path / name), {"a": A})


def test_a_full_size_table_is_quick(tmp_path):
    made = {
        f"model.diffusion_model.output_blocks.{n}.weight": torch.zeros(2, 2) for n in range(2515)
    }
    for how in (SAVED["zip"], SAVED["legacy"]):
        path = saved(tmp_path / "m.ckpt", made, **how)
        started = time.process_time()
        assert len(read_header(path).tensors) == 2515
        assert time.process_time() - started < 2  # 0.12 s


@pytest.mark.parametrize("kind", ["FloatStorage", "IntStorage"])
def test_torch_agrees_about_the_files_that_tests_write(tmp_path, kind):
    path, raw = tmp_path / "m.pt", np.arange(6, dtype=np.int32).tobytes()
    path.write_bytes(torch_zip(dictionary(w=tensor(storage(kind=kind))), {"data/0": raw}))
    assert equal(tensors(path), torch.load(path, weights_only=True))
    path.write_bytes(legacy(dictionary(w=tensor(storage(kind=kind, more=b"N"))), {"0": raw}))
    assert equal(tensors(path), torch.load(path, weights_only=True))

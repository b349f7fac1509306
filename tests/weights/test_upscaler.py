"""Upscaler files are told from their tensors: which family, how wide, how many times larger."""

import pytest
import torch

from darkroom.core.errors import BadFile
from darkroom.core.model import Kind
from darkroom.weights.header import read_header
from darkroom.weights.identify import identify
from darkroom.weights.layouts.rrdb import DIALECTS, ESRGAN, OLD_ESRGAN, OURS
from darkroom.weights.upscaler import detect_upscaler
from darkroom.weights.upscaler_ncnn import read_ncnn
from upscaler_files import compact_dims, compact_state, ncnn, rrdb_dims, rrdb_state, saved

NAMES = {OURS: "real-esrgan", ESRGAN: "esrgan", OLD_ESRGAN: "old-esrgan"}
SHAPES = [
    {},
    {"doublings": 1},
    {"doublings": 0},
    {"doublings": 3, "blocks": 1},
    {"features": 12, "growth": 6, "blocks": 3},
    {"channels": 1},
    {"shuffle": 2},
    {"shuffle": 4},
    {"beside": True},
]


@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES.get)
@pytest.mark.parametrize("own", SHAPES, ids=str)
def test_every_shape_is_measured_in_every_dialect(tmp_path, dialect, own):
    dims = rrdb_dims(**own)
    path = saved(tmp_path / "a.safetensors", rrdb_state(dims, dialect))
    found = detect_upscaler(read_header(path))
    assert found.measured.dims == dims
    assert found.measured.dims.scale == 2**dims.doublings // dims.shuffle
    assert len({row.target for row in found.measured.rows}) == len(found.measured.rows)


def test_the_oldest_names_are_numbered_through():
    names = dict(OLD_ESRGAN.names(rrdb_dims(blocks=23)))
    assert names["model.1.sub.22.RDB3.conv5.0"] == "body.22.rdb3.conv5"
    assert names["model.1.sub.23"] == "conv_body"
    assert [names[f"model.{n}"] for n in (0, 3, 6, 8, 10)] == [
        "conv_first",
        "conv_up1",
        "conv_up2",
        "conv_hr",
        "conv_last",
    ]


@pytest.mark.parametrize(
    "own", [{}, {"scale": 4, "layers": 5}, {"channels": 1, "scale": 1}], ids=str
)
@pytest.mark.parametrize("prefix", ["", "params.", "params_ema."])
def test_compact_networks_are_measured(tmp_path, own, prefix):
    dims = compact_dims(**own)
    path = saved(tmp_path / "a.safetensors", compact_state(dims, prefix))
    header = read_header(path)
    assert detect_upscaler(header).measured.dims == dims
    assert identify(header).label == f"an upscaler (compact ESRGAN, {dims.scale}x)"


def test_of_two_sets_of_weights_the_averaged_one_counts(tmp_path):
    state = rrdb_state(rrdb_dims())
    path = saved(tmp_path / "a.pth", state, params=rrdb_state(rrdb_dims(), seed=1))
    header = read_header(path)
    rows = detect_upscaler(header).measured.rows
    assert {row.source.partition(".")[0] for row in rows} == {"params_ema"}
    assert identify(header).kind is Kind.UPSCALER


def test_the_scale_is_in_the_label(tmp_path):
    path = saved(tmp_path / "a.pth", rrdb_state(rrdb_dims(), OLD_ESRGAN))
    assert identify(read_header(path)).label == "an upscaler (ESRGAN, 4x)"


def test_a_relative_with_more_in_it_is_not_built(tmp_path):
    state = rrdb_state(rrdb_dims()) | {"body.0.attention.weight": torch.ones(8, 8, 1, 1)}
    found = detect_upscaler(read_header(saved(tmp_path / "a.safetensors", state)))
    assert found.measured is None
    assert found.label == "an upscaler (ESRGAN)"


def test_another_family_is_left_to_another_library(tmp_path):
    names = ("conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight")
    path = saved(tmp_path / "a.safetensors", {name: torch.ones(2, 2) for name in names})
    found = detect_upscaler(read_header(path))
    assert (found.label, found.measured) == ("an upscaler (SwinIR)", None)


def test_what_enlarges_nothing_is_refused_by_what_it_is(tmp_path):
    path = saved(tmp_path / "a.safetensors", {"lora_unet_x.lora_up.weight": torch.ones(2, 2)})
    with pytest.raises(BadFile, match="a LoRA, not an upscaler"):
        detect_upscaler(read_header(path))


@pytest.mark.parametrize(
    "harm",
    [
        lambda state: state.pop("conv_body.weight"),
        lambda state: state.pop("conv_first.weight"),
        lambda state: state.update({"conv_hr.weight": torch.ones(8, 9, 3, 3)}),
        lambda state: state.update({"conv_hr.weight": torch.ones(8, 8, 3, 3).int()}),
        lambda state: state.update({"conv_first.weight": torch.ones(8, 5, 3, 3)}),
        lambda state: state.update({"conv_last.weight": torch.ones(0, 8, 3, 3)}),
        lambda state: state.update({"body.0.rdb1.conv1.weight": torch.ones(3)}),
    ],
)
def test_damage_is_told(tmp_path, harm):
    state = rrdb_state(rrdb_dims())
    harm(state)
    path = saved(tmp_path / "a.safetensors", state)
    with pytest.raises(BadFile, match=r"a\.safetensors"):
        detect_upscaler(read_header(path))


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("dims", [rrdb_dims(), compact_dims()], ids=["rrdb", "compact"])
def test_the_two_files_of_ncnn_are_a_table_like_any_other(tmp_path, dims, half):
    param, state = ncnn(tmp_path, "small", dims, half=half)
    header = read_ncnn(param)
    assert detect_upscaler(header).measured.dims == dims
    assert {name: info.shape for name, info in header.tensors.items()} == {
        name: tuple(value.shape) for name, value in state.items()
    }


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda p: p.write_text("something"), "not a .param file"),
        (lambda p: p.with_suffix(".bin").write_bytes(b""), "ends too early|packed"),
        (lambda p: p.with_suffix(".bin").write_bytes(bytes(10**6)), "needs"),
        (lambda p: p.with_suffix(".bin").write_bytes(b"\xff" * 10**5), "packed"),
        (lambda p: p.with_suffix(".bin").unlink(), "no"),
        (lambda p: p.write_text(p.read_text().replace("6=216", "6=217")), "no convolution"),
        (
            lambda p: p.write_text(p.read_text() + "\nConvolution x 1 1 a b 0=8 1=3 6=576"),
            "no RRDB",
        ),
        (lambda p: p.write_text(p.read_text().replace("0=8", "0=x")), "no convolution|ends too"),
        (lambda p: p.write_text(p.read_text().replace("1=3", "²=3")), "no convolution|ends too"),
        (lambda p: p.write_text(p.read_text().replace("1=3", 5000 * "1" + "=3")), "no conv|ends"),
    ],
)
def test_damaged_files_of_ncnn_are_refused(tmp_path, harm, told):
    param, _ = ncnn(tmp_path, "small", rrdb_dims(), half=False)
    harm(param)
    with pytest.raises(BadFile, match=told):
        read_ncnn(param)

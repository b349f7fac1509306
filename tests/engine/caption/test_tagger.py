"""Taggers with generated weights, as vision transformers and as ONNX."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from darkroom.core.errors import BadFile, BadRequest
from darkroom.core.model import Kind
from darkroom.engine.caption import tagger as module
from darkroom.engine.caption.tagger import Tagger, on_white, read_tags
from darkroom.engine.caption.vit import Dims, Vit
from darkroom.weights.header import read_header
from darkroom.weights.identify import identify

LIST = (
    "tag_id,name,category,count\n1,general,9,10\n2,long_hair,0,9\n3,^_^,0,8\n4,hatsune_miku,4,7\n"
)
CONFIG = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 4,
    "model_args": {"class_token": False, "global_pool": "avg", "img_size": 32, "fc_norm": False},
}
needs_onnx = pytest.mark.skipif(
    find_spec("onnxruntime") is None or find_spec("onnx") is None,
    reason="onnxruntime and onnx are not installed",
)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("vit")
    network = Vit(Dims.of(CONFIG))
    torch.nn.init.normal_(network.pos_embed, std=0.2)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "selected_tags.csv").write_text(LIST)
    return folder


def test_the_list_says_what_the_tags_are_called(vit):
    found = [(tag.name, tag.head) for tag in read_tags(vit / "selected_tags.csv")]
    assert found == [
        ("general", "rating"),
        ("long hair", "general"),
        ("^_^", "general"),
        ("hatsune miku", "character"),
    ]


def test_tags_are_sorted_and_heed_the_threshold(vit):
    captioner = Tagger.read(vit)
    every = captioner.describe(Image.new("RGB", (60, 30), "blue"), threshold=0)
    assert {name for name, _ in every.tags} == {"long hair", "^_^", "hatsune miku"}
    assert every.text.split(", ") == [name for name, _ in every.tags]
    assert [score for _, score in every.tags] == sorted((s for _, s in every.tags), reverse=True)
    assert every.heads["rating"][0][0] == "general"
    highest = every.tags[0][1]
    some = captioner.describe(Image.new("RGB", (60, 30), "blue"), threshold=highest)
    assert [name for name, _ in some.tags] == [every.tags[0][0]]


def test_the_network_gets_blue_first_and_values_from_minus_one_to_one(vit):
    network = Vit(Dims.of(CONFIG))
    network.load_state_dict(load_file(vit / "model.safetensors"))
    red = Image.new("RGB", (32, 32), (255, 0, 128))
    bgr = torch.tensor([128 / 127.5 - 1, -1.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    with torch.no_grad():
        wanted = network(bgr)[0].sigmoid()
    found = Tagger.read(vit).describe(red, threshold=0)
    assert dict(found.tags)["long hair"] == pytest.approx(float(wanted[1]), abs=1e-5)


def test_pictures_stand_on_a_white_square():
    seen = on_white(Image.new("RGBA", (40, 20), (255, 0, 0, 0)), 32)
    assert seen.shape == (32, 32, 3)
    assert (seen == 255).all()
    wide = on_white(Image.new("RGB", (40, 20), "black"), 32)
    assert wide[0].min() == 255
    assert wide[16].max() == 0


def test_both_forms_are_known_as_captioners(vit, tmp_path):
    assert identify(read_header(vit)).kind is Kind.CAPTIONER
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07" + b"\0" * 40)
    (tmp_path / "selected_tags.csv").write_text(LIST)
    found = identify(read_header(tmp_path))
    assert (found.kind, found.label) == (Kind.CAPTIONER, "a tagger (ONNX)")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "swinv2_base_window8_256"}, "swinv2"),
        ({"num_classes": 5}, "5 tags"),
        ({"model_args": {"class_token": True}}, "vit_tiny"),
        ({"model_args": {"class_token": False, "img_size": "x"}}, "no sense"),
    ],
)
def test_other_networks_are_refused_by_name(vit, tmp_path, changes, said):
    for path in vit.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(BadFile, match=said):
        Tagger.read(tmp_path)


def test_a_list_that_is_none_is_refused(tmp_path):
    (tmp_path / "selected_tags.csv").write_text("nothing here")
    with pytest.raises(BadFile, match="no list of tags"):
        read_tags(tmp_path / "selected_tags.csv")


@pytest.mark.skipif(find_spec("onnxruntime") is not None, reason="onnxruntime is installed")
def test_without_onnxruntime_the_command_to_install_it_is_said(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "selected_tags.csv").write_text(LIST)
    with pytest.raises(BadRequest) as refused:
        Tagger.read(tmp_path)
    assert "-m pip install onnxruntime" in refused.value.hint


@needs_onnx
def test_an_onnx_tagger(tmp_path):
    from onnx import TensorProto, checker, helper, numpy_helper, save_model

    table = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32) / 255
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("MatMul", ["mean", "table"], ["scores"]),
        ],
        "tagger",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 16, 16, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(table, "table")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(made)
    save_model(made, tmp_path / "model.onnx")
    (tmp_path / "selected_tags.csv").write_text(LIST)
    found = Tagger.read(tmp_path).describe(Image.new("RGB", (9, 9), (255, 0, 51)), threshold=0)
    assert dict(found.tags) == pytest.approx({"hatsune miku": 1, "long hair": 0.2, "^_^": 0})


@needs_onnx
def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    (tmp_path / "selected_tags.csv").write_text(LIST)
    with pytest.raises(BadFile):
        Tagger.read(tmp_path)


def test_a_count_that_does_not_fit_is_said():
    captioner = Tagger(lambda _: np.zeros(3, np.float32), [module.Tag("a", "general")], 8)
    with pytest.raises(BadFile, match="3 tags"):
        captioner.describe(Image.new("RGB", (8, 8)))

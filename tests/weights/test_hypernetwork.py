"""Hypernetworks: A1111's files against torch's own modules, built as A1111 builds them."""

from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from darkroom.core.errors import BadFile
from darkroom.weights.header import read_header
from darkroom.weights.hypernetwork import ACTIVATIONS, read_hypernetwork
from darkroom.weights.hypernetwork_facts import check_widths, widths_of
from lora_files import targets_for

MODULES = {
    "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "swish": nn.Hardswish,
    "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish,
    "softsign": nn.Softsign, "hardshrink": nn.Hardshrink, "softshrink": nn.Softshrink,
    "hardtanh": nn.Hardtanh, "hardsigmoid": nn.Hardsigmoid, "hardswish": nn.Hardswish,
    "celu": nn.CELU, "selu": nn.SELU, "relu6": nn.ReLU6, "rrelu": nn.RReLU,
    "logsigmoid": nn.LogSigmoid, "softplus": nn.Softplus, "tanhshrink": nn.Tanhshrink,
    "identity": nn.Identity,
}  # fmt: skip


def network(width, structure=(1, 2, 1), *, act=None, norm=False, last=True, dropout=False):
    """f as A1111 lays it out: linear, activation, norm, dropout, and again."""
    layers = []
    for k, (before, after) in enumerate(pairwise(structure)):
        layers.append(nn.Linear(int(width * before), int(width * after)))
        if act and (last or k < len(structure) - 2):
            layers.append(MODULES[act]())
        if norm:
            layers.append(nn.LayerNorm(int(width * after)))
        if dropout and k < len(structure) - 2:
            layers.append(nn.Dropout(0.3))
    f = nn.Sequential(*layers).eval()
    torch.manual_seed(width + len(layers))
    for parameter in f.parameters():
        nn.init.normal_(parameter, std=0.3)
    return f


def tables(f):
    return {f"linear.{name}": value for name, value in f.state_dict().items()}


def flat(pairs):
    return {
        f"{width}.{side}.{name}": tensor.clone()
        for width, pair in pairs.items()
        for side, f in enumerate(pair)
        for name, tensor in tables(f).items()
    }


@pytest.fixture
def file(tmp_path):
    def make(tensors, **metadata):
        path = tmp_path / "bend.safetensors"
        save_file(tensors, path, metadata)
        return read_header(path)

    return make


def run(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def check(read, pairs):
    assert sorted(read.pairs) == sorted(pairs)
    for width, pair in pairs.items():
        x = torch.randn(2, 5, width)
        for ours, theirs in zip(read.pairs[width], pair, strict=True):
            torch.testing.assert_close(run(ours, x), theirs(x), rtol=1e-5, atol=1e-6)


SHAPES = {
    "plain": {},
    "deep": {"structure": (1, 2, 4, 0.5, 1)},
    "norm": {"norm": True, "act": "relu"},
    "norm alone": {"norm": True},
    "dropout": {"dropout": True, "act": "tanh", "structure": (1, 2, 2, 1)},
    "not the last": {"last": False, "act": "sigmoid"},
    "everything": {"last": False, "act": "gelu", "norm": True, "dropout": True},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_structure_computes_what_a1111_computes(file, shape):
    asked = SHAPES[shape]
    pairs = {width: (network(width, **asked), network(width, **asked)) for width in (8, 12)}
    said = {"activation_func": asked.get("act", "linear"), "name": "other", "step": "40"}
    read = read_hypernetwork(
        file(flat(pairs), activate_output=str(asked.get("last", True)), **said)
    )
    check(read, pairs)
    assert read.name == "bend"
    numbers = sum(p.numel() for pair in pairs.values() for f in pair for p in f.parameters())
    assert read.bytes == 4 * numbers


@pytest.mark.parametrize("act", MODULES)
def test_every_activation_is_torchs(file, act):
    assert {*MODULES, "linear"} == {*ACTIVATIONS}
    pairs = {8: (network(8, act=act), network(8, act=act))}
    check(read_hypernetwork(file(flat(pairs), activation_func=act.title())), pairs)


def test_the_oldest_files_name_two_layers(file):
    pairs = {8: (network(8), network(8))}
    tensors = {
        name.replace("linear.0.", "linear1.").replace("linear.1.", "linear2."): tensor
        for name, tensor in flat(pairs).items()
    }
    check(read_hypernetwork(file(tensors)), pairs)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_a_pickle_as_a1111_writes_it(tmp_path, old):
    pairs = {width: (network(width, act="relu", norm=True), network(width, act="relu", norm=True))
             for width in (8, 320)}  # fmt: skip
    said = {
        "step": 2000, "name": "other", "layer_structure": [1, 2, 1], "activation_func": "relu",
        "is_layer_norm": True, "weight_initialization": "Normal", "sd_checkpoint": None,
        "sd_checkpoint_name": "v1-5", "activate_output": True, "use_dropout": False,
        "last_layer_dropout": False, "dropout_structure": None, "optional_info": "",
    }  # fmt: skip
    content = {width: tuple(map(tables, pair)) for width, pair in pairs.items()} | said
    path = tmp_path / "bend.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    header = read_header(path)
    assert widths_of(header) == (8, 320)
    read = read_hypernetwork(header)
    check(read, pairs)
    assert read.name == "bend"


def test_half_precision_is_computed_in_full(file):
    pairs = {8: (network(8).half().float(), network(8).half().float())}
    tensors = {name: tensor.half() for name, tensor in flat(pairs).items()}
    check(read_hypernetwork(file(tensors)), pairs)


# ---- what is refused --------------------------------------------------------------------------------


def changed(**parts):
    tensors = flat({8: (network(8), network(8))})
    tensors |= {name.replace("_", "."): value for name, value in parts.items()}
    return {name: value for name, value in tensors.items() if value is not None}


BROKEN = {
    "no values": dict.fromkeys(f"8_1_linear_{k}_{n}" for k in (0, 1) for n in ("weight", "bias")),
    "a width that is not its own": {"8_0_linear_0_weight": torch.zeros(16, 9)},
    "layers that do not meet": {"8_0_linear_1_weight": torch.zeros(8, 17)},
    "another width out": {"8_0_linear_1_weight": torch.zeros(9, 16),
                          "8_0_linear_1_bias": torch.zeros(9)},
    "a short bias": {"8_0_linear_0_bias": torch.zeros(3)},
    "a short norm": {"8_0_linear_2_weight": torch.zeros(3), "8_0_linear_2_bias": torch.zeros(3)},
    "a norm without bias": {"8_0_linear_2_weight": torch.zeros(8)},
    "two norms": {f"8_0_linear_{k}_{n}": torch.zeros(8) for k in (2, 3) for n in ("weight", "bias")},
    "a norm first": {"8_0_linear_0_weight": torch.zeros(8)},
    "a cube": {"8_0_linear_0_weight": torch.zeros(2, 2, 2)},
    "a number": {"8_0_linear_0_weight": torch.tensor(1.0)},
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_layers_that_do_not_fit_are_said(file, case):
    with pytest.raises(BadFile, match="for width 8 do not fit together"):
        read_hypernetwork(file(changed(**BROKEN[case])))


def test_a_bias_alone_is_said(file):
    with pytest.raises(BadFile, match=r"lacks a weight beside 8\.0\.linear\.0\.bias"):
        read_hypernetwork(file(changed(**{"8_0_linear_0_weight": None})))


def test_an_unknown_activation_is_named_with_the_nearest(file):
    with pytest.raises(BadFile, match="wants the activation 'reluu'") as told:
        read_hypernetwork(file(changed(), activation_func="ReLUU"))
    assert "relu" in told.value.hint
    with pytest.raises(BadFile, match="unknown here"):
        read_hypernetwork(file(changed(), activation_func="x" * 10_000))


def test_networks_of_another_build_are_refused_by_name(file):
    assert read_hypernetwork(file(changed(), skip_connection="False"))
    with pytest.raises(BadFile, match="has a skip connection, which is not known here"):
        read_hypernetwork(file(changed(), skip_connection="True"))


def test_numbers_that_are_none_are_refused(file):
    with pytest.raises(BadFile, match="numbers that are none"):
        read_hypernetwork(file(changed(**{"8_0_linear_0_bias": torch.full((16,), torch.nan)})))


def test_another_file_is_no_hypernetwork(file):
    header = file({"emb_params": torch.zeros(2, 8)})
    assert widths_of(header) == ()
    with pytest.raises(BadFile, match=r"bend\.safetensors is not a hypernetwork"):
        read_hypernetwork(header)


# ---- what fits --------------------------------------------------------------------------------------

SD1, SDXL = (768, 320, 640, 1280), (2048, 640, 1280)


@pytest.mark.parametrize(
    "widths, model",
    [((768, 320, 640, 1280), SD1), ((768,), SD1), ((768, 1024), SD1), ((320,), SD1),
     ((2048, 640), SDXL), ((640, 1280), SDXL)],
)  # fmt: skip
def test_a_network_of_the_same_family_fits(widths, model):
    check_widths("n", widths, model)


@pytest.mark.parametrize(
    "widths, model, told",
    [((768, 320, 640, 1280), SDXL, "768"), ((2048,), SD1, "2048"), ((768, 1024), SDXL, "768 or 1024"),
     ((320, 640), SDXL, "320")],
)  # fmt: skip
def test_a_network_of_another_family_is_refused(widths, model, told):
    with pytest.raises(BadFile, match=f"'n' is for contexts {told} wide"):
        check_widths("n", widths, model)


def test_a_small_model_says_that_it_is_the_size():
    with pytest.raises(BadFile, match="made for full-size SD1, and this is a small") as caught:
        check_widths("n", (768, 320, 640, 1280), (64, 128, 192))
    assert "full-size SD1 checkpoint with --model" in caught.value.hint


def test_the_contexts_of_a_checkpoint_are_told_by_its_table():
    assert targets_for("SD1").contexts == set(SD1)
    assert targets_for("SDXL").contexts == set(SDXL)

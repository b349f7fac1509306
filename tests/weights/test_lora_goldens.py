"""Every family of networks against weights that the reference programs computed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from darkroom.core.model import Arch
from darkroom.weights.header import read_header
from darkroom.weights.lora import Targets, fit, read_network

FOLDER = Path(__file__).parents[1] / "goldens" / "lora"
CASES = json.loads((FOLDER / "cases.json").read_text())
TENSORS = load_file(FOLDER / "cases.safetensors")
ALGORITHMS = {
    "locon": "LoRA", "kron": "LoKr", "ia3": "IA3", "full": "full difference", "diff": "norm",
    "diag-oft": "OFT", "glora": "GLoRA", "loha": "LoHa", "boft": "BOFT", "norm": "norm",
}  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """All cases as one file, fitted to modules of their names, and read."""
    path = tmp_path_factory.mktemp("golden") / "cases.safetensors"
    save_file({name: t for name, t in TENSORS.items() if name.startswith("lora_unet_")}, path)
    shapes = {("unet", case): tuple(TENSORS[f"base.{case}.weight"].shape) for case in CASES}
    header = read_header(path)
    fitted = fit(header, Targets(arch=Arch.SD1, shapes=shapes, biased=frozenset(shapes)))
    return fitted, read_network(header, fitted)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("case", CASES)
def test_the_weight_and_the_bias_are_those_of_the_reference(network, case, strength):
    adapter = network[1].adapters["unet", case]
    weight, bias = TENSORS[f"base.{case}.weight"], TENSORS[f"base.{case}.bias"]
    got = weight + adapter.delta(weight, strength)
    torch.testing.assert_close(got, TENSORS[f"expect.{case}.weight@{strength}"], rtol=0, atol=1e-5)
    added = adapter.bias_delta(bias, strength)
    bias = bias if added is None else bias + added
    torch.testing.assert_close(bias, TENSORS[f"expect.{case}.bias@{strength}"], rtol=0, atol=1e-5)


def test_every_algorithm_is_told_by_its_parts(network):
    told = {row.place[1]: row.algorithm for row in network[0].rows}
    assert told == {case: ALGORITHMS[row["algo"]] for case, row in CASES.items()}


@pytest.mark.parametrize("case", [case for case, row in CASES.items() if row["algo"] == "locon"])
def test_the_factors_of_a_plain_product_are_the_product(network, case):
    adapter = network[1].adapters["unet", case]
    if "dora" in case:
        assert adapter.factors() is None
        return
    up, down = adapter.factors()
    weight = TENSORS[f"base.{case}.weight"]
    torch.testing.assert_close(
        (weight.flatten(1) + up @ down).view_as(weight), TENSORS[f"expect.{case}.weight@1.0"]
    )

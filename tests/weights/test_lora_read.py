"""From a file to adapters: safetensors and pickles, words that come along, numbers that are none."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch
from darkroom.weights import lora
from darkroom.weights.header import read_header
from darkroom.weights.lora import fit, read_network
from darkroom.weights.lora.ordinals import orders
from lora_files import header_of, lora_shapes, targets_for, tiny_targets

PLACE = ("unet", "mid_block.attentions.0.proj_in")
BASE = "lora_unet_mid_block_attentions_0_proj_in"


def factors(dtype=torch.float16, rank=4):
    torch.manual_seed(5)
    return {
        f"{BASE}.lora_up.weight": torch.randn(64, rank).to(dtype),
        f"{BASE}.lora_down.weight": torch.randn(rank, 64).to(dtype),
        f"{BASE}.alpha": torch.tensor(2.0),
    }


@pytest.fixture
def network(tmp_path):
    """Saves tensors, in a safetensors file or a pickle, and reads them for the tiny checkpoint."""

    def read(tensors, *, name="it.safetensors", metadata=None, targets=None):
        path = tmp_path / name
        if name.endswith("safetensors"):
            save_file(tensors, path, metadata)
        else:
            torch.save(tensors, path)
        header = read_header(path)
        return read_network(header, fit(header, targets or tiny_targets()))

    return read


def product(found, place=PLACE):
    return found.adapters[place].delta(torch.zeros(64, 64), 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_precision_is_read(network, dtype):
    tensors = factors(dtype)
    up, down = (tensors[f"{BASE}.lora_{side}.weight"].float() for side in ("up", "down"))
    torch.testing.assert_close(product(network(tensors)), up @ down * 0.5)


def test_eight_bits_are_read_too(network):
    tensors = factors(torch.float8_e4m3fn)
    up, down = (tensors[f"{BASE}.lora_{side}.weight"].float() for side in ("up", "down"))
    torch.testing.assert_close(product(network(tensors)), up @ down * 0.5)


@pytest.mark.parametrize("name", ["it.pt", "it.ckpt", "it.safetensors"])
def test_a_pickle_says_the_same_as_safetensors(network, name):
    assert torch.equal(product(network(factors(), name=name)), product(network(factors())))


def test_alpha_in_a_pickle_may_be_a_plain_number(network):
    tensors = factors() | {f"{BASE}.alpha": 2.0}
    assert torch.equal(product(network(tensors, name="it.pt")), product(network(factors())))


def test_a_factor_in_a_pickle_may_lie_the_other_way_round(network):
    tensors = factors()
    down = tensors[f"{BASE}.lora_down.weight"]
    turned = tensors | {f"{BASE}.lora_down.weight": down.T.contiguous().T}
    assert torch.equal(product(network(turned, name="it.pt")), product(network(tensors)))


@pytest.mark.parametrize("component", ["unet", "text"])
def test_a_list_of_pairs_is_read_in_its_order(network, component):
    targets = tiny_targets()
    order = orders(targets.shapes, component)[-1]
    pairs = []
    for index, module in enumerate(order):
        up, down = lora_shapes(targets.shapes[component, module])
        pairs += [torch.full(up, float(index)), torch.ones(down)]
    found = network(pairs, name="it.pt")
    for index, module in enumerate(order):
        up, down = found.adapters[component, module].factors()
        assert float((up @ down)[0, 0]) == 2 * index


def test_the_network_does_not_need_the_file_any_more(network, tmp_path):
    found = network(factors())
    want = product(found)
    path = tmp_path / "it.safetensors"
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert torch.equal(product(found), want)


def test_its_size_is_that_of_its_tensors(network):
    found = network(factors(rank=4) | {"bundle_emb.cat.string_to_param.*": torch.ones(3, 64)})
    assert found.bytes == 2 * (64 * 4 + 4 * 64) + 4 * 3 * 64
    assert found.name == "it.safetensors"


def test_strength_and_scale_are_in_the_factors(network):
    up, down = network(factors()).adapters[PLACE].factors()
    torch.testing.assert_close(
        up @ down.float(), product(network(factors())), rtol=1e-5, atol=1e-5
    )  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["lora_up.weight", "alpha"])
def test_numbers_that_are_none_are_refused_by_name(network, key, value):
    tensors = factors()
    tensors[f"{BASE}.{key}"].view(-1)[-1] = value
    with pytest.raises(BadFile, match=rf"proj_in\.{key} has numbers that are none"):
        network(tensors)


def test_large_numbers_are_numbers(network):
    tensors = factors()
    tensors[f"{BASE}.lora_up.weight"] = torch.full((64, 4), 65504, dtype=torch.float16)
    assert product(network(tensors)).isfinite().all()


def test_whole_numbers_are_no_weights(network):
    tensors = factors() | {f"{BASE}.lora_up.weight": torch.ones(64, 4, dtype=torch.int8)}
    with pytest.raises(BadFile, match="quantised"):
        network(tensors)


def test_a_number_that_is_text_is_refused(network):
    with pytest.raises(BadFile, match="is no number"):
        network(factors() | {f"{BASE}.alpha": "four"}, name="it.pt")


def test_ia3_on_the_wrong_side_is_refused(network):
    base = "lora_unet_mid_block_resnets_0_time_emb_proj"  # (64, 128)
    tensors = {f"{base}.weight": torch.ones(64), f"{base}.on_input": torch.tensor(True)}
    with pytest.raises(BadFile, match="wrong side"):
        network(tensors)
    network(tensors | {f"{base}.on_input": torch.tensor(False)})


def test_what_does_not_fit_is_not_read(network):
    with pytest.raises(BadFile, match="does not fit an SD2 checkpoint"):
        network(factors(), targets=targets_for(Arch.SD2))


def test_words_are_given_per_encoder(network):
    left, right = torch.randn(2, 768), torch.randn(2, 1280)
    tensors = {
        "bundle_emb.cat.clip_l": left,
        "bundle_emb.cat.clip_g": right,
        "<dog>": left[0].half(),
    }
    found = network(tensors, targets=targets_for(Arch.SDXL)).embeddings
    assert torch.equal(found["cat"][0], left)
    assert torch.equal(found["cat"][1], right)
    assert found["<dog>"][1] is None
    assert torch.equal(found["<dog>"][0], left[:1].half().float())


def test_whether_a_file_fits_is_known_without_torch():
    program = "import sys, darkroom.weights.lora as l; l.fit, l.targets_of; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_exports_what_it_says():
    assert all(getattr(lora, name) for name in lora.__all__)
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = lora.other


# whatever a file holds, it is refused or it works


PARTS = [
    "lora_up.weight", "lora_down.weight", "lora_mid.weight", "dora_scale", "diff_b", "diff", "alpha",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "lokr_w1", "lokr_w2", "lokr_w2_a",
    "lokr_w2_b", "lokr_t2", "a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight", "weight",
    "on_input", "oft_blocks", "rescale", "oft_diag", "w_norm", "b_norm",
]  # fmt: skip
SETS = [  # those that belong together come up often enough to be built
    ["lora_up.weight", "lora_down.weight"],
    ["lora_up.weight", "lora_down.weight", "lora_mid.weight"],
    ["lora_up.weight", "lora_down.weight", "dora_scale"],
    ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"],
    ["lokr_w1", "lokr_w2"],
    ["lokr_w1", "lokr_w2_a", "lokr_w2_b"],
    ["lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_t2"],
    ["a1.weight", "a2.weight", "b1.weight", "b2.weight"],
    ["a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight"],
    ["oft_blocks"],
    ["weight"],
    ["diff"],
]
SIDES = st.sampled_from([0, 1, 1, 2, 2, 4, 4])
SHAPES = st.lists(SIDES, max_size=4).map(tuple)
LIKELY = st.sampled_from([
    (4, 2), (2, 4), (4, 4), (2, 2), (2, 16), (2, 2, 2, 2), (4, 2, 1, 1), (4, 2, 2, 2), (2, 4, 2, 2),
    (2, 4, 1, 1), (2, 2, 1, 1), (4, 1), (1, 4), (4,), (2, 2, 2), (1, 2, 2, 2), (4, 4, 2, 2),
])  # fmt: skip


def file_of(names, shapes):
    return st.fixed_dictionaries(dict.fromkeys(names, shapes))


FILES = st.one_of(
    st.lists(st.sampled_from(PARTS), unique=True, min_size=1, max_size=5).flatmap(
        lambda names: file_of(names, SHAPES)
    ),
    *(file_of(names, LIKELY) for names in SETS),
)
WEIGHTS = st.sampled_from([(4, 4), (4, 4, 1, 1), (4, 4, 2, 2), (4, 9, 2, 2), (4,), (4, 2)])


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(FILES, WEIGHTS)
def test_any_parts_of_any_shapes_are_refused_or_make_a_difference_of_the_weights_shape(
    files, parts, weight
):
    place = ("unet", "it")
    targets = lora.Targets(arch=Arch.SD1, shapes={place: weight}, biased=frozenset({place}))
    shapes = {f"lora_unet_it.{part}": shape for part, shape in parts.items()}
    if fit(header_of(shapes), targets).faults:
        return
    path = files / "it.safetensors"
    save_file({key: torch.ones(shape) for key, shape in shapes.items()}, path)
    header = read_header(path)
    try:
        found = read_network(header, fit(header, targets))
    except BadFile:
        return
    for adapter in found.adapters.values():
        got = adapter.delta(torch.ones(weight), 0.5)
        assert got.shape == weight
        assert (bias := adapter.bias_delta(torch.ones(4), 1.0)) is None or bias.shape == (4,)
        if factors := adapter.factors():
            assert (factors[0] @ factors[1]).shape == (4, got[0].numel())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("files")

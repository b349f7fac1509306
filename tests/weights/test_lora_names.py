"""Which module every key of every dialect means."""

import json
from pathlib import Path

import pytest

from darkroom.core.model import Arch
from darkroom.weights.lora import fit
from darkroom.weights.lora.keys import split_key
from darkroom.weights.lora.ordinals import orders
from lora_files import DIALECTS, header_of, lora_header, lora_shapes, targets_for, tiny_targets

FOLDER = Path(__file__).parents[1] / "goldens" / "lora"
FAMILIES = [Arch.SD1, Arch.SD2, Arch.SDXL]


@pytest.mark.parametrize(
    ("file", "arch", "counts"),
    [
        ("kohya_sd15_lora_d1", Arch.SD1, {"unet": 192, "text": 72}),
        ("kohya_sdxl_lora_d1", Arch.SDXL, {"unet": 722, "text": 72, "text_2": 192}),
    ],
)
def test_the_keys_that_kohyas_trainer_writes_all_fit(file, arch, counts):
    keys = json.loads((FOLDER / f"{file}.keys.json").read_text())
    fitted = fit(header_of(keys), targets_for(arch))
    fitted.check()
    assert not fitted.notes
    got = [component for component, _ in fitted.modules]
    assert {component: got.count(component) for component in set(got)} == counts
    assert 3 * len(fitted.rows) == len(keys)


@pytest.mark.parametrize("arch", FAMILIES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_names_the_same_modules_on_every_family(dialect, arch):
    header, places = lora_header(targets_for(arch), dialect)
    fitted = fit(header, targets_for(arch))
    fitted.check()
    assert set(fitted.modules) == places
    assert fitted.counts == {"LoRA": len(places)}


@pytest.mark.parametrize(
    ("base", "arch", "component"),
    [
        ("text_encoders.clip_l.transformer.text_model", Arch.SDXL, "text"),
        ("text_encoders.clip_g.transformer.text_model", Arch.SDXL, "text_2"),
        ("text_encoders.clip_h.transformer.text_model", Arch.SD2, "text"),
        ("clip_g.transformer.text_model", Arch.SDXL, "text_2"),
    ],
)
def test_comfyuis_names_for_text_encoders(base, arch, component):
    module = "encoder.layers.3.self_attn.q_proj"
    place = component, module
    up, down = lora_shapes(targets_for(arch).shapes[place])
    name = f"{base}.{module}.lora"
    header = header_of({f"{name}_up.weight": up, f"{name}_down.weight": down})
    assert fit(header, targets_for(arch)).modules == (place,)


def test_each_factor_goes_to_the_module_it_names():
    header, _ = lora_header(targets_for(Arch.SD1), "kohya, SGM names")
    rows = {row.place: row for row in fit(header, targets_for(Arch.SD1)).rows}
    row = rows["unet", "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_out.0"]
    base = "lora_unet_output_blocks_5_1_transformer_blocks_0_attn2_to_out_0"
    assert row.parts == {"up": f"{base}.lora_up.weight", "down": f"{base}.lora_down.weight"}


@pytest.mark.parametrize("arch", FAMILIES)
def test_no_two_modules_share_a_name_once_dots_are_underscores(arch):
    places = targets_for(arch).shapes
    for component in ("unet", "text", "text_2"):
        modules = [module for part, module in places if part == component]
        assert len({module.replace(".", "_") for module in modules}) == len(modules)


@pytest.mark.parametrize(
    ("arch", "base", "module"),
    [
        (Arch.SDXL, "lora_unet_label_emb_0_0", ("unet", "add_embedding.linear_1")),
        (Arch.SDXL, "lora_unet_time_embed_2", ("unet", "time_embedding.linear_2")),
        (Arch.SDXL, "lora_unet_out_2", ("unet", "conv_out")),
        (Arch.SDXL, "lora_unet_input_blocks_0_0", ("unet", "conv_in")),
        (Arch.SDXL, "lora_te2_text_projection", ("text_2", "text_projection")),
        (Arch.SDXL, "lora_te2_text_model_encoder_layers_31_mlp_fc2", ("text_2", "encoder.layers.31.mlp.fc2")),
        (Arch.SDXL, "lora_unet_down_blocks_2_attentions_1_proj_in", ("unet", "down_blocks.2.attentions.1.proj_in")),
        (Arch.SD1, "oft_unet_conv_in", ("unet", "conv_in")),
        (Arch.SD1, "lora_te1_text_model_encoder_layers_0_mlp_fc1", ("text", "encoder.layers.0.mlp.fc1")),
        (Arch.SD1, "lora_te_encoder_layers_0_mlp_fc1", ("text", "encoder.layers.0.mlp.fc1")),
        (Arch.SD1, "base_model.model.unet.mid_block.resnets.0.conv1", ("unet", "mid_block.resnets.0.conv1")),
        (Arch.SD1, "lora_te2_text_projection", None),
        (Arch.SD1, "lora_unet_down_blocks_0_attentions_0_proj_", None),
        (Arch.SD1, "", None),
    ],
)  # fmt: skip
def test_names_that_only_some_trainers_write(arch, base, module):
    assert targets_for(arch).index.find(base) == module


@pytest.mark.parametrize(
    ("key", "base", "part"),
    [
        ("a_b.lora_up.weight", "a_b", "up"),
        ("a.b.to_q.lora.down.weight", "a.b.to_q", "down"),
        ("a.attn1.processor.to_q_lora.down.weight", "a.attn1.processor.to_q", "down"),
        ("a.attn1.to_q.lora_A.default.weight", "a.attn1.to_q", "down"),
        ("a.attn1.to_q.lora_B.my_adapter.weight", "a.attn1.to_q", "up"),
        ("a.lora_B.bias", "a", "up_b"),
        ("a.lora_linear_layer.up.weight", "a", "up"),
        ("lora_unet_unet_x_to_k_lora_down.weight", "lora_unet_unet_x_to_k", "down"),
        ("a.lora_mid.weight", "a", "mid"),
        ("a.alpha", "a", "alpha"),
        ("a.to_q_lora.alpha", "a.to_q", "alpha"),
        ("a.scale", "a", "scale"),
        ("a.dora_scale", "a", "dora"),
        ("a.lora_magnitude_vector", "a", "dora"),
        ("a.lora_magnitude_vector.default.weight", "a", "dora"),
        ("a.hada_w2_a", "a", "hada_w2_a"),
        ("a.lokr_w1", "a", "lokr_w1"),
        ("a.lokr_w1_b", "a", "lokr_w1_b"),
        ("a.lokr_w2_a.default", "a", "lokr_w2_a"),
        ("a.lokr_t2", "a", "lokr_t2"),
        ("a.b1.weight", "a", "b1"),
        ("a.weight", "a", "ia3"),
        ("a.on_input", "a", "on_input"),
        ("a.diff", "a", "diff"),
        ("a.diff_b", "a", "diff_b"),
        ("a.w_norm", "a", "w_norm"),
        ("a.oft_blocks", "a", "oft_blocks"),
    ],
)
def test_the_ending_of_a_key_says_which_part_it_is(key, base, part):
    assert split_key(key) == (base, part)


@pytest.mark.parametrize(
    "key", ["", "a", "lora_up", ".alpha", "a.other", "lora_unet_x.lora_up.weight.x"]
)
def test_an_ending_that_says_nothing(key):
    assert split_key(key) is None


def counted(targets, component, order, name):
    """A file of cloneofsimo's: pairs by number."""
    shapes = {}
    for index, module in enumerate(order):
        up, down = lora_shapes(targets.shapes[component, module])
        shapes[name(index, "up")], shapes[name(index, "down")] = up, down
    return shapes


@pytest.mark.parametrize("feed_forward", [True, False])
def test_numbered_pairs_go_down_up_and_to_the_middle(feed_forward):
    targets = targets_for(Arch.SD1)
    order = orders(targets.shapes, "unet")[0 if feed_forward else 1]
    assert len(order) == (144 if feed_forward else 128)
    blocks = [module.split(".")[0] for module in order]
    assert blocks == sorted(blocks, key=["down_blocks", "up_blocks", "mid_block"].index)
    block = "down_blocks.0.attentions.0.transformer_blocks.0."
    inner = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj"]
    wanted = [block + name for name in inner if feed_forward or "ff" not in name]
    assert list(order[: len(wanted)]) == wanted
    text = orders(targets.shapes, "text")[0]
    assert text[:2] == ("encoder.layers.0.self_attn.k_proj", "encoder.layers.0.self_attn.v_proj")
    assert len(text) == 48
    shapes = counted(targets, "unet", order, "unet:{}:{}".format)
    shapes |= counted(targets, "text", text, "text_encoder:{}:{}".format)
    fitted = fit(header_of(shapes, {"unet": "[]"}), targets)
    fitted.check()
    assert {module for _, module in fitted.modules} == {*order, *text}


def test_numbers_beyond_ten_are_numbers():
    """`attentions.10` is made after `attentions.9`, whatever the alphabet says."""
    places = [("text", f"encoder.layers.{i}.self_attn.q_proj") for i in (10, 2, 0)]
    layers = [name.split(".")[2] for name in orders(places, "text")[0][::4]]
    assert layers == ["0", "2", "10"]


@pytest.mark.parametrize("component", ["unet", "text"])
def test_a_list_of_pairs_is_for_the_network_that_has_as_many(component):
    """cloneofsimo's `.pt`: up and down by turns, and one file for each network."""
    targets = targets_for(Arch.SD1)
    order = orders(targets.shapes, component)[-1]
    shapes = counted(
        targets, component, order, lambda index, side: str(2 * index + (side == "down"))
    )
    fitted = fit(header_of(shapes), targets)
    fitted.check()
    assert set(fitted.modules) == {(component, module) for module in order}


def test_as_many_pairs_as_no_network_has_are_refused():
    fitted = fit(header_of({"0": (8, 1), "1": (1, 8)}), tiny_targets())
    assert set(fitted.faults) == {"0", "1"}

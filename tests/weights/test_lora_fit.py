"""All of a file or nothing: what is refused, in which words, and what may be left over."""

import json

import pytest

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch
from darkroom.weights.lora import fit
from lora_files import DIALECTS, header_of, lora_header, targets_for, tiny_targets

PLACE = ("unet", "mid_block.attentions.0.proj_in")
BASE = "lora_unet_mid_block_attentions_0_proj_in"
WIDTH = 64  # of the tiny UNet's middle
CROSS = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def one(parts, metadata=None, base=BASE):
    """A file that changes one module of the tiny checkpoint."""
    return fit(
        header_of({f"{base}.{part}": s for part, s in parts.items()}, metadata), tiny_targets()
    )


def refusal(fitted):
    with pytest.raises(BadFile) as caught:
        fitted.check()
    assert caught.value.hint
    return str(caught.value)


W = (WIDTH, WIDTH, 1, 1)


@pytest.mark.parametrize(
    ("algorithm", "parts"),
    [
        ("LoRA", {"lora_up.weight": (64, 4, 1, 1), "lora_down.weight": (4, 64, 1, 1), "alpha": ()}),
        ("LoRA", {"lora_up.weight": (64, 1), "lora_down.weight": (1, 64)}),
        ("LoRA", {"lora_up.weight": (64, 4), "lora_down.weight": (3, 64), "lora_mid.weight": (4, 3, 1, 1)}),
        ("LoRA", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "dora_scale": (64, 1)}),
        ("LoRA", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "dora_scale": (1, 64)}),
        ("LoRA", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "lora_magnitude_vector": (64,)}),
        ("LoRA", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "diff_b": (64,)}),
        ("LoRA", {"lora_B.weight": (64, 4), "lora_A.weight": (4, 64), "lora_B.bias": (64,)}),
        ("LoHa", {"hada_w1_a": (64, 4), "hada_w1_b": (4, 64), "hada_w2_a": (64, 3), "hada_w2_b": (3, 64)}),
        ("LoKr", {"lokr_w1": (8, 4), "lokr_w2": (8, 16)}),
        ("LoKr", {"lokr_w1_a": (8, 2), "lokr_w1_b": (2, 4), "lokr_w2": (8, 16)}),
        ("LoKr", {"lokr_w1": (8, 4), "lokr_w2_a": (8, 2), "lokr_w2_b": (2, 16)}),
        ("LoKr", {"lokr_w1": (8, 4), "lokr_w2_a": (2, 8), "lokr_w2_b": (3, 16), "lokr_t2": (2, 3, 1, 1)}),
        ("GLoRA", {"a1.weight": (64, 4), "a2.weight": (4, 64), "b1.weight": (64, 4), "b2.weight": (4, 64)}),
        ("GLoRA", {"a1.weight": (4, 64), "a2.weight": (64, 4), "b1.weight": (4, 64), "b2.weight": (64, 4)}),
        ("IA3", {"weight": (64,), "on_input": ()}),
        ("full difference", {"diff": (64, 64), "diff_b": (64,)}),
        ("full difference", {"diff_b": (64,)}),
        ("OFT", {"oft_blocks": (16, 4, 4), "alpha": (), "rescale": (64, 1)}),
        ("OFT", {"oft_diag": (8, 8, 8)}),
        ("BOFT", {"oft_blocks": (5, 16, 4, 4)}),
    ],
)  # fmt: skip
def test_the_parts_and_their_shapes_tell_the_algorithm(algorithm, parts):
    fitted = one(parts)
    fitted.check()
    assert fitted.counts == {algorithm: 1}
    assert fitted.modules == (PLACE,)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("another shape", {"lora_up.weight": (63, 4), "lora_down.weight": (4, 64)}),
        ("another shape", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 60)}),
        ("another shape", {"lora_up.weight": (64, 4), "lora_down.weight": (5, 64)}),
        ("another shape", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64, 3, 3)}),
        ("another shape", {"lora_up.weight": (64, 4, 3, 3), "lora_down.weight": (4, 64, 3, 3)}),
        ("another shape", {"lora_up.weight": (64,), "lora_down.weight": (4, 64)}),
        ("another shape", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "alpha": (4,)}),
        ("another shape", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "dora_scale": (4, 16)}),
        ("another shape", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "diff_b": (63,)}),
        ("another shape", {"lora_up.weight": (64, 4), "lora_down.weight": ()}),
        ("another shape", {"lora_up.weight": (), "lora_down.weight": (4, 64), "lora_mid.weight": (4, 4)}),
        ("another shape", {"lokr_w1": (), "lokr_w2": (64, 64)}),
        ("another shape", {"lokr_w1": (8, 4), "lokr_w2": (8, 15)}),
        ("another shape", {"lokr_w1": (8,), "lokr_w2": (8, 64)}),
        ("another shape", {"hada_w1_a": (64, 4), "hada_w1_b": (4, 64), "hada_w2_a": (64, 4), "hada_w2_b": (4, 63)}),
        ("another shape", {"a1.weight": (60, 4), "a2.weight": (4, 60), "b1.weight": (64, 4), "b2.weight": (4, 64)}),
        ("another shape", {"weight": (60,), "on_input": ()}),
        ("another shape", {"diff": (64, 63)}),
        ("another shape", {"diff": ()}),
        ("another shape", {"w_norm": (64,)}),
        ("another shape", {"oft_blocks": (16, 4, 5)}),
        ("another shape", {"oft_blocks": (16, 4)}),
        ("another shape", {"oft_blocks": (6, 16, 4, 4)}),
        ("another shape", {"oft_blocks": (40, 16, 4, 4)}),
        ("another shape", {"oft_blocks": (16, 4, 4), "rescale": (63,)}),
        ("no numbers", {"lora_up.weight": (64, 0), "lora_down.weight": (0, 64)}),
        ("incomplete (they have up)", {"lora_up.weight": (64, 4)}),
        ("incomplete (they have alpha, hada_w1_a)", {"hada_w1_a": (64, 4), "alpha": ()}),
        ("incomplete (they have diff, down, up)", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "diff": (64, 64)}),
        ("replace whole weights", {"set_weight": (64, 64)}),
        ("PEFT's own OFT", {"oft_R.default.weight": (16, 6)}),
        ("that we do not know (.bias)", {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "bias": (64,)}),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_refused_with_its_reason(words, parts):
    assert words in refusal(one(parts))


def test_a_file_of_the_right_family_is_not_sent_to_another_checkpoint():
    """Without a text that it reads, a file may be for SD1 or SD2."""
    base = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    parts = {"lora_up.weight": (320, 4), "lora_down.weight": (4, 320), "set_weight": (320, 320)}
    header = header_of({f"{base}.{part}": shape for part, shape in parts.items()})
    with pytest.raises(BadFile) as caught:
        fit(header, targets_for(Arch.SD1)).check()
    assert "made for" not in str(caught.value)
    assert caught.value.hint.startswith("Take it out of the prompt; ")


def test_a_bias_that_the_module_lacks_is_refused():
    parts = {"lora_up.weight": (64, 4), "lora_down.weight": (4, 64), "diff_b": (64,)}
    assert "change a bias that the model does not have" in refusal(one(parts, base=CROSS))


def test_a_file_for_another_family_is_refused_with_counts_and_the_family():
    header, places = lora_header(targets_for(Arch.SDXL), "kohya")
    text = refusal(fit(header, targets_for(Arch.SD1)))
    assert text.startswith("it.safetensors does not fit an SD1 checkpoint: ")
    assert f"of {len(places)} modules" in text
    assert "193 of" in text
    assert "for SDXL's second text encoder" in text
    assert text.endswith("it was made for SDXL")


@pytest.mark.parametrize("file", [Arch.SD1, Arch.SD2, Arch.SDXL])
@pytest.mark.parametrize("model", [Arch.SD1, Arch.SD2, Arch.SDXL])
@pytest.mark.parametrize("dialect", ["kohya", "PEFT", "diffusers, old"])
def test_a_file_fits_its_own_family_and_no_other(file, model, dialect):
    header, _ = lora_header(targets_for(file), dialect)
    fitted = fit(header, targets_for(model))
    if file is model:
        fitted.check()
    else:
        assert f"made for {file}" in refusal(fitted)


@pytest.mark.parametrize("dialect", ["kohya", "PEFT", "diffusers, old"])
def test_a_small_model_says_that_it_is_the_size_and_not_the_family(dialect):
    header, places = lora_header(targets_for(Arch.SD1), dialect)
    with pytest.raises(BadFile) as caught:
        fit(header, tiny_targets()).check()
    told = str(caught.value)
    assert "it was made for full-size SD1, and this is a small model of the same make" in told
    assert f" of {len(places)} modules do not fit" in told
    assert "full-size SD1 checkpoint with --model" in caught.value.hint


def test_of_another_family_a_small_model_says_so_and_of_its_own_make_the_shapes():
    header, _ = lora_header(targets_for(Arch.SDXL), "kohya")
    assert refusal(fit(header, tiny_targets())).endswith("it was made for SDXL")
    header, _ = lora_header(tiny_targets(unet=(32, 96)), "kohya")
    text = refusal(fit(header, tiny_targets()))
    assert "another shape" in text
    assert "full-size" not in text


def test_a_thousand_faults_make_one_short_sentence():
    header, _ = lora_header(targets_for(Arch.SDXL), "kohya")
    assert len(refusal(fit(header, targets_for(Arch.SD2)))) < 700


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("lora_unet_double_blocks_0_img_attn_proj", "for Flux"),
        ("transformer.single_transformer_blocks.0.attn.to_q", "for Flux"),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_k", "SD3's third"),
        ("lora_prior_unet_x", "for Stable Cascade"),
        ("down_blocks.0.motion_modules.0.temporal_transformer.proj_in", "for AnimateDiff"),
        ("lllite_unet_input_blocks_4_1", "for a ControlNet"),
        ("lora_unet_mid_block_attentions_7_proj_in", "are not in this model"),
    ],
)
def test_names_of_other_models_are_told(key, words):
    shapes = {f"{key}.lora_up.weight": (64, 4), f"{key}.lora_down.weight": (4, 64)}
    assert words in refusal(fit(header_of(shapes), tiny_targets()))


PLAIN = {f"{BASE}.lora_up.weight": (64, 4), f"{BASE}.lora_down.weight": (4, 64)}


@pytest.mark.parametrize(
    "extra", ["lora_unet_somewhere_else.alpha", "global_step", f"{CROSS}.alpha", "lora_te_x.scale"]
)
def test_what_acts_on_nothing_is_a_note(extra):
    fitted = fit(header_of(PLAIN | {extra: ()}), tiny_targets())
    fitted.check()
    assert len(fitted.notes) == 1
    assert "no effect here" in fitted.notes[0]


def test_a_file_of_nothing_that_acts_is_refused():
    assert "holds no LoRA" in refusal(fit(header_of({"something": (3, 3)}), tiny_targets()))


def test_the_layer_that_no_sd2_runs_is_a_note():
    last = "lora_te_text_model_encoder_layers_23_mlp_fc1"
    shapes = {f"{last}.lora_up.weight": (4096, 4), f"{last}.lora_down.weight": (4, 1024)}
    conv = {"lora_unet_conv_in.lora_up.weight": (320, 4), "lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3)}  # fmt: skip
    fitted = fit(header_of(shapes | conv), targets_for(Arch.SD2))
    fitted.check()
    assert len(fitted.rows) == len(fitted.notes) == 1
    assert "not in this model" in refusal(fit(header_of(shapes), targets_for(Arch.SD1)))


def test_the_same_module_under_two_names_is_refused():
    twice = {
        key.replace(BASE, "unet.mid_block.attentions.0.proj_in"): s for key, s in PLAIN.items()
    }
    assert "twice, under two names" in refusal(fit(header_of(PLAIN | twice), tiny_targets()))


def test_a_linear_layer_and_a_convolution_of_one_pixel_are_the_same():
    for model, kernel in ((Arch.SD1, ()), (Arch.SD2, (1, 1))):
        base = "lora_unet_down_blocks_0_attentions_0_proj_in"
        shapes = {f"{base}.lora_up.weight": (320, 4, *kernel), f"{base}.lora_down.weight": (4, 320, *kernel)}  # fmt: skip
        fit(header_of(shapes), targets_for(model)).check()


@pytest.mark.parametrize(("parts", "fits"), [
    ({"lora_up.weight": (320, 4), "lora_down.weight": (4, 4, 3, 3)}, True),
    ({"lora_up.weight": (320, 4), "lora_down.weight": (4, 9, 3, 3)}, True),
    ({"diff": (320, 4, 3, 3)}, True),
    ({"lora_up.weight": (320, 4), "lora_down.weight": (4, 5, 3, 3)}, False),
    ({"weight": (4,), "on_input": ()}, False),
    ({"hada_w1_a": (320, 4), "hada_w1_b": (4, 36), "hada_w2_a": (320, 4), "hada_w2_b": (4, 36)}, False),
])  # fmt: skip
def test_the_first_convolution_of_an_inpainting_model_takes_files_for_four_channels(parts, fits):
    shapes = {f"lora_unet_conv_in.{part}": shape for part, shape in parts.items()}
    assert (not fit(header_of(shapes), targets_for(Arch.SD1, 9)).faults) is fits


# words that come along


@pytest.mark.parametrize(
    ("arch", "shapes", "found"),
    [
        (Arch.SD1, {"bundle_emb.cat.string_to_param.*": (3, 768)}, {"text"}),
        (Arch.SD1, {"<s1>": (768,)}, {"text"}),
        (Arch.SDXL, {"bundle_emb.my.cat.clip_l": (2, 768), "bundle_emb.my.cat.clip_g": (2, 1280)}, {"text", "text_2"}),
        (Arch.SDXL, {"bundle_emb.cat.clip_g": (2, 1280)}, {"text_2"}),
    ],
)  # fmt: skip
def test_words_go_to_the_encoder_of_their_width(arch, shapes, found):
    fitted = fit(header_of(shapes), targets_for(arch))
    fitted.check()
    ((word, keys),) = fitted.embeddings.items()
    assert word in ("cat", "my.cat", "<s1>")
    assert set(keys) == found


@pytest.mark.parametrize("shape", [(2, 1024), (0, 768), (1, 1, 768), ()])
def test_words_for_another_encoder_are_refused(shape):
    header = header_of({"bundle_emb.cat.string_to_param.*": shape})
    assert "words for another text encoder" in refusal(fit(header, targets_for(Arch.SD1)))


# scales that only the metadata tell


def peft(settings, place="lora_adapter_metadata", base="unet.mid_block.attentions.0.proj_in"):
    shapes = {f"{base}.lora_B.weight": (64, 4), f"{base}.lora_A.weight": (4, 64)}
    text = settings if isinstance(settings, str) else json.dumps(settings)
    (row,) = fit(header_of(shapes, {place: text}), tiny_targets()).rows
    return row.scale


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"unet.lora_alpha": 2, "unet.r": 4}, 0.5),
        ({"unet.lora_alpha": 2, "unet.use_rslora": True}, 1.0),
        ({"unet.lora_alpha": 2, "unet.alpha_pattern": {"attentions.0.proj_in": 8}}, 2.0),
        ({"unet.lora_alpha": 2, "unet.alpha_pattern": {"proj_out": 8}}, 0.5),
        ({"unet.lora_alpha": 2, "unet.alpha_pattern": {"oj_in": 8, "(a+)+$": 9}}, 0.5),
        ({"text_encoder.lora_alpha": 2}, None),
        ({"unet.lora_alpha": "2"}, None),
        ({"unet.lora_alpha": True}, None),
        ('{"unet.lora_alpha": NaN}', None),
        ("{", None),
        ("[" * 100_000, None),
        ("[1, 2]", None),
    ],
)
def test_peft_tells_alpha_in_the_metadata(settings, scale):
    assert peft(settings) == scale


def test_a_peft_file_of_one_network_has_no_prefix():
    base = "base_model.model.mid_block.attentions.0.proj_in"
    settings = {"r": 4, "lora_alpha": 8, "peft_type": "LORA"}
    assert peft(settings, "adapter_config.json", base) == 2.0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_tiny_checkpoint_has_all_of_it_too(dialect):
    header, places = lora_header(tiny_targets(), dialect)
    fitted = fit(header, tiny_targets())
    fitted.check()
    assert set(fitted.modules) == places

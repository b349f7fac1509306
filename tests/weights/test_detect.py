"""Dimensions read from shapes alone, and what makes a checkpoint of them or a refusal."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import (
    SDXL_UNET,
    TEXTS,
    UNETS,
    VAE,
    VAES,
    called,
    ema_names,
    real_folder,
    real_header,
    real_shapes,
)
from darkroom.core.errors import BadFile
from darkroom.core.model import Arch, Kind, Prediction, Variant
from darkroom.weights.detect import detect, detect_vae
from darkroom.weights.header import Header
from darkroom.weights.layouts.checkpoint import single_file, stored
from darkroom.weights.topology import CLIP_VOCABULARY, SD_SCALE, SDXL_SCALE, norm_groups
from tiny import made_header, tiny_header, write_tensors

P = "model.diffusion_model."
VARIANTS = {4: Variant.BASE, 9: Variant.INPAINT, 8: Variant.EDIT}


@pytest.mark.parametrize("channels", VARIANTS)
@pytest.mark.parametrize("arch", UNETS)
def test_the_real_families_and_their_variants(arch, channels):
    found = detect(real_header(arch, in_channels=channels))
    assert found.unet == replace(UNETS[arch], in_channels=channels)
    assert (found.vae, found.texts) == (VAES[arch], TEXTS[arch])
    assert (found.kind, found.arch) == (Kind.CHECKPOINT, arch)
    assert found.variant is VARIANTS[channels]
    assert (found.prediction, found.zero_snr) == (Prediction.EPS, False)
    assert found.native_size == (512 if arch in (Arch.SD1, Arch.SD2) else 1024)
    assert found.problems == ()


def test_what_the_shapes_of_real_models_do_not_say():
    heads = {arch: detect(real_header(arch)).unet.heads for arch in UNETS}
    assert heads[Arch.SD1] == (8, 8, 8, 8)
    assert heads[Arch.SD2] == (5, 10, 20, 20)
    assert heads[Arch.SDXL] == (5, 10, 20)
    assert heads[Arch.SDXL_REFINER] == (6, 12, 24, 24)
    found = detect(real_header(Arch.SDXL))
    assert [text.heads for text in found.texts] == [12, 20]
    assert found.unet.groups == found.vae.groups == 32 and found.vae.factor == 8
    assert found.vae.scale == SDXL_SCALE
    assert detect(real_header(Arch.SD2)).vae.scale == SD_SCALE


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("arch", UNETS)
def test_folders_are_the_same_models(arch, inner):
    found = detect(made_header(real_folder(arch, inner=inner)))
    assert (found.unet, found.vae, found.texts) == (UNETS[arch], VAES[arch], TEXTS[arch])
    assert found.arch is arch


def test_a_folder_tells_by_its_configs():
    said = {
        "scheduler/scheduler_config.json": '{"prediction_type": "v_prediction",'
        ' "rescale_betas_zero_snr": true}',
        "unet/config.json": '{"sample_size": 96}',
        "vae/config.json": '{"scaling_factor": 0.5}',
    }
    found = detect(made_header(real_folder(Arch.SD2), said))
    assert (found.prediction, found.zero_snr) == (Prediction.V, True)
    assert (found.native_size, found.vae.scale) == (768, 0.5)
    broken = dict.fromkeys(said, "{[")
    assert detect(made_header(real_folder(Arch.SD2), broken)).prediction is Prediction.EPS


def test_sd2_with_the_names_of_its_successors():
    """SD2-Turbo: one text encoder under `conditioner`, no further numbers for the UNet."""
    shapes = {
        name.replace("cond_stage_model.", "conditioner.embedders.0."): shape
        for name, shape in real_shapes(Arch.SD2).items()
    }
    found = detect(made_header(shapes))
    assert (found.arch, found.texts) == (Arch.SD2, TEXTS[Arch.SD2])
    assert found.layout["text"][0].source.startswith("conditioner.embedders.0.model.")


def test_sd2_without_the_layer_that_it_never_uses():
    unused = "cond_stage_model.model.transformer.resblocks.23."
    shapes = {n: s for n, s in real_shapes(Arch.SD2).items() if not n.startswith(unused)}
    assert detect(made_header(shapes)).texts == TEXTS[Arch.SD2]


@pytest.mark.parametrize(
    "dims",
    [
        {},
        {"unet": (64, 128, 192), "layers": 2, "depths": (1, 1, 0), "linear": True, "width": 192},
        {"unet": (32,), "depths": (2,), "layers": 3},
        {"unet": (32, 32, 64, 64), "depths": (0, 2, 2, 0), "vae": (8, 8, 16, 16), "vae_layers": 2},
        {"text_layers": 5, "vocab": 49500},
    ],
)
def test_dimensions_from_shapes_alone(dims):
    found = detect(tiny_header(**dims))
    want = {"unet": (32, 64), "layers": 1, "vae": (16, 32, 32, 32), "vae_layers": 1, "width": 64,
            "text_layers": 2, "vocab": 49408, "linear": False} | dims  # fmt: skip
    assert (found.unet.channels, found.unet.layers) == (want["unet"], want["layers"])
    assert found.unet.depths == want.get("depths", (1, 0))
    assert found.unet.linear_projection is want["linear"]
    assert (found.vae.channels, found.vae.layers) == (want["vae"], want["vae_layers"])
    assert found.unet.context == found.texts[0].width == want["width"]
    assert (found.texts[0].layers, found.texts[0].vocab) == (want["text_layers"], want["vocab"])
    assert found.texts[0].intermediate == 4 * want["width"] and found.texts[0].positions == 77


def test_rules_for_what_shapes_do_not_say():
    found = detect(tiny_header(unet=(64, 128, 192), depths=(1, 1, 0), width=192))
    assert found.unet.heads == (1, 2, 3)  # 64 channels each
    assert found.texts[0].heads == 3
    assert [norm_groups(base) for base in (4, 16, 64, 96, 128, 320)] == [1, 4, 16, 24, 32, 32]


def test_what_metadata_says():
    found = detect(tiny_header({"modelspec.resolution": "128x128"}))
    assert found.native_size == 128
    assert detect(tiny_header({"modelspec.resolution": "768x512"})).native_size == 768
    assert detect(tiny_header({"modelspec.prediction_type": "v"})).prediction is Prediction.V
    assert detect(tiny_header({"modelspec.predict_key": "v"})).prediction is Prediction.V
    assert (
        detect(tiny_header({"modelspec.prediction_type": "epsilon"})).prediction is Prediction.EPS
    )


@pytest.mark.parametrize(
    ("said", "size"),
    [
        *[(text, 512) for text in ("", "big", "-5", "9999999", "1e9", "512x", "0x0", "00", "٥١٢")],
        *[("512", 512), ("513x500", 512), ("517", 520), ("10x12", 64), ("63", 64), ("67", 64)],
        *[("8192", 8192), ("8193x99999", 8192), ("640x8191", 8192), ("832x1216", 1216)],
    ],
)
def test_the_native_size_can_always_be_made(said, size):
    assert detect(tiny_header({"modelspec.resolution": said})).native_size == size


def test_markers_say_how_the_model_was_trained():
    assert detect(more(tiny_header(), "v_pred")).prediction is Prediction.V
    denied = tiny_header({"modelspec.prediction_type": "epsilon"})
    assert detect(more(denied, "v_pred")).prediction is Prediction.V  # a tensor outweighs a text
    for names, prediction in ((["ztsnr"], Prediction.EPS), (["v_pred", "ztsnr"], Prediction.V)):
        found = detect(more(tiny_header(), *names))
        assert (found.prediction, found.zero_snr) == (prediction, True)


def test_the_old_text_layout_and_junk_are_accepted():
    header = tiny_header(text_prefix="cond_stage_model.transformer.")
    assert detect(header).layout["text"][0].source.startswith("cond_stage_model.transformer.embed")
    junk = ("model_ema.decay", "model_ema.diffusion_modelout2weight", "betas", "alphas_cumprod_prev",
            "cond_stage_model.transformer.text_model.embeddings.position_ids", "sqrt_alphas_cumprod",
            "first_stage_model.loss.logvar", "lora_te_left_over")  # fmt: skip
    assert detect(more(tiny_header(), *junk)).arch is Arch.SD1


def shapes_of(header: Header) -> dict[str, tuple[int, ...]]:
    return {name: info.shape for name, info in header.tensors.items()}


def more(header: Header, *names: str) -> Header:
    return made_header(shapes_of(header) | dict.fromkeys(names, (1,)), dict(header.metadata))


def refusal(header: Header) -> str:
    with pytest.raises(BadFile) as caught:
        detect(header)
    return caught.value.sentence()


def test_missing_wrong_and_unexpected_tensors_are_counted_and_named():
    shapes = shapes_of(tiny_header())
    total = len(shapes)
    lost = f"{P}middle_block.0.in_layers.0.bias"
    del shapes[lost]
    shapes[f"{P}out.0.bias"] = (33,)
    shapes |= {f"{P}output_blocks.9.0.{n}": (1,) for n in range(8)} | {"strange": (1,)}
    sentence = refusal(made_header(shapes))
    assert f"1 of {total} tensors (first: {lost}) are missing" in sentence
    assert f"1 of {total} tensors (first: {P}out.0.bias) are of the wrong shape" in sentence
    assert f"9 of {total} tensors (first: {P}output_blocks.9.0.0) are unexpected" in sentence
    assert f"{total} of {total} tensors" in refusal(
        made_header(shapes_of(tiny_header()), dtype="I8")
    )


def test_linear_weights_may_be_stored_where_the_layout_has_1x1_convolutions():
    shapes = shapes_of(tiny_header())
    name = "first_stage_model.encoder.mid.attn_1.q.weight"
    shapes[name] = shapes[name][:2]
    assert detect(made_header(shapes)).vae.channels == (16, 32, 32, 32)


@pytest.mark.parametrize(
    ("dims", "says"),
    [
        ({"width": 200}, "width of 200 does not divide into 3 heads"),
        ({"unet": (36, 65)}, "UNet channels do not divide into 9 groups"),
        ({"vae": (16, 30, 32, 32)}, "VAE channels do not divide into 4 groups"),
        ({"unet": (32, 32), "depths": (2, 1)}, "middle of its UNet is not as deep"),
        ({"text_layers": 0}, "has no cond_stage_model"),
    ],
)
def test_dimensions_that_make_no_network(dims, says):
    assert says in refusal(tiny_header(**dims))


@pytest.mark.parametrize(
    ("dims", "says"),
    [
        ({"vae": (16, 32, 32)}, "its VAE makes pictures 4 times the size of the latent, not 8"),
        ({"vae": (16,)}, "its VAE makes pictures 1 times the size"),
        ({"vae": (16, 16, 16, 16, 16)}, "its VAE makes pictures 16 times the size"),
        ({"latent_channels": 16}, "its UNet takes 4 channels, its VAE has 16"),
        ({"out_channels": 8}, "its UNet gives 8 channels, its VAE has 4"),
        ({"text_width": 128}, "its text encoder is 128 wide, its UNet expects 64"),
        ({"positions": 76}, "its text encoder reads 76 tokens at a time, not 77"),
        ({"positions": 248}, "its text encoder reads 248 tokens at a time, not 77"),
        ({"vocab": 49407}, "its text encoder knows 49,407 tokens, CLIP has 49,408"),
    ],
)
def test_networks_that_do_not_work_together(dims, says):
    assert f"makes no SD1 checkpoint: {says}" in refusal(tiny_header(**dims))


def test_the_vocabulary_is_the_tokenizers():
    from darkroom.engine.tokenizer import VOCABULARY

    assert VOCABULARY == CLIP_VOCABULARY


SHAPES = shapes_of(tiny_header())
NAMES = sorted(SHAPES)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fuzzed_headers_give_networks_or_bad_file(data):
    shapes = dict(SHAPES)
    for name in data.draw(st.lists(st.sampled_from(NAMES), max_size=4)):
        size = st.sampled_from([0, 1, 3, 32, 64, 77, 2**40])
        match data.draw(st.sampled_from(["drop", "shape", "rename"])):
            case "drop":
                shapes.pop(name, None)
            case "shape":
                shapes[name] = tuple(data.draw(st.lists(size, max_size=5)))
            case _:
                shapes[name.replace("0", data.draw(st.sampled_from(["1", "98", "٣", "-1"])))] = (1,)
    try:
        found = detect(made_header(shapes))
    except BadFile as error:
        assert len(error.sentence()) < 900
    else:
        assert found.unet.channels == (32, 64)


# What is left out, and what is too much


def test_a_few_unknown_tensors_are_told_and_left_out():
    shapes = real_shapes(Arch.SD1)
    total = len(shapes) + 11
    found = detect(made_header(shapes | {f"strange.{n}": (1,) for n in range(11)}))
    assert found.problems == (
        f"11 of {total} tensors (first: strange.0) are of no use here and left out.",
    )
    assert "12 of 1130 tensors (first: strange.0) are unexpected" in refusal(
        made_header(shapes | {f"strange.{n}": (1,) for n in range(12)})
    )


def test_a_second_text_encoder_that_merging_left_does_no_harm():
    shapes = real_shapes(Arch.SD1)
    texts = {n: s for n, s in shapes.items() if n.startswith("cond_stage_model.")}
    very_old = {name.replace(".text_model", ""): shape for name, shape in texts.items()}
    for base, more in ((shapes, very_old), (real_shapes(Arch.SDXL), texts)):
        found = detect(made_header(more | base))
        assert found.layout == detect(made_header(base)).layout
        assert "196 of" in found.problems[0] and "left out" in found.problems[0]
    folder = real_folder(Arch.SD1)
    tower = {f"text_encoder/vision_model.layers.{n}.weight": (1,) for n in range(390)}
    assert detect(made_header(folder | tower)).problems == ()


def test_a_dozen_missing_tensors_are_counted():
    shapes = real_shapes(Arch.SD1)
    for name in [n for n in shapes if ".middle_block.1." in n][:12]:
        if not name.endswith(("proj_in.weight", "attn2.to_k.weight")):
            del shapes[name]
    missing = 1130 - len(shapes)
    assert f"{missing} of 1130 tensors" in refusal(made_header(shapes))


def test_without_a_vae():
    shapes = {n: s for n, s in real_shapes(Arch.SDXL).items() if "first_stage" not in n}
    found = detect(made_header(shapes))
    assert found.vae is None and "vae" not in found.layout
    assert found.problems == ("It has no VAE: give one with --vae.",)
    halves = {
        n: s for n, s in real_shapes(Arch.SD1).items() if "first_stage_model.encoder" not in n
    }
    found = detect(made_header(halves))
    assert found.vae is None and found.problems == ("Its VAE is incomplete: give one with --vae.",)


@pytest.mark.parametrize(
    ("arch", "prefix", "lacks"),
    [
        (Arch.SD1, "cond_stage_model", "without a text encoder"),
        (Arch.SD2, "cond_stage_model", "an SD2 checkpoint without a text encoder"),
        (Arch.SDXL, "conditioner.embedders.1", "without its second text encoder"),
        (Arch.SDXL, "conditioner", "an SDXL checkpoint without a text encoder"),
        (Arch.SDXL_REFINER, "conditioner", "an SDXL refiner without a text encoder"),
    ],
)
def test_without_a_text_encoder(arch, prefix, lacks):
    shapes = {n: s for n, s in real_shapes(arch).items() if not n.startswith(prefix)}
    assert lacks in refusal(made_header(shapes))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"])
def test_every_precision_that_we_compute_with(dtype):
    assert detect(made_header(real_shapes(Arch.SD1), dtype=dtype)).arch is Arch.SD1


# Averaged weights


def test_averages_beside_the_weights_are_left_alone():
    shapes = real_shapes(Arch.SD1)
    averages = {ema: shapes[name] for name, ema in ema_names(Arch.SD1).items()}
    half = dict(list(averages.items())[::2]) | {"model_ema.decay": (), "model_ema.num_updates": ()}
    for extra in (averages, half):
        found = detect(made_header(shapes | extra))
        assert found.problems == ()
        assert not any(row.source.startswith("model_ema.") for row in found.layout["unet"])


@pytest.mark.parametrize("arch", [Arch.SD1, Arch.SD2, Arch.SDXL])
def test_averages_alone_are_the_unet(arch):
    names = ema_names(arch)
    shapes = {names.get(name, name): shape for name, shape in real_shapes(arch).items()}
    found = detect(made_header(shapes | {"model_ema.decay": ()}))
    assert found.unet == UNETS[arch]
    assert {row.source for row in found.layout["unet"]} == set(names.values())


def test_averages_alone_with_holes_are_refused():
    names = ema_names(Arch.SD1)
    shapes = {names.get(name, name): shape for name, shape in real_shapes(Arch.SD1).items()}
    for name in [n for n in shapes if n.startswith("model_ema") and "to_v" in n]:
        del shapes[name]
    assert "32 of 1130 tensors" in refusal(made_header(shapes))


# How it was trained


def v_file(path, values, dtype="float32"):
    """A full SD2 header over a file that holds but the one tensor that tells."""
    import numpy as np

    from darkroom.weights.header import read_header

    name = f"{P}output_blocks.11.1.transformer_blocks.0.norm1.bias"
    array = np.asarray(values, np.float32).astype(dtype)
    header = read_header(write_tensors(path, {name: array}))
    tensors = made_header(real_shapes(Arch.SD2)).tensors | {name: header.tensors[name]}
    return replace(header, tensors=tensors)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sd2_that_predicts_v_is_told_by_the_spread_of_a_norm(tmp_path, dtype):
    signs = [1 if n % 2 else -1 for n in range(320)]
    wide = detect(v_file(tmp_path / "v.safetensors", [0.1 * s for s in signs], dtype))
    assert (wide.prediction, wide.native_size) == (Prediction.V, 768)
    narrow = detect(v_file(tmp_path / "e.safetensors", [5 + 0.08 * s for s in signs], dtype))
    assert (narrow.prediction, narrow.native_size) == (Prediction.EPS, 512)
    header = v_file(tmp_path / "i.safetensors", [0.1 * s for s in signs], dtype)
    conv_in = f"{P}input_blocks.0.0.weight"
    wider = replace(header.tensors[conv_in], shape=(320, 9, 3, 3))
    inpaint = detect(replace(header, tensors=header.tensors | {conv_in: wider}))
    assert (inpaint.variant, inpaint.prediction) == (Variant.INPAINT, Prediction.EPS)


def test_a_yaml_beside_the_file_outweighs_the_spread(tmp_path):
    signs = [0.1 if n % 2 else -0.1 for n in range(320)]
    header = v_file(tmp_path / "m.safetensors", signs)
    (tmp_path / "m.yaml").write_text('model:\n  params:\n    parameterization: "eps"\n')
    assert detect(header).prediction is Prediction.EPS
    sd1 = called(real_header(Arch.SD1), str(tmp_path / "m.safetensors"))
    (tmp_path / "m.yaml").write_text("    parameterization: 'v'  # as trained\n")
    assert detect(sd1).prediction is Prediction.V


# SDXL's relatives


@pytest.mark.parametrize(
    ("depths", "name"),
    [((0, 2, 4), "an SSD-1B"), ((0, 1, 2), "a Segmind Vega"), ((0, 2, 5), "a KOALA"),
     ((0, 2, 6), "a KOALA")],
)  # fmt: skip
def test_smaller_sdxls_are_refused_by_name(depths, name):
    unet = replace(SDXL_UNET, depths=depths, mid_depth=1)
    layout = single_file(Arch.SDXL, unet, VAE, texts=TEXTS[Arch.SDXL])
    shapes = {n: s for n, s in stored(layout).items() if ".middle_block.1.t" not in n}
    assert f"is {name} checkpoint (a smaller SDXL)" in refusal(made_header(shapes))


def test_a_few_names_do_not_call_for_millions_of_rows():
    shapes = real_shapes(Arch.SD1)
    for block in (1, 4, 7):
        shapes[f"{P}input_blocks.{block}.1.transformer_blocks.99.norm1.weight"] = (1,)
    assert "makes no network: 1133 tensors cannot be" in refusal(made_header(shapes))
    vae = vae_shapes() | {"encoder.down.0.block.99.conv1.weight": (128, 128, 3, 3)}
    with pytest.raises(BadFile, match="most of its VAE is missing"):
        detect_vae(made_header(vae))


def test_the_unet_must_want_what_the_encoders_give():
    for adm, context in ((None, 2048), (1000, 2048), (2816, 768)):
        unet = replace(SDXL_UNET, adm=adm, context=context)
        layout = single_file(Arch.SDXL, unet, VAE, texts=TEXTS[Arch.SDXL])
        assert "makes no SDXL checkpoint: its" in refusal(made_header(stored(layout)))


# VAEs alone


def vae_shapes(prefix=""):
    own = "first_stage_model."
    return {
        prefix + name.removeprefix(own): shape
        for name, shape in real_shapes(Arch.SD1).items()
        if name.startswith(own)
    }


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_vae_alone(prefix):
    extra = {"loss.logvar": (), "loss.perceptual_loss.net.slice1.0.weight": (64, 3, 3, 3),
             "model_ema.decay": (), "model_ema.num_updates": ()}  # fmt: skip
    found = detect_vae(made_header(vae_shapes(prefix) | extra))
    assert (found.dims, found.arch) == (VAE, Arch.SD1)
    assert {row.source for row in found.rows} == set(vae_shapes(prefix))


def test_a_vae_of_sdxl_is_told_by_words():
    for name in ("sdxl_vae.safetensors", "SDXL-fp16-fix.pt", "xlVAEC_f1.safetensors"):
        found = detect_vae(called(made_header(vae_shapes()), name))
        assert (found.arch, found.dims.scale) == (Arch.SDXL, SDXL_SCALE)
    folder = {n[4:]: s for n, s in real_folder(Arch.SDXL).items() if n.startswith("vae/")}
    found = detect_vae(made_header(folder, {"config.json": '{"scaling_factor": 0.13025}'}))
    assert (found.arch, found.dims.scale) == (Arch.SDXL, SDXL_SCALE)


def test_the_vae_of_a_checkpoint_can_be_taken():
    assert detect_vae(real_header(Arch.SDXL)).dims == VAES[Arch.SDXL]
    assert detect_vae(made_header(real_folder(Arch.SD2))).dims == VAE


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_vae_whose_attention_trainers_left_half_translated(prefix):
    """`query` had become `to_q` in diffusers: their converters passed it on, and its shape."""
    news = {".q.": ".to_q.", ".k.": ".to_k.", ".v.": ".to_v.", ".proj_out.": ".to_out.0."}
    shapes = {}
    for name, shape in vae_shapes(prefix).items():
        new = next((new for old, new in news.items() if f"attn_1{old}" in name), None)
        old = next((old for old in news if news[old] == new), "")
        shapes[name.replace(old, new) if new else name] = shape[:2] if new else shape
    assert shapes.keys() != vae_shapes(prefix).keys()
    found, usual = detect_vae(made_header(shapes)), detect_vae(made_header(vae_shapes(prefix)))
    assert found.dims == usual.dims
    assert {(row.target, row.shape) for row in found.rows} == {
        (row.target, row.shape) for row in usual.rows
    }
    rows = {row.target: row.source for row in found.rows}
    query = f"{prefix}decoder.mid.attn_1.to_q.weight"
    assert rows["decoder.mid_block.attentions.0.to_q.weight"] == query
    if prefix:
        rest = {n: s for n, s in real_shapes(Arch.SD1).items() if not n.startswith(prefix)}
        assert detect(made_header(rest | shapes)).vae == VAE


def test_half_a_vae_is_not_called_another_kind_of_file():
    own = ("decoder.", "post_quant")
    folder = {n[4:]: s for n, s in real_folder(Arch.SD1).items() if n.startswith("vae/")}
    for shapes in (vae_shapes(), folder):
        decoder = {name: shape for name, shape in shapes.items() if name.startswith(own)}
        with pytest.raises(BadFile, match="is incomplete: half of its VAE is missing"):
            detect_vae(made_header(decoder))


def test_what_is_no_vae():
    def said(header):
        with pytest.raises(BadFile) as caught:
            detect_vae(header)
        return caught.value.sentence()

    flux = vae_shapes() | {"decoder.conv_in.weight": (512, 16, 3, 3)}
    assert "is a VAE of Flux or Stable Diffusion 3 (16 channels). Name a VAE" in said(
        made_header(flux)
    )
    assert "is a LoRA, not a VAE" in said(made_header({"lora_unet_x.lora_down.weight": (4, 4)}))
    half = dict(list(vae_shapes().items())[:200])
    assert "tensors (first:" in said(made_header(half)) or "incomplete" in said(made_header(half))

"""What files are called, and the dimensions read from shapes alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.make_checkpoint import SD15_TEXT, SD15_UNET, SD15_VAE, sd15
from darkroom.core.errors import BadFile
from darkroom.core.model import Arch, Kind, Prediction, Variant
from darkroom.weights.detect import detect, identify
from darkroom.weights.header import Header
from darkroom.weights.layouts.checkpoint import entries
from darkroom.weights.topology import CLIP_VOCABULARY, norm_groups
from tiny import made_header, tiny_header

P = "model.diffusion_model."
SD15 = {row.source: row.stored for row in entries(sd15())}
UNET = {name: shape for name, shape in SD15.items() if name.startswith(P)}
VAE = {name: shape for name, shape in SD15.items() if name.startswith("first_stage_model.")}


def test_the_real_sd15():
    found = detect(made_header(SD15))
    assert (found.unet, found.vae, found.text) == (SD15_UNET, SD15_VAE, SD15_TEXT)
    assert (found.kind, found.arch, found.variant) == (Kind.CHECKPOINT, Arch.SD1, Variant.BASE)
    assert (found.prediction, found.native_size) == (Prediction.EPS, 512)
    assert found.unet.heads == (8, 8, 8, 8) and found.unet.groups == 32
    assert found.vae.groups == 32 and found.vae.factor == 8 and found.vae.scale == 0.18215
    assert found.text.heads == 12


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
    assert found.unet.context == found.text.width == want["width"]
    assert (found.text.layers, found.text.vocab) == (want["text_layers"], want["vocab"])
    assert found.text.intermediate == 4 * want["width"] and found.text.positions == 77


def test_rules_for_what_shapes_do_not_say():
    found = detect(tiny_header(unet=(64, 128, 192), depths=(1, 1, 0), width=192))
    assert found.unet.heads == (1, 2, 3)  # 64 channels each
    assert found.text.heads == 3
    assert [norm_groups(base) for base in (4, 16, 64, 96, 128, 320)] == [1, 4, 16, 24, 32, 32]


def test_what_metadata_says():
    found = detect(tiny_header({"modelspec.resolution": "128x128"}))
    assert found.native_size == 128
    assert detect(tiny_header({"modelspec.resolution": "768x512"})).native_size == 768
    assert detect(tiny_header({"modelspec.prediction_type": "v"})).prediction is Prediction.V
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
    for names in (["ztsnr"], ["v_pred", "ztsnr"]):
        assert "is an SD1 checkpoint with zero terminal SNR" in refusal(more(tiny_header(), *names))


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


CLIP = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
KINDS = [
    ("a Flux transformer", Arch.FLUX, ["double_blocks.0.img_attn.norm.key_norm.scale"]),
    ("a Flux transformer", Arch.FLUX, [f"{P}double_blocks.0.img_attn.norm.key_norm.scale", f"{P}guidance_in.in_layer.weight"]),
    ("a Chroma transformer", Arch.OTHER, ["distilled_guidance_layer.norms.0.scale", "double_blocks.0.img_attn.norm.key_norm.scale"]),
    ("a Stable Diffusion 3 model", Arch.SD3, [f"{P}joint_blocks.0.context_block.adaLN_modulation.1.bias", "first_stage_model.decoder.conv_in.weight"]),
    ("an SDXL checkpoint", Arch.SDXL, ["conditioner.embedders.1.model.ln_final.weight", *UNET, *VAE]),
    ("an SDXL checkpoint", Arch.SDXL, [f"{P}label_emb.0.0.weight", *UNET]),
    ("an SD2 checkpoint", Arch.SD2, ["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight", *UNET, *VAE]),
    ("a Stable Video Diffusion model", Arch.SVD, [f"{P}input_blocks.1.0.time_stack.in_layers.0.weight", *UNET, "conditioner.embedders.0.open_clip.model.ln_final.weight"]),
    ("an Alt-Diffusion checkpoint", Arch.OTHER, ["cond_stage_model.roberta.embeddings.word_embeddings.weight", *UNET]),
    ("an SD1 checkpoint without a VAE", Arch.SD1, [*UNET, CLIP]),
    ("an SD1 checkpoint without a text encoder", Arch.SD1, [*UNET, *VAE]),
    ("a UNet alone", Arch.OTHER, [name.removeprefix(P) for name in UNET]),
    ("a UNet alone", Arch.OTHER, ["conv_in.weight", "down_blocks.0.resnets.0.time_emb_proj.weight"]),
    ("a VAE alone", Arch.OTHER, VAE),
    ("a VAE alone", Arch.OTHER, [name.removeprefix("first_stage_model.") for name in VAE]),
    ("a preview decoder (TAESD)", Arch.OTHER, ["decoder.layers.0.weight", "encoder.layers.0.weight"]),
    ("a text encoder alone", Arch.OTHER, ["text_model.embeddings.token_embedding.weight"]),
    ("a LoRA", Arch.OTHER, ["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"]),
    ("a LoRA", Arch.OTHER, ["unet.down_blocks.0.attentions.0.proj_in.lora_A.weight"]),
    ("a LoRA", Arch.OTHER, ["mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight"]),
    ("a LoRA", Arch.OTHER, ["text_encoder.encoder.layers.0.self_attn.q_proj.lora.down.weight"]),
    ("a LoRA", Arch.OTHER, ["double_blocks.0.img_attn.proj.lora_A.weight", "double_blocks.0.img_attn.norm.key_norm.scale"]),
    ("an AnimateDiff motion module", Arch.SD1, ["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"]),
    ("an AnimateDiff motion LoRA", Arch.SD1, ["down_blocks.0.motion_modules.0.temporal_transformer.x.processor.to_q_lora.down.weight"]),
    ("a ControlNet", Arch.OTHER, ["control_model.zero_convs.0.0.weight", *UNET]),
    ("a ControlNet", Arch.OTHER, ["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.time_emb_proj.weight"]),
    ("a ControlNet", Arch.OTHER, ["lllite_unet_input_blocks_4_1.down.0.weight"]),
    ("an IP-Adapter", Arch.OTHER, ["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"]),
    ("a T2I-Adapter", Arch.OTHER, ["body.0.in_conv.weight", "conv_in.weight"]),
    ("an upscaler", Arch.OTHER, ["model.1.sub.0.RDB1.conv1.0.weight", "model.0.weight"]),
    ("a textual inversion embedding", Arch.OTHER, ["emb_params"]),
    ("a textual inversion embedding", Arch.OTHER, ["clip_g", "clip_l"]),
    ("a quantised model", Arch.OTHER, ["double_blocks.0.img_attn.proj.weight.absmax"]),
    ("a set of tensors that we do not know", Arch.OTHER, ["embed.weight", "head.bias"]),
]  # fmt: skip


@pytest.mark.parametrize(("label", "arch", "names"), KINDS)
def test_refuses_by_name(label, arch, names):
    header = made_header({name: SD15.get(name, (1,)) for name in names})
    sentence = refusal(header)
    assert f"made.safetensors is {label}" in sentence
    assert "This version runs SD1 checkpoints." in sentence
    if "without" not in label:
        assert (identify(header).label, identify(header).arch) == (label, arch)


def test_refiner_and_sd2_are_told_apart_by_width():
    key = "conditioner.embedders.0.model.ln_final.weight"
    assert identify(made_header({key: (1280,)} | UNET)).arch is Arch.SDXL_REFINER
    assert identify(made_header({key: (1024,)} | UNET)).arch is Arch.SD2
    wide = {
        n: (s[0], 1024) if n.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) else s
        for n, s in UNET.items()
    }
    assert "SD2 checkpoint without its text" in refusal(made_header(wide | VAE))


@pytest.mark.parametrize(
    ("channels", "label"), [(9, "inpaint"), (8, "instruct-pix2pix"), (7, "7-channel")]
)
def test_variants_are_refused_by_name(channels, label):
    assert f"is an SD1 {label} checkpoint ({channels} input channels)" in refusal(
        tiny_header(in_channels=channels)
    )


def test_missing_wrong_and_unexpected_tensors_are_counted_and_named():
    shapes = shapes_of(tiny_header())
    total = len(shapes)
    lost = f"{P}middle_block.0.in_layers.0.bias"
    del shapes[lost]
    shapes[f"{P}out.0.bias"] = (33,)
    shapes |= {f"{P}output_blocks.9.0.x": (1,), "strange": (1,)}
    sentence = refusal(made_header(shapes))
    assert f"1 of {total} tensors (first: {lost}) are missing" in sentence
    assert f"1 of {total} tensors (first: {P}out.0.bias) are of the wrong shape" in sentence
    assert f"2 of {total} tensors (first: {P}output_blocks.9.0.x) are unexpected" in sentence
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
        ({"unet": (32, 32, 32), "depths": (1, 2, 0)}, "levels of different depth"),
        ({"text_layers": 0}, "has no cond_stage_model"),
        ({"vae_layers": 0}, "has no first_stage_model"),
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

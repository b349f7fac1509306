"""What files are called: every kind that people have, by the names of its tensors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import UNETS, called, real_header, real_shapes
from darkroom.core.errors import BadFile
from darkroom.core.model import Arch, Kind
from darkroom.weights.detect import detect
from darkroom.weights.identify import identify
from darkroom.weights.probe import probe
from tiny import made_header

P = "model.diffusion_model."
SD1 = real_shapes(Arch.SD1)
UNET = {name: shape for name, shape in SD1.items() if name.startswith(P)}
VAE_KEYS = {name: shape for name, shape in SD1.items() if name.startswith("first_stage_model.")}
CLIP = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
TO_K = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
MOTION = (
    "motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
)


def looked(names) -> tuple[str, Arch]:
    shapes = names if isinstance(names, dict) else {n: SD1.get(n, (1,)) for n in names}
    found = identify(made_header(shapes))
    return found.label, found.arch


REFUSED = [  # (label, family, tensors); the sentence ends with what this version runs
    ("a Flux transformer without VAE", Arch.FLUX, ["double_blocks.0.img_attn.norm.key_norm.scale"]),
    ("a Flux transformer", Arch.FLUX, [f"{P}double_blocks.0.img_attn.norm.key_norm.scale", "vae.decoder.conv_in.weight"]),
    ("a Flux transformer without VAE", Arch.FLUX, ["transformer/single_transformer_blocks.0.attn.norm_q.weight"]),
    ("a Flux.2 transformer without VAE", Arch.FLUX, ["single_stream_modulation.lin.weight", "double_blocks.0.img_attn.norm.key_norm.scale"]),
    ("a Chroma transformer without VAE", Arch.OTHER, ["distilled_guidance_layer.norms.0.scale", "double_blocks.0.img_attn.norm.key_norm.scale"]),
    ("a Stable Diffusion 3 model", Arch.SD3, [f"{P}joint_blocks.0.context_block.adaLN_modulation.1.bias", "first_stage_model.decoder.conv_in.weight"]),
    ("a Stable Diffusion 3 model without VAE", Arch.SD3, ["transformer/transformer_blocks.0.attn.add_k_proj.weight"]),
    ("a Stable Video Diffusion model without VAE", Arch.SVD, [f"{P}input_blocks.1.0.time_stack.in_layers.0.weight", *UNET]),
    ("an Alt-Diffusion checkpoint without VAE", Arch.OTHER, ["cond_stage_model.roberta.embeddings.word_embeddings.weight", *UNET]),
    ("a PixArt transformer without VAE", Arch.OTHER, ["adaln_single.linear.weight"]),
    ("an LTX-Video transformer without VAE", Arch.OTHER, ["adaln_single.linear.weight", "patchify_proj.weight"]),
    ("a Stable Cascade model without VAE", Arch.OTHER, ["clip_txt_mapper.weight"]),
    ("a HunyuanVideo transformer without VAE", Arch.OTHER, ["txt_in.individual_token_refiner.blocks.0.norm1.weight", "double_blocks.0.img_attn.norm.key_norm.weight"]),
    ("a Hunyuan-DiT transformer without VAE", Arch.OTHER, ["mlp_t5.0.weight"]),
    ("a Wan transformer without VAE", Arch.OTHER, ["head.modulation"]),
    ("a Qwen-Image transformer without VAE", Arch.OTHER, ["transformer_blocks.0.img_mod.1.weight"]),
    ("an AuraFlow transformer without VAE", Arch.OTHER, ["double_layers.0.attn.w1q.weight"]),
    ("a HiDream transformer without VAE", Arch.OTHER, ["double_stream_blocks.0.block.adaLN_modulation.1.bias"]),
    ("a Kandinsky model without VAE", Arch.OTHER, ["unet/conv_in.weight", "unet/add_embedding.image_norm.weight"]),
    ("a DeepFloyd IF model without VAE", Arch.OTHER, ["unet/conv_in.weight", "unet/add_embedding.pool.positional_embedding"]),
    ("a GLIGEN checkpoint without VAE", Arch.OTHER, ["position_net.linears.0.weight", *UNET]),
    ("a Stable Zero123 checkpoint without VAE", Arch.OTHER, ["cc_projection.weight", *UNET]),
    ("a Stable Diffusion 4x upscaler", Arch.OTHER, [f"{P}label_emb.weight", *UNET, *VAE_KEYS]),
    ("an SD2 depth checkpoint", Arch.SD2, ["depth_model.model.pretrained.x", *UNET, *VAE_KEYS]),
    ("an SD2 unCLIP checkpoint", Arch.SD2, ["embedder.model.ln_final.weight", *UNET, *VAE_KEYS]),
    ("an SD2 unCLIP checkpoint", Arch.SD2, [f"{P}label_emb.0.0.weight", "cond_stage_model.model.ln_final.weight", *UNET, *VAE_KEYS]),
    ("a CosXL checkpoint (EDM v-prediction)", Arch.SDXL, ["edm_vpred.sigma_max", *real_shapes(Arch.SDXL)]),
    ("a Playground 2.5 checkpoint (EDM)", Arch.SDXL, ["edm_mean", *real_shapes(Arch.SDXL)]),
    ("a quantised model without VAE", Arch.OTHER, ["double_blocks.0.img_attn.proj.weight.absmax"]),
    ("a preview decoder (TAESD)", Arch.OTHER, ["decoder.layers.0.weight", "encoder.layers.0.weight"]),
    ("a preview decoder (TAESD) of Flux or Stable Diffusion 3 (16 channels)", Arch.OTHER, {"1.weight": (64, 16, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)}),
    ("a text encoder alone (CLIP-L)", Arch.OTHER, {"text_model.embeddings.token_embedding.weight": (49408, 768)}),
    ("a T5 text encoder alone", Arch.OTHER, ["encoder.block.0.layer.0.SelfAttention.q.weight"]),
    ("a CLIP vision encoder", Arch.OTHER, ["vision_model.embeddings.class_embedding"]),
    ("a video VAE", Arch.OTHER, {"decoder.conv_in.weight": (512, 16, 3, 3, 3)}),
    ("an upscaler (ESRGAN)", Arch.OTHER, ["model.1.sub.0.RDB1.conv1.0.weight", "model.0.weight"]),
    ("an upscaler (ESRGAN)", Arch.OTHER, ["params_ema.conv_first.weight", "params_ema.body.0.rdb1.conv1.weight"]),
    ("an upscaler (SwinIR)", Arch.OTHER, ["params.conv_first.weight", "params.layers.0.residual_group.blocks.0.norm1.weight"]),
    ("an upscaler (compact ESRGAN)", Arch.OTHER, [f"body.{n}.weight" for n in range(35)]),
    ("a set of tensors that we do not know", Arch.OTHER, ["embed.weight", "head.bias"]),
]  # fmt: skip


@pytest.mark.parametrize(("label", "arch", "names"), REFUSED)
def test_refused_by_name(label, arch, names):
    assert looked(names) == (label, arch)
    shapes = names if isinstance(names, dict) else {n: SD1.get(n, (1,)) for n in names}
    with pytest.raises(BadFile) as caught:
        detect(made_header(shapes))
    assert caught.value.sentence() == (
        f"made.safetensors is {label}. This version runs SD1, SD2 and SDXL."
    )


@pytest.mark.parametrize(
    ("arch", "shapes"),
    [
        (Arch.SD1, {n.removeprefix(P): s for n, s in UNET.items()}),
        (Arch.SD2, {TO_K: (1280, 1024), "down_blocks.0.resnets.0.time_emb_proj.weight": (9,)}),
    ],
)
def test_a_unet_alone_of_a_family_that_runs_lacks_the_rest(arch, shapes):
    assert looked(shapes) == (f"a UNet alone ({arch})", arch)
    with pytest.raises(BadFile, match=rf"a UNet alone \({arch}\)") as caught:
        detect(made_header(shapes))
    assert "the whole checkpoint" in caught.value.hint
    assert "the whole checkpoint" in probe(made_header(shapes)).problems[0]


@pytest.mark.parametrize("arch", UNETS)
def test_what_runs(arch):
    found = identify(real_header(arch))
    assert found.runs and found.arch is arch and found.kind is Kind.CHECKPOINT
    bare = {n: s for n, s in real_shapes(arch).items() if n.startswith(P)}
    assert identify(made_header(bare)).arch is arch
    plain = {n.removeprefix(P): s for n, s in bare.items()}
    assert looked(plain) == (f"a UNet alone ({arch})", arch)


@pytest.mark.parametrize(
    ("channels", "label"), [(9, "inpaint"), (8, "instruct-pix2pix"), (7, "7-channel")]
)
@pytest.mark.parametrize("arch", [Arch.SD1, Arch.SD2, Arch.SDXL])
def test_variants_are_named(arch, channels, label):
    found = identify(real_header(arch, in_channels=channels))
    assert found.label == f"an {arch} {label} checkpoint"


def test_a_text_width_of_1280_is_a_refiner():
    key = "conditioner.embedders.0.model.ln_final.weight"
    assert looked({key: (1280,)} | UNET)[1] is Arch.SDXL_REFINER
    assert looked({key: (1024,)} | UNET)[1] is Arch.SD2
    label = {f"{P}label_emb.0.0.weight": (1536, 2560)}
    assert looked(label | UNET)[1] is Arch.SDXL_REFINER


# LoRAs

MID = "mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
SGM = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q"
DOTTED = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
TE = "text_model_encoder_layers_0_self_attn_q_proj"
LORAS = [
    ("a LoRA for SD1", Arch.SD1, {f"lora_unet_{MID}.lora_down.weight": (4, 768)}),
    ("a LoRA for SD2", Arch.SD2, {f"lora_unet_{MID}.lora_down.weight": (4, 1024)}),
    ("a LoRA for SDXL", Arch.SDXL, {f"lora_unet_{MID}.lora_down.weight": (4, 2048)}),
    ("a LoRA for SDXL", Arch.SDXL, {f"{SGM}.lora_down.weight": (4, 640)}),
    ("a LoRA for SDXL", Arch.SDXL, {f"lora_te2_{TE}.lora_down.weight": (4, 1280)}),
    ("a LoRA for SD1", Arch.SD1, {f"lora_te_{TE}.lora_down.weight": (4, 768)}),
    ("a LoRA for SD2", Arch.SD2, {f"lora_te_{TE}.lora_down.weight": (4, 1024)}),
    ("a LoRA for SD1 or SDXL", Arch.OTHER, {"text_encoder.encoder.layers.0.self_attn.q_proj.lora.down.weight": (4, 768)}),
    ("a LoRA for SD1 or SD2", Arch.OTHER, {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320)}),
    ("a LoRA for SD1", Arch.SD1, {f"{DOTTED}.lora_A.weight": (4, 768)}),
    ("a LoRA for SD1", Arch.SD1, {"mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight": (4, 768)}),
    ("a LoRA (LoHa) for SDXL", Arch.SDXL, {f"lora_unet_{MID}.hada_w1_a": (1280, 4), f"lora_unet_{MID}.hada_w1_b": (4, 2048)}),
    ("a LoRA (LoKr) for SD1", Arch.SD1, {f"lora_unet_{MID}.lokr_w1": (8, 8), f"lora_unet_{MID}.lokr_w2": (160, 96)}),
    ("a LoRA (LoKr) for SD2", Arch.SD2, {f"lora_unet_{MID}.lokr_w1": (8, 8), f"lora_unet_{MID}.lokr_w2_b": (4, 128)}),
    ("a LoRA (DoRA) for SD1", Arch.SD1, {f"lora_unet_{MID}.lora_down.weight": (4, 768), f"lora_unet_{MID}.dora_scale": (1, 768)}),
    ("a LoRA (LoCon) for SD1", Arch.SD1, {f"lora_unet_{MID}.lora_down.weight": (4, 768), "lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3)}),
    ("a LoRA (GLoRA) for SD1", Arch.SD1, {f"lora_unet_{MID}.a1.weight": (768, 4), f"lora_unet_{MID}.b1.weight": (1280, 4)}),
    ("a LoRA (IA3)", Arch.OTHER, {f"lora_unet_{MID}.weight": (1280,), f"lora_unet_{MID}.on_input": ()}),
    ("a LoRA (OFT)", Arch.OTHER, {f"oft_unet_{MID}.oft_blocks": (4, 320, 320)}),
    ("a LoRA (BOFT)", Arch.OTHER, {f"lora_unet_{MID}.oft_blocks": (2, 4, 320, 320)}),
    ("a LoRA (full difference) for SD1", Arch.SD1, {f"lora_unet_{MID}.diff": (1280, 768)}),
    ("a LoRA", Arch.OTHER, {"unet:0:up": (320, 4), "unet:0:down": (4, 320)}),
    ("a LoRA", Arch.OTHER, {str(n): (4, 320) for n in range(4)}),
    ("a LoRA for SD1", Arch.SD1, {"0": (320, 4), "1": (4, 320), "2": (320, 4), "3": (4, 768)}),
    ("a LoRA for SD2", Arch.SD2, {"unet:0:up": (320, 4), "unet:0:down": (4, 320), "unet:1:down": (4, 1024)}),
    ("a LoRA for SD1", Arch.SD1, {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320), f"lora_te_{TE}.lora_down.weight": (4, 768)}),
    ("a LoRA for Flux", Arch.FLUX, {"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": (4, 3072)}),
    ("a LoRA for Flux", Arch.FLUX, {"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": (4, 3072)}),
    ("a LoRA for Stable Diffusion 3", Arch.SD3, {"diffusion_model.joint_blocks.0.x_block.attn.qkv.lora_A.weight": (4, 1536)}),
    ("a LoRA for Wan", Arch.OTHER, {"diffusion_model.blocks.0.cross_attn.k.lora_A.weight": (4, 1536)}),
    ("a LoRA for Stable Cascade", Arch.OTHER, {"lora_prior_unet_down_blocks_0_1.lora_down.weight": (4, 1536)}),
    ("an AnimateDiff motion LoRA", Arch.SD1, {"down_blocks.0.motion_modules.0.temporal_transformer.x.processor.to_q_lora.down.weight": (4, 320)}),
]  # fmt: skip


@pytest.mark.parametrize(("label", "arch", "shapes"), LORAS)
def test_loras(label, arch, shapes):
    assert looked(shapes) == (label, arch)
    with pytest.raises(BadFile, match="LoRA") as caught:
        detect(made_header(shapes))
    assert "<lora:NAME:1>" in caught.value.hint


def test_a_lora_that_no_shape_tells_is_what_it_says():
    shapes = {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 1280)}
    for key, value, arch in (
        ("ss_base_model_version", "sdxl_base_v1-0", Arch.SDXL),
        ("ss_base_model_version", "sd_v1", Arch.SD1),
        ("modelspec.architecture", "stable-diffusion-v2-768-v/lora", Arch.SD2),
    ):
        found = identify(made_header(shapes, {key: value}))
        assert (found.arch, found.label) == (arch, f"a LoRA for {arch}")


# What else rides on a checkpoint

PARTS = [
    (Kind.EMBEDDING, "a textual inversion embedding for SD1", Arch.SD1, {"emb_params": (4, 768)}),
    (Kind.EMBEDDING, "a textual inversion embedding for SD2", Arch.SD2, {"string_to_param.*": (1, 1024)}),
    (Kind.EMBEDDING, "a textual inversion embedding for SDXL", Arch.SDXL, {"clip_l": (2, 768), "clip_g": (2, 1280)}),
    (Kind.EMBEDDING, "a textual inversion embedding for SD1", Arch.SD1, {"<cat-toy>": (768,)}),
    (Kind.EMBEDDING, "a textual inversion embedding for SD1", Arch.SD1, {"cat-toy": (768,)}),
    (Kind.EMBEDDING, "a textual inversion embedding for a text encoder 4096 wide", Arch.OTHER, {"emb_params": (4, 4096)}),
    (Kind.HYPERNETWORK, "a hypernetwork for SD1", Arch.SD1, {"768.0.linear.0.weight": (1536, 768), "320.0.linear.0.weight": (640, 320)}),
    (Kind.HYPERNETWORK, "a hypernetwork", Arch.OTHER, {"192.0.linear.0.weight": (384, 192), "192.1.linear.0.bias": (384,)}),
    (Kind.HYPERNETWORK, "a hypernetwork for SD2", Arch.SD2, {"1024.0.linear1.weight": (2048, 1024), "320.0.linear1.weight": (640, 320)}),
    (Kind.CONTROLNET, "a ControlNet for SD1", Arch.SD1, {"control_model.zero_convs.0.0.weight": (320, 320, 1, 1), "control_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight": (1280, 768)}),
    (Kind.CONTROLNET, "a ControlNet for SD2", Arch.SD2, {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), TO_K: (1280, 1024)}),
    (Kind.CONTROLNET, "a union ControlNet for SDXL", Arch.SDXL, {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), "task_embedding": (6, 320), TO_K: (1280, 2048)}),
    (Kind.CONTROLNET, "a Control-LoRA for SDXL", Arch.SDXL, {"lora_controlnet": (0,), "middle_block.1.transformer_blocks.0.attn2.to_k.down": (4, 2048), "input_hint_block.0.weight": (16, 3, 3, 3)}),
    (Kind.CONTROLNET, "a ControlNet LLLite for SDXL", Arch.SDXL, {"lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.down.0.weight": (16, 640)}),
    (Kind.CONTROLNET, "a ControlNet for Flux or Stable Diffusion 3", Arch.OTHER, {"controlnet_blocks.0.weight": (3072, 3072), "single_transformer_blocks.0.attn.norm_q.weight": (128,)}),
    (Kind.T2I_ADAPTER, "a T2I-Adapter for SD1", Arch.SD1, {"body.0.in_conv.weight": (320, 320, 1, 1), "conv_in.weight": (320, 192, 3, 3)}),
    (Kind.T2I_ADAPTER, "a T2I-Adapter for SDXL", Arch.SDXL, {"adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3), "adapter.conv_in.weight": (320, 768, 3, 3)}),
    (Kind.IP_ADAPTER, "an IP-Adapter for SD1", Arch.SD1, {"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)}),
    (Kind.IP_ADAPTER, "an IP-Adapter Plus for SDXL", Arch.SDXL, {"image_proj.latents": (1, 16, 1280), "ip_adapter.1.to_k_ip.weight": (640, 2048)}),
    (Kind.IP_ADAPTER, "an IP-Adapter FaceID for SD1", Arch.SD1, {"image_proj.proj.0.weight": (1024, 512), "ip_adapter.0.to_q_lora.down.weight": (128, 320), "ip_adapter.1.to_k_ip.weight": (320, 768)}),
    (Kind.MOTION, "an AnimateDiff motion module (v1) for SD1", Arch.SD1, {f"down_blocks.{n}.{MOTION}": (1, 24, 320) for n in range(4)}),
    (Kind.MOTION, "an AnimateDiff motion module (v2) for SD1", Arch.SD1, {f"down_blocks.{n}.{MOTION}": (1, 32, 320) for n in range(4)} | {f"mid_block.{MOTION}": (1, 32, 1280)}),
    (Kind.MOTION, "an AnimateDiff motion module (v3) for SD1", Arch.SD1, {f"down_blocks.{n}.{MOTION}": (1, 32, 320) for n in range(4)}),
    (Kind.MOTION, "an AnimateDiff motion module (SDXL beta) for SDXL", Arch.SDXL, {f"down_blocks.{n}.{MOTION}": (1, 32, 320) for n in range(3)}),
    (Kind.MOTION, "an AnimateLCM motion module for SD1", Arch.SD1, {f"down_blocks.{n}.motion_modules.0.temporal_transformer.norm.weight": (320,) for n in range(4)}),
    (Kind.MOTION, "a HotshotXL motion module for SDXL", Arch.SDXL, {"down_blocks.0.temporal_attentions.0.transformer_blocks.0.pos_encoder.positional_encoding": (1, 24, 320)}),
    (Kind.VAE, "a VAE alone", Arch.SD1, VAE_KEYS),
    (Kind.VAE, "a VAE alone", Arch.SD1, {n.removeprefix("first_stage_model."): s for n, s in VAE_KEYS.items()}),
    (Kind.VAE, "a VAE of Flux or Stable Diffusion 3 (16 channels)", Arch.OTHER, {"decoder.conv_in.weight": (512, 16, 3, 3)}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "label", "arch", "shapes"), PARTS)
def test_parts_and_riders(kind, label, arch, shapes):
    found = identify(made_header(shapes))
    assert (found.kind, found.label, found.arch) == (kind, label, arch)
    with pytest.raises(BadFile):
        detect(made_header(shapes))


def test_an_adapter_for_faces_is_told_by_its_name():
    shapes = {"image_proj.latents": (1, 16, 768), "ip_adapter.1.to_k_ip.weight": (320, 768)}
    header = called(made_header(shapes), "ip-adapter-plus-face_sd15.bin")
    assert identify(header).label == "an IP-Adapter Plus Face for SD1"


def test_a_folder_that_nothing_fits_tells_its_class():
    header = made_header(
        {"prior/x": (1,)}, {"model_index.json": '{"_class_name": "UnCLIPPipeline"}'}
    )
    assert identify(header).label == "a diffusers UnCLIPPipeline"


def test_names_do_not_decide():
    for name in ("flux-dev.gguf", "lora.pt", "sdxl_refiner.ckpt"):
        assert identify(called(real_header(Arch.SD1), name)).label == "an SD1 checkpoint"


NAMES = sorted({name for _, _, names in (*REFUSED, *LORAS) for name in names} | set(list(SD1)[:40]))


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=12)), min_size=1, max_size=6),
    shapes=st.lists(
        st.lists(st.sampled_from([0, 1, 4, 320, 768, 2048]), max_size=5), min_size=6, max_size=6
    ),
)
def test_any_names_and_shapes_have_a_name(names, shapes):
    header = made_header(dict(zip(names, map(tuple, shapes), strict=False)))
    assert identify(header).label.startswith(("a ", "an "))
    assert probe(header).label == identify(header).label


def test_thousands_of_names_are_looked_through_in_milliseconds():
    """Measured: 1.1 ms of processor time for SDXL's 2,513 names; bound for a busy machine."""
    import time

    header = real_header(Arch.SDXL)
    identify(header)
    start = time.process_time()
    for _ in range(10):
        identify(header)
    assert (time.process_time() - start) / 10 < 0.01

"""What files are, by the names of their tensors: the first rule that fits wins.

`*` in a pattern stands for anything, and in a pattern with a star numbers count for nothing. The
order is the meaning: what rides on another model's names (a LoRA, a ControlNet) comes before that
model, and a part (a VAE) after every whole. `identify` adds what a label leaves open: the family
that a rider was made for, its algorithm, a VAE that is not there.
"""

from dataclasses import dataclass

from darkroom.core.model import Arch, Kind

UNET = "model.diffusion_model."
ONNX_TAGGER = "model.onnx"  # all of it stands for one tensor


@dataclass(frozen=True, slots=True)
class Rule:
    """A file with all of `every`, one of `some` and none of `without` is `label`."""

    kind: Kind
    arch: Arch
    label: str  # with its article: "a LoRA"
    every: tuple[str, ...] = ()
    some: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    widths: tuple[tuple[str, int, int], ...] = ()  # (name, dimension, size)
    ranks: tuple[tuple[str, int], ...] = ()  # (name, number of dimensions)


LORA_KEYS = (
    "lora_unet_*", "lora_te*", "*.lora_A.*", "*.lora_down.weight", "*.lora.down.weight",
    "*_lora.down.weight", "*_lora_down.weight", "*.lora_linear_layer.down.weight", "*.hada_w1_a",
    "*.lokr_w1*", "*.oft_blocks", "*.oft_diag", "*.oft_R.*", "*.dora_scale", "unet:0:up",
    "text_encoder:0:up", "lycoris_*", "oft_unet_*", "*.on_input", "*.w_norm", "*.a1.weight",
    "lora_transformer_*", "lora_prior_unet_*",
)  # fmt: skip
QUANTISED = (
    "*.absmax", "*.quant_map", "*.weight_scale", "*.scale_weight", "*.comfy_quant", "*.qweight",
    "*.bitsandbytes__nf4", "*.weight_scale_2", "scaled_fp8",
)  # fmt: skip
CONTEXTS = (  # the cross-attention whose input is as wide as the text states
    f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight",
    "unet/mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
)
LDM_UNET = f"{UNET}input_blocks.0.0.weight"
LDM_ADM = f"{UNET}label_emb.0.0.weight"
FOLDER_UNET = "unet/conv_in.weight"
FOLDER_ADM = "unet/add_embedding.linear_1.weight"
SGM_TEXT = "conditioner.embedders.0.model.ln_final.weight"


def _other(label: str, *some: str, arch: Arch = Arch.OTHER, every: tuple[str, ...] = ()) -> Rule:
    return Rule(Kind.CHECKPOINT, arch, label, some=some, every=every)


RIDERS = (
    Rule(
        Kind.IP_ADAPTER, Arch.OTHER, "an IP-Adapter",
        some=("ip_adapter.*", "image_proj.*", "*.to_k_ip.weight", "*.to_k_ip.0.weight"),
    ),
    Rule(
        Kind.LORA, Arch.SD1, "an AnimateDiff motion LoRA",
        some=("*motion_modules*lora*", "*motion_modules*.processor.*"),
    ),
    Rule(
        Kind.MOTION, Arch.SD1, "an AnimateDiff motion module",
        some=(
            "*motion_modules.*.temporal_transformer*", "*motion_modules.*.transformer_blocks*",
            "*.temporal_attentions.*pos_encoder*",
        ),
        without=(f"{UNET}input_blocks*",),
    ),
    Rule(
        Kind.CONTROLNET, Arch.OTHER, "a ControlNet",
        some=(
            "control_model.*", "*zero_convs.0.0.weight", "*zero_convs.*.weight",
            "*controlnet_cond_embedding.*", "controlnet_down_blocks.*", "lora_controlnet",
            "lllite_unet_*", "*input_hint_block.*", "*controlnet_blocks.*",
        ),
    ),
    Rule(Kind.LORA, Arch.OTHER, "a LoRA", some=LORA_KEYS, without=(f"{UNET}*", "unet/*")),
    Rule(Kind.LORA, Arch.OTHER, "a LoRA", some=("*.diff", "*.diff_b")),
    Rule(  # a list of matrices, as the first LoRAs for Stable Diffusion were saved
        Kind.LORA, Arch.OTHER, "a LoRA", every=("0", "1"), ranks=(("0", 2), ("1", 2)),
        without=("*.*",),
    ),
    Rule(
        Kind.HYPERNETWORK, Arch.OTHER, "a hypernetwork",
        some=tuple(
            f"{width}.0.linear{layer}.weight"
            for width in (320, 640, 768, 1024, 1280, 2048) for layer in (".0", "1")
        ),
    ),
)  # fmt: skip

# Families that this studio does not run, and weights it cannot compute with.
OTHERS = (
    _other("a quantised model", *QUANTISED),
    _other(
        "a Stable Diffusion 3 model", "*joint_blocks.0.context_block.adaLN_modulation.1.bias",
        arch=Arch.SD3,
    ),
    _other("a Chroma transformer", "*distilled_guidance_layer.*"),
    _other(
        "a Flux.2 transformer", "*single_stream_modulation.lin.weight",
        "*single_stream_modulation.linear.weight", arch=Arch.FLUX,
    ),
    _other("a HunyuanVideo transformer", "*txt_in.individual_token_refiner.*"),
    _other(
        "a Flux transformer", "*double_blocks.0.img_attn.norm.key_norm.*",
        "*single_transformer_blocks.0.attn.norm_q.weight", arch=Arch.FLUX,
    ),
    _other("a HiDream transformer", "*double_stream_blocks.*", "*caption_projection.0.linear.*"),
    _other("a Qwen-Image transformer", "*transformer_blocks.0.img_mod.1.weight"),
    _other(
        "a Stable Diffusion 3 model", "transformer/transformer_blocks.*.attn.add_k_proj.weight",
        arch=Arch.SD3,
    ),
    _other("an AuraFlow transformer", "*double_layers.0.attn.w1q.weight", "*cond_seq_linear.*"),
    _other("an LTX-Video transformer", "*patchify_proj.weight", "*transformer/scale_shift_table"),
    _other("a PixArt transformer", "*adaln_single.linear.weight", "*t_block.1.weight"),
    _other("a Hunyuan-DiT transformer", "*mlp_t5.0.weight", "*blocks.0.default_modulation.*"),
    _other("a Wan transformer", "*head.modulation", "*blocks.0.cross_attn.norm_k.weight"),
    _other("a Lumina transformer", "*cap_embedder.1.weight", "*noise_refiner.*"),
    _other("a Mochi transformer", "*t5_yproj.weight"),
    _other("a Cosmos transformer", "*blocks.block0.blocks.0.block.attn.to_q.0.weight"),
    _other(
        "a Stable Cascade model", "*clip_txt_mapper.weight", "*clf.1.weight",
        "*effnet_mapper.0.weight",
    ),
    _other("a Stable Zero123 checkpoint", "cc_projection.weight"),
    _other("a GLIGEN checkpoint", "*position_net.*", "*.fuser.*"),
    _other(
        "a Kandinsky model", "*visual_transformer_blocks.*", "*add_embedding.image_norm.weight",
        "*encoder_hid_proj.image_embeds.weight",
    ),
    _other("a DeepFloyd IF model", "*encoder_pooling.0.weight", "*add_embedding.pool.*"),
    _other(
        "a Stable Video Diffusion model", f"{UNET}*time_stack*", "*temporal_transformer_blocks.0.*",
        arch=Arch.SVD,
    ),
    _other(
        "a Stable Diffusion 4x upscaler", f"{UNET}label_emb.weight", "unet/class_embedding.weight"
    ),
    _other(
        "an SD2 unCLIP checkpoint", "embedder.model.*", "unet/class_embedding.linear_1.weight",
        arch=Arch.SD2,
    ),
    _other(
        "an SD2 unCLIP checkpoint", "cond_stage_model.model.*", arch=Arch.SD2, every=(LDM_ADM,)
    ),
    _other("an SD2 depth checkpoint", "depth_model.*", "depth_estimator/*", arch=Arch.SD2),
    _other("a CosXL checkpoint (EDM v-prediction)", "edm_vpred.sigma_max", arch=Arch.SDXL),
    _other("a Playground 2.5 checkpoint (EDM)", "edm_mean", arch=Arch.SDXL),
    _other("an Alt-Diffusion checkpoint", "cond_stage_model.roberta.*"),
)  # fmt: skip

STABLE_DIFFUSION = (
    Rule(
        Kind.CHECKPOINT, Arch.SDXL, "an SDXL checkpoint",
        some=("conditioner.embedders.1.model.ln_final.weight",),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SDXL_REFINER, "an SDXL refiner",
        every=(SGM_TEXT,), some=(LDM_ADM,),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SDXL_REFINER, "an SDXL refiner",
        every=(SGM_TEXT,), widths=((SGM_TEXT, 0, 1280),),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SDXL_REFINER, "an SDXL refiner",
        every=(LDM_ADM,), widths=((LDM_ADM, 1, 2560),),
    ),
    Rule(Kind.CHECKPOINT, Arch.SDXL, "an SDXL checkpoint", some=(LDM_ADM,)),
    Rule(
        Kind.CHECKPOINT, Arch.SDXL_REFINER, "an SDXL refiner",
        every=(FOLDER_ADM,), without=("text_encoder/*",),
    ),
    Rule(Kind.CHECKPOINT, Arch.SDXL, "an SDXL checkpoint", some=(FOLDER_ADM,)),
    Rule(
        Kind.CHECKPOINT, Arch.SD2, "an SD2 checkpoint",
        every=(LDM_UNET,), some=("cond_stage_model.model.*", SGM_TEXT),
    ),
    *(
        Rule(
            Kind.CHECKPOINT, Arch.SD2, "an SD2 checkpoint", some=(LDM_UNET, FOLDER_UNET),
            widths=((context, 1, 1024),),
        )
        for context in CONTEXTS
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SD2, "an SD2 checkpoint",
        every=(FOLDER_UNET,), ranks=(("unet/mid_block.attentions.0.proj_in.weight", 2),),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SD1, "an SD1 checkpoint", every=(LDM_UNET, f"{UNET}out.2.weight")
    ),
    Rule(Kind.CHECKPOINT, Arch.SD1, "an SD1 checkpoint", every=(FOLDER_UNET,)),
)  # fmt: skip

FINDERS = (  # of things in pictures, and what works on those
    Rule(
        Kind.DETECTOR, Arch.OTHER, "a detector (YOLO, with masks)",
        every=("*.dfl.conv.weight", "*.proto.cv1.conv.weight"),
    ),
    Rule(Kind.DETECTOR, Arch.OTHER, "a detector (YOLO)", every=("*.dfl.conv.weight",)),
    Rule(
        Kind.RESTORER, Arch.OTHER, "a face restorer (GFPGAN)",
        every=("*toRGB.0.weight", "*stylegan_decoder.style_mlp.*"),
    ),
    Rule(
        Kind.RESTORER, Arch.OTHER, "a face restorer (CodeFormer)",
        every=("*fuse_convs_dict.*", "*quantize.embedding.weight"),
    ),
    *(  # told from other autoencoders with a codebook by the two norms of its attention
        Rule(
            Kind.RESTORER, Arch.OTHER, "a face restorer (RestoreFormer)",
            every=("*quantize.embedding.weight", f"{around}encoder.mid.attn_1.norm1.weight"),
        )
        for around in ("", "params.", "params_ema.", "vqvae.")
    ),
    Rule(
        Kind.SEGMENTER, Arch.OTHER, "a background remover (U2Net)",
        some=("*stage1.rebnconvin.conv_s1.weight",),
    ),
)  # fmt: skip

PARTS = (
    Rule(
        Kind.UNET, Arch.OTHER, "a UNet alone",
        some=(
            "input_blocks.0.0.weight", "*down_blocks.0.resnets.0.time_emb_proj.weight",
            f"{UNET}input_blocks*", "diffusion_model.input_blocks*",
        ),
    ),
    Rule(
        Kind.VAE, Arch.OTHER, "a video VAE",
        some=("decoder.conv_in.conv.weight", "decoder.conv1.weight"),
    ),
    Rule(
        Kind.VAE, Arch.OTHER, "a video VAE", every=("decoder.conv_in.weight",),
        ranks=(("decoder.conv_in.weight", 5),),
    ),
    Rule(
        Kind.VAE, Arch.OTHER, "a VAE alone",
        some=("first_stage_model.decoder.conv_in.weight", "decoder.conv_in.weight"),
    ),
    Rule(
        Kind.PREVIEW, Arch.OTHER, "a preview decoder (TAESD)",
        some=(
            "decoder.layers.0.weight", "taesd_decoder.*", "decoder.1.weight", "3.conv.0.weight",
            "encoder.layers.0.weight", "1.conv.0.weight",
        ),
    ),
    Rule(
        Kind.PREVIEW, Arch.OTHER, "a preview decoder (VAE-approx)",
        every=("conv1.weight", "conv8.weight"),
        widths=(("conv1.weight", 2, 7), ("conv8.weight", 0, 3)), without=("conv9.weight", "fc*"),
    ),
    Rule(Kind.CAPTIONER, Arch.OTHER, "a BLIP captioner", some=("text_decoder.bert.*",)),
    Rule(
        Kind.CAPTIONER, Arch.OTHER, "a tagger",
        every=("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.weight"),
    ),
    Rule(Kind.CAPTIONER, Arch.OTHER, "a tagger (ONNX)", every=(ONNX_TAGGER,)),
    Rule(
        Kind.TEXT_ENCODER, Arch.OTHER, "a CLIP vision encoder",
        some=("*vision_model.embeddings.*", "visual.transformer.*", "*visual.conv1.weight"),
        without=("cond_stage_model.*",),
    ),
    Rule(
        Kind.TEXT_ENCODER, Arch.OTHER, "a T5 text encoder alone",
        some=("*encoder.block.0.layer.0.SelfAttention.q.weight",),
    ),
    Rule(
        Kind.TEXT_ENCODER, Arch.OTHER, "a text encoder alone",
        some=(
            "*text_model.embeddings.*", "cond_stage_model.*", "*transformer.resblocks.0.*",
            "encoder.layers.0.self_attn.*", "conditioner.*", "embeddings.token_embedding.weight",
        ),
    ),
    Rule(
        Kind.TEXT_ENCODER, Arch.OTHER, "a language model alone",
        some=("*layers.0.self_attn.q_proj.weight", "*layers.0.input_layernorm.weight"),
    ),
    Rule(
        Kind.EMBEDDING, Arch.OTHER, "a textual inversion embedding",
        some=("emb_params", "clip_l", "clip_g", "<*>", "string_to_param*"),
    ),
    Rule(
        Kind.T2I_ADAPTER, Arch.OTHER, "a T2I-Adapter",
        some=("*body.0.in_conv.*", "*body.0.block1.*", "*body.0.body.*", "*body.0.resnets.*"),
        without=("*conv_first*",),
    ),
    Rule(
        Kind.UPSCALER, Arch.OTHER, "an upscaler (SwinIR)",
        some=("*layers.0.residual_group.*",), every=("*conv_first.weight",),
    ),
    Rule(
        Kind.UPSCALER, Arch.OTHER, "an upscaler (ESRGAN)",
        some=("*model.1.sub.0.*", "*RRDB_trunk.*", "*body.0.rdb1.*"),
    ),
    Rule(
        Kind.UPSCALER, Arch.OTHER, "an upscaler",
        some=(
            "*conv_first.weight", "*layers.0.blocks.0.*", "*block_1.c1_r.*", "*upsampler.*",
            "*relative_position_index_SA", "*upsample.0.weight",
        ),
    ),
    *(
        Rule(
            Kind.UPSCALER, Arch.OTHER, "an upscaler (compact ESRGAN)",
            every=tuple(f"{around}body.{place}.weight" for place in range(3)),
        )
        for around in ("", "params_ema.", "params.")
    ),
)  # fmt: skip

RULES = (*RIDERS, *OTHERS, *STABLE_DIFFUSION, *FINDERS, *PARTS)

# Tensors without use but for their names, which say how the model was trained.
PREDICTS_V = "v_pred"
ZERO_SNR = "ztsnr"  # the noise schedule ends in pure noise

JUNK = (  # carried along by trainers and mergers; no part of the networks
    PREDICTS_V, ZERO_SNR, "model_ema.*", "betas", "alphas_cumprod*", "sqrt_*", "log_one_minus*",
    "posterior_*", "logvar", "lvlb_weights", "denoiser.*", "loss.*", "first_stage_model.loss.*",
    "first_stage_model.model_ema.*", "*.position_ids", "*logit_scale", "*text_projection*",
    "*.model.transformer.resblocks.*", "*.attn_mask", "*vision_model.*", "*visual_projection*",
    "safety_checker*", "feature_extractor*", "image_encoder/*", "scheduler*", "embedding_manager.*",
    "bundle_emb.*", "lora_*", "global_step", "iteration", "epoch", "hyper_parameters*",
    "optimizer*", "state_step", "*num_batches_tracked",
)  # fmt: skip

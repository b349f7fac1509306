"""What files are, by the names of their tensors: the first rule that fits wins.

`*` in a pattern stands for anything. The order is the meaning: what rides on another model's names
(a LoRA, a ControlNet) comes before that model, and a part (a VAE) after every whole.
"""

from dataclasses import dataclass

from darkroom.core.model import Arch, Kind

UNET = "model.diffusion_model."


@dataclass(frozen=True, slots=True)
class Rule:
    """A file with all of `every`, one of `some` and none of `without` is `label`."""

    kind: Kind
    arch: Arch
    label: str  # with its article: "a LoRA"
    every: tuple[str, ...] = ()
    some: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    widths: tuple[tuple[str, int, int], ...] = ()  # (pattern, dimension, size)


LORA_KEYS = (
    "lora_unet_*", "lora_te*", "*.lora_A.*", "*.lora_down.weight", "*.lora.down.weight",
    "*_lora.down.weight", "*.lora_linear_layer.down.weight", "*.hada_w1_a", "*.lokr_w1*",
    "*.oft_blocks", "*.oft_diag", "*.dora_scale", "unet:0:up", "lycoris_*",
)  # fmt: skip
QUANTISED = ("*.absmax", "*.quant_map", "*.weight_scale", "*.scale_weight", "*.comfy_quant")
TEXT_WIDTH = f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight"

RULES = (
    # riders
    Rule(Kind.IP_ADAPTER, Arch.OTHER, "an IP-Adapter", some=("ip_adapter.*", "image_proj.*")),
    Rule(Kind.LORA, Arch.SD1, "an AnimateDiff motion LoRA", some=("*motion_modules*lora*",)),
    Rule(
        Kind.MOTION, Arch.SD1, "an AnimateDiff motion module",
        some=("*motion_modules.0.temporal_transformer*",),
    ),
    Rule(
        Kind.CONTROLNET, Arch.OTHER, "a ControlNet",
        some=(
            "control_model.*", "*zero_convs.0.0.weight", "controlnet_cond_embedding.*",
            "controlnet_down_blocks.*", "lora_controlnet", "lllite_unet_*",
        ),
    ),
    Rule(Kind.LORA, Arch.OTHER, "a LoRA", some=LORA_KEYS, without=(f"{UNET}*",)),
    # families that this studio does not run, and weights it cannot compute with
    Rule(Kind.CHECKPOINT, Arch.OTHER, "a quantised model", some=QUANTISED),
    Rule(
        Kind.CHECKPOINT, Arch.SD3, "a Stable Diffusion 3 model",
        some=("*joint_blocks.0.context_block.adaLN_modulation.1.bias",),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.OTHER, "a Chroma transformer", some=("*distilled_guidance_layer.*",)
    ),
    Rule(
        Kind.CHECKPOINT, Arch.FLUX, "a Flux.2 transformer",
        some=("*single_stream_modulation.lin.weight",),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.FLUX, "a Flux transformer",
        some=(
            "*double_blocks.0.img_attn.norm.key_norm.*",
            "*single_transformer_blocks.0.attn.norm_q.weight",
        ),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.OTHER, "a PixArt transformer", some=("*adaln_single.linear.weight",)
    ),
    Rule(
        Kind.CHECKPOINT, Arch.OTHER, "a Stable Cascade model",
        some=("*clip_txt_mapper.weight", "*clf.1.weight"),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SVD, "a Stable Video Diffusion model",
        some=(f"{UNET}*time_stack*", "*temporal_transformer_blocks.0.*"),
    ),
    # Stable Diffusion checkpoints
    Rule(
        Kind.CHECKPOINT, Arch.SDXL_REFINER, "an SDXL refiner",
        some=("conditioner.embedders.0.model.ln_final.weight",),
        widths=(("conditioner.embedders.0.model.ln_final.weight", 0, 1280),),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SDXL, "an SDXL checkpoint",
        some=("conditioner.embedders.1.*", f"{UNET}label_emb.0.0.weight"),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SD2, "an SD2 checkpoint",
        some=("cond_stage_model.model.*", "conditioner.embedders.0.model.ln_final.weight"),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.OTHER, "an Alt-Diffusion checkpoint",
        some=("cond_stage_model.roberta.*",),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SD2, "an SD2 checkpoint without its text encoder",
        every=(f"{UNET}input_blocks.0.0.weight",), without=("cond_stage_model.*",),
        widths=((TEXT_WIDTH, 1, 1024),),
    ),
    Rule(
        Kind.CHECKPOINT, Arch.SD1, "an SD1 checkpoint",
        every=(f"{UNET}input_blocks.0.0.weight", f"{UNET}out.2.weight"),
    ),
    # parts
    Rule(
        Kind.UNET, Arch.OTHER, "a UNet alone",
        some=("input_blocks.0.0.weight", "down_blocks.0.resnets.0.time_emb_proj.weight"),
    ),
    Rule(
        Kind.VAE, Arch.OTHER, "a VAE alone",
        some=("first_stage_model.decoder.conv_in.weight", "decoder.conv_in.weight"),
    ),
    Rule(
        Kind.VAE, Arch.OTHER, "a preview decoder (TAESD)",
        some=("decoder.layers.0.weight", "taesd_decoder.*", "decoder.1.weight"),
    ),
    Rule(
        Kind.TEXT_ENCODER, Arch.OTHER, "a text encoder alone",
        some=(
            "text_model.embeddings.*", "*encoder.block.0.layer.0.SelfAttention.q.weight",
            "cond_stage_model.*", "transformer.resblocks.0.*", "encoder.layers.0.self_attn.*",
        ),
    ),
    Rule(
        Kind.EMBEDDING, Arch.OTHER, "a textual inversion embedding",
        some=("emb_params", "clip_l", "clip_g", "<*>", "string_to_param*"),
    ),
    Rule(
        Kind.UPSCALER, Arch.OTHER, "an upscaler",
        some=(
            "model.1.sub.0.*", "conv_first.weight", "RRDB_trunk.*", "body.0.rdb1.*",
            "layers.0.residual_group.*",
        ),
    ),
    Rule(
        Kind.T2I_ADAPTER, Arch.OTHER, "a T2I-Adapter",
        some=("body.0.in_conv.*", "body.0.block1.*", "body.0.body.*", "adapter.body.*"),
    ),
)  # fmt: skip

# Tensors without use but for their names, which say how the model was trained.
PREDICTS_V = "v_pred"
ZERO_SNR = "ztsnr"  # the noise schedule ends in pure noise

JUNK = (  # carried along by trainers and mergers; no part of the networks
    "model_ema.*", "betas", "alphas_cumprod*", "sqrt_*", "log_one_minus*", "posterior_*", "logvar",
    "lvlb_weights", "denoiser.sigmas", "first_stage_model.loss.*",
    "first_stage_model.model_ema.*", "*.position_ids", "cond_stage_model.logit_scale",
    "cond_stage_model.transformer.logit_scale", "cond_stage_model.*text_projection*",
    "cond_stage_model.transformer.vision_model.*",
    "cond_stage_model.transformer.visual_projection*",
    "embedding_manager.*", "global_step", "iteration", "lora_*",
)  # fmt: skip

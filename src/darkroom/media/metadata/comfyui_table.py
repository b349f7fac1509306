"""Facts about ComfyUI's nodes: what their inputs are called, and what they mean to us."""

# Of a sampler with all that hangs on it, to A1111's names; the first that is there counts.
SETTINGS = {
    "steps": "Steps",
    "sampler_name": "Sampler",
    "scheduler": "Schedule type",
    "cfg": "CFG scale",
    "noise_seed": "Seed",
    "seed": "Seed",
    "denoise": "Denoising strength",
}

# Inputs by which SamplerCustom and SamplerCustomAdvanced hold their parts.
PARTS = ("noise", "guider", "sampler", "sigmas")

# Nodes that are a choice by their kind.
CHOICES = {
    "KarrasScheduler": {"scheduler": "karras"},
    "ExponentialScheduler": {"scheduler": "exponential"},
    "PolyexponentialScheduler": {"scheduler": "polyexponential"},
    "AlignYourStepsScheduler": {"scheduler": "align_your_steps"},
    "SDTurboScheduler": {"scheduler": "turbo"},
    "BetaSamplingScheduler": {"scheduler": "beta"},
    "GITSScheduler": {"scheduler": "ays_gits"},
    "LaplaceScheduler": {"scheduler": "laplace"},
    "VPScheduler": {"scheduler": "vp"},
    "SamplerEulerAncestral": {"sampler_name": "euler_ancestral"},
    "SamplerEulerCFGpp": {"sampler_name": "euler_cfg_pp"},
    "SamplerLMS": {"sampler_name": "lms"},
    "SamplerDPMPP_2M_SDE": {"sampler_name": "dpmpp_2m_sde"},
    "SamplerDPMPP_3M_SDE": {"sampler_name": "dpmpp_3m_sde"},
    "SamplerDPMPP_SDE": {"sampler_name": "dpmpp_sde"},
    "SamplerDPMPP_2S_Ancestral": {"sampler_name": "dpmpp_2s_ancestral"},
    "SamplerDPMAdaptative": {"sampler_name": "dpm_adaptive"},
    "SamplerER_SDE": {"sampler_name": "er_sde"},
    "SamplerLCMUpscale": {"sampler_name": "lcm"},
}

# Inputs that name a file, to its role here; a number may follow (lora_name_2).
LOADED = {
    "ckpt_name": "checkpoint",
    "unet_name": "checkpoint",
    "base_ckpt_name": "checkpoint",
    "lora_name": "lora",
    "control_net_name": "controlnet",
    "vae_name": "vae",
    "style_model_name": "style model",
    "clip_name": "text encoder",
}
WEIGHTS = (
    "strength_model", "strength", "lora_wt", "model_weight", "lora_model_strength", "lora_strength",
)  # fmt: skip
TEXT_WEIGHTS = ("strength_clip", "clip_weight", "lora_clip_strength", "clip_str")
NO_FILE = ("None", "none", "Baked VAE", "")

# Where a text may stand in a node, best first; `positive` and `negative` are put in front.
TEXTS = (
    "populated_text", "text", "text_g", "prompt", "string", "value", "t5xxl", "clip_l", "text_l",
    "result", "wildcard_text", "string_field", "Text", "text_0", "bert", "mt5xl", "tags", "lyrics",
)  # fmt: skip
# Where a number or name may stand in a node whose output it is.
VALUES = ("value", "Value", "seed", "noise_seed", "int", "float", "number", "INT", "FLOAT", "a")

# Nodes of two conditions, to what joins their prompts in A1111's grammar.
JOINTS = {
    "ConditioningCombine": " AND ",
    "ConditioningAverage": " AND ",
    "ConditioningConcat": " BREAK ",
}
DELIMITERS = ("delimiter", "separator", "linebreak_addition")
# Inputs that do not lead to a prompt.
NOT_TEXT = frozenset({
    "clip", "model", "vae", "image", "images", "pixels", "latent", "latent_image", "samples",
    "control_net", "clip_vision", "clip_vision_output", "style_model", "mask", "ipadapter",
    "noise", "sampler", "sigmas",
})  # fmt: skip

# Of a saved workflow, which has the values of a node without their names: the names in order.
CONTROL = "control_after_generate"
WIDGETS: dict[str, tuple[str, ...]] = {
    "KSampler": ("seed", CONTROL, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        "add_noise", "noise_seed", CONTROL, "steps", "cfg", "sampler_name", "scheduler",
        "start_at_step", "end_at_step", "return_with_leftover_noise",
    ),
    "SamplerCustom": ("add_noise", "noise_seed", CONTROL, "cfg"),
    "RandomNoise": ("noise_seed", CONTROL),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "KarrasScheduler": ("steps", "sigma_max", "sigma_min", "rho"),
    "ExponentialScheduler": ("steps", "sigma_max", "sigma_min"),
    "AlignYourStepsScheduler": ("model_type", "steps", "denoise"),
    "SDTurboScheduler": ("steps", "denoise"),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeSDXL": (
        "width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l",
    ),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "CheckpointLoader": ("config_name", "ckpt_name"),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "VAELoader": ("vae_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "LatentUpscale": ("upscale_method", "width", "height", "crop"),
    "LatentUpscaleBy": ("upscale_method", "scale_by"),
    "ImageScale": ("upscale_method", "width", "height", "crop"),
    "ImageScaleBy": ("upscale_method", "scale_by"),
    "UpscaleModelLoader": ("model_name",),
    "LoadImage": ("image", "upload"),
    "PrimitiveNode": ("value", CONTROL),
    "PrimitiveInt": ("value", CONTROL),
    "PrimitiveFloat": ("value",),
    "PrimitiveString": ("value",),
    "PrimitiveStringMultiline": ("value",),
    "StringConcatenate": ("string_a", "string_b", "delimiter"),
    "ControlNetLoader": ("control_net_name",),
}  # fmt: skip

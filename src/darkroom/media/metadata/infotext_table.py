"""A1111's infotext as tables: which key is which field of ours, in the order it writes them.

A new field of the request is a row of ROWS; a row whose field the request does not have is passed
over. "hires.scale" is a field of a block. A field that has its default is not written, as A1111
does it, unless its row says `always`; those of a block that is not there are never written. Names
are facts of A1111 1.10.1, Forge and SD.Next.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_BOOLS = {"true": True, "false": False, "1": True, "0": False}


def whole(text: str) -> int:
    """A whole number, also when it is written as 20.0."""
    return int(text.removesuffix(".0"))


def switch(text: str) -> bool:
    """Yes or no, in Python's spelling or JSON's."""
    if text.lower() not in _BOOLS:
        raise ValueError(text)
    return _BOOLS[text.lower()]


def bare_model(text: str) -> str:
    """A checkpoint's name without the hash behind it and the end of a file's name."""
    return re.sub(r"\.(safetensors|ckpt)$", "", re.sub(r" \[[0-9a-fA-F]{6,64}\]$", "", text))


def some(text: str) -> int | None:
    """A number of steps, where 0 asks for nothing."""
    return whole(text) or None


def words(table: Mapping[str, Any]) -> Callable[[str], Any]:
    """How a value is read for which A1111 has words; ValueError for other words."""
    folded = {key.casefold(): value for key, value in table.items()}

    def read(text: str) -> Any:
        if text.casefold() not in folded:
            raise ValueError(text)
        return folded[text.casefold()]

    return read


def worded(table: Mapping[str, Any]) -> Callable[[Any], str]:
    """How such a value is written: by the first word for it."""
    return lambda value: next(word for word, each in table.items() if each == value)


MASK_MODES = {"Inpaint masked": False, "Inpaint not masked": True}
AREAS = {"Whole picture": "whole", "Only masked": "masked"}
RESIZES = {
    "Crop and resize": "crop",
    "Just resize": "stretch",
    "Resize and fill": "fill",
    "Just resize (latent upscale)": "latent",
}
REFINED = {"second pass": "second", "first pass": "first", "both passes": "both"}
TILINGS = {"False": "none", "True": "both", "x": "x", "y": "y"}
SOFT = {"False": "hard", "True": "soft"}


def plain(value: Any) -> str:
    """A value as A1111 writes it: 7 for 7.0, nothing else rounded; 0 for a side that is open."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return "0" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Row:
    """One key; two fields are written as "512x768"."""

    key: str
    fields: tuple[str, ...]
    read: Callable[[str], object] = str  # raises ValueError
    write: Callable[[Any], str] = plain
    always: bool = False
    aliases: tuple[str, ...] = ()  # what other programs call it


ROWS: tuple[Row, ...] = (
    Row("Steps", ("steps",), whole, always=True),
    Row("Sampler", ("sampler",), always=True, aliases=("KSampler",)),
    Row("Schedule type", ("scheduler",), always=True, aliases=("Schedule",)),
    Row("CFG scale", ("cfg_scale",), float, always=True),
    Row("Image CFG scale", ("init.image_cfg_scale",), float),
    Row("Seed", ("seed",), whole, always=True),
    Row("Face restoration", ("restore.model",)),
    Row("Size", ("width", "height"), whole, always=True),
    Row("Model hash", ("model_hash",)),
    Row("Model", ("model_name",)),
    Row("VAE hash", ("vae_hash",)),
    Row("VAE", ("vae_name",)),
    Row("Variation seed", ("variation_seed",), whole),
    Row("Variation seed strength", ("variation_strength",), float, aliases=("Variation strength",)),
    Row("Seed resize from", ("seed_resize_width", "seed_resize_height"), whole),
    Row("Denoising strength", ("denoising_strength",), float),  # of one of two: see `fields`
    Row("Clip skip", ("clip_skip",), whole, aliases=("CLiP-skip", "CLIP skip")),
    Row("ENSD", ("ensd",), whole),
    # A1111 leaves GPU out; ours is always said, for its default is another.
    Row("RNG", ("rng",), str.lower, str.upper, always=True),
    Row("Tiling", ("tiling",), words(TILINGS | {"1": "both", "0": "none"}), worded(TILINGS)),
    Row("Init image hash", ("init_hash",)),
    Row("Resize mode", ("init.resize",), words(RESIZES), worded(RESIZES)),
    Row("Color correction", ("init.color_correction",), switch),
    Row("Noise multiplier", ("init.noise_multiplier",), float),
    Row("Extra noise", ("init.extra_noise",), float),
    Row("Mask mode", ("mask.invert",), words(MASK_MODES), worded(MASK_MODES)),
    Row("Mask blur", ("mask.blur",), float, always=True),
    Row("Inpaint area", ("mask.area",), words(AREAS), worded(AREAS)),
    Row("Masked area padding", ("mask.padding",), whole, always=True),
    Row("Masked content", ("mask.fill",)),
    Row("Soft inpainting enabled", ("mask.softness",), words(SOFT), worded(SOFT)),
    Row("Soft inpainting schedule bias", ("mask.soft_power",), float, always=True),
    Row("Soft inpainting preservation strength", ("mask.soft_scale",), float, always=True),
    Row("Soft inpainting transition contrast boost", ("mask.soft_detail",), float, always=True),
    Row("Soft inpainting mask influence", ("mask.soft_influence",), float, always=True),
    Row("Soft inpainting difference threshold", ("mask.soft_threshold",), float, always=True),
    Row("Soft inpainting difference contrast", ("mask.soft_contrast",), float, always=True),
    Row("Hires checkpoint", ("hires.model",), bare_model),
    Row("Hires sampler", ("hires.sampler",)),
    Row("Hires prompt", ("hires.prompt",)),
    Row("Hires negative prompt", ("hires.negative_prompt",)),
    Row("Hires schedule type", ("hires.scheduler",)),
    Row("Hires CFG Scale", ("hires.cfg_scale",), float),
    Row("Hires upscale", ("hires.scale",), float, always=True),
    Row("Hires resize", ("hires.width", "hires.height"), whole, aliases=("Hires size",)),
    Row("Hires steps", ("hires.steps",), some),
    Row("Hires upscaler", ("hires.upscaler",), always=True),
    Row("Hires strength", ("hires.strength",), float, always=True),
    Row("Hires refiner", ("refiner.on",), words(REFINED), worded(REFINED)),
    Row("Refiner", ("refiner.model",), bare_model, always=True),
    Row("Refiner switch at", ("refiner.switch_at",), float, always=True),
    Row("Lora hashes", ("lora_hashes",)),
    Row("TI hashes", ("embedding_hashes",)),
    Row("Emphasis", ("emphasis",)),
    Row("NGMS", ("ngms",), float),
    Row("Skip Early CFG", ("skip_early_cfg",), float),
    Row("CFG rescale", ("cfg_rescale",), float, aliases=("CFG Rescale",)),
    Row("Guidance start", ("guidance_start",), float),
    Row("Guidance end", ("guidance_end",), float, aliases=("CFG end",)),
    Row("Eta", ("eta",), float, aliases=("Eta DDIM",)),
    Row("Sigma churn", ("s_churn",), float),
    Row("Sigma tmin", ("s_tmin",), float),
    Row("Sigma tmax", ("s_tmax",), float),
    Row("Sigma noise", ("s_noise",), float),
    Row("Schedule min sigma", ("sigma_min",), float),
    Row("Schedule max sigma", ("sigma_max",), float),
    Row("Schedule rho", ("rho",), float),
    Row("Discard penultimate sigma", ("discard_penultimate",), switch),
    Row("SGM noise multiplier", ("sgm_noise",), switch),
    Row("Beta schedule alpha", ("beta_alpha",), float, aliases=("Beta scheduler alpha",)),
    Row("Beta schedule beta", ("beta_beta",), float, aliases=("Beta scheduler beta",)),
    Row("UniPC variant", ("unipc_variant",)),
    Row("UniPC skip type", ("unipc_skip_type",)),
    Row("UniPC order", ("unipc_order",), whole),
    Row("UniPC lower order final", ("unipc_lower_order_final",), switch),
    Row("Old prompt editing timelines", ("old_prompt_editing",), switch),
    Row("Template", ("template",)),
    Row("Negative Template", ("negative_template",)),
    Row("Version", ("version",)),
)

# Our own keys, for prompts that A1111's form cannot hold, such as one with a line that starts with
# "Negative prompt:". A1111 passes them over.
EXACT = {"Exact prompt": "prompt", "Exact negative prompt": "negative_prompt"}

# What tells about a picture and asks for nothing: not worth a word when it is left out.
INFORMATION = frozenset({
    "Model", "Model hash", "VAE hash", "Lora hashes", "TI hashes", "Hashes", "Version", "App",
    "Parser", "Pipeline", "Operations", "Scheduler", "Created Date", "Date", "User", "Batch",
    "Index", "Civitai resources", "Civitai metadata", "Template", "Negative Template",
    "Time taken", "Init image hash",
    "Metadata scheme", "Original prompt", "Software", "Signature", "Used embeddings", "Backend",
    "Workflow", "Prompt expansion", "Generation time", "Mode", "Style prompt",
    "VAE", "Hypernet", "Hypernet hash", "Hypernet strength",
    "LoRA networks", "LoRA hashes", "Lora weights", "Scene", "Random device", "Model name",
})  # fmt: skip

# Keys besides ROWS and INFORMATION that a line of parameters may start with.
MORE_KEYS = frozenset({
    "Hires Module 1", "Conditional mask weight", "Token merging ratio", "Token merging ratio hr",
    "Noise Schedule", "Pad conds", "First pass size", "Distilled CFG Scale",
    "Diffusion in Low Bits", "Module 1", "Module 2", "Module 3", "ControlNet 0", "ControlNet 1",
    "ADetailer model", "ADetailer confidence", "FP8 weight", "KSampler", "Schedule", "Guidance",
    "CFG end", "Sampler sigma", "Sampler spacing", "Sharpness", "ADM Guidance", "Performance",
    "Downcast alphas_cumprod", "Refiner switch by sampling steps", "Network",
    "Postprocess upscale by", "Postprocess upscale to", "Postprocess upscaler",
    "Postprocess upscaler 2",
})  # fmt: skip

# Old rules of A1111 that are not followed here: what they did.
OLD_RULES: dict[str, str] = {
    "Pad conds v0": "the shorter of the prompts was filled up with its own last vector",
    "Downcast alphas_cumprod": "the table of noise levels was rounded to half precision",
    "Refiner switch by sampling steps": "the refiner took over by steps, not by noise level",
}

# What A1111 reads into a text that does not say it; `implied.py` has the rules besides.
IMPLIED: dict[str, object] = {
    "Clip skip": "1",
    "Hires resize-1": 0,
    "Hires resize-2": 0,
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Schedule max sigma": 0,
    "Schedule min sigma": 0,
    "Schedule rho": 0,
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
    "Refiner switch by sampling steps": False,
}

"""What a user asks for. One request is one recipe: with the model it fully determines the pixels.

A parameter is declared once, here. Its command line flag, form control, OpenAPI entry, docs and
metadata key are made from the declaration, so a field carries its description, bounds and unit.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from darkroom.core.blocks import (
    Detail,
    Hires,
    Init,
    Loopback,
    Mask,
    Outpaint,
    Refiner,
    Region,
    Restore,
    Tiling,
)
from darkroom.core.fields import (
    Emphasis,
    Level,
    OpenSeed,
    Parsed,
    Prompt,
    Rng,
    Scale,
    Seed,
    Share,
    Side,
    Steps,
    in_group,
)
from darkroom.core.sampler_options import BOUNDS
from darkroom.core.sampler_table import AUTOMATIC, find_scheduler, split_sampler_name

AUTO, BAKED = "auto", "baked"  # values of `vae` that are no names


class ImageRequest(Parsed):
    """One or more pictures from a prompt."""

    kind: Literal["image"] = "image"
    prompt: Prompt = Field("", description="What the picture shows.")
    negative_prompt: Prompt = Field("", description="What the picture should not show.")
    model: str = Field(
        "starter",
        min_length=1,
        max_length=4096,
        description="Checkpoint: a name from `darkroom models`, a hash, or the path of a file.",
    )
    vae: str = Field(
        AUTO,
        min_length=1,
        max_length=4096,
        description="VAE, which turns latents into pictures: a name, a hash or the path of a file;"
        " auto takes the file beside the checkpoint that is named like it (name.vae.safetensors),"
        " else the checkpoint's own; baked always takes its own.",
    )
    width: Side | None = Field(
        None,
        description="Width in pixels, a multiple of 8.  [default: the model's own, or the"
        " picture's shape at that size]",
        json_schema_extra=in_group("size", 8),
    )
    height: Side | None = Field(
        None,
        description="Height in pixels, a multiple of 8.  [default: the model's own, or the"
        " picture's shape at that size]",
        json_schema_extra=in_group("size", 8),
    )
    steps: Steps | None = Field(
        None,
        description="Denoising steps.  [default: the model's own, mostly 20]",
        json_schema_extra=in_group("sampling"),
    )
    sampler: str = Field(
        "DPM++ 2M",
        max_length=200,
        description="Sampler, by any name that A1111 or ComfyUI gives it.",
        json_schema_extra=in_group("sampling"),
    )
    scheduler: str = Field(
        AUTOMATIC,
        max_length=200,
        description="Noise schedule; Automatic takes the sampler's own.",
        json_schema_extra=in_group("sampling"),
    )
    cfg_scale: Scale | None = Field(
        None,
        description="How strictly to follow the prompt; 1 turns guidance off and is about twice as"
        " fast.  [default: the model's own, mostly 7]",
        json_schema_extra=in_group("sampling", 0.5),
    )
    seed: OpenSeed = Field(
        None,
        description="Seed of the first picture; the next ones count up.  [default: random]",
        json_schema_extra=in_group("sampling"),
    )
    count: int = Field(1, ge=1, le=10_000, description="How many pictures.")
    styles: tuple[Annotated[str, Field(max_length=200)], ...] = Field(
        (),
        max_length=100,
        description="Style of your styles.csv to put around the prompts; may be given again.",
        json_schema_extra=in_group("prompt"),
    )
    dynamic_prompts: bool = Field(
        True,
        description="Choose anew for each picture from {a|b|c} and from lists: __name__.",
        json_schema_extra=in_group("prompt"),
    )
    emphasis: Emphasis = Field(
        "Original",
        description="How (words:1.2) count: Original keeps the average, No norm does not, Ignore"
        " leaves weights out, None leaves the brackets in the text.",
        json_schema_extra=in_group("prompt"),
    )
    old_prompt_editing: bool = Field(
        False,
        description="Read the steps of [a:b:10] as A1111 before 1.6 did.",
        json_schema_extra=in_group("prompt"),
    )
    clip_skip: int = Field(
        1,
        ge=1,
        le=12,
        description="Take the text encoder's output this many layers from its end. SDXL is made for"
        " the layer before the last: 1 and 2 are the same there.",
        json_schema_extra=in_group("prompt"),
    )
    rng: Rng = Field(
        "cpu",
        description="Where noise comes from: cpu is the same everywhere, nv is what an NVIDIA card"
        " draws (A1111's default), gpu is this machine's own card.",
        json_schema_extra=in_group("noise"),
    )
    variation_seed: OpenSeed = Field(
        None,
        description="Seed of the noise that is mixed in.  [default: random]",
        json_schema_extra=in_group("noise"),
    )
    variation_strength: Share = Field(
        0.0,
        description="How much of the noise of variation_seed is mixed in.",
        json_schema_extra=in_group("noise", 0.05),
    )
    seed_resize_width: Side | None = Field(
        None,
        description="Use the noise of a picture this wide: a like picture in another size.",
        json_schema_extra=in_group("noise", 8),
    )
    seed_resize_height: Side | None = Field(
        None, description="The same for the height.", json_schema_extra=in_group("noise", 8)
    )
    ensd: int = Field(
        0,
        ge=-(2**31),
        le=2**31,
        description="Added to the seed for noise drawn on the way (eta noise seed delta).",
        json_schema_extra=in_group("noise"),
    )
    eta: float | None = Field(
        None,
        ge=BOUNDS["eta"][0],
        le=BOUNDS["eta"][1],
        allow_inf_nan=False,
        description="How much noise a sampler adds on the way.  [default: the sampler's own]",
        json_schema_extra=in_group("sampler", 0.1),
    )
    s_churn: float | None = Field(
        None,
        ge=BOUNDS["s_churn"][0],
        le=BOUNDS["s_churn"][1],
        allow_inf_nan=False,
        description="Noise added and removed in each step.  [default: 0]",
        json_schema_extra=in_group("sampler", 1),
    )
    s_tmin: float | None = Field(
        None,
        ge=BOUNDS["s_tmin"][0],
        le=BOUNDS["s_tmin"][1],
        allow_inf_nan=False,
        description="Lowest noise level at which s_churn acts.  [default: 0]",
        json_schema_extra=in_group("sampler", 0.1),
    )
    s_tmax: float | None = Field(
        None,
        ge=BOUNDS["s_tmax"][0],
        le=BOUNDS["s_tmax"][1],
        allow_inf_nan=False,
        description="Highest noise level at which s_churn acts; 0 for no limit.  [default: 0]",
        json_schema_extra=in_group("sampler", 1),
    )
    s_noise: float | None = Field(
        None,
        ge=BOUNDS["s_noise"][0],
        le=BOUNDS["s_noise"][1],
        allow_inf_nan=False,
        description="Scale of the noise added on the way.  [default: 1]",
        json_schema_extra=in_group("sampler", 0.01),
    )
    unipc_order: int | None = Field(
        None,
        ge=1,
        le=50,
        description="Steps that UniPC, and the other multistep samplers with a choice, look back."
        "  [default: 3]",
        json_schema_extra=in_group("sampler"),
    )
    unipc_variant: Literal["bh1", "bh2", "vary_coeff"] | None = Field(
        None, description="UniPC's B(h).  [default: bh1]", json_schema_extra=in_group("sampler")
    )
    unipc_lower_order_final: bool | None = Field(
        None,
        description="Let UniPC's order fall at the end.  [default: on]",
        json_schema_extra=in_group("sampler"),
    )
    unipc_skip_type: Literal["time_uniform", "time_quadratic", "logSNR"] | None = Field(
        None,
        description="How UniPC spaces its steps.  [default: time_uniform]",
        json_schema_extra=in_group("schedule"),
    )
    sigma_min: float | None = Field(
        None,
        ge=BOUNDS["sigma_min"][0],
        le=BOUNDS["sigma_min"][1],
        allow_inf_nan=False,
        description="Lowest noise level of the schedule; 0 is the model's.  [default: 0]",
        json_schema_extra=in_group("schedule", 0.01),
    )
    sigma_max: float | None = Field(
        None,
        ge=BOUNDS["sigma_max"][0],
        le=BOUNDS["sigma_max"][1],
        allow_inf_nan=False,
        description="Highest noise level of the schedule; 0 is the model's.  [default: 0]",
        json_schema_extra=in_group("schedule", 0.1),
    )
    rho: float | None = Field(
        None,
        ge=BOUNDS["rho"][0],
        le=BOUNDS["rho"][1],
        allow_inf_nan=False,
        description="How the Karras and Polyexponential schedules bend.  [default: 7 and 1]",
        json_schema_extra=in_group("schedule", 0.1),
    )
    beta_alpha: float | None = Field(
        None,
        ge=BOUNDS["beta_alpha"][0],
        le=BOUNDS["beta_alpha"][1],
        allow_inf_nan=False,
        description="Shape of the Beta schedule at high noise.  [default: 0.6]",
        json_schema_extra=in_group("schedule", 0.1),
    )
    beta_beta: float | None = Field(
        None,
        ge=BOUNDS["beta_beta"][0],
        le=BOUNDS["beta_beta"][1],
        allow_inf_nan=False,
        description="Shape of the Beta schedule at low noise.  [default: 0.6]",
        json_schema_extra=in_group("schedule", 0.1),
    )
    sgm_noise: bool = Field(
        False,
        description="Start from a little more noise, as Stability's own code does.",
        json_schema_extra=in_group("schedule"),
    )
    discard_penultimate: bool = Field(
        False,
        description="Plan one step more and leave out the last but one noise level.",
        json_schema_extra=in_group("schedule"),
    )
    skip_early_cfg: Share = Field(
        0.0,
        description="Run the first part of the steps, this share of them, without guidance.",
        json_schema_extra=in_group("guidance", 0.05),
    )
    ngms: Level = Field(
        0.0,
        description="Below this noise level every other step runs without guidance (negative"
        " guidance minimum sigma).",
        json_schema_extra=in_group("guidance", 0.1),
    )
    cfg_rescale: Share = Field(
        0.0,
        description="Take back the contrast that a high cfg_scale adds, this much of it.",
        json_schema_extra=in_group("guidance", 0.05),
    )
    guidance_start: Share = Field(
        0.0,
        description="Guidance begins after this share of the steps.",
        json_schema_extra=in_group("guidance", 0.05),
    )
    guidance_end: Share = Field(
        1.0,
        description="Guidance ends after this share of the steps.",
        json_schema_extra=in_group("guidance", 0.05),
    )

    init: Init | None = Field(None, description="The picture to begin with (img2img).")
    mask: Mask | None = Field(None, description="What of it is painted anew (inpainting).")
    outpaint: Outpaint | None = Field(None, description="More picture around it.")
    loopback: Loopback | None = Field(None, description="Rounds, each from the last result.")
    hires: Hires | None = Field(None, description="A second run on the enlarged result.")
    refiner: Refiner | None = Field(None, description="Another checkpoint for the last steps.")
    regions: tuple[Region, ...] = Field(
        (),
        max_length=64,
        description="A part of the picture with a prompt of its own: left, top, width and height"
        " as shares (0,0,0.5,1: a cat), or a mask's file; then weight, start, end, feather. May be"
        " given again.",
    )
    detail: tuple[Detail, ...] = Field(
        (),
        max_length=16,
        description="Found and painted anew: face, hand, person, object, or a detector's file; then"
        " strength, prompt, confidence, size, most and so on (face,strength=0.3). May be given"
        " again.",
    )
    restore: Restore | None = Field(None, description="Faces mended by a model made for it.")
    tiling: Tiling = Field(
        "none",
        description="Make a picture that can be laid side by side without a seam, along both axes"
        " or one.",
        json_schema_extra=in_group("size"),
    )

    @model_validator(mode="before")
    @classmethod
    def _split_sampler_name(cls, data: Any) -> Any:
        return split_sampler_name(data)

    @model_validator(mode="after")
    def _picture_is_there(self) -> Self:
        for name in ("mask", "outpaint", "loopback"):
            if self.init is None and getattr(self, name) is not None:
                raise ValueError(f"{name} needs a picture to begin with (init)")
        if self.mask is not None and self.outpaint is not None:
            raise ValueError("mask and outpaint contradict: do one after the other")
        if self.loopback is not None and self.outpaint is not None:
            raise ValueError("outpaint and loopback contradict: do one after the other")
        if self.loopback is not None and self.mask is not None and self.mask.sketch is not None:
            raise ValueError("a sketch fits the first round only: give a mask with loopback")
        return self

    @field_validator("sigma_min", "sigma_max", "rho", "beta_alpha", "beta_beta", mode="before")
    @classmethod
    def _zero_is_open(cls, value: object) -> object:
        """A1111 writes 0 for what the model or the schedule is to say."""
        return None if value in (0, "0", "0.0") else value

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, name: str) -> str:
        return find_scheduler(name).name


class ResolvedRequest(ImageRequest):
    """An image request with nothing left open; `core.recipe.resolve` makes it."""

    width: Side
    height: Side
    steps: Steps
    cfg_scale: Scale
    seed: Seed

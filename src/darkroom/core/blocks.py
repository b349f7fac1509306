"""What a request for pictures may have besides its prompt, each in a block that is None without it.

A block begins with a picture (Init, Mask, Outpaint, Loopback), adds to the run (Hires, Refiner,
Region), or works on the finished picture (Detail, Restore). Fields become flags as those of the
request do; one that has a `flag` of its own is called that, others have the block's name in front.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from darkroom.core.fields import (
    Frozen,
    Name,
    Prompt,
    Scale,
    Share,
    Side,
    Source,
    Steps,
    in_group,
)
from darkroom.core.sampler_table import (
    AUTOMATIC,
    find_scheduler,
    resolve_scheduler,
    split_sampler_name,
)

Resize = Literal["stretch", "crop", "fill", "latent"]
Fill = Literal["fill", "original", "latent noise", "latent nothing"]
Softness = Literal["hard", "soft", "differential"]
Curve = Literal["linear", "aggressive", "lazy"]
Tiling = Literal["none", "both", "x", "y"]

Blur = Annotated[float, Field(ge=0, le=256, allow_inf_nan=False)]  # px, standard deviation
Margin = Annotated[int, Field(ge=0, le=4096)]  # px


class Sampled(Frozen):
    """Fields of a further run of the network; what is left open is as in the first."""

    steps: Steps | None = Field(None, description="Denoising steps.  [default: as the first run]")
    sampler: str | None = Field(
        None, max_length=200, description="Sampler.  [default: that of the first run]"
    )
    scheduler: str | None = Field(
        None, max_length=200, description="Noise schedule.  [default: that of the first run]"
    )
    cfg_scale: Scale | None = Field(
        None, description="How strictly to follow the prompt.  [default: as the first run]"
    )
    prompt: Prompt | None = Field(
        None, description="What the picture shows.  [default: the prompt of the request]"
    )
    negative_prompt: Prompt | None = Field(
        None, description="What it should not show.  [default: that of the request]"
    )
    model: Name | None = Field(None, description="Checkpoint.  [default: that of the request]")

    @model_validator(mode="before")
    @classmethod
    def _split_sampler_name(cls, data: Any) -> Any:
        return split_sampler_name(data)

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, name: str | None) -> str | None:
        return None if name is None else find_scheduler(name).name

    def changes(self, sampler: str | None = None) -> dict[str, Any]:
        """What it sets on the fields of the request, by their names there.

        `sampler` is that of the first run; without it an automatic scheduler stays open.
        """
        own = {name: getattr(self, name) for name in Sampled.model_fields}
        found = {name: value for name, value in own.items() if value is not None}
        if self.sampler is not None:
            found.setdefault("scheduler", AUTOMATIC)
        if sampler is not None and "scheduler" in found:
            scheduler = resolve_scheduler(self.sampler or sampler, found["scheduler"])
            found["scheduler"] = scheduler.name
        return found


class Init(Frozen):
    """The picture to begin with."""

    image: Source = Field(
        description="Picture to begin with: a file.",
        json_schema_extra=in_group("picture", flag="init"),
    )
    strength: Share = Field(
        0.75,
        description="Denoising strength: how far the result may leave the picture. 0 gives it back,"
        " 1 all but ignores it.",
        json_schema_extra=in_group("picture", 0.05, "strength"),
    )
    resize: Resize = Field(
        "crop",
        description="How the picture gets the size of the result: stretch it, crop what is too"
        " much, fill what is missing with its border, or stretch it as a latent.",
        json_schema_extra=in_group("picture", flag="resize"),
    )
    exact_steps: bool = Field(
        False,
        description="Do all the steps that were asked for, not only the share that the strength"
        " leaves.",
        json_schema_extra=in_group("picture", flag="exact_steps"),
    )
    noise_multiplier: float = Field(
        1.0,
        ge=0,
        le=1.5,
        allow_inf_nan=False,
        description="Scale of the noise that is put on the picture; below 1 is smoother, above 1"
        " rougher.",
        json_schema_extra=in_group("picture", 0.01, "noise_multiplier"),
    )
    extra_noise: Share = Field(
        0.0,
        description="So much more noise on top, for more detail than the picture has.",
        json_schema_extra=in_group("picture", 0.01, "extra_noise"),
    )
    color_correction: bool = Field(
        False,
        description="Bring the colours of the result back to those of the picture.",
        json_schema_extra=in_group("picture", flag="color_correction"),
    )
    image_cfg_scale: Scale = Field(
        1.5,
        description="How closely instruct-pix2pix models keep to the picture; others ignore it.",
        json_schema_extra=in_group("picture", 0.1, "image_cfg_scale"),
    )


class Mask(Frozen):
    """What of the picture is painted anew; outside its blur all stays as it is to the last bit."""

    image: Source | None = Field(
        None,
        description="Mask: white is painted anew, black stays. A mask with transparent parts is"
        " read by its opacity.  [default: the transparent parts of the picture]",
        json_schema_extra=in_group("mask", flag="mask"),
    )
    sketch: Source | None = Field(
        None,
        description="The picture with something painted over it: what differs is the mask, and the"
        " paint is what the result begins with.",
        json_schema_extra=in_group("mask", flag="sketch"),
    )
    invert: bool = Field(
        False,
        description="Paint what is black in the mask.",
        json_schema_extra=in_group("mask", flag="mask_invert"),
    )
    blur: Blur = Field(
        4.0,
        description="Blur of the mask's border, in pixels; it reaches 2.5 times as far outwards. 0"
        " changes nothing outside the mask.",
        json_schema_extra=in_group("mask", 1, "mask_blur"),
    )
    blur_x: Blur | None = Field(
        None,
        description="The same from left to right alone.  [default: mask_blur]",
        json_schema_extra=in_group("mask", 1, "mask_blur_x"),
    )
    blur_y: Blur | None = Field(
        None,
        description="The same from top to bottom alone.  [default: mask_blur]",
        json_schema_extra=in_group("mask", 1, "mask_blur_y"),
    )
    fill: Fill = Field(
        "original",
        description="What the masked part begins with: fill spreads the colours around it.",
        json_schema_extra=in_group("mask", flag="mask_fill"),
    )
    area: Literal["whole", "masked"] = Field(
        "whole",
        description="What the network sees: the whole picture, or only the masked part with its"
        " surroundings, at the full size of the result.",
        json_schema_extra=in_group("mask", flag="mask_area"),
    )
    padding: Margin = Field(
        32,
        description="Pixels around the masked part that are seen with it.",
        json_schema_extra=in_group("mask", 4, "mask_padding"),
    )
    full_size: bool | None = Field(
        None,
        description="Keep the picture's own size, and enlarge what was painted.  [default: unless"
        " a width or height is given]",
        json_schema_extra=in_group("mask"),
    )
    softness: Softness = Field(
        "hard",
        description="What grey in the mask means. hard: white from the middle on; soft: blended in"
        " every step (A1111's soft inpainting); differential: strength, white is painted anew from"
        " the first step on and dark grey only in the last.",
        json_schema_extra=in_group("mask", flag="mask_softness"),
    )
    soft_power: float = Field(
        1.0,
        ge=0,
        le=8,
        allow_inf_nan=False,
        description="Soft: the higher, the more the kept part rules early in the run, and the"
        " less late.",
        json_schema_extra=in_group("mask", 0.1),
    )
    soft_scale: float = Field(
        0.5,
        ge=0,
        le=8,
        allow_inf_nan=False,
        description="Soft: the higher, the more is kept where both are mixed.",
        json_schema_extra=in_group("mask", 0.05),
    )
    soft_detail: float = Field(
        4.0,
        ge=1,
        le=32,
        allow_inf_nan=False,
        description="Soft: how much detail is preserved where both are mixed.",
        json_schema_extra=in_group("mask", 0.5),
    )
    soft_influence: Share = Field(
        0.0,
        description="Soft: how far the mask itself, rather than what changed, says what of the"
        " result is taken.",
        json_schema_extra=in_group("mask", 0.05),
    )
    soft_threshold: float = Field(
        0.5,
        ge=0,
        le=8,
        allow_inf_nan=False,
        description="Soft: how much must change before the result is taken.",
        json_schema_extra=in_group("mask", 0.25),
    )
    soft_contrast: float = Field(
        2.0,
        ge=0,
        le=8,
        allow_inf_nan=False,
        description="Soft: how sharp the border is between what is taken and what is not.",
        json_schema_extra=in_group("mask", 0.25),
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.image is not None and self.sketch is not None:
            raise ValueError("a mask and a sketch contradict: give one of them")
        return self


class Outpaint(Frozen):
    """More picture around the picture, which itself stays as it is."""

    left: Margin = Field(
        0,
        description="Pixels to add at the left.",
        json_schema_extra=in_group("outpaint", 8, "left"),
    )
    right: Margin = Field(
        0, description="At the right.", json_schema_extra=in_group("outpaint", 8, "right")
    )
    up: Margin = Field(
        0, description="At the top.", json_schema_extra=in_group("outpaint", 8, "up")
    )
    down: Margin = Field(
        0, description="At the bottom.", json_schema_extra=in_group("outpaint", 8, "down")
    )
    blur: Blur = Field(
        4.0,
        description="How far the new part is blended into the old one, in pixels.",
        json_schema_extra=in_group("outpaint", 1),
    )
    fill: Fill = Field(
        "fill",
        description="What the new part begins with.",
        json_schema_extra=in_group("outpaint"),
    )

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not (self.left or self.right or self.up or self.down):
            raise ValueError("say where: left, right, up or down")
        return self


class Loopback(Frozen):
    """The result is what the next round begins with; every round is a picture of its own."""

    loops: int = Field(
        4,
        ge=2,
        le=1000,
        description="Rounds.",
        json_schema_extra=in_group("loopback", flag="loops"),
    )
    final_strength: Share | None = Field(
        None,
        description="Denoising strength of the last round.  [default: that of the first]",
        json_schema_extra=in_group("loopback", 0.05, "final_strength"),
    )
    curve: Curve = Field(
        "linear",
        description="How the strength gets from the first to the last: aggressive early, lazy"
        " late.",
        json_schema_extra=in_group("loopback", flag="loop_curve"),
    )


class Hires(Sampled):
    """A second run on the enlarged result of the first (hires fix)."""

    scale: float = Field(
        2.0,
        ge=1,
        le=8,
        allow_inf_nan=False,
        description="How many times larger.",
        json_schema_extra=in_group("hires", 0.05),
    )
    width: Side | None = Field(
        None,
        description="Width instead of a scale; with a height too, what is too much is cropped.",
        json_schema_extra=in_group("hires", 8),
    )
    height: Side | None = Field(
        None, description="Height instead of a scale.", json_schema_extra=in_group("hires", 8)
    )
    upscaler: Name = Field(
        "auto",
        description="What enlarges: auto, the one that comes along; Lanczos, Nearest, or an"
        " upscaler of `darkroom models`; Latent, or Latent with (antialiased), (bicubic), (bicubic"
        " antialiased), (nearest) or (nearest-exact), which want a strength above 0.5.",
        json_schema_extra=in_group("hires"),
    )
    strength: Share = Field(
        0.3,
        description="Denoising strength of the second run: 0.3 adds detail, 0.6 changes it.",
        json_schema_extra=in_group("hires", 0.05),
    )
    first: Source | None = Field(
        None,
        description="A finished picture that stands for the first run.",
        json_schema_extra=in_group("hires"),
    )


class Refiner(Frozen):
    """Another checkpoint for the last steps."""

    model: Name = Field(
        description="Checkpoint for the last steps.",
        json_schema_extra=in_group("refiner", flag="refiner"),
    )
    switch_at: Share = Field(
        0.8,
        description="When it takes over: after this share of the noise is gone.",
        json_schema_extra=in_group("refiner", 0.05, "refiner_switch_at"),
    )
    on: Literal["first", "second", "both"] = Field(
        "second",
        description="Which run it refines where there is a second (hires).",
        json_schema_extra=in_group("refiner", flag="refiner_on"),
    )


class Region(Frozen):
    """A part of the picture with a prompt of its own."""

    prompt: Prompt = Field(description="What this part shows.")
    box: tuple[Share, Share, Share, Share] | None = Field(
        None, description="Left, top, width and height, as shares of the picture."
    )
    mask: Source | None = Field(None, description="A mask instead: white is the part.")
    weight: float = Field(
        1.0, ge=0, le=10, allow_inf_nan=False, description="How much it counts beside the others."
    )
    start: Share = Field(0.0, description="It begins after this share of the steps.")
    end: Share = Field(1.0, description="It ends after this share of the steps.")
    feather: Margin = Field(16, description="Pixels over which its border fades.")

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if (self.box is None) == (self.mask is None):
            raise ValueError("say where: with a box or with a mask")
        if self.box is not None and not (self.box[2] and self.box[3]):
            raise ValueError("the box has no size")
        return self


class Detail(Sampled):
    """Find faces, hands and the like in the finished picture, and paint each anew, large."""

    detector: Name = Field(
        "face", description="What is looked for: face, hand, person, object, or a detector's file."
    )
    strength: Share = Field(0.4, description="Denoising strength.")
    confidence: Share = Field(0.5, description="How sure the detector must be.")
    padding: Margin = Field(32, description="Pixels around it that are seen with it.")
    blur: Blur = Field(4.0, description="Blur of the border, in pixels.")
    grow: int = Field(4, ge=-512, le=512, description="Pixels by which the found part is grown.")
    size: Side | None = Field(
        None, description="Side at which it is painted.  [default: the model's own]"
    )
    most: int = Field(8, ge=1, le=100, description="At most so many, the largest first.")
    smallest: Share = Field(0.0, description="Pass over what covers less of the picture.")


class Restore(Frozen):
    """Mend faces with a model made for it, such as GFPGAN or CodeFormer."""

    model: Name = Field(
        description="Model that mends faces: a name from `darkroom models`, or a file.",
        json_schema_extra=in_group("restore", flag="restore_faces"),
    )
    visibility: Share = Field(
        1.0,
        description="How much of the mended face is shown.",
        json_schema_extra=in_group("restore", 0.05),
    )
    fidelity: Share = Field(
        0.5,
        description="CodeFormer: 0 mends most, 1 keeps closest to the face.",
        json_schema_extra=in_group("restore", 0.05),
    )

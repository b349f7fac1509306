"""What is asked of a picture that is finished: make it larger, cut it out, describe it."""

from typing import Annotated, Literal

from pydantic import Field

from darkroom.core.blocks import Margin, Restore, Sampled
from darkroom.core.fields import Name, OpenSeed, Parsed, Share, Source, in_group

AUTO = "auto"
PULL_CAPTIONER = (
    "`darkroom models pull hf:Salesforce/blip-image-captioning-base` gets a captioner,"
    " `darkroom models pull hf:SmilingWolf/wd-vit-tagger-v3` a tagger."
)
Length = Annotated[int, Field(ge=1, le=32_768)]  # px


class Paint(Sampled):
    """Detail painted by a checkpoint, tile by tile, into the enlarged picture."""

    strength: Share = Field(
        0.2, description="Denoising strength.", json_schema_extra=in_group("paint", 0.05)
    )
    tile: int | None = Field(
        None,
        ge=64,
        le=2048,
        multiple_of=8,
        description="Side of a tile in pixels.  [default: the model's own]",
        json_schema_extra=in_group("paint", 8),
    )
    overlap: Margin = Field(
        64,
        description="Pixels that neighbouring tiles share.",
        json_schema_extra=in_group("paint", 8),
    )
    seed: OpenSeed = Field(
        None, description="Seed.  [default: random]", json_schema_extra=in_group("paint")
    )


class UpscaleRequest(Parsed):
    """A larger picture."""

    kind: Literal["upscale"] = "upscale"
    image: Source = Field(description="The picture: a file.")
    upscaler: Name = Field(
        AUTO,
        description="What enlarges: Lanczos, Nearest, an upscaler of `darkroom models`, or a file;"
        " auto takes the one that comes with the program.",
    )
    scale: float = Field(
        2.0, gt=0, le=16, allow_inf_nan=False, description="How many times larger."
    )
    width: Length | None = Field(None, description="Width in pixels instead of a scale.")
    height: Length | None = Field(
        None, description="Height instead; with a width too, the picture is fitted into both."
    )
    crop: bool = Field(True, description="Fill width and height, and crop what is too much.")
    second: Name | None = Field(None, description="Another upscaler, whose result is mixed in.")
    second_visibility: Share = Field(0.5, description="How much of it is mixed in.")
    tile: int = Field(
        256,
        ge=32,
        le=4096,
        description="Side of the tiles that the upscaler sees, in pixels; smaller takes less"
        " memory.",
    )
    overlap: Margin = Field(16, description="Pixels that neighbouring tiles share.")
    restore: Restore | None = Field(None, description="Faces mended by a model made for it.")
    paint: Paint | None = Field(None, description="Detail painted in by a checkpoint.")


class CutoutRequest(Parsed):
    """A picture without its background."""

    kind: Literal["cutout"] = "cutout"
    image: Source = Field(description="The picture: a file.")
    model: Name = Field(
        AUTO, description="What tells the background: plain, u2netp, or another model's file."
    )
    mask_only: bool = Field(False, description="Save the mask, white where the subject is.")
    background: str | None = Field(
        None,
        max_length=40,
        description="Colour to put behind it, such as white or #ff8800.  [default: transparent]",
    )
    feather: Margin = Field(1, description="Pixels over which the edge fades.")


class CaptionRequest(Parsed):
    """A picture in words."""

    kind: Literal["caption"] = "caption"
    image: Source = Field(description="The picture: a file.")
    model: Name = Field(
        AUTO,
        description="What describes it: starter, or a captioner or tagger of `darkroom models`.",
    )
    threshold: Share = Field(0.35, description="Taggers: how sure a tag must be.")
    most: int = Field(50, ge=1, le=1000, description="Taggers: at most so many tags.")

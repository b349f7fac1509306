"""The dimensions of the networks of a checkpoint, as read from tensor shapes; no torch.

Two quantities are not in the shapes and follow rules that hold for the real models and for the
starter: the number of attention heads and the number of norm groups.
"""

from dataclasses import dataclass
from typing import Literal

SD1_CONTEXT = 768  # width of the text states in every real SD1.x file
HEAD_WIDTH = 64
FACTOR = 8  # pixels per latent pixel, along one side, in every Stable Diffusion
LATENT = 4  # channels of latents
OTHER_LATENTS = {16: "Flux or Stable Diffusion 3 (16 channels)", 32: "Flux.2 (32 channels)"}
SD_SCALE, SDXL_SCALE = 0.18215, 0.13025  # of latents; SD1 and SD2 share one VAE
CLIP_POSITIONS = 77  # tokens that a text encoder reads at a time
CLIP_VOCABULARY = 49408  # tokens that the tokenizer gives


def norm_groups(base: int) -> int:
    """Groups of every GroupNorm in a network whose first level has `base` channels."""
    return max(1, min(32, base // 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetDims:
    """UNet2DConditionModel. Levels run from full resolution down."""

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]  # per level
    layers: int  # resnets per level on the way down; one more on the way up
    depths: tuple[int, ...]  # transformer blocks per attention, per level; 0: no attention
    mid_depth: int
    context: int  # width of the text states
    linear_projection: bool  # SD2, SDXL; SD1 projects with 1x1 convolutions
    adm: int | None = None  # width of what `label_emb` takes: 2816 in SDXL, 2560 in its refiner

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads per level: 8 in SD1.x, elsewhere 64 channels each."""
        if self.context == SD1_CONTEXT:
            return (8,) * len(self.channels)
        return tuple(max(1, width // HEAD_WIDTH) for width in self.channels)

    @property
    def groups(self) -> int:
        """Norm groups."""
        return norm_groups(self.channels[0])

    @property
    def time_width(self) -> int:
        """Width of the time embedding."""
        return 4 * self.channels[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeDims:
    """AutoencoderKL. Levels run from full resolution down."""

    channels: tuple[int, ...]
    layers: int  # resnets per level in the encoder; one more in the decoder
    latent_channels: int
    scale: float = SD_SCALE  # latents are multiplied by it before the UNet sees them

    @property
    def groups(self) -> int:
        """Norm groups."""
        return norm_groups(self.channels[0])

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, along one side."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDims:
    """CLIPTextModel, or with a projection CLIPTextModelWithProjection."""

    width: int
    layers: int
    intermediate: int
    positions: int
    vocab: int
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"  # OpenAI's CLIP; OpenCLIP has gelu
    projection: int | None = None  # width of the pooled vector; None: it is not used
    penultimate: bool = False  # the UNet reads the state before the last layer, without final norm

    @property
    def heads(self) -> int:
        """Attention heads, 64 wide each."""
        return max(1, self.width // HEAD_WIDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class RrdbDims:
    """RRDBNet: ESRGAN and Real-ESRGAN."""

    channels: int  # of the picture: 3, or 1 for grey
    features: int
    growth: int  # channels that each convolution of a dense block adds
    blocks: int
    doublings: int  # of the side, after the blocks
    shuffle: int = 1  # so many pixels of a side become channels before the first convolution
    beside: bool = False  # ESRGAN+: a 1x1 convolution beside the second in each dense block

    @property
    def scale(self) -> int:
        """How many times larger the picture becomes, along one side."""
        return int(2**self.doublings) // self.shuffle


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactDims:
    """SRVGGNetCompact: Real-ESRGAN's small upscalers."""

    channels: int  # of the picture: 3, or 1 for grey
    features: int
    layers: int  # convolutions between the first and the last
    scale: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyDims:
    """The decoder of a tiny autoencoder (TAESD). Levels run from the latent's size up."""

    latent_channels: int
    widths: tuple[int, ...]  # channels per level
    blocks: tuple[int, ...]  # residual blocks per level

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, along one side."""
        return int(2 ** (len(self.widths) - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproxDims:
    """A1111's VAE-approx: plain convolutions on the latent at twice its size."""

    channels: tuple[int, ...]  # latent channels first, 3 last
    kernels: tuple[int, ...]  # sides of the convolutions, all odd
    factor: int = 2  # pixels per latent pixel, along one side

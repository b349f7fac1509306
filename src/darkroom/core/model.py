"""What a model file is, as the rest of the studio sees it: a card made without loading weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a file is used as."""

    CHECKPOINT = "checkpoint"
    VAE = "vae"
    LORA = "lora"
    EMBEDDING = "embedding"
    HYPERNETWORK = "hypernetwork"
    CONTROLNET = "controlnet"
    T2I_ADAPTER = "t2i-adapter"
    IP_ADAPTER = "ip-adapter"
    MOTION = "motion module"
    UPSCALER = "upscaler"
    DETECTOR = "detector"
    RESTORER = "restorer"  # of faces
    SEGMENTER = "background"  # tells it from the subject
    CAPTIONER = "captioner"
    PREVIEW = "preview decoder"  # latents to rough pictures
    TEXT_ENCODER = "text encoder"
    UNET = "UNet"
    UNKNOWN = "unknown"


class Arch(StrEnum):
    """The family a file belongs to: what it can be combined with."""

    SD1 = "SD1"
    SD2 = "SD2"
    SDXL = "SDXL"
    SDXL_REFINER = "SDXL refiner"
    SD3 = "SD3"
    FLUX = "Flux"
    SVD = "SVD"
    OTHER = "other"


class Variant(StrEnum):
    """What the UNet is given besides the noisy latent."""

    BASE = "base"
    INPAINT = "inpaint"  # 9 channels: + mask, + masked image
    EDIT = "instruct-pix2pix"  # 8 channels: + the image to edit


class Prediction(StrEnum):
    """What the UNet's output means."""

    EPS = "eps"
    V = "v"
    FLOW = "flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One usable model: a file, or a diffusers folder."""

    sha256: str  # of the whole file, hexadecimal
    path: str
    name: str
    kind: Kind
    arch: Arch
    variant: Variant = Variant.BASE  # of checkpoints
    prediction: Prediction = Prediction.EPS  # of checkpoints
    bytes: int
    native_size: int = 512  # pixels; the side of the pictures it was trained on
    triggers: tuple[str, ...] = ()
    recommended: Mapping[str, float | str] = field(default_factory=dict, hash=False)
    """Request fields the maker of the model recommends: `steps`, `cfg_scale`, `sampler` ..."""
    zero_snr: bool = False  # trained with noise levels that end in pure noise
    autov3: str = ""  # of a LoRA: 12 digits that edits of its metadata leave alone; "" if unknown
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The rest of what the file says about itself: title, author, licence ..."""

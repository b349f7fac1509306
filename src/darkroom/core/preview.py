"""By what the picture so far is shown, and which tiny decoder is for which model; no torch.

    Previewing(method="auto", decoders=(…)).decoder_for(model) -> ModelCard | None

A decoder makes pictures of the latents of one family. Those of SD1 and SD2 are one, those of SDXL
another; a model trained with a VAE of its own has latents that nothing else reads. A file of ours
says for which it is: `darkroom.base` is the SHA-256 of the checkpoint that it was trained with, and
`darkroom.latents` the name that checkpoint gives its latents.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from darkroom.core.errors import BadRequest
from darkroom.core.model import Arch, ModelCard

Method = Literal["auto", "tiny", "matrix", "full", "off"]
METHODS: tuple[Method, ...] = get_args(Method)
BASE, LATENTS, OWN_MATRIX = "darkroom.base", "darkroom.latents", "darkroom.latent_rgb"
FAMILIES: Mapping[Arch, str] = MappingProxyType(
    {Arch.SD1: "SD1", Arch.SD2: "SD1", Arch.SDXL: "SDXL", Arch.SDXL_REFINER: "SDXL"}
)
ALIASES: Mapping[str, Method] = MappingProxyType(
    {
        "taesd": "tiny",
        "approx nn": "tiny",
        "approximate": "tiny",
        "approx cheap": "matrix",
        "latent2rgb": "matrix",
        "simple": "matrix",
        "rgb": "matrix",
        "vae": "full",
        "none": "off",
    }
)
"""What A1111, Forge, ComfyUI and SD.Next call them."""
FILES: Mapping[str, str] = MappingProxyType({"SD1": "taesd_decoder", "SDXL": "taesdxl_decoder"})


def method_of(word: str) -> Method | None:
    """The method that a word means, in whatever way it is written; None: the name of a decoder."""
    plain = " ".join(word.casefold().replace("_", " ").replace("-", " ").split())
    return next((method for method in METHODS if method == plain), ALIASES.get(plain))


def latents_of(card: ModelCard) -> str:
    """What the latents are called that a model makes, or a decoder reads; "" where nothing says."""
    if told := card.metadata.get(LATENTS, ""):
        return told
    if BASE in card.metadata:
        return ""
    if OWN_MATRIX in card.metadata:
        return f"those of {card.sha256}"
    return FAMILIES.get(card.arch, "")


def misfit(decoder: ModelCard, model: ModelCard) -> str:
    """Why `decoder` makes no pictures of the model's latents, as a sentence; "" if it does."""
    base, latents = decoder.metadata.get(BASE, ""), latents_of(decoder)
    if (base and base == model.sha256) or (latents and latents == latents_of(model)):
        return ""
    if base:
        which = f"the model whose SHA-256 begins with {base[:10]}"
        return f"the preview decoder {decoder.name} was trained with {which}, not with {model.name}"
    own = FAMILIES.get(model.arch, "") != latents_of(model)
    has = "a VAE of its own" if own else f"the latents of {latents_of(model) or 'another family'}"
    family = latents or "another family"
    return f"the preview decoder {decoder.name} is for {family}, and {model.name} has {has}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewing:
    """What was asked for: a method, and the decoders that may carry it out, the best first."""

    method: Method = "auto"
    decoders: tuple[ModelCard, ...] = ()
    named: bool = False  # the only decoder is the one that the user named
    shipped: str = ""  # the SHA-256 of the decoder that comes with the program

    def decoder_for(self, model: ModelCard) -> ModelCard | None:
        """The first decoder of the model's latents."""
        return next((each for each in self.decoders if not misfit(each, model)), None)

    def check(self, model: ModelCard) -> None:
        """BadRequest where a tiny decoder is asked for and none is for this model."""
        if self.method != "tiny" or self.decoder_for(model) is not None:
            return
        cure = "--preview auto takes one where it fits, and else the colours of the latent."
        if self.named:
            raise BadRequest(misfit(self.decoders[0], model), hint=cure)
        if file := FILES.get(latents_of(model)):
            cure = f"Put {file}.safetensors (or .pth) into models/VAE-approx. {cure}"
        raise BadRequest(f"no tiny preview decoder is for {model.name}", hint=cure)

    def notes(self, model: ModelCard) -> Iterator[str]:
        """On decoders of ours that were passed over, where no other is for this model.

        That the shipped one is for the starter alone is no news to users of other models.
        """
        if self.method not in ("auto", "tiny") or self.decoder_for(model) is not None:
            return
        for decoder in self.decoders:
            strange = decoder.sha256 == self.shipped and OWN_MATRIX not in model.metadata
            if BASE in decoder.metadata and not strange:
                yield f"{misfit(decoder, model)}; previews show the colours of the latent"

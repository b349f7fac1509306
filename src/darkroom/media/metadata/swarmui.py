"""SwarmUI: one JSON object, in `parameters` or in EXIF, that holds `sui_image_params`."""

from collections.abc import Iterator

from darkroom.media.metadata.carried import Carried, Document
from darkroom.media.metadata.found import Found, FoundModel, dicts, is_model, renamed, text_at

_KEY = "sui_image_params"
_NAMES = {
    "steps": "Steps",
    "sampler": "Sampler",
    "scheduler": "Schedule type",
    "cfgscale": "CFG scale",
    "seed": "Seed",
    "width": "Width",
    "height": "Height",
    "model": "Model",
    "vae": "VAE",
    "variationseed": "Variation seed",
    "variationseedstrength": "Variation seed strength",
    "initimagecreativity": "Denoising strength",
    "clipstopatlayer": "Clip skip",
    "sigmamin": "Schedule min sigma",
    "sigmamax": "Schedule max sigma",
    "seamlesstileable": "Tiling",
    "fluxguidancescale": "Distilled CFG Scale",
    "refinermodel": "Refiner",
    "refinercontrolpercentage": "Refiner control",
    "refinerupscale": "Hires upscale",
    "refinerupscalemethod": "Hires upscaler",
    "refinersteps": "Hires steps",
    "swarm_version": "Version",
}
_ROLES = {"model": "checkpoint", "vae": "vae", "refinermodel": "refiner"}


def read(carried: Carried) -> Found | None:
    """What SwarmUI wrote."""
    whole = next((each for each in carried.documents.values() if _KEY in each), None)
    said = whole[_KEY] if whole else None
    if whole is None or not isinstance(said, dict):
        return None
    settings = renamed(said, _NAMES)
    if settings.get("Clip skip", "").startswith("-"):  # counted from the end: -2 is A1111's 2
        settings["Clip skip"] = settings["Clip skip"].removeprefix("-")
    hashes = {each.get("name"): each.get("hash") for each in dicts(whole.get("sui_models"))
              if isinstance(each.get("name"), str)}  # fmt: skip
    return Found(
        source="swarmui",
        prompt=text_at(said, "prompt"),
        negative_prompt=text_at(said, "negativeprompt"),
        settings=settings,
        models=tuple(_models(said, hashes)),
    )


def _models(said: Document, hashes: dict[object, object]) -> Iterator[FoundModel]:
    def digest(name: str) -> object:
        return hashes.get(name) or hashes.get(f"{name}.safetensors")

    for key, role in _ROLES.items():
        if is_model(name := text_at(said, key)):
            yield FoundModel.of(role, name, hash=digest(name))
    names, weights = _listed(said.get("loras")), _listed(said.get("loraweights"))
    for name, weight in zip(names, weights + ["1"] * len(names), strict=False):
        yield FoundModel.of("lora", name, hash=digest(name), weight=weight)


def _listed(value: object) -> list[str]:
    """A list, which older versions wrote as one text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    return [str(each).strip() for each in parts[:500]] if isinstance(parts, list) else []

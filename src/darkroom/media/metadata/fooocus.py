"""Fooocus: JSON in `parameters` or in EXIF. Its other scheme is an infotext, read in `a1111.py`."""

import re
from collections.abc import Iterator

from darkroom.media.metadata.carried import Carried, Document
from darkroom.media.metadata.found import Found, FoundModel, number, renamed, text_at

_NAMES = {
    "steps": "Steps",
    "sampler": "Sampler",
    "scheduler": "Schedule type",
    "guidance_scale": "CFG scale",
    "seed": "Seed",
    "width": "Width",
    "height": "Height",
    "base_model": "Model",
    "base_model_hash": "Model hash",
    "vae": "VAE",
    "clip_skip": "Clip skip",
    "refiner_model": "Refiner",
    "refiner_switch": "Refiner switch at",
    "sharpness": "Sharpness",
    "adm_guidance": "ADM Guidance",
    "performance": "Performance",
    "styles": "Fooocus styles",
    "prompt_expansion": "Prompt expansion",
    "version": "Version",
}
_SIZE = re.compile(r"\D*(\d{1,5})\D+(\d{1,5})\D*")
_DEFAULTS = {"VAE": "Default (model)", "Refiner": "None"}
_MAX_LORAS = 50


def read(carried: Carried) -> Found | None:
    """What Fooocus wrote in its own scheme."""
    said = next((each for each in carried.documents.values() if "base_model" in each
                 and ("guidance_scale" in each or "performance" in each)), None)  # fmt: skip
    if said is None:
        return None
    settings = renamed(said, _NAMES)
    if (size := _SIZE.fullmatch(text_at(said, "resolution")[:100])) and "Size" not in settings:
        settings["Size"] = f"{size[1]}x{size[2]}"
    settings = {key: value for key, value in settings.items() if _DEFAULTS.get(key) != value}
    return Found(
        source="fooocus",
        prompt=text_at(said, "prompt"),
        negative_prompt=text_at(said, "negative_prompt"),
        settings=settings,
        models=tuple(_models(said, settings)),
    )


def _models(said: Document, settings: dict[str, str]) -> Iterator[FoundModel]:
    yield FoundModel.of("checkpoint", said["base_model"], hash=said.get("base_model_hash"))
    for key, role in (("Refiner", "refiner"), ("VAE", "vae")):
        if key in settings:
            yield FoundModel.of(role, settings[key])
    listed = said.get("loras")
    for each in listed[:_MAX_LORAS] if isinstance(listed, list) else []:
        if isinstance(each, list) and len(each) > 1 and number(each[1]) is not None:
            digest = each[2] if len(each) > 2 else None
            yield FoundModel.of("lora", each[0], hash=digest, weight=each[1])
    for k in range(1, _MAX_LORAS):  # versions before 2.4
        name, colon, weight = text_at(said, f"lora_combined_{k}").rpartition(" : ")
        if colon:
            yield FoundModel.of("lora", name, weight=weight)

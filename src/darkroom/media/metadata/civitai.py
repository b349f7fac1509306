"""What Civitai adds to infotexts, and its own JSON, as its site and its API export it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.media.metadata.carried import Carried, Document, parse_object
from darkroom.media.metadata.found import Found, FoundModel, at, dicts, renamed, text_at

KEYS = frozenset({"Civitai resources", "Civitai metadata"})
_NAMES = {
    "steps": "Steps",
    "Steps": "Steps",
    "sampler": "Sampler",
    "Sampler": "Sampler",
    "scheduler": "Schedule type",
    "Schedule type": "Schedule type",
    "cfgScale": "CFG scale",
    "CFG scale": "CFG scale",
    "seed": "Seed",
    "Seed": "Seed",
    "width": "Width",
    "height": "Height",
    "Size": "Size",
    "Model hash": "Model hash",
    "Model": "Model",
    "clipSkip": "Clip skip",
    "Clip skip": "Clip skip",
    "denoise": "Denoising strength",
    "Denoising strength": "Denoising strength",
    "Hires upscale": "Hires upscale",
    "Hires upscaler": "Hires upscaler",
    "Hires steps": "Hires steps",
    "Version": "Version",
    "VAE": "VAE",
}
_ROLES = {
    "model": "checkpoint",
    "locon": "lora",
    "lycoris": "lora",
    "textualinversion": "embedding",
}
_SIGNS = ("cfgScale", "negativePrompt", "civitaiResources")


def read(carried: Carried) -> Found | None:
    """A document of the site, or the one inside a graph that the site ran."""
    for document in carried.documents.values():
        for each in _candidates(document):
            if any(key in each for key in _SIGNS):
                return _found(each)
    return None


def _candidates(document: Document) -> Iterator[Document]:
    yield document
    if isinstance(inner := document.get("meta"), dict):
        yield inner
    extra = at(document, "extraMetadata") or at(document, "extra.extraMetadata")
    if isinstance(extra, str) and (parsed := parse_object(extra)) is not None:
        yield parsed


def _found(document: Document) -> Found:
    settings = renamed(document, _NAMES)
    models = [*_listed(document, settings)]
    if settings.get("Model") and not any(each.role == "checkpoint" for each in models):
        digest = settings.get("Model hash") or at(document, "hashes.model")
        models.insert(0, FoundModel.of("checkpoint", settings["Model"], hash=digest))
    return Found(
        source="civitai",
        prompt=text_at(document, "prompt"),
        negative_prompt=text_at(document, "negativePrompt"),
        settings=settings,
        models=tuple(models),
    )


def _listed(document: Document, settings: Mapping[str, str]) -> Iterator[FoundModel]:
    for key in ("resources", "civitaiResources", "additionalResources"):
        for each in dicts(document.get(key)):
            model = _resource(each)
            if model.role == "checkpoint" and model.hash is None:
                yield FoundModel.of("checkpoint", model.name, hash=settings.get("Model hash"))
            else:
                yield model


def resources(settings: Mapping[str, str]) -> Iterator[FoundModel]:
    """The models in the list that Civitai's generator writes into an infotext."""
    try:
        listed = json.loads(settings.get("Civitai resources", "[]"))
    except (ValueError, RecursionError):
        return
    yield from map(_resource, dicts(listed))


def _resource(each: Mapping[str, Any]) -> FoundModel:
    names = (each.get(key) for key in ("modelName", "name", "air", "modelVersionId"))
    name = next((name for name in names if name not in (None, "")), "unnamed")
    kind = str(each.get("type") or _of_air(each.get("air")) or "lora").lower()
    weight = each.get("weight", each.get("strength"))
    return FoundModel.of(_ROLES.get(kind, kind)[:40], name, hash=each.get("hash"), weight=weight)


def _of_air(air: object) -> str | None:
    """The kind in "urn:air:sdxl:checkpoint:civitai:101055@128078"."""
    parts = air.split(":") if isinstance(air, str) else []
    return parts[3] if len(parts) > 3 else None


def mend(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Civitai's texts of FLUX pictures: no sampler, and the distilled scale as plain CFG scale."""
    if settings.get("Sampler") != "Undefined":
        return settings
    distilled = settings.get("CFG scale", "3.5")
    return {
        **settings,
        "Sampler": "Euler",
        "Schedule type": "Simple",
        "CFG scale": "1",
        "Distilled CFG Scale": distilled,
    }

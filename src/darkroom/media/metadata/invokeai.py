"""InvokeAI's four generations.

1.x wrote its command line as `Dream`; 2.x JSON as `sd-metadata`; 3 and later `invokeai_metadata`;
and the newest add `invokeai_graph`, where values are looked up that the metadata leave out.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.media.metadata.carried import TEXT, Carried, Document
from darkroom.media.metadata.found import Found, FoundModel, at, dicts, renamed, text_at

_FLAGS = {
    "-s": "Steps",
    "-S": "Seed",
    "-W": "Width",
    "-H": "Height",
    "-C": "CFG scale",
    "-A": "Sampler",
    "-f": "Denoising strength",
    "-v": "Variation seed strength",
}
_OLD = {
    "image.steps": "Steps",
    "image.sampler": "Sampler",
    "image.cfg_scale": "CFG scale",
    "image.seed": "Seed",
    "image.width": "Width",
    "image.height": "Height",
    "image.strength": "Denoising strength",
    "image.seamless": "Tiling",
    "image.hires_fix": "Hires fix",
    "image.threshold": "Threshold",
    "image.perlin": "Perlin noise",
    "model_weights": "Model",
    "app_version": "Version",
}
_NAMES = {
    "steps": "Steps",
    "scheduler": "Sampler",
    "cfg_scale": "CFG scale",
    "guidance": "Distilled CFG Scale",
    "seed": "Seed",
    "width": "Width",
    "height": "Height",
    "strength": "Denoising strength",
    "clip_skip": "Clip skip",
    "cfg_rescale_multiplier": "CFG rescale",
    "model.model_name": "Model",
    "model.name": "Model",
    "refiner_steps": "Refiner steps",
    "refiner_start": "Refiner switch at",
    "refiner_model.model_name": "Refiner",
    "refiner_model.name": "Refiner",
    "generation_mode": "Mode",
    "positive_style_prompt": "Style prompt",
    "seamless_x": "Tiling",
    "seamless_y": "Tiling",
    "hrf_enabled": "Hires fix",
    "rand_device": "Random device",
    "app_version": "Version",
}
_ROLES = {"model": "checkpoint", "refiner_model": "refiner", "vae": "vae"}
_ADAPTERS = {
    "controlnets": "ControlNets",
    "ipAdapters": "IP adapters",
    "t2iAdapters": "T2I adapters",
    "control_layers": "control layers",
}
_DREAM = re.compile(r'\s*"((?:\\.|[^"\\])*)"((?:\s+-\S.*)?)', re.DOTALL)
_FLAG = re.compile(r"(-{1,2}[A-Za-z_]+)[ =]?([^\s-]\S*)?")
_NEGATIVE = re.compile(r"\[([^\[\]]*)\]")
_ZERO = ("0", "0.0")
_MOSTLY_ZERO = ("CFG rescale", "Threshold", "Perlin noise")
_SIGNS = ("positive_prompt", "positive_conditioning")


def read(carried: Carried) -> Found | None:
    """The newest of the four that the file has."""
    documents = carried.documents
    graph = next((_metadata_node(each) for each in documents.values() if _is_graph(each)), {})
    for document in documents.values():
        if "positive_prompt" in document and "prompt" not in document:
            return _new(graph | document)
    for document in documents.values():
        if "image" in document and ("app_id" in document or "model_weights" in document):
            return _old(document)
    if graph:
        return _new(graph)
    dream = carried.texts.get("Dream") or carried.texts.get(TEXT, "")
    found = _DREAM.fullmatch(dream[:100_000].rstrip())
    return _dream(found[1], found[2]) if found and ("Dream" in carried.texts or found[2]) else None


def _new(document: Document) -> Found:
    settings = _renamed(document, _NAMES)
    axes = [axis for axis in "xy" if document.get(f"seamless_{axis}") is True]
    if len(axes) == 1:
        settings["Tiling"] = axes[0]
    return Found(
        source="invokeai",
        prompt=text_at(document, "positive_prompt"),
        negative_prompt=text_at(document, "negative_prompt"),
        settings=settings,
        models=tuple(_models(document)),
        remarks=tuple(told for key, told in _ADAPTERS.items() if document.get(key)),
    )


def _renamed(document: Document, names: Mapping[str, str]) -> dict[str, str]:
    """The settings, without those that are off."""
    settings = renamed(document, names)
    return {k: v for k, v in settings.items() if k not in _MOSTLY_ZERO or v not in _ZERO}


def _models(document: Document) -> Iterator[FoundModel]:
    for key, role in _ROLES.items():
        if isinstance(document.get(key), dict):
            yield _model(role, document[key])
    for each in dicts(document.get("loras")):
        model = each.get("model") or each.get("lora")
        if isinstance(model, dict):
            yield _model("lora", model, weight=each.get("weight"))


def _model(role: str, model: Mapping[str, Any], *, weight: object = None) -> FoundModel:
    name = model.get("model_name") or model.get("name") or model.get("key") or "unnamed"
    return FoundModel.of(role, name, hash=model.get("hash"), weight=weight)  # "blake3:…"


def _old(document: Document) -> Found:
    prompt = at(document, "image.prompt")
    parts = [text_at(each, "prompt") for each in dicts(prompt)]
    whole = prompt if isinstance(prompt, str) else " ".join(parts)
    settings = _renamed(document, _OLD)
    positive, negative = _bracketed(whole)
    name = text_at(document, "model_weights", "model")
    model = FoundModel.of("checkpoint", name, hash=document.get("model_hash"))
    return Found(
        source="invokeai",
        prompt=positive,
        negative_prompt=negative,
        settings=settings,
        models=(model,) if name else (),
    )


def _dream(prompt: str, flags: str) -> Found:
    said = dict(_FLAG.findall(flags))
    positive, negative = _bracketed(prompt.replace('\\"', '"'))
    known = {flag: name for flag, name in _FLAGS.items() if said.get(flag)}
    rest = [f"{flag} {value}".strip() for flag, value in said.items() if flag not in known]
    return Found(
        source="invokeai",
        prompt=positive,
        negative_prompt=negative,
        settings=renamed(said, known),
        remarks=tuple(rest[:50]),
    )


def _bracketed(prompt: str) -> tuple[str, str]:
    """Before version 3, what stands in square brackets is the negative prompt."""
    negative = " ".join(each.strip() for each in _NEGATIVE.findall(prompt))
    return re.sub(" {2,}", " ", _NEGATIVE.sub("", prompt)).strip(), negative


def _is_graph(document: Document) -> bool:
    return isinstance(document.get("nodes"), dict) and isinstance(document.get("edges"), list)


def _metadata_node(graph: Document) -> Document:
    """The node that collects the metadata, with what the edges bring to it from plain values."""
    nodes = {key: each for key, each in graph["nodes"].items() if isinstance(each, dict)}
    place = next((key for key, each in nodes.items() if each.get("type") == "core_metadata"), None)
    if place is None:
        return {}
    found = {key: value for key, value in nodes[place].items() if value is not None}
    for edge in dicts(graph["edges"]):
        if at(edge, "destination.node_id") == place:
            origin = at(edge, "source.node_id")
            node = nodes.get(origin) if isinstance(origin, str) else None
            field = at(edge, "destination.field")
            if node is not None and "value" in node and isinstance(field, str):
                found.setdefault(field, node["value"])
    return found

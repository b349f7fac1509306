"""Easy Diffusion: its keys as texts of their own, as JSON, or with labels in a `.txt` file."""

import re
from collections.abc import Iterator, Mapping

from darkroom.media.metadata.carried import TEXT, Carried
from darkroom.media.metadata.found import Found, FoundModel, as_text, renamed

_NAMES = {
    "num_inference_steps": "Steps",
    "sampler_name": "Sampler",
    "scheduler_name": "Schedule type",
    "guidance_scale": "CFG scale",
    "seed": "Seed",
    "width": "Width",
    "height": "Height",
    "use_stable_diffusion_model": "Model",
    "use_vae_model": "VAE",
    "use_hypernetwork_model": "Hypernet",
    "hypernetwork_strength": "Hypernet strength",
    "prompt_strength": "Denoising strength",
    "use_face_correction": "Face restoration",
    "use_upscale": "Postprocess upscaler",
    "tiling": "Tiling",
}
_LABELS = {
    "prompt": "prompt",
    "negative prompt": "negative_prompt",
    "width": "width",
    "height": "height",
    "seed": "seed",
    "steps": "num_inference_steps",
    "guidance scale": "guidance_scale",
    "prompt strength": "prompt_strength",
    "sampler": "sampler_name",
    "stable diffusion model": "use_stable_diffusion_model",
    "vae model": "use_vae_model",
    "hypernetwork model": "use_hypernetwork_model",
    "use face correction": "use_face_correction",
    "use upscaling": "use_upscale",
    "clip skip": "clip_skip",
    "lora model": "use_lora_model",
    "lora strength": "lora_alpha",
}
_LABEL = re.compile(r"([A-Za-z ]{1,40}):[ \t]*(.*)")
_SIGNS = {"use_stable_diffusion_model", "num_inference_steps", "prompt"}
_ON = ("True", "true", "1")
_MAX_TEXT = 200_000  # characters of a text with labels that are looked at
_OFF = ("None", "none", "False", "false", "null")


def read(carried: Carried) -> Found | None:
    """Its keys, wherever they lie."""
    for said in _candidates(carried):
        known = {key: text for key, text in said.items() if text not in _OFF}
        if known.keys() >= _SIGNS:
            return _found(known)
    return None


def _candidates(carried: Carried) -> Iterator[Mapping[str, str]]:
    yield _by_label(carried.texts)
    lines = carried.texts.get(TEXT, "")[:_MAX_TEXT].split("\n")
    yield _by_label({found[1]: found[2] for line in lines if (found := _LABEL.fullmatch(line))})
    for document in carried.documents.values():
        inner = document.get("reqBody")
        said = inner if isinstance(inner, dict) else document
        yield _by_label({key: _text(value) for key, value in said.items()})


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else as_text(value)


def _by_label(texts: Mapping[str, str]) -> Mapping[str, str]:
    return {_LABELS.get(key.lower(), key): text for key, text in texts.items()}


def _found(said: Mapping[str, str]) -> Found:
    settings = renamed(said, _NAMES)
    if said.get("clip_skip") in _ON:  # a switch there
        settings["Clip skip"] = "2"
    names, weights = (said.get(key, "").split(",") for key in ("use_lora_model", "lora_alpha"))
    loras = [(name.strip(), weight) for name, weight in zip(names, weights, strict=False)]
    models = [FoundModel.of("checkpoint", said["use_stable_diffusion_model"])]
    models += [FoundModel.of("vae", settings["VAE"])] if "VAE" in settings else []
    models += [FoundModel.of("lora", name, weight=weight) for name, weight in loras if name]
    settings["Model"] = models[0].name
    return Found(
        source="easydiffusion",
        prompt=said["prompt"],
        negative_prompt=said.get("negative_prompt", ""),
        settings=settings,
        models=tuple(models),
    )

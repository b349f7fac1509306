"""NovelAI: the prompt in Description, all else as JSON in Comment; the same in hidden texts.

A1111 reads them with Clip skip 2 and ENSD 31337: so NovelAI ran its first models.
"""

from collections.abc import Callable
from contextlib import suppress

from darkroom.core.errors import UnknownName
from darkroom.core.sampler_table import SamplerSpec, SchedulerSpec, find_sampler, find_scheduler
from darkroom.media.metadata.carried import Carried, Document, parse_object
from darkroom.media.metadata.found import Found, FoundModel, dicts, renamed, text_at
from darkroom.media.metadata.implied import implied

SOFTWARE = "NovelAI"
_NAMES = {
    "steps": "Steps",
    "sampler": "Sampler",
    "noise_schedule": "Schedule type",
    "scale": "CFG scale",
    "seed": "Seed",
    "width": "Width",
    "height": "Height",
    "cfg_rescale": "CFG rescale",
    "sm": "SMEA",
    "sm_dyn": "SMEA DYN",
    "dynamic_thresholding": "Dynamic thresholding",
    "uncond_scale": "Undesired content strength",
}
# Of requests that begin with a picture; older files have them without meaning anything.
_PICTURE = {"strength": "Denoising strength", "noise": "Extra noise"}
_FIXED = {"Clip skip": "2", "ENSD": "31337"}
_NO_EFFECT = {"CFG rescale": ("0", "0.0"), "Undesired content strength": ("0", "0.0", "1", "1.0")}


def read(carried: Carried) -> Found | None:
    """NovelAI's texts, or its bare document."""
    texts = carried.texts
    if texts.get("Software") == SOFTWARE:
        # A document of texts has its values as texts of the file; a hidden one is unpacked before.
        comment = parse_object(texts.get("Comment", "")) or {}
    else:
        documents = carried.documents.values()
        comment = next((each for each in documents if {"uc", "scale", "steps"} <= each.keys()), {})
        if "c" in comment or not comment:  # Draw Things has "uc" and "scale" too
            return None
    settings = _settings(comment, carried)
    model = texts.get("Source", "")
    prompt = texts.get("Description") or text_at(comment, "prompt", _V4)
    negative_prompt = text_at(comment, "uc", "v4_negative_prompt.caption.base_caption")
    return Found(
        source="novelai",
        prompt=prompt,
        negative_prompt=negative_prompt,
        settings=settings,
        implied=implied(settings, prompt, negative_prompt),
        models=(FoundModel.of("checkpoint", model),) if model else (),
        remarks=_remarks(comment),
    )


_V4 = "v4_prompt.caption.base_caption"


def _settings(comment: Document, carried: Carried) -> dict[str, str]:
    kind = str(comment.get("request_type")).casefold()
    begins = "img2img" in kind or "infill" in kind
    settings = renamed(comment, _NAMES | (_PICTURE if begins else {}))
    if begins:
        settings["Mode"] = "img2img"
    if "Size" not in settings and carried.size:
        settings["Size"] = "x".join(map(str, carried.size))
    for key, values in _NO_EFFECT.items():
        if settings.get(key) in values:
            del settings[key]
    for key, known in _KNOWN.items():
        with suppress(UnknownName):  # else it is one of NovelAI's own
            settings[key] = known(settings.get(key, "")).name
    return settings | _FIXED


def _sampler(name: str) -> SamplerSpec:
    return find_sampler(name)[0]


_KNOWN: dict[str, Callable[[str], SamplerSpec | SchedulerSpec]] = {
    "Sampler": _sampler,
    "Schedule type": find_scheduler,
}


def _remarks(comment: Document) -> tuple[str, ...]:
    caption = comment.get("v4_prompt")
    listed = caption.get("caption") if isinstance(caption, dict) else None
    characters = dicts(listed.get("char_captions")) if isinstance(listed, dict) else []
    return tuple(
        f"character prompt: {each['char_caption'][:200]}"
        for each in [*characters][:20]
        if isinstance(each.get("char_caption"), str)
    )

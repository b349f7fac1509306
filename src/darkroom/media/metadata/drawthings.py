"""Draw Things: JSON with short keys in the UserComment of its XMP."""

from collections.abc import Iterator

from darkroom.media.metadata.carried import Carried, Document, parse_object
from darkroom.media.metadata.found import Found, FoundModel, dicts, renamed, text_at

_PLACES = ("exif:UserComment", "UserComment")
_NAMES = {
    "steps": "Steps",
    "sampler": "Sampler",
    "scale": "CFG scale",
    "seed": "Seed",
    "size": "Size",
    "model": "Model",
    "strength": "Denoising strength",
    "seed_mode": "Seed mode",
    "shift": "Shift",
    "guidance_embed": "Distilled CFG Scale",
    "clip_skip": "Clip skip",
    "mask_blur": "Mask blur",
    "sharpness": "Sharpness",
}


def read(carried: Carried) -> Found | None:
    """What Draw Things wrote."""
    said = next((each for each in _candidates(carried) if "c" in each and "steps" in each), None)
    if said is None:
        return None
    return Found(
        source="drawthings",
        prompt=text_at(said, "c"),
        negative_prompt=text_at(said, "uc"),
        settings=renamed(said, _NAMES),
        models=tuple(_models(said)),
    )


def _candidates(carried: Carried) -> Iterator[Document]:
    yield from carried.documents.values()
    for place in _PLACES:  # a prefix may stand before the braces
        text = carried.texts.get(place, "")
        if (found := parse_object(text[max(0, text.find("{")) :])) is not None:
            yield found


def _models(said: Document) -> Iterator[FoundModel]:
    if name := text_at(said, "model"):
        yield FoundModel.of("checkpoint", name)
    for each in dicts(said.get("lora")):
        if name := text_at(each, "model", "file"):
            yield FoundModel.of("lora", name, weight=each.get("weight"))

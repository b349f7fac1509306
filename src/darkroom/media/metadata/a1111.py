"""Infotexts: of A1111, and of all the programs that speak its language."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from darkroom.media.metadata import civitai
from darkroom.media.metadata.carried import TEXT, Carried, parse_object
from darkroom.media.metadata.found import Found, FoundModel, Program
from darkroom.media.metadata.implied import implied
from darkroom.media.metadata.infotext import NEGATIVE, VERSION, Infotext
from darkroom.media.metadata.infotext import read as read_infotext

# Where it lies; in the first ones a text without any parameters counts as a prompt.
_PROMPTS = ("parameters", TEXT)
_PLACES = (*_PROMPTS, "UserComment", "comment", "ImageDescription", "dc:description", "XPComment")

_TAG = re.compile(r"<(lora|lyco|hypernet):([^:<>]{1,300})(?::([^<>]{0,300}))?>")
_TAG_ROLES = {"lora": "lora", "lyco": "lora", "hypernet": "hypernetwork"}
_MAX_MODELS = 500
_JSON = re.compile(r'\s*(?:\{\s*"|\[\s*\{)')
_NAMED = re.compile(r"(.{1,300}?)(?: \[([0-9a-fA-F]{6,64})\])?")
_NAMED_ROLES = {"Refiner": "refiner", "Hires checkpoint": "hires checkpoint"}
_FORGE = re.compile(r"f\d+\.\d|neo|.*forge", re.IGNORECASE)
_FORGE_KEYS = {"Distilled CFG Scale", "Module 1", "Diffusion in Low Bits"}
_ADDS_DEFAULTS = ("a1111", "forge", "civitai")


def read(carried: Carried) -> Found | None:
    """The first infotext among the texts of a file."""
    for place in _PLACES:
        text = carried.texts.get(place, "")
        if not text.strip() or place in carried.documents:
            continue
        said = read_infotext(text)
        has_prompts = place in _PROMPTS or f"\n{NEGATIVE}" in text
        if said.settings or (has_prompts and not _JSON.match(text)):
            return of_infotext(said, fooocus="fooocus_scheme" in carried.texts)
    return None


def of_infotext(said: Infotext, *, fooocus: bool = False) -> Found:
    """What an infotext says, and which program wrote it."""
    source = "fooocus" if fooocus else program(said)
    if source in ("civitai", "forge"):
        said = replace(said, settings=civitai.mend(said.settings))
    return Found(
        source=source,
        prompt=said.prompt,
        negative_prompt=said.negative_prompt,
        settings=said.settings,
        models=tuple(_models(said))[:_MAX_MODELS],
        implied=implied(said) if source in _ADDS_DEFAULTS else None,
    )


def program(said: Infotext) -> Program:
    """Which program an infotext is from."""
    settings = said.settings
    version = settings.get("Version", "")
    keys = list(settings)
    reordered = "Version" in keys and "Sampler" in keys[keys.index("Version") :]
    signs: tuple[tuple[Program, bool], ...] = (
        ("darkroom", version.startswith(VERSION)),
        ("sdnext", settings.get("App") == "SD.Next"),
        ("civitai", not civitai.KEYS.isdisjoint(settings)),
        ("comfyui", version.startswith("ComfyUI")),
        ("fooocus", version.startswith("Fooocus")),
        ("forge", _FORGE.match(version) is not None or not _FORGE_KEYS.isdisjoint(settings)),
        ("civitai", bool(said.hashes) or reordered),
    )
    return next((name for name, is_so in signs if is_so), "a1111")


def _models(said: Infotext) -> Iterator[FoundModel]:
    settings = said.settings
    more = parse_object(settings.get("Hashes", "")) or {}
    name, digest = settings.get("Model", ""), settings.get("Model hash") or more.get("model")
    if name or digest:
        yield FoundModel.of("checkpoint", name or digest, hash=digest)
    for key, role in _NAMED_ROLES.items():
        if found := _NAMED.fullmatch(settings.get(key, "")):
            yield FoundModel.of(role, found[1], hash=found[2])
    if vae := settings.get("VAE"):
        yield FoundModel.of("vae", vae, hash=settings.get("VAE hash") or more.get("vae"))
    modules = sorted(key for key in settings if re.fullmatch(r"Module \d{1,2}", key))
    yield from (FoundModel.of("module", settings[key]) for key in modules)
    yield from _networks(said, more)
    yield from civitai.resources(settings)


def _networks(said: Infotext, more: Mapping[str, object]) -> Iterator[FoundModel]:
    """Those named in the prompt, with their hashes; then the hashes that no prompt names."""
    loras = _hashes(said.settings.get("Lora hashes", "") or said.settings.get("LoRA hashes", ""))
    loras |= {k[5:]: v for k, v in more.items() if k.startswith("lora:") and isinstance(v, str)}
    named: dict[str, FoundModel] = {}
    for found in _TAG.finditer(said.prompt):
        weight = re.split("[:@]", found[3] or "1")[0]
        named.setdefault(
            found[2],
            FoundModel.of(
                _TAG_ROLES[found[1]], found[2], hash=loras.pop(found[2], None), weight=weight
            ),
        )
    yield from named.values()
    yield from (FoundModel.of("lora", name, hash=digest) for name, digest in loras.items())
    embeddings = _hashes(said.settings.get("TI hashes", ""))
    yield from (FoundModel.of("embedding", name, hash=h) for name, h in embeddings.items())


def _hashes(text: str) -> dict[str, str]:
    """ "name: hash, name: hash", where a name may hold a comma."""
    found = re.finditer(r"(?:^|, )([^\n]{1,300}?): ([0-9a-fA-F]{6,64})(?=,|$)", text[:100_000])
    return {each[1]: each[2] for each in found}

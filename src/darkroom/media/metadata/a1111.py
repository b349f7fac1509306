"""Infotexts: of A1111, and of all the programs that speak its language."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from darkroom.media.metadata import civitai
from darkroom.media.metadata.carried import MAX_JSON, TEXT, Carried, parse_object
from darkroom.media.metadata.found import Found, FoundModel, Program, is_model
from darkroom.media.metadata.implied import implied
from darkroom.media.metadata.infotext import NEGATIVE, VERSION, Infotext
from darkroom.media.metadata.infotext import read as read_infotext

# Where it lies; in the first ones a text without any parameters counts as a prompt.
_PROMPTS = ("parameters", TEXT)
_PLACES = (*_PROMPTS, "UserComment", "comment", "ImageDescription", "dc:description", "XPComment")

_TAG = re.compile(r"<(lora|lyco|hypernet):([^:<>]{1,300})(?::([^<>]{0,300}))?>")
_TAG_ROLES = {"lora": "lora", "lyco": "lora", "hypernet": "hypernetwork"}
_MAX_MODELS = 500
# The start of JSON of objects, also where it is damaged; and what holds no word of a prompt.
_JSON = re.compile(r'\s*(?:\{\s*"|\[\s*\{\s*"|[\s{}\[\],:"]*\Z)')
_JSON_STARTS = ("{", "[", "null", "true", "false", *"-0123456789")
_NAMED = re.compile(r"(.{1,300}?)(?: \[([0-9a-fA-F]{6,64})\])?")
_HYPERNET = re.compile(r"([^:<>\n]{1,300}?)(?:\([0-9a-fA-F]{4,64}\))?")
_USED = re.compile(r"(?:^|, )([^\n]{1,300}?) \[[0-9a-f]{4}\](?=,|$)")  # before there were hashes
_NAMED_ROLES = {"Refiner": "refiner", "Hires checkpoint": "hires checkpoint"}
_FORGE = re.compile(r"f\d+\.\d|neo|.*forge", re.IGNORECASE)
_FORGE_KEYS = {"Distilled CFG Scale", "Module 1", "Diffusion in Low Bits"}


def read(carried: Carried) -> Found | None:
    """The first infotext among the texts of a file."""
    for place in _PLACES:
        text = carried.texts.get(place, "")
        if not text.strip() or place in carried.documents:
            continue
        said = read_infotext(text)
        has_prompts = place in _PROMPTS or f"\n{NEGATIVE}" in text
        if said.settings or (has_prompts and not _is_json(text)):
            return of_infotext(said, fooocus="fooocus_scheme" in carried.texts)
    return None


def _is_json(text: str) -> bool:
    """Whether it is data and not a prompt; a text in quotes may be one."""
    if _JSON.match(text):
        return True
    if len(text) > MAX_JSON or not text.lstrip().startswith(_JSON_STARTS):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def of_infotext(said: Infotext, *, fooocus: bool = False) -> Found:
    """What an infotext says, and which program wrote it."""
    source = "fooocus" if fooocus else program(said)
    if source in ("civitai", "forge"):
        said = replace(said, settings=civitai.mend(said.settings))
    if source == "fooocus" and "Scheduler" in said.settings:
        scheduler = {"Schedule type": said.settings["Scheduler"]}
        said = replace(said, settings={**scheduler, **said.settings})
    return Found(
        source=source,
        prompt=said.prompt + _hypernetwork(said.settings),
        negative_prompt=said.negative_prompt,
        settings=said.settings,
        models=tuple(_models(said))[:_MAX_MODELS],
        implied=implied(said.settings, said.prompt, said.negative_prompt),
    )


def _hypernetwork(settings: Mapping[str, str]) -> str:
    """The tag for what A1111 before 1.0 set outside the prompt; empty for nothing."""
    name = settings.get("Hypernet", "")
    if not is_model(name) or (found := _HYPERNET.fullmatch(name)) is None:
        return ""
    return f"<hypernet:{found[1]}:{settings.get('Hypernet strength', '1.0')}>"


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
    named = {key: value for key, value in settings.items() if is_model(value)}
    name, digest = named.get("Model"), named.get("Model hash") or more.get("model")
    if name or digest:
        yield FoundModel.of("checkpoint", name or digest, hash=digest)
    for key, role in _NAMED_ROLES.items():
        if found := _NAMED.fullmatch(named.get(key, "")):
            yield FoundModel.of(role, found[1], hash=found[2])
    if vae := named.get("VAE"):
        yield FoundModel.of("vae", vae, hash=settings.get("VAE hash") or more.get("vae"))
    modules = sorted(key for key in named if re.fullmatch(r"Module \d{1,2}", key))
    yield from (FoundModel.of("module", named[key]) for key in modules)
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
    used = said.settings.get("Used embeddings", "")[:100_000]
    embeddings |= {each[1]: "" for each in _USED.finditer(used)}
    yield from (FoundModel.of("embedding", name, hash=h) for name, h in embeddings.items())


def _hashes(text: str) -> dict[str, str]:
    """ "name: hash, name: hash", where a name may hold a comma."""
    found = re.finditer(r"(?:^|, )([^\n]{1,300}?): ([0-9a-fA-F]{6,64})(?=,|$)", text[:100_000])
    return {each[1]: each[2] for each in found}

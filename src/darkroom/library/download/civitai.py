"""Models on Civitai: from a page's JSON to the file, its hash, its kind and its trigger words."""

from collections.abc import Mapping
from typing import Any

from darkroom.core.errors import BadRequest, DownloadError, UnknownName
from darkroom.core.model import Kind
from darkroom.library.download.names import safe_name
from darkroom.library.download.plan import Choice, Plan
from darkroom.library.download.sources import CivitaiModel, Sites
from darkroom.library.download.transfer import Wanted
from darkroom.library.download.web import Web

KINDS = {
    "checkpoint": Kind.CHECKPOINT,
    "lora": Kind.LORA,
    "locon": Kind.LORA,
    "dora": Kind.LORA,
    "textualinversion": Kind.EMBEDDING,
    "hypernetwork": Kind.HYPERNETWORK,
    "vae": Kind.VAE,
    "controlnet": Kind.CONTROLNET,
    "upscaler": Kind.UPSCALER,
    "motionmodule": Kind.MOTION,
}
_MODEL = ("Model", "Pruned Model")  # the types of file that are the model itself
LOGIN = "Set CIVITAI_API_TOKEN to an API key of your Civitai account, and see the page for terms."
_HINTS = {401: LOGIN, 403: LOGIN, 404: "Check the number; the model may have been taken down."}


def plan(web: Web, sites: Sites, source: CivitaiModel, *, choice: Choice) -> Plan:
    """What to fetch of `source`; UnknownName names the files there are instead."""
    version = _version(web, sites, source)
    file = _file(version, source, choice)
    model = _table(version.get("model"))
    hashes = {name.upper(): text for name, text in _table(file.get("hashes")).items()}
    name = safe_name(_text(file.get("name")) or f"civitai-{version.get('id')}.safetensors")
    wanted = Wanted(
        url=_text(file.get("downloadUrl"))
        or f"{sites.civitai}/api/download/models/{version['id']}",
        name=name,
        about=_bytes(file.get("sizeKB")),
        sha256=_text(hashes.get("SHA256")).lower(),
        login=LOGIN,
    )
    kind = KINDS.get(_text(model.get("type")).lower())
    return Plan(
        source=f"Civitai {_text(model.get('name')) or source}, {_text(version.get('name'))}",
        files=(wanted,),
        name=name,
        kind=Kind.VAE if file.get("type") == "VAE" else kind,
        triggers=tuple(filter(None, map(_text, _list(version.get("trainedWords"))))),
        info=version,
        preview=_preview(version),
    )


def _version(web: Web, sites: Sites, source: CivitaiModel) -> Mapping[str, Any]:
    """The version that is meant: the one named, else the newest."""
    api = f"{sites.civitai}/api/v1"
    if source.version is not None:
        found = web.json(f"{api}/model-versions/{source.version}", _HINTS)
        return _sensible(found, source)
    model = _table(web.json(f"{api}/models/{source.model}", _HINTS))
    versions = [version for version in _list(model.get("modelVersions")) if _table(version)]
    if not versions:
        raise BadRequest(f"{source} has no version to fetch", hint="See its page.")
    about = {name: model.get(name) for name in ("name", "type", "nsfw", "poi")}
    return _sensible({"modelId": model.get("id"), "model": about, **versions[0]}, source)


def _sensible(found: object, source: CivitaiModel) -> Mapping[str, Any]:
    version = _table(found)
    if type(version.get("id")) is not int or not isinstance(version.get("files"), list):
        raise DownloadError(f"what Civitai says of {source} makes no sense")
    return version


def _file(version: Mapping[str, Any], source: CivitaiModel, choice: Choice) -> Mapping[str, Any]:
    """The file that is meant: by name, by the wishes of a link, or the main one."""
    files = [file for file in map(_table, version["files"]) if file]
    if choice.file:
        for file in files:
            if choice.file in (file.get("name"), str(file.get("id"))):
                return file
        names = [_text(file.get("name")) for file in files]
        raise UnknownName(
            f"file of {source}", choice.file, names, hint=f"It has {', '.join(names)}."
        )
    files = [file for file in files if file.get("type") in _MODEL] or files
    if not files:
        raise BadRequest(f"{source} has no file to fetch", hint="See its page.")
    return max(files, key=lambda file: _rank(file, source.wishes))


def _rank(file: Mapping[str, Any], wishes: Mapping[str, str]) -> tuple[int, bool, bool]:
    """How well a file fits: wishes come true, no pickle, the page's main one."""
    traits = {**_table(file.get("metadata")), "type": file.get("type")}
    met = sum(str(traits.get(name)).lower() == wish.lower() for name, wish in wishes.items())
    return met, traits.get("format") == "SafeTensor", bool(file.get("primary"))


def _preview(version: Mapping[str, Any]) -> str:
    """The address of the mildest picture on the page."""
    images = [_table(image) for image in _list(version.get("images"))]
    shown = [i for i in images if i.get("type", "image") == "image" and _text(i.get("url"))]
    return _text(min(shown, key=_level)["url"]) if shown else ""


def _level(image: Mapping[str, Any]) -> int:
    level = image.get("nsfwLevel")
    return level if isinstance(level, int) else 0


def _bytes(kilobytes: object) -> int | None:
    """The page gives a fraction, and not always all of it."""
    if isinstance(kilobytes, int | float) and 0 <= kilobytes < 1e12:
        return round(kilobytes * 1024)
    return None


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""

"""What a user may name to pull, read into one of three sources; nothing is asked of the network.

owner/name                         a model on Hugging Face; also hf:owner/name
owner/name:file.safetensors        one file of it; `@revision` may follow the name
https://huggingface.co/…           its page, or the page or link of a file
https://civitai.com/models/…       a model's page; its version's page; a download link
civitai:12345  civitai:12345@678   a model, or a version of it
urn:air:sdxl:lora:civitai:123@678  the same, as an AIR
https://…                          any other file
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from darkroom.core.errors import BadRequest, shorten
from darkroom.library.download.names import is_safe_path
from darkroom.library.download.place import Place

HUB, CIVITAI = "https://huggingface.co", "https://civitai.com"
_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_CIVITAI_HOSTS = ("civitai.com", "civitai.green", "civitai.red")
_HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_CIVITAI_TOKENS = ("CIVITAI_API_TOKEN", "CIVITAI_TOKEN", "CIVITAI_API_KEY")
_TOKEN = re.compile(r"[\x21-\x7e]{1,1000}")

_PART = r"[A-Za-z0-9_][\w.\-]{0,95}"
_HUB_ID = re.compile(
    rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[\w./\-]+))?(?::(?P<file>.+))?", re.A
)
_HUB_PAGE = re.compile(
    rf"/(?P<repo>{_PART}(?:/{_PART})?)(?:/(?:tree|blob|resolve|raw)/(?P<revision>[^/]+)"
    r"(?:/(?P<file>.+))?)?/?",
    re.A,
)
_CIVITAI_ID = re.compile(r"civitai:(?P<model>\d{1,12})(?:@(?P<version>\d{1,12}))?", re.A | re.I)
_AIR = re.compile(
    r"(?:urn:)?air:[\w\-]+:[\w\-]+:(?P<site>\w+):(?P<id>[^@:]{1,200})(?:@(?P<version>[^:.]{1,100}))?(?:[:.].*)?",
    re.A | re.I,
)
_CIVITAI_PAGES = (
    re.compile(r"/(?:api/v1/)?models/(?P<model>\d{1,12})(?:/[^/]*)?/?", re.A),
    re.compile(
        r"/(?:api/download/models|(?:api/v1/)?model-versions)/(?P<version>\d{1,12})/?", re.A
    ),
)
FORMS = "Name owner/name of Hugging Face, civitai:NUMBER, the link of a page, or of a file."


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A repository on Hugging Face, or one file or folder of it."""

    repo: str
    revision: str = "main"
    file: str = ""

    def __str__(self) -> str:
        return f"Hugging Face {self.repo}" + (f", {self.file}" if self.file else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CivitaiModel:
    """A model or a version on Civitai; `wishes` are the link's ("format": "SafeTensor")."""

    model: int | None = None
    version: int | None = None
    wishes: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        which = f"version {self.version}" if self.version else f"model {self.model}"
        return f"Civitai {which}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The address of a file."""

    url: str

    def __str__(self) -> str:
        return str(Place.read(self.url))


Source = HubModel | CivitaiModel | Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """Where the two sites are, and the tokens for them: {origin: token}."""

    hub: str = HUB
    civitai: str = CIVITAI
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Sites":
        """As the environment says: HF_ENDPOINT, and the tokens, which go over https only."""
        hub = environment.get("HF_ENDPOINT", "").strip().rstrip("/") or HUB
        tokens: dict[str, str] = {}
        for address, names in ((hub, _HUB_TOKENS), (CIVITAI, _CIVITAI_TOKENS)):
            place = Place.read(address)
            name = next((name for name in names if environment.get(name, "").strip()), "")
            if not name or place.scheme != "https":
                continue
            tokens[place.origin] = environment[name].strip()
            if not _TOKEN.fullmatch(tokens[place.origin]):
                raise BadRequest(f"what {name} holds is no token", hint="Copy it once more.")
        return cls(hub=hub, tokens=tokens)


def read_source(text: str, *, hub: str = HUB) -> Source:
    """What `text` names; BadRequest, with the forms there are, if it is none of them."""
    text = text.strip()
    if re.match(r"https?://", text, re.I):
        return _read_link(text, hub)
    if found := _CIVITAI_ID.fullmatch(text):
        return _civitai(found.groupdict())
    if found := _AIR.fullmatch(text):
        return _read_air(found)
    if found := _HUB_ID.fullmatch(re.sub(r"^(hf|huggingface):(//)?", "", text, flags=re.I)):
        return _hub(found.groupdict())
    raise BadRequest(f"{shorten(text)!r} is nothing that can be pulled", hint=FORMS)


def _read_link(text: str, hub: str) -> Source:
    place = Place.read(text)
    parts = urlsplit(text)
    host = place.host.removeprefix("www.")
    if host in _CIVITAI_HOSTS:
        return _read_civitai(parts.path, parts.query)
    if place.host in (*_HUB_HOSTS, Place.read(hub).host):
        return _read_hub(parts.path)
    return Link(url=text)


def _read_hub(path: str) -> HubModel:
    if re.match(r"/(datasets|spaces|collections|papers|docs)(/|$)", path):
        raise BadRequest(f"{shorten(path)!r} is no model on Hugging Face", hint=FORMS)
    if found := _HUB_PAGE.fullmatch(path):
        return _hub({k: unquote(v) for k, v in found.groupdict().items() if v})
    raise BadRequest(f"{shorten(path)!r} is no page of a model on Hugging Face", hint=FORMS)


def _hub(found: Mapping[str, str | None]) -> HubModel:
    repo, file = found["repo"] or "", found.get("file") or ""
    if ".." in repo or (file and not is_safe_path(file.strip("/"))):
        raise BadRequest(f"{shorten(file or repo)!r} is no name on Hugging Face", hint=FORMS)
    return HubModel(repo=repo, revision=found.get("revision") or "main", file=file.strip("/"))


def _read_civitai(path: str, query: str) -> CivitaiModel:
    wishes = {name: values[-1] for name, values in parse_qs(query).items()}
    version = wishes.pop("modelVersionId", "")
    for page in _CIVITAI_PAGES:
        if found := page.fullmatch(path):
            named = found.groupdict()
            if version.isdecimal() and len(version) < 13:
                named["version"] = version
            kept: dict[str, str] = {
                name: wishes[name] for name in ("type", "format", "size", "fp") if name in wishes
            }
            return _civitai(named, kept)
    raise BadRequest(f"{shorten(path)!r} is no page of a model on Civitai", hint=FORMS)


def _civitai(
    found: Mapping[str, str | None], wishes: Mapping[str, str] | None = None
) -> CivitaiModel:
    model, version = (int(found.get(name) or 0) or None for name in ("model", "version"))
    if model is None and version is None:
        raise BadRequest("there is no number 0 on Civitai", hint=FORMS)
    return CivitaiModel(model=model, version=version, wishes=wishes or {})


def _read_air(found: re.Match[str]) -> Source:
    site, name, version = found["site"].lower(), found["id"], found["version"]
    number = f"civitai:{name}" + (f"@{version}" if version else "")
    if site == "civitai" and (numbers := _CIVITAI_ID.fullmatch(number)):
        return _civitai(numbers.groupdict())
    if site == "huggingface" and (hub := _HUB_ID.fullmatch(name)):
        return _hub({"repo": hub["repo"], "revision": version})
    raise BadRequest(f"{shorten(found[0])!r} names no model that can be pulled", hint=FORMS)

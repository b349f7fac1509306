"""Models on Hugging Face: from a repository's list of files to those that are needed.

A repository with `model_index.json` is a checkpoint as a folder; one with `config.json` beside the
weights of one network is that network as a folder; any other must have one file of weights, or the
user names one. Safetensors go before pickles, and in folders half precision before full.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from darkroom.core.errors import BadFile, BadRequest, DownloadError, UnknownName, shorten
from darkroom.core.model import Kind
from darkroom.library.download.names import is_safe_path, safe_name
from darkroom.library.download.plan import PICTURES, WEIGHTS, Choice, Plan, suffix
from darkroom.library.download.sources import HubModel, Sites
from darkroom.library.download.transfer import Wanted
from darkroom.library.download.web import Web

INDEX = "model_index.json"
SKIPPED = ("safety_checker",)  # a part that pictures are not made with, of 1.2 GB
ONNX, TAGS = "model.onnx", "selected_tags.csv"  # of a tagger
WORDS = (TAGS, "vocab.txt", "tokenizer.json")  # what a network's numbers mean
_NOTES = (".json", ".txt", ".model")  # of the parts of a folder: configurations, vocabularies
_NETWORK = r"(?:diffusion_pytorch_model|pytorch_model|model)"
_SHARDS = r"(?:-\d{5}-of-\d{5})?"
# (file, index) of one network; the variant ("fp16") has stood on either side of the number.
_FILES = (
    re.compile(rf"{_NETWORK}(?:\.(\w+))?{_SHARDS}(?:\.(\w+))?\.(safetensors|bin)", re.A),
    re.compile(rf"{_NETWORK}(?:\.(\w+))?\.(safetensors|bin)\.index(?:\.(\w+))?\.json", re.A),
)
_HALF = (("fp16", "safetensors"), ("", "safetensors"), ("fp16", "bin"), ("", "bin"))
_FULL = (("", "safetensors"), ("", "bin"), ("fp16", "safetensors"), ("fp16", "bin"))
_MEANINGLESS = re.compile(
    rf"{_NETWORK}.*|pytorch_lora_weights|learned_embeds|adapter_model|lora|checkpoint", re.A
)


@dataclass(frozen=True, slots=True)
class _Repo:
    """A repository at one commit."""

    address: str
    name: str
    commit: str
    files: Mapping[str, Mapping[str, Any]]  # by path
    login: str

    def url(self, path: str) -> str:
        """Where a file is."""
        return f"{self.address}/{self.name}/resolve/{quote(self.commit, safe='')}/{quote(path)}"

    def wanted(self, path: str, name: str) -> Wanted:
        """The file at `path`, to be kept as `name`."""
        told = self.files[path]
        lfs = told.get("lfs")
        sha256 = lfs.get("sha256") if isinstance(lfs, dict) else ""
        size = told.get("size")
        return Wanted(
            url=self.url(path),
            name=name,
            size=size if isinstance(size, int) and size >= 0 else None,
            sha256=sha256.lower() if isinstance(sha256, str) else "",
            login=self.login,
        )


def plan(web: Web, sites: Sites, source: HubModel, *, choice: Choice) -> Plan:
    """What to fetch of `source`; UnknownName or BadRequest name the files there are instead."""
    repo = _look_up(web, sites, source.repo, revision=choice.revision or source.revision)
    file = (choice.file or source.file).strip("/")
    if file in repo.files:
        return _one_file(repo, file)
    inside = f"{file}/" if file else ""
    names = [path.removeprefix(inside) for path in repo.files if path.startswith(inside)]
    if not names:
        weights = [path for path in repo.files if suffix(path) in WEIGHTS]
        where = f"It has {_some(weights)}." if weights else ""
        raise UnknownName(f"file of {repo.name}", file, weights, hint=where)
    notes: tuple[str, ...] = ()
    if INDEX in names:
        index = _index(web, repo, inside)
        chosen, notes = _pipeline_files(index, names, full=choice.full), _doubts(index)
    elif not (chosen := _network_files(names, full=choice.full)):
        return _one_file(repo, inside + _only_weights(repo.name, names))
    return Plan(
        source=str(source),
        files=tuple(repo.wanted(inside + name, _safe(name)) for name in chosen),
        name=safe_name(inside.rstrip("/") or repo.name),
        folder=True,
        kind=Kind.CHECKPOINT if INDEX in names else None,
        notes=notes,
    )


def _look_up(web: Web, sites: Sites, name: str, *, revision: str) -> _Repo:
    page = f"{sites.hub}/{name}"
    missing = f"Check the spelling of {name!r} and of its revision {shorten(revision)!r}"
    hints = {
        401: f"{missing}; if it is private, set HF_TOKEN to a token that may read it.",
        403: f"Ask for access on {page}, and set HF_TOKEN to a token of yours.",
        404: f"{missing}.",
    }
    query = f"{sites.hub}/api/models/{name}/revision/{quote(revision, safe='')}?blobs=true"
    told = web.json(query, hints)
    if not isinstance(told, dict) or not isinstance(told.get("siblings"), list):
        raise DownloadError(f"what Hugging Face says of {name} makes no sense")
    rows = [row for row in told["siblings"] if isinstance(row, dict)]
    files = {row["rfilename"]: row for row in rows if isinstance(row.get("rfilename"), str)}
    gate = "Accept the terms on" if told.get("gated") else "See"
    login = f"{gate} {page}, and set HF_TOKEN to a token of yours."
    commit = told.get("sha")
    return _Repo(sites.hub, name, commit if isinstance(commit, str) else revision, files, login)


def _index(web: Web, repo: _Repo, inside: str) -> Mapping[str, Any]:
    """The parts of a checkpoint: {"unet": ["diffusers", "UNet2DConditionModel"]}."""
    found = web.json(repo.url(inside + INDEX), dict.fromkeys((401, 403), repo.login))
    if not isinstance(found, dict):
        raise BadFile(f"{INDEX} of {repo.name} is not a table", hint="Name one file with --file.")
    return found


def _doubts(index: Mapping[str, Any]) -> tuple[str, ...]:
    """What should be said before gigabytes are fetched."""
    made_for = index.get("_class_name")
    if isinstance(made_for, str) and made_for.startswith("StableDiffusion") and "unet" in index:
        return ()
    told = f"it is a {shorten(made_for)}" if isinstance(made_for, str) else "it does not say"
    return (f"this is no Stable Diffusion with a UNet ({told}); this version may not run it",)


def _pipeline_files(index: Mapping[str, Any], names: Iterable[str], *, full: bool) -> list[str]:
    """The index and, of each part in it, one set of weights and the small files."""
    names, chosen = list(names), [INDEX]
    for part, made_of in index.items():
        if part in SKIPPED or not (isinstance(made_of, list) and made_of and made_of[0]):
            continue
        inner = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        small = [n for n in inner if suffix(n) in _NOTES and "/" not in n and _variant(n) is None]
        chosen += [f"{part}/{name}" for name in (*small, *_best(inner, full=full))]
    return chosen


def _network_files(names: list[str], *, full: bool) -> list[str]:
    """One network with its configuration and words; nothing where there is no such thing."""
    words = [name for name in WORDS if name in names]
    best = _best(names, full=full)
    if best and "config.json" in names:
        return ["config.json", *words, *best]
    return [*words, ONNX] if ONNX in names and TAGS in names else []


def _best(names: Iterable[str], *, full: bool) -> list[str]:
    """One set of weights among the files of a folder, with its index if it is in shards."""
    sets: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if (which := _variant(name)) is not None:
            sets.setdefault(which, []).append(name)
    order = _FULL if full else _HALF
    return next((sets[which] for which in (*order, *sets) if which in sets), [])


def _variant(name: str) -> tuple[str, str] | None:
    """("fp16", "safetensors") of "model.fp16.safetensors"; None of what is no network's file."""
    if found := _FILES[0].fullmatch(name):
        return found[1] or found[2] or "", found[3]
    if found := _FILES[1].fullmatch(name):
        return found[1] or found[3] or "", found[2]
    return None


def _only_weights(repo: str, names: Iterable[str]) -> str:
    """The one file of weights: in the highest folder that has any, of the best kind there."""
    weights = [name for name in names if suffix(name) in WEIGHTS and "onnx" not in name.lower()]
    if not weights:
        raise BadRequest(f"{repo} has no file of weights", hint="Is it a model of another kind?")
    depth = min(name.count("/") for name in weights)
    highest = [name for name in weights if name.count("/") == depth]
    best = min(highest, key=lambda name: WEIGHTS.index(suffix(name)))
    same = [
        name for name in highest if (suffix(name) in WEIGHTS[:2]) == (suffix(best) in WEIGHTS[:2])
    ]
    if len(same) > 1:
        raise BadRequest(
            f"{repo} has {len(same)} files of weights", hint=f"Name one with --file: {_some(same)}."
        )
    return best


def _one_file(repo: _Repo, path: str) -> Plan:
    name = path.rpartition("/")[2]
    if suffix(name) not in (*WEIGHTS, *PICTURES, ".gguf"):
        raise BadRequest(f"{shorten(path)!r} is no file of weights", hint="Name one with --file.")
    stem = name[: -len(suffix(name))]
    if _MEANINGLESS.fullmatch(stem):  # the repository says what it is
        name = repo.name.rpartition("/")[2] + suffix(name)
    told = str(HubModel(repo=repo.name, file=path))
    return Plan(source=told, files=(repo.wanted(path, name),), name=safe_name(name))


def _safe(name: str) -> str:
    if is_safe_path(name):
        return name
    raise BadFile(f"the repository holds the odd name {shorten(name)!r}; it is not fetched")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(shorten(name) for name in names[:8]) + more

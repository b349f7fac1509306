"""A folder as diffusers writes it, read as one model: its components' files become one table.

    read_folder(path, read_file) -> Header        or BadFile

A model has a `model_index.json` and a folder for each component; names become
"unet/conv_in.weight". A component alone (a VAE, a ControlNet, a LoRA) keeps its names. The JSON
beside the weights goes to the metadata under its own path ("unet/config.json").

The folder of a tagger has its network as ONNX, which other programs run: that file is one tensor.

A component may be there several times. What diffusers would load is taken: the plain files before
a variant (`.fp16.`), other variants last; among equals safetensors before pickles. Large components
are in pieces, which an index lists; a piece outside the folder is refused. Links are followed: a
cache of Hugging Face is made of them.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from darkroom.core.errors import BadFile, shorten
from darkroom.weights import foreign
from darkroom.weights.layouts.signatures import ONNX_TAGGER
from darkroom.weights.table import Header, TensorInfo

INDEX = "model_index.json"
CONFIGS = ("config.json", "scheduler_config.json")
TAGS = "selected_tags.csv"  # beside the network of a tagger
LARGEST_JSON = 10_000_000  # bytes; the index of a model in many pieces has 0.2 million

# Without weights, or with weights that make no picture.
PASSED_OVER = frozenset({"safety_checker", "feature_extractor", "tokenizer", "tokenizer_2"})
KNOWN = ("unet", "vae", "text_encoder", "text_encoder_2", "transformer", "scheduler")

WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model|pytorch_lora_weights|learned_embeds)"
    r"(?:\.(?P<variant>[a-z0-9_]+))??(?:-(?P<piece>\d+)-of-(?P<pieces>\d+))?"
    r"(?:\.(?P<old_variant>[a-z0-9_]+))??"  # behind the piece, until diffusers 0.31
    r"\.(?P<form>safetensors|bin)"
    r"(?P<index>\.index(?:\.(?P<index_variant>[a-z0-9_]+))?\.json)?"
)
VARIANTS = ("", "fp16", "bf16", "fp32")  # those that others come after

ReadFile = Callable[[Path], Header]
AGAIN = "Download the missing files of the folder."


@dataclass(frozen=True, slots=True)
class Part:
    """One component: its name ("" where the folder is the component) and its files."""

    name: str
    files: tuple[Path, ...]


def read_folder(path: Path, read_file: ReadFile) -> Header:
    """The header of the model in a folder; `read_file` reads one file of weights."""
    parts = [Part(name, files) for name in _components(path) if (files := _files(path / name))]
    if not parts and (path / ONNX_TAGGER).is_file() and (path / TAGS).is_file():
        return _tagger(path)
    if not parts:
        raise foreign.folder(path, sorted(each.name for each in path.glob("*.safetensors")))
    headers = [[read_file(file) for file in part.files] for part in parts]
    flat = [header for group in headers for header in group]
    tensors: dict[str, TensorInfo] = {}
    metadata = dict(flat[0].metadata) if parts[0].name == "" else {}
    at = 0
    for part, group in zip(parts, headers, strict=True):
        for header in group:
            _add(tensors, header, prefix=part.name and f"{part.name}/", file=at)
            at += 1
    return Header(
        path,
        tensors,
        metadata | _configs(path),
        sum(header.size for header in flat),
        form="folder",
        files=tuple(header.path for header in flat),
        ignored=tuple(sorted({name for header in flat for name in header.ignored})),
    )


def _tagger(path: Path) -> Header:
    """A tagger in ONNX form: its file stands for one tensor, which nobody reads."""
    size = (path / ONNX_TAGGER).stat().st_size
    tensors = {ONNX_TAGGER: TensorInfo("U8", (size,), 0, size)}
    return Header(path, tensors, {}, size, form="folder", files=(path / ONNX_TAGGER,))


def _add(tensors: dict[str, TensorInfo], header: Header, *, prefix: str, file: int) -> None:
    for name, info in header.tensors.items():
        if f"{prefix}{name}" in tensors:
            raise foreign.damaged(header.path, f"its tensor {shorten(name)!r} is in two files")
        tensors[f"{prefix}{name}"] = replace(info, file=file)


def _components(path: Path) -> list[str]:
    """The folders of a model's components; "" for a folder that is one itself."""
    if (path / INDEX).is_file():
        table = _json(path / INDEX)
        listed = [name for name, value in table.items() if isinstance(value, list) and any(value)]
    else:
        listed = [name for name in KNOWN if (path / name).is_dir()]
    if not listed:
        return [""]
    return [name for name in listed if _is_inside(name) and name not in PASSED_OVER]


def _files(folder: Path) -> tuple[Path, ...]:
    """The files of weights to read for one component; none where it has none."""
    if not folder.is_dir():
        return ()
    found = [match for each in sorted(folder.iterdir()) if (match := WEIGHTS.fullmatch(each.name))]
    choices: dict[tuple[str, str, str], list[re.Match[str]]] = {}
    for match in found:
        variant = match["variant"] or match["old_variant"] or match["index_variant"] or ""
        choices.setdefault((variant, match["form"], match["stem"]), []).append(match)
    if not choices:
        return ()
    _, matches = min(choices.items(), key=_rank)
    return tuple(folder / name for name in _pieces(folder, matches))


def _rank(choice: tuple[tuple[str, str, str], list[re.Match[str]]]) -> tuple[bool | int | str, ...]:
    """Less is better. Last comes an index alone, as a download of one variant leaves the others."""
    (variant, form, stem), matches = choice
    place = VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)
    bare = all(match["index"] for match in matches)
    return bare, place, form != "safetensors", variant, stem


def _pieces(folder: Path, matches: list[re.Match[str]]) -> list[str]:
    """The names of the files that make one choice: a whole one, or the pieces."""
    whole = [match[0] for match in matches if not match["piece"] and not match["index"]]
    if whole:
        return whole
    index = next((match[0] for match in matches if match["index"]), None)
    if index is not None:
        wanted = _listed(folder / index)
    else:
        first = matches[0]
        count, width = int(first["pieces"]), len(first["pieces"])
        if count > len(matches):
            have = {int(match["piece"]) for match in matches}
            gap = next(n for n in range(1, count + 1) if n not in have)
            what = f"{folder} is incomplete: piece {gap:0{width}} of {count} is missing"
            raise BadFile(what, hint=AGAIN)
        wanted = sorted(match[0] for match in matches)
    for name in wanted:
        if not (folder / name).is_file():
            raise BadFile(f"{folder} is incomplete: {shorten(name)} is missing", hint=AGAIN)
    return wanted


def _listed(index: Path) -> list[str]:
    """The files that an index names."""
    table = _json(index).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise foreign.damaged(index, "it lists no files")
    names = sorted(set(table.values()))
    if not all(_is_inside(name) for name in names):
        raise BadFile(f"{index} names files outside its folder", hint="Get the model elsewhere.")
    return names


def _is_inside(name: str) -> bool:
    """Whether this is the plain name of something in a folder, on any system."""
    return name not in ("", ".", "..") and not re.search(r"[/\\:\0]", name)


def _configs(path: Path) -> dict[str, str]:
    """The JSON files that say what the components are, by their path in the folder."""
    folders: Iterable[Path] = [path, *sorted(each for each in path.iterdir() if each.is_dir())]
    files = [folder / name for folder in folders for name in (INDEX, *CONFIGS)]
    return {file.relative_to(path).as_posix(): _text(file) for file in files if file.is_file()}


def _json(path: Path) -> Mapping[str, object]:
    try:
        table = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise foreign.damaged(path, "it is not valid JSON") from error
    if not isinstance(table, dict):
        raise foreign.damaged(path, "it is not a JSON object")
    return table


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST_JSON:
        raise foreign.damaged(path, "it is far too large")
    return path.read_text("utf-8", errors="replace")

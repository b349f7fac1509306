"""Where models lie in a folder that the user names: ours, A1111's, Forge's, ComfyUI's, or any.

    installed((folder, …)) -> Folders

A folder is looked at once, from above, and never entered here:

    an install of A1111 or Forge    `models/…`, and `embeddings`, `styles.csv`, wildcards beside it
    an install of ComfyUI           `models/…`, and the folders of its `extra_model_paths.yaml`
    the `models` folder of either   the same
    such a YAML file                the folders it lists
    anything else                   itself

What a file is used as is read from the file, never from the folder it is in; the names of those
folders matter only in that they are no part of a model's name.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from darkroom.core.errors import BadRequest, shorten
from darkroom.core.settings import expanded
from darkroom.library.walk import open_file

T = TypeVar("T")

EXTRA = "extra_model_paths.yaml"
MOST_BYTES = 1 << 20  # of that file
NOT_MODELS = frozenset({"custom_nodes", "configs"})  # what it may list besides

KINDS = frozenset({
    # A1111, Forge
    "stable-diffusion", "lora", "lycoris", "vae", "vae-approx", "hypernetworks", "controlnet",
    "controlnetpreprocessor", "esrgan", "realesrgan", "swinir", "scunet", "ldsr", "dat", "hat",
    "gfpgan", "codeformer", "adetailer", "u2net", "text_encoder", "t2i-adapter", "deepbooru",
    "torch_deepdanbooru", "karlo", "blip",
    # ComfyUI
    "checkpoints", "loras", "vae_approx", "embeddings", "upscale_models", "clip", "clip_vision",
    "text_encoders", "unet", "diffusion_models", "diffusers", "gligen", "style_models",
    "photomaker", "model_patches", "audio_encoders", "latent_upscale_models", "ipadapter",
    "animatediff_models", "animatediff_motion_lora", "classifiers", "ultralytics",
    "facerestore_models", "facedetection", "rembg",
})  # fmt: skip
"""Names of folders that hold models of one kind, in small letters."""

TELLING = KINDS - {"clip", "unet", "vae", "text_encoder", "embeddings", "dat", "hat"}
"""Those that tell a `models` folder; the others are in a diffusers folder or anywhere else too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """What was found, each once and in order; `problems` are (place, why)."""

    models: tuple[Path, ...] = ()
    embeddings: tuple[Path, ...] = ()
    styles: tuple[Path, ...] = ()  # files
    wildcards: tuple[Path, ...] = ()
    problems: tuple[tuple[Path, str], ...] = ()

    def __add__(self, other: "Folders") -> "Folders":
        return Folders(
            models=_both(self.models, other.models),
            embeddings=_both(self.embeddings, other.embeddings),
            styles=_both(self.styles, other.styles),
            wildcards=_both(self.wildcards, other.wildcards),
            problems=_both(self.problems, other.problems),
        )


def installed(folders: Iterable[Path]) -> Folders:
    """All places that `folders` stand for."""
    found = Folders()
    for folder in folders:
        found += _yaml(folder) if folder.suffix in (".yaml", ".yml") else _place(folder)
    return found


def _place(folder: Path) -> Folders:
    if _below(folder) & TELLING:  # a folder of models, maybe within an install
        beside = _beside(folder.absolute().parent) if folder.name == "models" else Folders()
        return Folders(models=(folder,), embeddings=_here(folder / "embeddings")) + beside
    inner = folder / "models"
    if _below(inner) & TELLING:
        own = Folders(models=(inner,), embeddings=_here(inner / "embeddings"))
        return own + _beside(folder)
    return Folders(models=(folder,), embeddings=_here(folder / "embeddings"))


def _beside(install: Path) -> Folders:
    """What an install keeps outside of its `models` folder."""
    embeddings = _here(install / "embeddings")
    extra = install / EXTRA
    found = Folders(
        models=embeddings,
        embeddings=embeddings,
        styles=tuple(path for path in (install / "styles.csv",) if _is_file(path)),
        wildcards=tuple(
            place
            for name in sorted(_names(install / "extensions"))
            for place in _here(install / "extensions" / name / "wildcards")
        ),
    )
    return found + _yaml(extra) if _is_file(extra) else found


def _yaml(path: Path) -> Folders:
    """The folders in a file like ComfyUI's `extra_model_paths.yaml`, the default ones first."""
    try:
        sections = _sections(path)
    except OSError as error:
        return Folders(problems=((path, f"it cannot be read: {error.strerror}"),))
    except ValueError as error:
        return Folders(problems=((path, str(error)),))
    found = Folders()
    for section in sorted(sections, key=lambda section: not section.get("is_default")):
        try:
            found += _section(path.parent, section)
        except BadRequest as error:  # no home folder for a ~
            found += Folders(problems=((path, error.sentence()),))
    return found


def _sections(path: Path) -> list[Mapping[Any, Any]]:
    """The sections of the file; a ValueError says what is wrong with it."""
    import yaml  # only where there is such a file

    with open_file(path) as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError("it is too large to be a list of folders")
    try:
        found = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = shorten(" ".join(str(error).split()), 120)
        raise ValueError(f"it is not valid YAML ({why})") from None
    if found is None:  # all of it is comments, as the example is
        return []
    if not isinstance(found, dict):
        raise ValueError("it should name sections, each with folders")
    return [section for section in found.values() if isinstance(section, dict)]


def _section(here: Path, section: Mapping[Any, Any]) -> Folders:
    base = here / _path(section.get("base_path"))
    models: list[Path] = []
    embeddings: list[Path] = []
    for kind, value in section.items():
        if kind in ("base_path", "is_default", *NOT_MODELS) or not isinstance(value, str):
            continue
        for line in filter(None, map(str.strip, value.splitlines())):
            models.append(_folder(base, line))
            if kind == "embeddings":
                embeddings.append(models[-1])
    return Folders(models=_both(tuple(models), ()), embeddings=_both(tuple(embeddings), ()))


def _folder(base: Path, line: str) -> Path:
    """The folder that a line names, which in ComfyUI's example may end in a remark."""
    named = base / _path(line)
    bare = line.partition(" #")[0].rstrip()
    return named if bare == line or is_folder(named) else base / _path(bare)


def _path(value: object) -> Path:
    """As written, but for `~` and variables of the environment; nothing is the folder itself."""
    return expanded(Path(os.path.expandvars(value))) if isinstance(value, str) else Path()


def _both(mine: tuple[T, ...], theirs: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*mine, *theirs)))


def _below(folder: Path) -> set[str]:
    return {name.casefold() for name in _names(folder)}


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names, not paths
    except (OSError, ValueError):
        return []


def _here(folder: Path) -> tuple[Path, ...]:
    return (folder,) if is_folder(folder) else ()


def is_folder(path: Path) -> bool:
    """Whether there is a folder, as far as it may be looked at."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False

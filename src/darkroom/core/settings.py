"""Where things lie and what the machine may use: defaults < file < environment < flag.

Each value knows where it came from, so that `darkroom doctor` can say why it is what it is.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from darkroom.core.errors import BadRequest, UnknownName, nearest, shorten
from darkroom.core.fields import Frozen
from darkroom.core.preview import METHODS, method_of

Source = Literal["default", "file", "environment", "flag"]
PREFIX = "DARKROOM_"
FILE_VARIABLE = "DARKROOM_SETTINGS"
OTHERS = (FILE_VARIABLE, "DARKROOM_VENV", "DARKROOM_STARTER_")  # or how they begin; not settings
LIKENESS = 0.6  # a variable this much like a setting's name is a misspelt one
LISTS = ("models_dirs", "embeddings_dirs", "wildcards_dirs", "styles_files")
NO_HOME = "Write the whole path, or set HOME."


def expanded(path: Path) -> Path:
    """`path` with `~` and `~user` at its start replaced by that home folder; else BadRequest."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise BadRequest(
            f"there is no home folder for {shorten(path.parts[0])!r}", hint=NO_HOME
        ) from None


def _data_dir() -> Path:
    try:
        return expanded(Path(platformdirs.user_data_dir("darkroom", appauthor=False)))
    except (RuntimeError, BadRequest):
        raise BadRequest(
            "your home folder cannot be found",
            hint="Set DARKROOM_DATA_DIR to a folder for what Darkroom keeps.",
        ) from None


def _default_file() -> Path | None:
    try:
        return Path(platformdirs.user_config_dir("darkroom", appauthor=False)) / "settings.toml"
    except RuntimeError:  # no home folder, so no file in it
        return None


class Settings(Frozen):
    """Settings of this installation; none of them changes what a recipe means."""

    outputs_dir: Path = Field(Path("outputs"), description="Folder for finished pictures.")
    data_dir: Path = Field(
        default_factory=_data_dir, description="Folder for what Darkroom itself keeps."
    )
    models_dirs: tuple[Path, ...] = Field(
        (),
        description="Folders with models, or installs of A1111, Forge or ComfyUI, besides `models`"
        " in the data folder.",
    )
    embeddings_dirs: tuple[Path, ...] = Field(
        (),
        description="Folders with embeddings (textual inversion), besides `embeddings` in the data"
        " folder.",
    )
    wildcards_dirs: tuple[Path, ...] = Field(
        (),
        description="Folders with lists for __name__ in prompts, besides `wildcards` in the data"
        " folder.",
    )
    styles_files: tuple[Path, ...] = Field(
        (), description="Files of styles, besides `styles.csv` in the data folder."
    )
    image_format: Literal["png", "jpeg", "webp", "avif"] = Field(
        "png", description="Kind of picture file, where -o names none."
    )
    image_quality: int = Field(
        90, ge=1, le=100, description="Quality of jpeg, webp and avif; webp loses nothing at 100."
    )
    image_metadata: bool = Field(True, description="Write recipe and settings into pictures.")
    image_stealth: bool = Field(
        False, description="Hide the settings in the lowest bits of PNG pixels too."
    )
    device: str = Field(
        "auto", description="Device to run on: auto, cpu, cuda, cuda:1, rocm, mps, xpu."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Number format of the networks."
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0 takes one per core.")
    cache_gb: float = Field(
        0, ge=0, allow_inf_nan=False, description="GiB of loaded models to keep; 0 takes half."
    )
    preview: str = Field(
        "auto",
        description="What shows the picture so far: tiny (a small decoder), matrix (the colours of"
        " the latent), full (the VAE), off, or the name or file of a small decoder. auto: tiny"
        " where one is for the model, else matrix.",
    )
    preview_seconds: float = Field(
        0.5, ge=0, allow_inf_nan=False, description="Least time between previews; 0 turns them off."
    )

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _list_of_paths(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str | Path) or not isinstance(value, list | tuple):
            what = "files" if info.field_name == "styles_files" else "folders"
            raise ValueError(f'must be a list of {what}, such as ["/models"]')
        return value

    @field_validator("preview")
    @classmethod
    def _method(cls, word: str) -> str:
        if not word.strip():
            raise ValueError(f"must be {', '.join(METHODS)}, or a decoder")
        return method_of(word) or word

    @field_validator("outputs_dir", "data_dir")
    @classmethod
    def _expand(cls, path: Path) -> Path:
        try:
            return expanded(path)
        except BadRequest as error:
            raise ValueError(str(error)) from None

    @field_validator(*LISTS)
    @classmethod
    def _expand_each(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(map(cls._expand, paths))

    @property
    def unfinished_dir(self) -> Path:
        """Where latents lie that are not pictures yet, a folder for each job."""
        return self.data_dir / "unfinished"


@dataclass(frozen=True, slots=True)
class Configured:
    """Settings, and where each value came from."""

    values: Settings
    sources: Mapping[str, Source]

    @classmethod
    def load_here(cls, flags: Mapping[str, Any] | None = None) -> Self:
        """The settings of this process."""
        return cls.load(os.environ, flags)

    @classmethod
    def load(cls, environment: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Self:
        """Merge the layers; a value that does not fit is a BadRequest that names its source."""
        layers: dict[Source, dict[str, Any]] = {
            "file": _read_file(environment.get(FILE_VARIABLE)),
            "environment": _read_environment(environment),
            "flag": {k: _flag(k, v) for k, v in (flags or {}).items() if v is not None},
        }
        for name in layers["flag"].keys() - Settings.model_fields.keys():
            raise UnknownName("setting", name, Settings.model_fields)
        merged: dict[str, Any] = {}
        sources: dict[str, Source] = dict.fromkeys(Settings.model_fields, "default")
        for source, layer in layers.items():
            merged |= layer
            sources |= dict.fromkeys(layer, source)
        try:
            return cls(Settings.model_validate(merged), sources)
        except ValidationError as error:
            item = error.errors(include_url=False)[0]
            name = str(item["loc"][0])
            given = shorten(repr(item["input"]), 40)
            what = re.sub(r"^(Input|String) should ", "must ", item["msg"])
            what = what.removeprefix("Value error, ").partition(", unable to parse")[0]
            raise BadRequest(
                f"setting {name} (from the {sources[name]}): {what}, not {given}"
            ) from None


def _flag(name: str, value: Any) -> Any:
    """The value of a flag, where each of a list may be several, written as in the environment."""
    if name not in LISTS or not isinstance(value, list | tuple):
        return value
    return [path for each in value for path in _paths(each)]


def _paths(given: Any) -> list[Any]:
    """A path; or those in it, where it is none that is there and one of them is."""
    parts = [part for part in str(given).split(os.pathsep) if part]
    if len(parts) < 2 or _there(str(given)) or not any(map(_there, parts)):
        return [given]
    return list(parts)


def _there(path: str) -> bool:
    try:
        return Path(os.path.expanduser(path)).exists()  # noqa: PTH111 - no home is no error here
    except (OSError, ValueError):
        return False


def _read_file(named: str | None) -> dict[str, Any]:
    """What stands in the file that was `named`, or in the default one if that is there."""
    path = expanded(Path(named)) if named else _default_file()
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except FileNotFoundError:
        if named:
            raise BadRequest(f"settings file {path} does not exist") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadRequest(f"settings file {shorten(str(path), 300)} cannot be read: {why}") from None
    for name in found.keys() - Settings.model_fields.keys():
        raise UnknownName("setting", name, Settings.model_fields, hint=f"It stands in {path}.")
    return found


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`DARKROOM_DEVICE=cpu`; folders in a list are separated as in PATH."""
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    for variable in environment:
        if not variable.startswith(PREFIX) or variable in known or variable.startswith(OTHERS):
            continue
        if nearest(variable.removeprefix(PREFIX), known.values(), least=LIKENESS):
            raise UnknownName(
                "setting", variable, known, hint="It is a variable of the environment."
            )
    found: dict[str, Any] = {}
    for variable, name in known.items():
        if text := environment.get(variable, ""):
            folders = [folder for folder in text.split(os.pathsep) if folder]
            found[name] = folders if name in LISTS else text
    return found

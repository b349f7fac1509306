"""Where things lie and what the machine may use: defaults < file < environment < flag.

Each value knows where it came from, so that `darkroom doctor` can say why it is what it is.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import Field, ValidationError

from darkroom.core.errors import BadRequest, UnknownName, shorten
from darkroom.core.request import Frozen

Source = Literal["default", "file", "environment", "flag"]
PREFIX = "DARKROOM_"
FILE_VARIABLE = "DARKROOM_SETTINGS"


def _data_dir() -> Path:
    return Path(platformdirs.user_data_dir("darkroom", appauthor=False))


class Settings(Frozen):
    """Settings of this installation; none of them changes what a recipe means."""

    outputs_dir: Path = Field(Path("outputs"), description="Folder for finished pictures.")
    data_dir: Path = Field(
        default_factory=_data_dir, description="Folder for what Darkroom itself keeps."
    )
    models_dirs: tuple[Path, ...] = Field(
        (), description="Folders with checkpoints, besides the `models` folder in the data folder."
    )
    device: str = Field("auto", description="Device to run on: auto, cpu, cuda, cuda:1, mps, xpu.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Number format of the networks."
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0 takes one per core.")
    cache_gb: float = Field(
        0, ge=0, allow_inf_nan=False, description="GiB of loaded models to keep; 0 takes half."
    )
    preview_seconds: float = Field(
        0.5, ge=0, allow_inf_nan=False, description="Least time between previews; 0 turns them off."
    )

    def model_folders(self) -> tuple[Path, ...]:
        """Every folder in which checkpoints are looked for."""
        return (*self.models_dirs, self.data_dir / "models")


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
        default = Path(platformdirs.user_config_dir("darkroom", appauthor=False)) / "settings.toml"
        path = Path(environment[FILE_VARIABLE]) if FILE_VARIABLE in environment else default
        layers: dict[Source, dict[str, Any]] = {
            "file": _read_file(path, must_exist=FILE_VARIABLE in environment),
            "environment": _read_environment(environment),
            "flag": {k: v for k, v in (flags or {}).items() if v is not None},
        }
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
            raise BadRequest(
                f"setting {name} (from the {sources[name]}): {item['msg'].lower()}, not {given}"
            ) from None


def _read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except FileNotFoundError:
        if must_exist:
            raise BadRequest(f"settings file {path} does not exist") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"settings file {path} cannot be read: {error}") from None
    for name in found.keys() - Settings.model_fields.keys():
        raise UnknownName("setting", name, Settings.model_fields, hint=f"It stands in {path}.")
    return found


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`DARKROOM_DEVICE=cpu`; folders in a list are separated as in PATH."""
    found: dict[str, Any] = {}
    for name in Settings.model_fields:
        if text := environment.get(PREFIX + name.upper(), ""):
            found[name] = text.split(os.pathsep) if name == "models_dirs" else text
    return found

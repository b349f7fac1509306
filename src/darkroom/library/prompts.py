"""What the user's files give to prompts: styles, wildcards, embeddings; no torch."""

from pathlib import Path

from darkroom.core.errors import BadFile
from darkroom.core.prompt import Style, Wildcards, read_styles_file
from darkroom.core.settings import Settings
from darkroom.library.walk import files_below

EMBEDDINGS = (".safetensors", ".pt", ".bin")


def styles_of(settings: Settings) -> dict[str, Style]:
    """Styles by name; of a name in two files the first counts."""
    own = settings.data_dir / "styles.csv"
    found: dict[str, Style] = {}
    for path in (*settings.styles_files, *([own] if own.exists() else [])):
        found = read_styles_file(path) | found
    return found


def wildcards_of(settings: Settings) -> Wildcards:
    """The lists for `__name__`."""
    own = settings.data_dir / "wildcards"
    return Wildcards.of((*settings.wildcards_dirs, *([own] if own.is_dir() else [])))


def embeddings_of(settings: Settings) -> dict[str, Path]:
    """Embedding files by the word for them: the file's name without its extension."""
    own = settings.data_dir / "embeddings"
    folders = (*settings.embeddings_dirs, *([own] if own.is_dir() else []))
    errors: dict[str, OSError] = {}
    found: dict[str, Path] = {}
    for _folder, path in files_below(folders, EMBEDDINGS, errors):
        found.setdefault(path.stem, path)
    for folder, error in errors.items():
        raise BadFile(
            f"the folder of embeddings {folder} cannot be read: {error.strerror}",
            hint="Check embeddings_dirs; `darkroom doctor` says where it is set.",
        )
    return found

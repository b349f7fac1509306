"""What the user's files give to prompts: styles, wildcards, embeddings; no torch.

Besides the folders and files that the settings name, those count that an install of another program
has: one that `models_dirs` names (see `library.folders`).
"""

from pathlib import Path

from darkroom.core.errors import BadFile
from darkroom.core.prompt import Style, Wildcards, read_styles_file
from darkroom.core.settings import Settings
from darkroom.library.folders import installed
from darkroom.library.survey import split
from darkroom.library.walk import files_below

EMBEDDINGS = (".safetensors", ".pt", ".bin")
PICTURES = (".png", ".webp")  # an embedding may be in one; most beside embeddings are previews


def styles_of(settings: Settings) -> dict[str, Style]:
    """Styles by name; of a name in two files the first counts."""
    own = settings.data_dir / "styles.csv"
    theirs = installed(settings.models_dirs).styles
    found: dict[str, Style] = {}
    for path in (*settings.styles_files, *([own] if own.exists() else []), *theirs):
        found = read_styles_file(path) | found
    return found


def wildcards_of(settings: Settings) -> Wildcards:
    """The lists for `__name__`."""
    own = settings.data_dir / "wildcards"
    theirs = installed(settings.models_dirs).wildcards
    return Wildcards.of((*settings.wildcards_dirs, *([own] if own.is_dir() else []), *theirs))


def embeddings_of(settings: Settings) -> dict[str, Path]:
    """Embedding files by the word for them: the file's name without its extension."""
    own = settings.data_dir / "embeddings"
    theirs = installed(settings.models_dirs).embeddings
    errors: dict[str, OSError] = {}
    found = _by_word((*settings.embeddings_dirs, *([own] if own.is_dir() else [])), errors)
    for folder, error in errors.items():
        raise BadFile(
            f"the folder of embeddings {folder} cannot be read: {error.strerror}",
            hint="Check embeddings_dirs; `darkroom doctor` says where it is set.",
        )
    return _by_word(theirs, errors) | found


def _by_word(folders: tuple[Path, ...], errors: dict[str, OSError]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files_below(folders, EMBEDDINGS, errors):
        found.setdefault(path.stem, path)
    for path in files_below(folders, PICTURES, errors):
        if not path.stem.endswith(".preview") and split(path.stem)[0] == path.stem:
            found.setdefault(path.stem, path)
    return found

"""No file of the project names a machine's folders or the host of a package registry.

    python -m tools.privacy [ROOT]    one line per finding, exit status 1 if there is one

Whoever installs Darkroom decides where packages come from, and whoever develops it keeps their
folders to themselves. Looked at is what git tracks, whatever it is, and what it would track but for
what tools leave behind (LEFTOVERS); without git, or in a folder that git knows nothing in, every
other file. Pictures and weights are looked into as well, as far as their metadata reach. (The names
below are put together so that this file passes its own check.)
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

FOLDERS = ("work", "root", "opt/wheels", "opt/" + "pypi")
HOSTS = (
    ("pypi", "org"),
    ("pypi", "python.org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("yarnpkg", "com"),
    ("download.pytorch", "org"),
    ("conda", "anaconda.org"),
)
PATTERN = re.compile(
    # An absolute path: nothing before it that would make it part of a longer one.
    r"(?<![\w.}~)\-*])/(?:" + "|".join(FOLDERS) + r")/[\w.]"
    r"|(?<![\w.])/(?:home|Users)/(?!(?:me|user|you|someone|USER|NAME)\b)\w+/"
    r"|\.\./" + "shared" + r"/"
    r"|\b" + "|".join(re.escape(f"{name}.{domain}") for name, domain in HOSTS),
)
LEFTOVERS = (
    ".git", ".venv*", ".work", "node_modules", "__pycache__", "outputs", "dist", "build",
    "*.egg-info", ".*_cache", ".hypothesis", ".coverage*", "htmlcov", "*.log",
)  # fmt: skip
LOOKED_AT = 4 << 20  # bytes of a file; metadata of pictures and weights lie in front


def looked_at(root: Path) -> list[Path]:
    """The files whose content must be fit for everyone."""
    kept = _git(root, "--cached")
    new = _git(root, "--others", "--exclude-standard")
    if not kept and not new:
        new = {path.relative_to(root).as_posix() for path in root.rglob("*")}
    names = kept | {name for name in new if not _is_leftover(name)}
    return [root / name for name in sorted(names) if (root / name).is_file()]


def _git(root: Path, *which: str) -> set[str]:
    """Names of files below `root` that git lists; none without git."""
    command = ["git", "-C", str(root), "ls-files", "-z", *which]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return set()
    return set(listed.decode("utf-8", "surrogateescape").split("\0")) - {""}


def _is_leftover(name: str) -> bool:
    return any(fnmatchcase(part, each) for part in name.split("/") for each in LEFTOVERS)


def findings(root: Path) -> Iterator[str]:
    """Every line that says too much, with its place."""
    for path in looked_at(root):
        with path.open("rb") as file:
            text = file.read(LOOKED_AT).decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            if hit := PATTERN.search(line):
                yield f"{path.relative_to(root).as_posix()}:{number}: {hit.group()!r}"


def main() -> int:
    """Print the findings."""
    wrong = list(findings(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent))
    print("\n".join(wrong) or "no private folders, no registry hosts")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

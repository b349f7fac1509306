"""No file of the project names a machine's folders or the host of a package registry.

    python -m tools.privacy [ROOT]    one line per finding, exit status 1 if there is one

Whoever installs Darkroom decides where packages come from, and whoever develops it keeps their
folders to themselves. Looked at is what git tracks or would track; without git, everything but
the usual caches. (The names below are put together so that this file passes its own check.)
"""

import re
import subprocess
import sys
from collections.abc import Iterator
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
SKIP = {".git", ".venv", ".work", "node_modules", "__pycache__", "outputs", "dist"}


def tracked(root: Path) -> list[Path]:
    """The files that git tracks or would add; without git, all but caches."""
    command = ["git", "-C", str(root), "ls-files", "-coz", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        found = (path for path in sorted(root.rglob("*")) if not SKIP & set(path.parts))
        return [path for path in found if path.is_file()]
    return [root / name for name in sorted(set(listed.split("\0"))) if (root / name).is_file()]


def findings(root: Path) -> Iterator[str]:
    """Every line that says too much, with its place."""
    for path in tracked(root):
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # a picture, weights
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

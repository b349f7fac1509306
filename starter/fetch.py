"""Fetch the pinned packages that the data is made of into `.work/packages` (done once).

Nothing here is part of installing Darkroom. Every archive is checked against its pinned SHA-256.
Where a pack was opened (pack.py), there is nothing to fetch.
"""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

from starter.recipe import PACKAGES, ROOT

NPM = {
    "lobehub-fluent-emoji-3d-1.1.0.tgz": "@lobehub/fluent-emoji-3d@1.1.0",
    "lobehub-fluent-emoji-flat-1.1.0.tgz": "@lobehub/fluent-emoji-flat@1.1.0",
}
SHA256 = {  # by archive name
    name: digest
    for digest, name in map(str.split, (ROOT / "packages.sha256").read_text().splitlines())
}


def _checked(path: Path) -> Path:
    """Return `path` if its SHA-256 is the pinned one, otherwise stop with a plain message."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[path.name]:
        path.unlink()
        sys.exit(f"{path.name}: SHA-256 {found} is not the pinned one; deleted, please run again")
    return path


def _npm(archive: str, package: str) -> None:
    """Download and unpack one npm package unless that is done already."""
    target = PACKAGES / archive.rsplit("-", 1)[0]
    if (target / ".done").exists():
        return
    if not (PACKAGES / archive).exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=PACKAGES, check=True)  # noqa: S607
    with tarfile.open(_checked(PACKAGES / archive)) as tar:
        tar.extractall(target, filter="data")
    (target / ".done").touch()


def fetch() -> None:
    """Bring every package to disk."""
    if (PACKAGES / ".packed").exists():
        return
    PACKAGES.mkdir(parents=True, exist_ok=True)
    for archive, package in NPM.items():
        _npm(archive, package)


if __name__ == "__main__":
    fetch()

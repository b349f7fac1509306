"""Finished latents whose process died before they were pictures; no torch.

Each job has a folder of its own in the data folder while it runs, and holds a lock in it. A folder
whose lock nobody holds was left behind: `darkroom recover` works on those.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from darkroom.media.lock import hold

LOCK = "lock"
SUFFIX = ".latent.safetensors"


def left_behind(data: Path) -> Iterator[Path]:
    """Files of latents whose process is gone; each folder is locked while its files are yielded."""
    for folder in sorted(path for path in data.glob("*") if path.is_dir()):
        with hold(folder / LOCK) as ours:
            if ours:
                yield from sorted(folder.glob(f"*{SUFFIX}"))
        if ours:
            remove_if_empty(folder)


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of a job without latents, and what a kill left of a file half written."""
    if not any(folder.glob(f"*{SUFFIX}")):
        shutil.rmtree(folder, ignore_errors=True)  # one that somebody looks into does no harm

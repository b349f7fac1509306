"""Carry a run from one machine to another in small files.

    python -m starter.pieces out FOLDER     # state.0, state.1 ... of at most 15 MiB, manifest.json
    python -m starter.pieces in FOLDER      # back into the work folder; what is there already stays

Weights travel in half precision. Carried are the finished parts, the averaged weights of the
denoiser with its counters, the logs and the evaluation. Left behind are the optimizer and the raw
weights of the denoiser (twelve times as much) and the pool, which a GPU encodes anew in a minute; a
run that goes on elsewhere starts from the averages. On the same machine nothing is lost.
"""

import argparse
import hashlib
import io
import json
import math
import shutil
import sys
import tarfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from starter.recipe import WORK, chosen

LARGEST = 15 << 20  # bytes of a piece
MOST = 60 << 20  # bytes altogether
WEIGHTS = (  # in this order; a name is left out where a later one replaces it
    "text.safetensors",
    "vae.safetensors",
    "vae_tuned.safetensors",
    "classifier.safetensors",
    "ema.safetensors",
)
REPLACED = {"text.safetensors": "ema.safetensors", "vae.safetensors": "vae_tuned.safetensors"}
FILES = (
    *(
        "natural.json",
        "vocabulary.json",
        "vae.json",
        "classifier.json",
        "progress.json",
        "train.done",
    ),
    *("train_log.jsonl", "evaluation/evaluation.json", "evaluation/contact_sheet.png"),
    *("glance/evaluation.json", "glance/contact_sheet.png"),
)
STATES = {  # of stages that are not finished: state file -> what the stage makes
    "vae_state.pt": "vae.safetensors",
    "classifier_state.pt": "classifier.safetensors",
    "tune_state.pt": "vae_tuned.safetensors",
}


def _halved(path: Path) -> bytes:
    """Return a safetensors file in half precision."""
    weights = {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise SystemExit(f"{path.name} does not fit half precision")
    return save({key: value.contiguous() for key, value in weights.items()})


def _contents() -> dict[str, bytes]:
    """Return what travels, by name."""
    there = {name for name in (*WEIGHTS, *FILES) if (WORK / name).exists()}
    found = {
        name: _halved(WORK / name)
        for name in WEIGHTS
        if name in there and REPLACED.get(name) not in there
    }
    found |= {name: (WORK / name).read_bytes() for name in FILES if name in there}
    for name, made in STATES.items():
        if (WORK / name).exists() and not (WORK / made).exists():
            size = (WORK / name).stat().st_size
            if size + sum(map(len, found.values())) < MOST:
                found[name] = (WORK / name).read_bytes()
            else:
                print(f"{name} is too large to travel: its stage begins anew", flush=True)
    return found


def write(folder: Path) -> None:
    """Write the pieces, the manifest last."""
    store = io.BytesIO()
    with tarfile.open(fileobj=store, mode="w") as tar:
        for name, data in _contents().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = store.getvalue()
    if len(data) > MOST:
        raise SystemExit(f"{len(data) / 2**20:.0f} MiB of state is more than can travel")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    for old in folder.glob("state.*"):
        old.unlink()
    count = math.ceil(len(data) / LARGEST)
    for index in range(count):
        (folder / f"state.{index}").write_bytes(data[index * LARGEST : (index + 1) * LARGEST])
    manifest = {
        "recipe": chosen().name,
        "pieces": count,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    print(f"state: {count} pieces, {len(data) / 2**20:.1f} MiB", flush=True)


def read(folder: Path) -> None:
    """Put what was carried into the work folder, but over nothing that is there."""
    if not (folder / "manifest.json").exists():
        print(f"no state in {folder.name}: beginning anew", flush=True)
        return
    manifest = json.loads((folder / "manifest.json").read_text())
    parts = [folder / f"state.{index}" for index in range(manifest["pieces"])]
    data = b"".join(part.read_bytes() for part in parts if part.exists())
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        sys.exit(f"the pieces in {folder.name} are not complete")
    if manifest["recipe"] != chosen().name:
        sys.exit(f"the state is of recipe {manifest['recipe']}, not {chosen().name}")
    WORK.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        absent = [each for each in tar.getmembers() if not (WORK / each.name).exists()]
        tar.extractall(WORK, members=absent, filter="data")
    first, tuned = WORK / "vae.safetensors", WORK / "vae_tuned.safetensors"
    if tuned.exists() and not first.exists():
        shutil.copyfile(tuned, first)  # the encoders are the same
    print(f"state: {len(absent)} files taken over", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("out", "in"))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    (write if options.way == "out" else read)(options.folder)


if __name__ == "__main__":
    main()

"""Run the stages of `starter/make` in order, each in a process of its own.

A stage skips itself when its output is there, so running again continues where a kill, or the end
of the time, fell.
"""

import argparse
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starter.recipe import OUT_OF_TIME, RECIPES, ROOT

STAGES: dict[str, tuple[str, ...]] = {
    "fetch": ("starter.fetch",),
    "sprites": ("starter.sprites",),
    "text": ("starter.text",),
    "vae": ("starter.vae",),
    "classifier": ("starter.classifier",),
    "tune": ("starter.tune",),
    "pool": ("starter.encode",),
    "train": ("starter.train",),
    "export": ("starter.export",),
    "evaluate": ("starter.evaluate", "{work}/starter.safetensors"),
    "card": ("starter.card",),
    "upscaler": ("starter.upscaler",),
}
EXTRA: dict[str, tuple[str, ...]] = {
    "pack": ("starter.pack",),
    "glance": ("starter.evaluate", "--checkpoint"),
}
MADE: dict[str, tuple[str, ...]] = {  # a stage is done when one of these is there
    "sprites": ("sprites.npy",),
    "text": ("text.safetensors", "ema.safetensors"),
    "vae": ("vae.safetensors",),
    "classifier": ("classifier.safetensors",),
    "tune": ("vae_tuned.safetensors",),
    "pool": ("train.done",),
    "upscaler": ("upscaler/upscaler.safetensors",),
}
FINISH = ("export", "evaluate", "captioner", "card")
ENDING = 25  # seconds kept for writing the pieces


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="starter/make", description=__doc__)
    parser.add_argument("--recipe", choices=list(RECIPES), default="cpu128")
    parser.add_argument("--pack", type=Path, help="open this archive first (for no network)")
    parser.add_argument("--resume", type=Path, help="go on from the pieces in this folder")
    parser.add_argument("--out", type=Path, help="leave the state there in small pieces")
    parser.add_argument("--minutes", type=float, help="end after so many, with the state saved")
    parser.add_argument("--train-minutes", type=float, help="length of the train stage")
    known = [*STAGES, *EXTRA, "finish"]
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(known)}")
    options = parser.parse_args()
    if unknown := set(options.stages) - set(known):
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def prepare(options: argparse.Namespace) -> Path:
    """Tell the stages through their environment what was asked; return the work folder."""
    environment = os.environ
    environment["DARKROOM_STARTER_RECIPE"] = options.recipe
    # One folder per recipe: latents and weights do not mix.
    own = ROOT / ".work" / ("" if options.recipe == "cpu128" else options.recipe)
    work = Path(environment.setdefault("DARKROOM_STARTER_WORK", str(own)))
    work.mkdir(parents=True, exist_ok=True)
    if options.minutes:
        deadline = time.time() + 60 * options.minutes - ENDING
        environment["DARKROOM_STARTER_DEADLINE"] = str(deadline)
    if options.train_minutes:
        environment["DARKROOM_STARTER_TRAIN_MINUTES"] = str(options.train_minutes)
    paths = (environment.get("PYTHONPATH", ""), str(work / "site"))  # what a pack brought, last
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return work


@contextmanager
def alone(work: Path, stage: str) -> Iterator[None]:
    """Wait until no other `make` runs this stage in this folder."""
    with (work / f"{stage}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"== {stage} runs already; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def python(*arguments: str) -> int:
    """Run a module of ours; return its exit status."""
    return subprocess.run([sys.executable, "-W", "ignore", "-m", *arguments]).returncode


def run(work: Path, stage: str) -> bool:
    """Run one stage; return whether it is done. A failing stage stops everything."""
    if any((work / name).exists() for name in MADE.get(stage, ())):
        print(f"== {stage} is there", flush=True)
        return True
    began = time.monotonic()
    print(f"== {stage}", flush=True)
    with alone(work, stage):
        code = python(*(part.format(work=work) for part in (STAGES | EXTRA)[stage]))
    if code not in (0, OUT_OF_TIME):
        sys.exit(f"stage {stage} ended with code {code}; run again to resume")
    print(f"== {stage} {'done' if code == 0 else 'stopped'}", end=" ", flush=True)
    print(f"after {(time.monotonic() - began) / 60:.1f} min", flush=True)
    return code == 0


def main() -> None:
    """Run all stages, or those named, in their order."""
    options = parse()
    work = prepare(options)
    for module, value in (("starter.pack", options.pack), ("starter.pieces", options.resume)):
        way = ("--open",) if module == "starter.pack" else ("in",)
        if value and python(module, *way, str(value)):
            sys.exit(1)
    wanted = set(options.stages) or set(STAGES)
    if "finish" in wanted:
        with alone(work, "train"):
            wanted |= set(FINISH)
    done = all(run(work, stage) for stage in (*STAGES, *EXTRA) if stage in wanted)
    if options.out:
        done = python("starter.pieces", "out", str(options.out)) == 0 and done
    print("== all done" if done else "== not done: run the same command again", flush=True)
    sys.exit(0 if done else OUT_OF_TIME)


if __name__ == "__main__":
    main()

"""How long loading takes, and what memory, beside the least there is to do (Linux).

    python bench/load.py bench/.work/sd15.safetensors

- loaded: from nothing to networks that can be called, and further to the moment that the UNet is
  first called (two prompts are encoded before it), against reading the same tensors with
  safetensors alone and converting them to what the device computes with. Alternating, each in a
  process of its own, since memory that a process has had before costs it nothing; the file in the
  page cache, imports done, the starter loaded before.
- back: the same checkpoint again, after another one, while both are in memory.
- memory: what loading adds to the resident memory of a process at its worst, beside the weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.memory import status
from bench.parity import ASKED, card_of
from darkroom.core.model import ModelCard
from darkroom.core.recipe import resolve
from darkroom.core.request import ImageRequest
from darkroom.engine.device import Device, choose_device
from darkroom.engine.engine import Engine
from darkroom.engine.models import Model
from darkroom.library.models import starter_path
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header

MIB = 1 << 20


def main() -> int:
    """Print the numbers of one file; with --only one of them, as JSON, for this process alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=[*RUNS, "back", "memory"])
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps(measured(asked.path, asked.only)))
        return 0
    alone(asked.path, "plain")  # the file into the page cache
    rounds = []
    for _ in range(asked.rounds):
        load, first, plain = (alone(asked.path, run) for run in RUNS)
        rounds.append((load / plain, first / plain))
        print(f"  {load:6.2f} s  {first:6.2f} s   safetensors alone {plain:6.2f} s", flush=True)
    load, first = map(statistics.median, zip(*rounds, strict=True))
    print(f"loaded: x{load:.2f} of safetensors alone; with the prompts encoded: x{first:.2f}")
    print(f"back to a checkpoint in memory: {alone(asked.path, 'back'):.4f} s")
    grown, weights = alone(asked.path, "memory")
    share = f"{grown / MIB:,.0f} MiB for {weights / MIB:,.0f} of weights, x{grown / weights:.2f}"
    print(f"memory at its worst: {share}")
    return 0


def alone(path: Path, what: str) -> Any:
    """One number, measured in a process of its own."""
    command = [sys.executable, __file__, str(path), "--only", what]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(told.splitlines()[-1])


def measured(path: Path, what: str) -> object:
    """One number, in this process."""
    device = choose_device("cpu")
    card = card_of(path, detect(read_header(path)))
    if what == "memory":
        return memory(card, device)
    small = starter_path()
    warm = card_of(small, detect(read_header(small)))
    to_first_step(warm, device)
    safetensors_alone(warm, device)
    return back(card, device) if what == "back" else seconds(lambda: RUNS[what](card, device))


def loaded(card: ModelCard, device: Device) -> Model:
    """The networks of the file."""
    return Engine(device, cache_bytes=0).model(card)


def to_first_step(card: ModelCard, device: Device) -> Model:
    """All that comes before the first call of the UNet."""
    engine = Engine(device, cache_bytes=0)
    model = engine.model(card)
    request = resolve(ImageRequest.parse({**ASKED, "model": card.name}), card)
    engine.plan(model, request)
    engine.script(model, request, say=print)
    return model


def safetensors_alone(card: ModelCard, device: Device) -> object:
    """The file's tensors, converted."""
    with safe_open(card.path, framework="pt") as file:
        return {name: file.get_tensor(name).to(device.dtype) for name in file.keys()}  # noqa: SIM118


def back(card: ModelCard, device: Device) -> float:
    """Seconds from one checkpoint in memory to another that is there, too."""
    engine = Engine(device, cache_bytes=1 << 40)
    other = replace(card, sha256="0" * 64)
    engine.model(card), engine.model(other)
    return seconds(lambda: engine.model(card))


def memory(card: ModelCard, device: Device) -> tuple[int, int]:
    """Bytes of resident memory that loading adds at its worst, and of the weights."""
    before = status("VmRSS")
    weights = to_first_step(card, device).bytes
    return status("VmHWM") - before, weights


RUNS: dict[str, Callable[[ModelCard, Device], object]] = {
    "loaded": loaded,
    "first": to_first_step,
    "plain": safetensors_alone,
}


def seconds(run: Callable[[], object]) -> float:
    """How long `run` takes; its result is let go outside."""
    began = time.perf_counter()
    kept = run()
    took = time.perf_counter() - began
    del kept
    return took


if __name__ == "__main__":
    raise SystemExit(main())

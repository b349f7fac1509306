"""Memory over many switches among checkpoints and LoRAs (Linux, CPU).

    python bench/switch.py                     three checkpoints of 9 MB, 20 LoRAs, 1,000 switches
    python bench/switch.py --switches 5000

Every switch takes the way of a real job: a checkpoint from the engine, which has room for two of
the three, its networks by the tags of a prompt, the prompt encoded, one step of sampling; at the
end everything is taken off. The first cycle sees every pair of a checkpoint and a LoRA, then they
are drawn at random, then the cycle comes again: so the same models are in memory at both ends, and
what resident memory has grown by is what was left behind.
"""

import argparse
import ctypes
import gc
import random
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from lora import make_lora
from make_checkpoint import make_checkpoint, tiny
from memory import status

from darkroom.core.model import ModelCard
from darkroom.core.prompt import networks, wishes
from darkroom.core.recipe import resolve
from darkroom.core.request import ImageRequest
from darkroom.core.settings import Settings
from darkroom.engine.device import choose_device
from darkroom.engine.engine import Engine
from darkroom.engine.run import Frame
from darkroom.library.models import Library
from darkroom.library.tags import files_for
from darkroom.sampling import sample
from darkroom.tasks.course import course_of, guidance_of
from darkroom.tasks.networks import worn
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from darkroom.weights.lora import targets_of

LEAST = 60  # switches: every LoRA on every checkpoint
MIB = 1 << 20


@dataclass(frozen=True)
class Bench:
    """The files, and the engine that runs them."""

    library: Library
    engine: Engine
    checkpoints: list[ModelCard]
    loras: list[str]

    def switch(self, card: ModelCard, tags: str) -> None:
        """One job of one step."""
        request = resolve(ImageRequest(prompt=f"a fox {tags}", steps=1, seed=1), card)
        request = request.model_copy(update={"width": 64, "height": 64})
        files = files_for(self.library, card, wishes(networks(request.prompt)[1])[0])
        engine = self.engine
        model = engine.model(card)
        with worn(engine, model, files=files, shelf=engine.shelf({})) as on:
            on.wear(request.prompt)
            script = engine.script(model, request, shelf=on.shelf, say=print)
            frame = Frame(table=engine.table(model, request), batch=1)
            denoise = engine.denoiser(model, script, guidance_of(request), frame=frame, say=print)
            course = course_of(engine, model, request, images=range(1))
            for _ in sample(denoise, course, torch.zeros(1, 1, 1, 1)):
                pass


def main() -> int:
    """Print memory every hundred switches; 1 if it grew by 1 % or more."""
    parser = argparse.ArgumentParser(description="Memory over many switches.")
    parser.add_argument("--switches", type=int, default=1000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return run(prepared(Path(folder)), asked.switches)


def run(bench: Bench, switches: int) -> int:
    """A cycle, the switches, and the cycle again."""
    draw = random.Random(0)  # noqa: S311 - the same switches each time
    first = cycle(bench)
    print(f"{'first cycle':>14} {first / MIB:10.1f} MiB", flush=True)
    for number in range(1, switches + 1):
        tags = "".join(
            f"<lora:{name}:{draw.uniform(0.1, 1):.2f}>"
            for name in draw.sample(bench.loras, draw.randint(0, 3))
        )
        bench.switch(draw.choice(bench.checkpoints), tags)
        if number % max(1, switches // 10) == 0:
            print(f"{number:8} times {resident() / MIB:10.1f} MiB", flush=True)
    growth = cycle(bench) / first - 1
    print(f"{'growth':>14} {growth:10.2%}")
    return int(growth >= 0.01)


def cycle(bench: Bench) -> int:
    """Every LoRA on every checkpoint; resident memory then."""
    for number in range(LEAST):
        name = bench.loras[number % len(bench.loras)]
        bench.switch(bench.checkpoints[number % len(bench.checkpoints)], f"<lora:{name}:0.5>")
    return resident()


def prepared(folder: Path) -> Bench:
    """Three checkpoints and twenty LoRAs for them, in a library of their own."""
    names = [f"model{number}" for number in range(3)]
    for seed, name in enumerate(names):
        make_checkpoint(folder / f"{name}.safetensors", tiny(), seed=seed)
    targets = targets_of(detect(read_header(folder / "model0.safetensors")))
    loras = [f"lora{number}" for number in range(20)]
    for seed, name in enumerate(loras):
        make_lora(folder / f"{name}.safetensors", targets, rank=8, seed=seed)
    library = Library.of(Settings(data_dir=folder / "data", models_dirs=(folder,)))
    checkpoints = [library.find(name) for name in names]
    probe = Engine(choose_device("cpu"), cache_bytes=0)
    room = int(2.5 * probe.model(checkpoints[0]).bytes)
    return Bench(library, Engine(choose_device("cpu"), cache_bytes=room), checkpoints, loras)


def resident() -> int:
    """Bytes, without what only waits to be collected, or to be given back by the allocator.

    That is up to one embedding table, here 12 MiB, now there and now not.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return status("VmRSS")


if __name__ == "__main__":
    raise SystemExit(main())

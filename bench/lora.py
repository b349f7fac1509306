"""How long LoRAs take to get on a model and off it, beside the bare arithmetic.

    python bench/lora.py bench/.work/sd15.safetensors                 ten of rank 64, 2 threads
    python bench/lora.py starter --count 3 --rank 8

The LoRAs are made up: random factors for every linear layer and 1x1 convolution of the UNet's
attention (192 in SD1). The arithmetic is one product per module, of factors that are stacked
already. Both are timed by turns, and both begin with equal memory: the results of the last turn
are given back first, out of the clock, for new pages cost more than the products. Each time is the
best of the rounds. The second column is CPU time of all threads, which other work on the machine
disturbs less.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from darkroom.core.settings import Configured
from darkroom.engine.device import choose_device
from darkroom.engine.engine import Engine
from darkroom.engine.models import Model
from darkroom.engine.patch import Patcher, Strengths, Wanted
from darkroom.library.models import Library
from darkroom.weights.header import read_header
from darkroom.weights.lora import Network, fit, read_network, targets_of
from darkroom.weights.lora.targets import Targets
from darkroom.weights.writer import write_safetensors

ROUNDS = 5
Seconds = tuple[float, float]  # on the wall and of the processors
Factors = list[tuple[Tensor, Tensor, Tensor]]  # weight, up, down of each module


def main() -> None:
    """Print one row for each thing that is done."""
    parser = argparse.ArgumentParser(description="LoRAs on a model and off it, in seconds.")
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    engine = Engine(choose_device("cpu"), cache_bytes=0)
    model = engine.model(Library.of(Configured.load_here().values).find(asked.model))
    targets = targets_of(model.networks.detected)
    with tempfile.TemporaryDirectory() as folder:
        networks: list[Network] = []
        for seed in range(asked.count):
            path = Path(folder) / f"{seed}.safetensors"
            make_lora(path, targets, rank=asked.rank, seed=seed)
            took = timed(lambda: networks.append(read(path, targets)))  # noqa: B023
        row("read one file", took)
    measure(model, networks, rank=asked.rank)


def measure(model: Model, networks: list[Network], *, rank: int) -> None:
    """Put them on, change one, take them off."""
    patcher = Patcher(model.networks.modules)
    wanted: Wanted = [(each, Strengths(text=0.5, unet=0.5)) for each in networks]
    other: Wanted = [*wanted[:-1], (networks[-1], Strengths(text=0.5, unet=0.3))]
    stacked = stack(model, networks, rank=rank)
    bare, applied = by_turns(lambda: multiply(stacked), lambda: patcher.apply(wanted), patcher.undo)
    stacked.clear()
    row("arithmetic alone", bare)
    ratios = (f"{a / b:.2f}" for a, b in zip(applied, bare, strict=True))
    row("apply", applied, f"{', '.join(ratios)} x the arithmetic")
    patcher.apply(wanted)
    row("apply, nothing changed", best(lambda: patcher.apply(wanted), lambda: None))
    row("adjust one strength", best(lambda: patcher.adjust(other), lambda: patcher.adjust(wanted)))
    row("undo", best(patcher.undo, lambda: patcher.apply(wanted)))


def stack(model: Model, networks: list[Network], *, rank: int) -> Factors:
    """Each module's weight as a matrix, and factors of the whole rank."""
    made = []
    for component, path in networks[0].adapters:
        weight = model.networks.modules[component].get_submodule(path).weight
        flat = weight.detach().reshape(len(weight), -1)
        whole = rank * len(networks)
        made.append((flat, torch.randn(len(flat), whole), torch.randn(whole, flat.shape[1])))
    return made


def multiply(factors: Factors) -> list[Tensor]:
    """The sums, all of which stay in memory."""
    return [torch.addmm(*each) for each in factors]


def by_turns(
    one: Callable[[], object], other: Callable[[], object], clear: Callable[[], object]
) -> tuple[Seconds, Seconds]:
    """The fastest run of each, one after the other; `clear` comes before every one."""
    for run in (one, other):  # whatever is done once only
        clear()
        run()
    rounds = [(best(one, clear, 1), best(other, clear, 1)) for _ in range(ROUNDS)]
    first, second = zip(*rounds, strict=True)
    return fastest(first), fastest(second)


def best(run: Callable[[], object], prepare: Callable[[], object], times: int = 3) -> Seconds:
    """The fastest run, each after its preparation."""
    took = []
    for _ in range(times):
        prepare()
        took.append(timed(run))
    return fastest(took)


def fastest(took: Iterable[Seconds]) -> Seconds:
    """The least of each column."""
    walls, processors = zip(*took, strict=True)
    return min(walls), min(processors)


def timed(run: Callable[[], object]) -> Seconds:
    """How long a run takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    took = time.perf_counter() - wall, time.process_time() - cpu
    del result  # giving memory back is not timed
    return took


def row(what: str, took: Seconds, more: str = "") -> None:
    """One line of the table."""
    print(f"{what:24} {took[0]:8.3f} s {took[1]:8.3f} s CPU  {more}", flush=True)


def read(path: Path, targets: Targets) -> Network:
    """A LoRA from its file."""
    header = read_header(path)
    return read_network(header, fit(header, targets))


def make_lora(path: Path, targets: Targets, *, rank: int, seed: int = 0) -> None:
    """A kohya LoRA with random factors on the UNet's attention, fp16."""
    shapes: dict[str, tuple[int, ...]] = {}
    for (component, module), shape in targets.shapes.items():
        if (
            component == "unet"
            and ".attentions." in module
            and math.prod(shape[2:]) == 1 < len(shape)
        ):
            name = f"lora_unet_{module.replace('.', '_')}"
            shapes[f"{name}.lora_down.weight"] = (rank, *shape[1:])
            shapes[f"{name}.lora_up.weight"] = (shape[0], rank, *shape[2:])
    table = {name: ("F16", shape) for name, shape in shapes.items()}
    write_safetensors(path, table, _numbers(shapes, seed), metadata={})


def _numbers(shapes: dict[str, tuple[int, ...]], seed: int) -> Iterator[memoryview]:
    random = np.random.default_rng(seed)
    for shape in shapes.values():
        values = random.standard_normal(math.prod(shape), np.float32) * 0.01
        yield values.astype("<f2").data.cast("B")


if __name__ == "__main__":
    main()

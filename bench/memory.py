"""Predicted beside measured peak memory of one UNet call and one decoding, on the CPU (Linux).

    python bench/memory.py starter --sizes 128 256 512
    python bench/memory.py sd15.safetensors --sizes 256 512

The kernel's high-water mark of resident memory is reset before each part, so that every row is the
part's own. The constants in `darkroom.engine.plan` come from this table.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from darkroom.core.settings import Configured
from darkroom.engine.device import choose_device
from darkroom.engine.engine import Engine
from darkroom.engine.latent import decode
from darkroom.engine.networks import SINUSOIDS
from darkroom.engine.plan import MIB, Work, costs_of, make_plan
from darkroom.library.models import Library
from darkroom.weights.detect import Detected
from darkroom.weights.topology import FACTOR


def main() -> None:
    """Print one row a size and part."""
    parser = argparse.ArgumentParser(description="Predicted beside measured peak memory.")
    parser.add_argument("model")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--branches", type=int, default=2, choices=(1, 2))
    asked = parser.parse_args()
    settings = Configured.load_here().values
    library = Library.of(settings)
    engine = Engine(choose_device("cpu"), cache_bytes=0)
    model = engine.model(library.find(asked.model))
    networks, detected = model.networks, model.networks.detected
    print(f"{'part':8} {'size':>5} {'predicted':>10} {'measured':>10}  MiB")
    for size in asked.sizes:
        work = Work(size, size, 1, guided=asked.branches == 2)
        costs = costs_of(detected.unet, model.vae.dims, work, item_bytes=4, model_bytes=model.bytes)
        plan = make_plan(costs, work, free=1 << 62, cpu=True)
        given = inputs(detected, asked.branches, size // FACTOR)
        unet = peak(lambda: networks.unet(**given, return_dict=False))  # noqa: B023
        latent = torch.randn(1, 4, size // FACTOR, size // FACTOR)
        vae = peak(lambda: decode(model.vae.module, latent, scale=1.0, tile=None))  # noqa: B023
        for part, predicted, measured in (
            ("unet", plan.sampling_bytes, unet),
            ("decode", plan.decoding_bytes, vae),
        ):
            print(f"{part:8} {size:5} {predicted / MIB:10.0f} {measured / MIB:10.0f}", flush=True)


def inputs(detected: Detected, branches: int, side: int) -> dict[str, object]:
    """What the UNet of a family takes in one call."""
    unet, whole = detected.unet, detected.texts[-1].projection or 0
    numbers = ((unet.adm or 0) - whole) // SINUSOIDS
    return {
        "sample": torch.randn(branches, unet.in_channels, side, side),
        "timestep": torch.full((branches,), 500.0),
        "encoder_hidden_states": torch.randn(branches, 77, unet.context),
        "added_cond_kwargs": {
            "text_embeds": torch.randn(branches, whole),
            "time_ids": torch.randn(branches, numbers),
        },
    }


def peak(run: Callable[[], object]) -> int:
    """Bytes that `run` had resident at its worst beyond what was there before; second run."""
    run()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()

"""How near previews come to the picture, and what they cost.

python bench/preview.py                                     a minute on one core
python bench/preview.py --model sd15 --size 512 --pictures 2 --json found.json
python bench/preview.py --decoder taesd_decoder.pth --keep folder

half, last   PSNR in dB of a preview of that step, against what the VAE makes of the same estimate
ms           of one preview, without its file: the median
share        of the running time, by which a job with previews takes longer than one without: the
             median of runs in turns, previews as often as they may come. On a processor its own
             time counts, so that other work beside does not
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gallery import flags, put_down, table
from PIL import Image
from torch import Tensor

from darkroom.core.errors import DarkroomWarning
from darkroom.core.recipe import resolve
from darkroom.core.request import ImageRequest
from darkroom.core.settings import Settings
from darkroom.engine.models import Model
from darkroom.engine.plan import Plan
from darkroom.engine.preview import by_matrix, smaller
from darkroom.engine.run import Frame
from darkroom.jobs.worker import Worker
from darkroom.library.previews import previewing_of
from darkroom.sampling import sample
from darkroom.tasks.course import course_of, guidance_of

PROMPTS = (
    "a red apple on a white background",
    "a blue car on a green background",
    "a cat, pixel art",
)
OFTEN = 0.01  # seconds between previews: as often as they may come
REPEATED = 9
Row = dict[str, Any]
Way = Callable[[Tensor], Tensor]  # (C, h, w) to (H, W, 3) uint8


class Bench:
    """One model, and the ways to show its latents."""

    def __init__(self, folder: Path, asked: Namespace) -> None:
        self._asked = asked
        self._plain = Settings(
            data_dir=folder / "data", outputs_dir=folder / "out", threads=asked.threads
        )
        self._worker = Worker(self._plain)
        self._card = self._worker.library.find(asked.model)

    def ways(self) -> dict[str, Way]:
        """The full decoder, the tiny one if there is one for the model, and the matrix."""
        engine, model = self._worker.engine, self._model()
        plan = self._plan(model)
        wanted = self._asked.decoder or "auto"
        decoder = previewing_of(self._worker.library, wanted).decoder_for(self._card)
        found: dict[str, Way] = {
            "full": lambda one: smaller(engine.decode(model, one, plan=plan, say=_silent)),
            "matrix": lambda one: by_matrix(one, model.preview),
        }
        if decoder is not None:
            found["tiny"] = engine.preview_decoder(decoder)
        return found

    def rows(self) -> Iterator[Row]:
        """How near each way comes, and what it takes."""
        ways = self.ways()
        runs = [self._estimates(seed) for seed in range(self._asked.pictures)]
        full = [[ways["full"](one) for one in run] for run in runs]
        for name, way in ways.items():
            shown = [[way(one) for one in run] for run in runs]
            self._keep(name, shown)
            apart = [
                [psnr(a, b) for a, b in zip(*each, strict=True)]
                for each in zip(shown, full, strict=True)
            ]
            half, last = np.mean(apart, axis=0).tolist()
            yield {
                "previews by": name,
                "half": half if name != "full" else "",
                "last": last if name != "full" else "",
                "ms": 1000 * seconds(way, runs[0][1]),
                "share": f"{100 * self._share(name):.1f} %",
            }

    def _model(self) -> Model:
        return self._worker.engine.model(self._card)

    def _plan(self, model: Model) -> Plan:
        return self._worker.engine.plan(model, resolve(self._request(0), self._card))

    def _request(self, seed: int) -> ImageRequest:
        told: Row = {"prompt": PROMPTS[seed % len(PROMPTS)], "seed": seed, "model": self._card.name}
        if self._asked.size:
            told |= {"width": self._asked.size, "height": self._asked.size}
        return ImageRequest.parse(told | {"steps": self._asked.steps})

    def _estimates(self, seed: int) -> tuple[Tensor, Tensor]:
        """What the sampler takes the picture for, half-way and in the end: two (C, h, w)."""
        engine, model = self._worker.engine, self._model()
        request = resolve(self._request(seed), self._card)
        table = engine.table(model, request)
        frame = Frame(table=table, batch=1, split=self._plan(model).split_guidance)
        script = engine.script(model, request, say=_silent)
        denoise = engine.denoiser(model, script, guidance_of(request), frame=frame, say=_silent)
        course = course_of(engine, model, request, images=range(1))
        empty = torch.zeros(1, 1, 1, 1, device=engine.device.torch)
        found = [step.clean[0] for step in sample(denoise, course, empty)]
        return found[len(found) // 2], found[-1]

    def _share(self, method: str) -> float:
        """By how much longer a job takes with previews of that kind, as a share."""
        named = self._asked.decoder if method == "tiny" and self._asked.decoder else method
        ratios = []
        for _ in range(self._asked.rounds):
            without, with_them = (self._spent(each) for each in ("off", named))
            ratios.append(with_them / without)
        return statistics.median(ratios) - 1

    def _spent(self, preview: str) -> float:
        """The seconds of one job of a few pictures."""
        settings = self._plain.model_copy(update={"preview": preview, "preview_seconds": OFTEN})
        worker = Worker(settings)
        worker.engine = self._worker.engine  # with the model loaded
        request = self._request(0).model_copy(update={"count": self._asked.count})
        on_cpu = worker.engine.device.kind == "cpu"
        clock = time.process_time if on_cpu else time.perf_counter
        began = clock()
        *_, last = worker.run(request)
        if last.kind != "done":
            raise SystemExit(f"{last.data['text']}. {last.data['hint']}")
        return clock() - began

    def _keep(self, name: str, shown: list[list[Tensor]]) -> None:
        if self._asked.keep is not None:
            self._asked.keep.mkdir(parents=True, exist_ok=True)
            rows = [np.concatenate([one.numpy() for one in run], axis=1) for run in shown]
            Image.fromarray(np.concatenate(rows)).save(self._asked.keep / f"{name}.png")


def psnr(shown: Tensor, wanted: Tensor) -> float:
    """PSNR in dB of two pictures (H, W, 3) uint8."""
    square = (shown.float() - wanted.float()).square().mean().clamp_min(1e-6)
    return float(10 * (255**2 / square).log10())


def seconds(way: Way, latent: Tensor) -> float:
    """The seconds of one picture, the median."""
    spent = []
    for _ in range(REPEATED):
        began = time.perf_counter()
        way(latent)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def _silent(_text: str) -> None:
    """Notes are no matter here."""


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore", DarkroomWarning)
    parser = flags(__doc__, pictures=8)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--decoder", help="the tiny decoder's name or file, if not the best here")
    parser.add_argument("--size", type=int, help="px; by default the model's own")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--count", type=int, default=4, help="pictures of a job that is timed")
    parser.add_argument("--rounds", type=int, default=3, help="jobs that are timed, of each kind")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        found = list(Bench(Path(folder), asked).rows())
    print(table(found))
    put_down(found, asked.json)


if __name__ == "__main__":
    sys.exit(main())

"""The tables of docs/samplers.md, made from the rows of `core.sampler_table` and from measurement.

    python -m tools.samplers            exit status 1 if the page differs from what is measured
    python -m tools.samplers --write    mend the page

The goldens are A1111's latents in tests/goldens/samplers.json; `replay` runs a case of them.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darkroom.core.model import Prediction
from darkroom.core.sampler_options import Family, SamplerOptions, ScheduleOptions
from darkroom.core.sampler_table import (
    AUTOMATIC,
    SAMPLERS,
    SCHEDULERS,
    SamplerSpec,
    SchedulerSpec,
    find_sampler,
    find_scheduler,
)
from darkroom.sampling import (
    SCHEDULES,
    Course,
    Denoiser,
    Guidance,
    Network,
    NoiseTable,
    Seeds,
    Variation,
    composed,
    levels,
    predict,
    sample,
    sampler_for,
    steer,
    table_for,
    together,
)

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "samplers.md"
GOLDENS = ROOT / "tests" / "goldens" / "samplers.json"
Case = Mapping[str, Any]

_SEED, _SCALE = 1234, 7.0  # of every case that does not say otherwise
_COND, _UNCOND = 0.5, -0.25  # means of the two contexts


def toy_unet(mean: float) -> Network:
    """The `toy_unet` of the goldens' `_meta`, for a context whose mean is `mean`."""
    return lambda x, t: (
        x * (0.9 - 0.2 * mean)
        + 0.15 * torch.sin(3 * x + 2 * t.view(-1, 1, 1, 1) / 1000)
        + 0.1 * mean
    )


def replay(case: Case) -> tuple[Tensor, Course]:
    """The latent (B, 4, 4, 4) of a golden case, and the course that led to it."""
    args = case["args"]
    spec, _ = find_sampler(case["sampler"])
    table = table_for(spec, NoiseTable.stable_diffusion())
    course = _course(case, spec, table)

    def told(mean: float) -> Denoiser:
        return predict(toy_unet(mean), table, Prediction.EPS)

    parts = [(told(texts[0][1]), weight) for weight, texts in args.get("cond", [[1, [[0, _COND]]]])]
    guidance = Guidance(
        scale=args.get("cfg", _SCALE) / spec.scale_divisor,
        skip_early=args.get("skip_early_cond", 0.0),
        paired=spec.paired,
    )
    denoise = steer(composed(parts, told(_UNCOND)), together(parts), guidance)
    *_, step = sample(denoise, course, torch.zeros(1, 1, 1, 1))
    return step.x, course


def _course(case: Case, spec: SamplerSpec, table: NoiseTable) -> Course:
    args = case["args"]
    from_image = args.get("mode") == "img2img"
    batch = args.get("batch", 1)
    seeds = tuple(range(_SEED, _SEED + batch))
    variation = None
    if "subseed" in args:
        others = tuple(range(args["subseed"], args["subseed"] + batch))
        seeds, variation = (_SEED,) * batch, Variation(seeds=others, strength=args["substr"])
    return Course(
        sampler=sampler_for(spec, SamplerOptions(variant=args.get("uni_pc_variant"))),
        levels=levels(
            spec,
            find_scheduler(args.get("scheduler", AUTOMATIC)),
            table,
            args.get("explicit_steps", case["steps"]),
            strength=args["denoise"] if from_image else None,
            exact="explicit_steps" in args,
            options=ScheduleOptions(sgm_noise=args.get("sgm_noise_multiplier")),
        ),
        shape=(batch, 4, 4, 4),
        seeds=Seeds(values=seeds, source="nv", variation=variation),
        clean=torch.sin(0.37 * torch.arange(64)).reshape(1, 4, 4, 4) if from_image else None,
        mask=torch.tensor([0.0, 0, 1, 1]).expand(1, 1, 4, 4) if "mask" in args else None,
        extra_noise=args.get("img2img_extra_noise", 0.0),
    )


def error_of(case: Case) -> float | None:
    """The greatest difference from A1111's latent, beside its greatest value; None: A1111 fails."""
    found, _ = replay(case)
    if "error" in case:
        return None
    wanted = torch.tensor(case["out"]).reshape(found.shape)
    return float((found - wanted).abs().max() / wanted.abs().max())


def golden_errors(cases: Sequence[Case]) -> dict[str, float]:
    """The greatest error per sampler."""
    errors: dict[str, float] = {}
    for case in cases:
        if (error := error_of(case)) is not None:
            errors[case["sampler"]] = max(error, errors.get(case["sampler"], 0.0))
    return errors


def schedule_errors(goldens: Case) -> dict[str, float]:
    """The greatest error per schedule, beside its highest level."""
    table = NoiseTable.stable_diffusion()
    errors: dict[str, float] = {}
    for row, family, by_steps in schedule_cases(goldens):
        for steps, wanted in by_steps.items():
            found = SCHEDULES[row.function](table, int(steps), ScheduleOptions(family=family))
            error = max(abs(a - b) for a, b in zip(found.tolist(), wanted, strict=True))
            errors[row.name] = max(error / max(wanted), errors.get(row.name, 0.0))
    return errors


def schedule_cases(goldens: Case) -> Iterator[tuple[SchedulerSpec, Family, Mapping[str, Any]]]:
    """(scheduler, kind of model, levels by number of steps): A1111's and ComfyUI's."""
    for name, by_steps in goldens["sigmas"].items():
        bare, _, family = name.partition("/")
        if not bare.startswith("lcm"):  # that is Uniform, on the levels of LCM
            yield find_scheduler(bare), "sdxl" if family else "sd1", by_steps
    for name, by_steps in goldens["comfy_sigmas"].items():
        own = name in ("beta", "kl_optimal")  # ComfyUI means something else by these
        yield find_scheduler(f"{name} (ComfyUI)" if own else name), "sd1", by_steps


def tables() -> dict[str, str]:
    """Both tables, by the name that the page marks them with."""
    goldens = json.loads(GOLDENS.read_text("utf-8"))
    errors = golden_errors(goldens["samplers"])
    accuracy = schedule_errors(goldens)
    return {
        "samplers": _table(
            "Sampler|Order|Calls per step|Deterministic|By itself on|Takes|Golden max error",
            (_sampler_cells(row, errors.get(row.name)) for row in SAMPLERS),
        ),
        "schedulers": _table(
            "Scheduler|Spaces the steps|Takes|Golden max error",
            (_scheduler_cells(row, accuracy.get(row.name)) for row in SCHEDULERS),
        ),
    }


def _sampler_cells(row: SamplerSpec, error: float | None) -> list[str]:
    return [
        row.name,
        str(row.order or "–"),
        f"{row.calls} a try" if row.walk == "adaptive" else str(row.calls),
        "no" if row.stochastic else "yes",
        "its own" if row.spaces_itself else row.scheduler,
        ", ".join(row.takes),
        _measured(error),
    ]


def _scheduler_cells(row: SchedulerSpec, error: float | None) -> list[str]:
    return [row.name, row.about, ", ".join(row.takes), _measured(error)]


def _measured(error: float | None) -> str:
    return "" if error is None else f"{error:.0e}"


def _table(head: str, rows: Iterator[list[str]]) -> str:
    names = head.split("|")
    filled = ([cell or "–" for cell in cells] for cells in rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [names, ["---"] * len(names), *filled])


def mended(page: str) -> str:
    """The page with its tables made anew."""
    for name, text in tables().items():
        head, _, rest = page.partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        page = f"{head}<!-- table: {name} -->\n{text}{end}{after}"
    return page


def without_errors(page: str) -> str:
    """The page without what was measured, which differs a little from machine to machine."""
    return re.sub(r"\d+e-\d+", "", page)


def main() -> int:
    """Compare the page with what is measured, or write it."""
    page = PAGE.read_text("utf-8")
    fresh = mended(page)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(fresh, "utf-8")
        return 0
    stale = without_errors(page) != without_errors(fresh)
    if stale:
        print("docs/samplers.md is out of date: python -m tools.samplers --write")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())

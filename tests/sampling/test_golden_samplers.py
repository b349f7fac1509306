"""A1111's own numbers: tests/goldens/samplers.json, made by running A1111 1.10.1."""

import json

import pytest
import torch

from darkroom.core.sampler_options import ScheduleOptions
from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler, resolve_scheduler
from darkroom.sampling import (
    SCHEDULES,
    NoiseTable,
    Seeds,
    Variation,
    img2img_steps,
    levels,
    table_for,
)
from darkroom.sampling.noise import generator
from darkroom.sampling.schedules import timesteps
from tools.samplers import GOLDENS, replay, schedule_cases

GOLDEN = json.loads(GOLDENS.read_text("utf-8"))
TABLE = NoiseTable.stable_diffusion()
SPAN = (0.03, 14.6)


@pytest.mark.parametrize(
    "case",
    GOLDEN["samplers"],
    ids=lambda case: f"{case['sampler']} {case['steps']} {case['case']} {case['args']}",
)
def test_latents(case):
    found, _ = replay(case)
    assert found.isfinite().all()
    if "error" not in case:  # A1111 fails there; we do not
        wanted = torch.tensor(case["out"]).reshape(found.shape)
        assert (found - wanted).abs().max() <= 2e-5 * wanted.abs().max()
        assert torch.allclose(found, wanted, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("row", "family", "by_steps"),
    list(schedule_cases(GOLDEN)),
    ids=lambda value: getattr(value, "name", value if isinstance(value, str) else ""),
)
def test_schedules(row, family, by_steps):
    for steps, wanted in by_steps.items():
        found = SCHEDULES[row.function](TABLE, int(steps), ScheduleOptions(family=family))
        assert found.tolist() == pytest.approx(wanted, rel=5e-6, abs=6e-7)


def test_lcm_schedule():
    spec, _ = find_sampler("LCM")
    for steps, wanted in GOLDEN["sigmas"]["lcm (sampler LCM, Automatic)"].items():
        walk = levels(spec, find_scheduler(AUTOMATIC), table_for(spec, TABLE), int(steps))
        assert walk.sigmas.tolist() == pytest.approx(wanted, rel=5e-6)


def test_noise_table():
    found = (TABLE.low, TABLE.high, TABLE.sigmas[500].item())
    wanted = [GOLDEN["model_sigmas"][name] for name in ("sigma_min", "sigma_max", "sigmas[500]")]
    assert found == pytest.approx(wanted, rel=1e-7)
    for sigma, time in GOLDEN["sigma_to_t"]:
        assert TABLE.time(sigma) == pytest.approx(time, abs=1e-4)
    for time, sigma in GOLDEN["t_to_sigma"]:
        assert TABLE.level(torch.tensor([time])).item() == pytest.approx(sigma, abs=6e-6)


def test_quantized_times():
    table = NoiseTable(TABLE.sigmas, TABLE.times, quantized=True)
    for sigma, time in GOLDEN["sigma_to_t_quantized"]:
        assert table.time(sigma) == time


def test_ddim_timesteps():
    for steps, wanted in GOLDEN["ddim_timesteps"].items():
        assert timesteps(TABLE, int(steps)).tolist() == wanted


@pytest.mark.parametrize("case", GOLDEN["img2img_steps"], ids=str)
def test_img2img_steps(case):
    planned, kept = img2img_steps(case["steps"], case["denoise"], case["explicit_or_fix"])
    assert planned == case["schedule_steps"]
    assert kept == case["t_enc"]
    assert planned - kept - 1 == case["sigma_index"]


@pytest.mark.parametrize("source", ["nv", "cpu"])
def test_generators(source):
    for seed, wanted in GOLDEN["rng"][source].items():
        draw = generator(int(seed), source)
        for name in ("first", "second"):
            found = draw((4, 4, 4)).flatten()[:16].tolist()
            assert found == pytest.approx(wanted[name], abs=2e-6)
    big = GOLDEN["rng"][f"{source}_big"]
    noise = generator(big["seed"], source)(tuple(big["shape"])).flatten()
    assert noise[:8].tolist() == pytest.approx(big["head"], abs=2e-6)
    assert noise[-8:].tolist() == pytest.approx(big["tail"], abs=2e-6)
    assert noise.sum().item() == pytest.approx(big["sum"], abs=0.01)


def first(shape, **fields):
    return Seeds(source="nv", **fields).start(SPAN).first(torch.zeros(1, *shape)).flatten().tolist()


@pytest.mark.parametrize(
    "case", [*GOLDEN["rng"]["variation"], GOLDEN["rng"]["variation_same_seed"]], ids=str
)
def test_variation(case):
    variation = Variation(seeds=(case["subseed"],), strength=case["strength"])
    found = first((4, 4, 4), values=(case["seed"],), variation=variation)
    assert found[:16] == pytest.approx(case["first16"], abs=3e-6)


@pytest.mark.parametrize(
    "case", GOLDEN["rng"]["seed_resize"], ids=lambda case: str(case["from_hw"])
)
def test_seed_resize(case):
    size = tuple(side // 8 for side in case["from_hw"])
    found = first(case["shape"], values=(case["seed"],), resize_from=size)
    assert found[: len(case["values"])] == pytest.approx(case["values"], abs=3e-6)


def test_eta_noise_seed_delta():
    case = GOLDEN["rng"]["ensd"]
    noise = Seeds(values=(case["seed"],), source="nv", ensd=case["ensd"]).start(SPAN)
    like = torch.zeros(1, 4, 4, 4)
    assert noise.first(like).flatten()[:16].tolist() == pytest.approx(case["first16"], abs=2e-6)
    assert noise(like).flatten()[:16].tolist() == pytest.approx(case["second16"], abs=2e-6)


def test_automatic_is_the_schedule_that_a1111_writes_down():
    for case in GOLDEN["samplers"]:
        if written := case.get("infotext_params", {}).get("Schedule type"):
            asked = case["args"].get("scheduler", AUTOMATIC)
            assert resolve_scheduler(case["sampler"], asked).name == written

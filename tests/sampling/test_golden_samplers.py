"""A1111's own numbers: tests/goldens/samplers.json, made by running A1111 1.10.1."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from darkroom.core.errors import UnknownName
from darkroom.core.model import Prediction
from darkroom.core.sampler_table import (
    AUTOMATIC,
    find_sampler,
    find_scheduler,
    resolve_scheduler,
)
from darkroom.sampling import (
    SAMPLERS,
    SCHEDULES,
    Course,
    NoiseTable,
    Seeds,
    between,
    guide,
    img2img_steps,
    levels,
    predict,
    sample,
    table_for,
)
from darkroom.sampling.noise import generator
from darkroom.sampling.schedules import timesteps
from sampling.closed_form import last

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens/samplers.json").read_text())
TABLE = NoiseTable.stable_diffusion()
# What the next issue brings. A name that becomes known fails here until it is taken out.
LATER_SAMPLERS = {
    "DPM++ 2M SDE Heun", "LMS", "DPM2", "DPM2 a", "DPM++ SDE", "DPM fast", "DPM adaptive",
    "Restart", "DDIM CFG++", "PLMS",
}  # fmt: skip
LATER_SCHEDULERS = {
    "KL Optimal", "DDIM", "polyexponential", "kl_optimal", "align_your_steps",
    "align_your_steps/sdxl", "ddim", "lcm (sampler LCM, Automatic)",
}  # fmt: skip
LATER_ARGUMENTS = {"subseed", "cond", "img2img_extra_noise", "sgm_noise_multiplier"}


def known(case):
    return (
        case["sampler"] not in LATER_SAMPLERS
        and case["args"].get("scheduler") not in LATER_SCHEDULERS
        and not LATER_ARGUMENTS & set(case["args"])
    )


def toy_unet(mean):
    """The `toy_unet` of the file's `_meta`, for a context whose mean is `mean`."""
    return lambda x, t: (
        x * (0.9 - 0.2 * mean)
        + 0.15 * torch.sin(3 * x + 2 * t.view(-1, 1, 1, 1) / 1000)
        + 0.1 * mean
    )


def course(case):
    args = case["args"]
    spec, _ = find_sampler(case["sampler"])
    image = args.get("mode") == "img2img"
    run = SAMPLERS[spec.function]
    if variant := args.get("uni_pc_variant"):
        run = partial(run, variant=variant)
    mask = torch.tensor([0.0, 0, 1, 1]).expand(1, 1, 4, 4) if "mask" in args else None
    batch = args.get("batch", 1)
    return spec, Course(
        sampler=run,
        levels=levels(
            spec,
            find_scheduler(args.get("scheduler", AUTOMATIC)),
            table_for(spec, TABLE),
            args.get("explicit_steps", case["steps"]),
            strength=args["denoise"] if image else None,
            exact="explicit_steps" in args,
        ),
        shape=(batch, 4, 4, 4),
        seeds=Seeds(values=tuple(range(1234, 1234 + batch)), source="nv"),
        clean=torch.sin(0.37 * torch.arange(64)).reshape(1, 4, 4, 4) if image else None,
        mask=mask,
    )


@pytest.mark.parametrize(
    "case",
    [case for case in GOLDEN["samplers"] if known(case)],
    ids=lambda case: f"{case['sampler']} {case['steps']} {case['case']} {case['args']}",
)
def test_latents(case):
    spec, run = course(case)
    table = table_for(spec, TABLE)
    cond, uncond = (predict(toy_unet(mean), table, Prediction.EPS) for mean in (0.5, -0.25))
    denoise = guide(cond, uncond, case["args"].get("cfg", 7.0))
    if skipped := case["args"].get("skip_early_cond"):
        denoise = between(cond, denoise, 0, skipped)
    found = last(sample(denoise, run, torch.zeros(1, 1, 1, 1))).x
    assert found.isfinite().all()
    if "error" not in case:  # A1111 fails there; we do not
        wanted = torch.tensor(case["out"]).reshape(found.shape)
        assert (found - wanted).abs().max() <= 2e-5 * wanted.abs().max()
        assert torch.allclose(found, wanted, atol=2e-4, rtol=2e-4)


def test_sgm_noise_multiplier_is_a_preserving_start():
    from dataclasses import replace

    case = next(c for c in GOLDEN["samplers"] if c["args"].get("sgm_noise_multiplier"))
    _, run = course(case)
    run = replace(run, levels=replace(run.levels, start=float("inf"), preserving=True))
    cond, uncond = (predict(toy_unet(mean), TABLE, Prediction.EPS) for mean in (0.5, -0.25))
    found = last(sample(guide(cond, uncond, 7.0), run, torch.zeros(1, 1, 1, 1))).x
    assert torch.allclose(found.flatten(), torch.tensor(case["out"]), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", sorted(GOLDEN["sigmas"].keys() - LATER_SCHEDULERS))
def test_schedules(name):
    schedule = SCHEDULES[find_scheduler(name).function]
    for steps, wanted in GOLDEN["sigmas"][name].items():
        assert schedule(TABLE, int(steps)).tolist() == pytest.approx(wanted, rel=2e-6, abs=6e-7)


@pytest.mark.parametrize("name", ["simple", "sgm_uniform", "normal"])
def test_schedules_that_are_the_same_in_comfyui(name):
    schedule = SCHEDULES[find_scheduler(name).function]
    for steps, wanted in GOLDEN["comfy_sigmas"][name].items():
        assert schedule(TABLE, int(steps)).tolist() == pytest.approx(wanted, rel=2e-6, abs=6e-7)


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


def test_what_comes_later_is_not_known_yet():
    for name in LATER_SAMPLERS:
        with pytest.raises(UnknownName):
            find_sampler(name)
    for name in LATER_SCHEDULERS:
        with pytest.raises(UnknownName):
            find_scheduler(name)


def test_automatic_is_the_schedule_that_a1111_writes_down():
    for case in GOLDEN["samplers"]:
        written = case.get("infotext_params", {}).get("Schedule type")
        if written and known(case):
            asked = case["args"].get("scheduler", AUTOMATIC)
            assert resolve_scheduler(case["sampler"], asked).name == written

"""Names: every spelling finds its row, and what is unknown offers what is near."""

import subprocess
import sys

import pytest

from darkroom.core.errors import UnknownName
from darkroom.core.sampler_table import (
    AUTOMATIC,
    SAMPLERS,
    SCHEDULERS,
    by_name,
    find_sampler,
    find_scheduler,
    fold,
    names,
    resolve_scheduler,
)
from darkroom.sampling import samplers, schedules


@pytest.mark.parametrize(
    ("written", "sampler", "scheduler"),
    [
        ("DPM++ 2M", "DPM++ 2M", None),
        ("dpm++ 2m", "DPM++ 2M", None),
        ("DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("DPM++ 2M SDE", "DPM++ 2M SDE", None),
        ("DPM++ 2M SDE Karras", "DPM++ 2M SDE", "Karras"),
        ("DPM++ 2M SDE Exponential", "DPM++ 2M SDE", "Exponential"),
        ("Euler a", "Euler a", None),
        ("k_euler_a", "Euler a", None),
        ("k_euler_ancestral", "Euler a", None),
        ("euler_ancestral", "Euler a", None),
        ("Euler  A  SGM Uniform", "Euler a", "SGM Uniform"),
        ("euler sgm_uniform", "Euler", "SGM Uniform"),
        ("dpmpp_2m", "DPM++ 2M", None),
        ("dpmpp_2m_sde_gpu", "DPM++ 2M SDE", None),
        ("uni_pc", "UniPC", None),
        ("unipc", "UniPC", None),
        ("ddim", "DDIM", None),
        ("lcm", "LCM", None),
        ("Heun Automatic", "Heun", AUTOMATIC),
        # A1111, its older versions, and what people make of them
        ("DPM++ SDE Karras", "DPM++ SDE", "Karras"),
        ("DPM++ 2M SDE Heun Exponential", "DPM++ 2M SDE Heun", "Exponential"),
        ("DPM++2M Karras", "DPM++ 2M", "Karras"),
        ("dpm++_2s_a_karras", "DPM++ 2S a", "Karras"),
        ("k_dpmpp_2s_a", "DPM++ 2S a", None),
        ("k_dpm_2_a", "DPM2 a", None),
        ("DPM2 a Karras", "DPM2 a", "Karras"),
        ("k_dpm_ad", "DPM adaptive", None),
        ("k_dpm_fast", "DPM fast", None),
        ("LMS Karras", "LMS", "Karras"),
        ("ddim_cfgpp", "DDIM CFG++", None),
        ("restart", "Restart", None),
        # k-diffusion
        ("sample_dpmpp_2s_ancestral", "DPM++ 2S a", None),
        ("sample_dpm_2", "DPM2", None),
        # ComfyUI
        ("dpmpp_sde_gpu", "DPM++ SDE", None),
        ("dpmpp_3m_sde_gpu", "DPM++ 3M SDE", None),
        ("dpmpp_2m_sde_heun_gpu", "DPM++ 2M SDE Heun", None),
        ("dpm_2_ancestral", "DPM2 a", None),
        ("heunpp2", "HeunPP2", None),
        ("ipndm_v", "IPNDM_V", None),
        ("euler_cfg_pp", "Euler CFG++", None),
        ("euler_ancestral_cfg_pp", "Euler a CFG++", None),
        ("dpmpp_2s_ancestral_cfg_pp", "DPM++ 2S a CFG++", None),
        ("dpmpp_2m_cfg_pp", "DPM++ 2M CFG++", None),
        ("res_multistep_cfg_pp", "Res Multistep CFG++", None),
        ("gradient_estimation_cfg_pp", "Gradient Estimation CFG++", None),
        ("er_sde", "ER-SDE", None),
        ("sa_solver", "SA-Solver", None),
        ("seeds_3", "SEEDS 3", None),
        ("uni_pc kl_optimal", "UniPC", "KL Optimal"),
        # InvokeAI and diffusers
        ("dpmpp_2m_sde_k", "DPM++ 2M SDE", "Karras"),
        ("kdpm_2_a_k", "DPM2 a", "Karras"),
        ("euler_k", "Euler", "Karras"),
        ("pndm", "PLMS", None),
        ("dpmpp_3m", "DPM++ 3M", None),
        ("EulerAncestralDiscreteScheduler", "Euler a", None),
        ("UniPCMultistepScheduler", "UniPC", None),
    ],
)
def test_spellings(written, sampler, scheduler):
    found, implied = find_sampler(written)
    assert found.name == sampler
    assert (implied.name if implied else None) == scheduler


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("karras", "Karras"),
        ("sgm_uniform", "SGM Uniform"),
        ("automatic", AUTOMATIC),
        ("NORMAL", "Normal"),
        ("simple", "Simple"),
        ("beta", "Beta"),
        ("Uniform", "Uniform"),
        ("exponential", "Exponential"),
        ("k", "Karras"),
        ("polyexponential", "Polyexponential"),
        ("kl_optimal", "KL Optimal"),
        ("align_your_steps", "Align Your Steps"),
        ("Align Your Steps 11", "Align Your Steps"),
        ("align_your_steps_GITS", "Align Your Steps GITS"),
        ("AYS 32", "Align Your Steps 32"),
        ("ddim_uniform", "DDIM"),
        ("turbo", "Turbo"),
        ("linear_quadratic", "Linear Quadratic"),
        ("beta (comfyui)", "Beta (ComfyUI)"),
    ],
)
def test_scheduler_spellings(written, name):
    assert find_scheduler(written).name == name


@pytest.mark.parametrize(
    ("written", "near"),
    [("Eular a", "Euler a"), ("DPM++ 2N", "DPM++ 2M"), ("DDIN", "DDIM"), ("UniPX", "UniPC")],
)
def test_unknown_samplers_offer_the_nearest(written, near):
    with pytest.raises(UnknownName) as caught:
        find_sampler(written)
    assert near in caught.value.nearest


def test_unknown_schedulers_offer_the_nearest():
    with pytest.raises(UnknownName, match="unknown scheduler 'Karas'") as caught:
        find_scheduler("Karas")
    assert caught.value.nearest[0] == "Karras"


@pytest.mark.parametrize("name", ["", " ", "Karras", "Euler Nothing", "x " * 100_000, "\0"])
def test_nonsense_is_unknown(name):
    with pytest.raises(UnknownName):
        find_sampler(name)


def test_what_will_really_be_used():
    assert resolve_scheduler("DPM++ 2M", AUTOMATIC).name == "Karras"
    assert resolve_scheduler("DPM++ 2M SDE", AUTOMATIC).name == "Exponential"
    assert resolve_scheduler("Euler", AUTOMATIC).name == "Uniform"
    assert resolve_scheduler("Euler", "Beta").name == "Beta"
    assert resolve_scheduler("DDIM", "Karras").name == AUTOMATIC


@pytest.mark.parametrize("table", [SAMPLERS, SCHEDULERS], ids=["samplers", "schedulers"])
def test_no_two_rows_share_a_name(table):
    assert len(by_name(table)) == len({fold(name) for name in names(table)})
    rows = [{fold(name) for name in (row.name, *row.aliases)} for row in table]
    assert sum(map(len, rows)) == len(by_name(table))


def test_every_row_has_its_functions():
    for row in SAMPLERS:
        assert row.function in samplers.SAMPLERS
        assert row.spacing is None or row.spacing in schedules.SPACINGS
        assert find_scheduler(row.scheduler).name == row.scheduler
    for row in SCHEDULERS:
        assert row.name == AUTOMATIC or row.function in schedules.SCHEDULES


def test_names_are_found_without_torch():
    code = (
        "import sys; from darkroom.core.sampler_table import find_sampler; find_sampler('Euler');"
        "assert not {'torch', 'numpy', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


A1111 = """
    DPM++ 2M, DPM++ SDE, DPM++ 2M SDE, DPM++ 2M SDE Heun, DPM++ 2S a, DPM++ 3M SDE, Euler a, Euler,
    LMS, Heun, DPM2, DPM2 a, DPM fast, DPM adaptive, Restart, DDIM, DDIM CFG++, PLMS, UniPC, LCM
"""


def test_a1111_finds_all_its_samplers_in_its_order():
    wanted = [" ".join(name.split()) for name in A1111.split(",")]
    assert [row.name for row in SAMPLERS[: len(wanted)]] == wanted


def test_the_rows_say_what_a1111_says_of_its_samplers():
    a1111 = SAMPLERS[:20]
    assert {row.name for row in a1111 if row.calls == 2} == {
        "DPM++ SDE", "DPM++ 2S a", "Heun", "DPM2", "DPM2 a", "Restart",
    }  # fmt: skip
    assert {row.name for row in a1111 if row.ensd} == {
        "DPM++ 2S a", "Euler a", "DPM2 a", "DPM fast", "DPM adaptive",
    }  # fmt: skip
    assert {row.name for row in a1111 if row.brownian} == {
        "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE",
    }  # fmt: skip
    assert {row.name for row in a1111 if row.discard_penultimate} == {
        "DPM++ 3M SDE", "DPM2", "DPM2 a",
    }  # fmt: skip


def test_a_long_name_costs_nothing():
    with pytest.raises(UnknownName):
        find_scheduler("karras " * 100_000)

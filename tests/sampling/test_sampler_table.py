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

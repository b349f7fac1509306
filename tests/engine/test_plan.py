from itertools import pairwise

import pytest

from bench.make_checkpoint import KINDS
from darkroom.engine.plan import Work, costs_of, make_plan
from darkroom.weights.detect import detect
from tiny import tiny_header

GIB = 1 << 30


@pytest.fixture(scope="module")
def costs():
    detected = detect(tiny_header())

    def make(work):
        return costs_of(detected.unet, detected.vae, work, item_bytes=4, model_bytes=100)

    return make


def plan(costs, work, free, cpu=False):
    return make_plan(costs(work), work, free=free, cpu=cpu)


def test_plenty_of_memory_gives_the_roomiest_plan(costs):
    made = plan(costs, Work(512, 512, 20, guided=True), 1 << 60)
    assert (made.batch, made.split_guidance, made.tile) == (8, False, None)
    assert "8 pictures at a time" in made.describe()


def test_a_cpu_takes_pictures_one_by_one(costs):
    assert plan(costs, Work(512, 512, 20, guided=True), 1 << 60, cpu=True).batch == 1


@pytest.mark.parametrize("size", [256, 512, 1024, 4096])
def test_less_memory_gives_a_plan_that_fits_it(costs, size):
    work = Work(size, size, 8, guided=True)
    whole = plan(costs, work, 1 << 60).working_bytes
    for share in (0.9, 0.5, 0.25):
        made = plan(costs, work, int(whole * share))
        assert made.working_bytes <= whole * share or made.smaller() is None


def test_what_fits_nowhere_gets_the_smallest_plan(costs):
    made = plan(costs, Work(2048, 2048, 8, guided=True), 0)
    assert (made.batch, made.split_guidance, made.tile) == (1, True, 16)
    assert made.smaller() is None


def test_each_smaller_plan_takes_less_and_the_chain_ends(costs):
    made = plan(costs, Work(1024, 1024, 8, guided=True), 1 << 60)
    sizes = []
    while made is not None:
        sizes.append((made.sampling_bytes, made.decoding_bytes))
        made = made.smaller()
    assert len(sizes) == 8  # batch 8, 4, 2, 1; two calls; tiles of 64, 32, 16
    assert all(a >= b and c >= d for (a, c), (b, d) in pairwise(sizes))


def test_a_tile_as_large_as_the_picture_is_not_a_smaller_plan(costs):
    made = plan(costs, Work(512, 512, 1, guided=False), 1 << 60)
    assert made.smaller_decoding().tile == 32
    assert plan(costs, Work(128, 128, 1, guided=False), 1 << 60).smaller_decoding() is None


def test_decoding_a_huge_picture_takes_what_a_tile_takes(costs):
    small = plan(costs, Work(1024, 1024, 1, guided=False), 1 << 60).smaller_decoding()
    huge = plan(costs, Work(8192, 8192, 1, guided=False), 1 << 60).smaller_decoding()
    assert small.tile == huge.tile == 64
    blend = huge.costs.blended - small.costs.blended
    assert huge.decoding_bytes - small.decoding_bytes == blend


def test_without_guidance_there_is_nothing_to_split(costs):
    made = plan(costs, Work(256, 256, 1, guided=False), 1 << 60)
    assert made.smaller_sampling() is None


def test_a_level_without_transformers_costs_less():
    """SDXL's first level has none; measured at 1024 x 1024 on a CPU: 190 MiB."""
    work = Work(1024, 1024, 1, guided=False)
    family = KINDS["sdxl"]
    made = costs_of(family.unet, family.vae, work, item_bytes=4, model_bytes=0)
    assert 190 << 20 < made.branch + made.reordered < 380 << 20

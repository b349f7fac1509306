"""The refiner: when it takes over, in which run, what it is given, and what is said."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from bench.make_checkpoint import KINDS, make_checkpoint
from darkroom.core.errors import OutOfMemory
from darkroom.core.model import Arch
from darkroom.core.sampler_table import find_sampler, find_scheduler
from darkroom.core.settings import Settings
from darkroom.engine import loading
from darkroom.engine.engine import Engine
from darkroom.jobs.worker import Worker
from darkroom.sampling import NoiseTable, levels
from darkroom.tasks.passes import Passes
from darkroom.tasks.refiner import done, refiner_notes, refiner_of
from network_files import kohya_lora
from tasks.test_hires import resolved, stages
from tiny import tiny_checkpoint

TABLE = NoiseTable.stable_diffusion()


def test_what_is_done_counts_the_levels_from_pure_noise():
    sigmas = TABLE.sigmas.tolist()
    assert [done(sigmas[t], TABLE) for t in (999, 500, 199, 0)] == [0, 0.499, 0.8, 0.999]
    assert done(1.0, TABLE) == (999 - 354) / 1000  # t is 353.89: the nearest
    assert done(100.0, TABLE) == 0
    assert done(0.0, TABLE) == 0.999


def walk(steps, strength=None):
    sampler = find_sampler("Euler")[0]
    return levels(sampler, find_scheduler("Karras"), TABLE, steps, strength=strength)


@pytest.mark.parametrize(
    ("fields", "strength", "said"),
    [
        ({"switch_at": 0.8}, None, None),
        ({"switch_at": 1.0}, None, "the refiner never takes over"),
        ({"switch_at": 0.0}, None, "takes over at the first step: all of this run is other's"),
        ({"switch_at": 0.3}, 0.2, "takes over at the first step"),
    ],
)
def test_a_refiner_that_does_nothing_or_everything_is_said(fields, strength, said):
    notes = notes_on(walk(20, strength), **fields)
    assert (said is None and not notes) or said in notes[0]


def test_few_steps_may_end_before_its_time():
    assert "never takes over" in notes_on(walk(1), switch_at=0.9)[0]


def notes_on(levels, **fields):
    request = resolved(refiner={"model": "other", **fields})
    card = SimpleNamespace(arch=Arch.SD1)
    model = SimpleNamespace(table=TABLE, card=card)
    return list(refiner_notes(request, levels, model, card_of=lambda name: card))


@pytest.mark.parametrize(
    ("on", "hires", "acts"),
    [("first", {}, True), ("second", {}, False), ("both", {}, True), ("second", None, True)],
)
def test_the_run_it_refines(on, hires, acts):
    request = resolved(hires=hires, refiner={"model": "other", "on": on})
    assert (refiner_of(request) is not None) is acts


# ---- pictures ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    size = {"modelspec.resolution": "64x64"}
    first = tiny_checkpoint(folder / "first.safetensors", metadata=size)
    vae = {name: own for name, own in load_file(first).items() if name.startswith("first_stage")}
    tiny_checkpoint(folder / "second.safetensors", seed=5, metadata=size, extra=vae)
    tiny_checkpoint(folder / "painter.safetensors", seed=6, in_channels=9, metadata=size)
    kohya_lora(folder / "style.safetensors", first)
    for kind in ("sdxl", "refiner"):
        family = KINDS[kind].tiny()
        path = folder / f"{kind}.safetensors"
        make_checkpoint(path, family.layout(), metadata=family.metadata())
    return folder


def started(folder, data, cache_gb=0.0):
    torch.set_num_threads(1)
    settings = Settings(data_dir=data, models_dirs=(folder,), preview_seconds=0, cache_gb=cache_gb)
    return Worker(settings)


@pytest.fixture(scope="module")
def worker(folder, tmp_path_factory):
    return started(folder, tmp_path_factory.mktemp("data"))


@pytest.fixture
def make(worker, ask, tmp_path):
    """The picture of a request, and its events."""

    def made(**fields):
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        own = {"model": "first", "steps": 6, "scheduler": "Karras", "sampler": "Euler"}
        events = list(worker.run(ask(**own | fields), output=target))
        assert events[-1].kind == "done", events[-1].data
        return Image.open(target).convert("RGB").tobytes(), events

    return made


def test_it_draws_the_end_of_the_picture(make):
    """At 0 it is as if it alone had drawn, at 1 as if it were not there; between it is a mix."""
    alone, other = make()[0], make(model="second")[0]
    at = {share: make(refiner={"model": "second", "switch_at": share})[0] for share in (0, 0.6, 1)}
    assert (at[0], at[1]) == (other, alone)
    assert at[0.6] not in (alone, other)


def test_the_network_of_each_is_asked_at_its_levels(make, monkeypatch):
    asked = []
    denoiser = Engine.denoiser

    def watched(self, model, *args, **more):
        inner = denoiser(self, model, *args, **more)

        def denoise(x, at):
            asked.append((model.card.name, done(at.sigma, model.table)))
            return inner(x, at)

        return denoise

    monkeypatch.setattr(Engine, "denoiser", watched)
    make(refiner={"model": "second", "switch_at": 0.5}, steps=10)
    assert len(asked) == 10
    assert {name for name, share in asked if share < 0.5} == {"first"}
    assert {name for name, share in asked if share >= 0.5} == {"second"}


def test_pictures_after_the_first_begin_with_the_first_checkpoint(worker, ask, tmp_path, make):
    refiner = {"model": "second", "switch_at": 0.6}
    own = {"model": "first", "steps": 6, "scheduler": "Karras", "sampler": "Euler"}
    *_, artifact, end = worker.run(
        ask(count=2, seed=6, refiner=refiner, **own), output=tmp_path / "two"
    )
    assert end.kind == "done"
    second = Image.open(artifact.data["path"]).convert("RGB").tobytes()
    assert second == make(seed=7, refiner=refiner)[0]


@pytest.mark.parametrize("model", ["second", "refiner"])
def test_sdxl_is_refined_by_its_own_kind_alone(worker, ask, tmp_path, model):
    refiner = {"model": model, "switch_at": 0.5}
    request = ask(model="sdxl", width=64, height=64, refiner=refiner)
    *_, last = worker.run(request, output=tmp_path)
    if model == "refiner":  # one text encoder of the two, and a score instead of a size
        assert last.kind == "done", last.data
    else:
        assert last.data["error"] == "BadRequest"
        assert "latents" in last.data["text"]


def test_a_checkpoint_that_paints_in_holes_refines_nothing_else(worker, ask, tmp_path):
    *_, last = worker.run(ask(model="first", refiner={"model": "painter"}), output=tmp_path)
    assert "painter is a checkpoint for inpaint and cannot refine" in last.data["text"]


def test_networks_of_the_prompt_are_on_both_and_off_afterwards(make):
    refiner = {"model": "second", "switch_at": 0.5}
    plain = make(refiner=refiner)[0]
    worn = make(refiner=refiner, prompt="an apple <lora:style:1>")[0]
    late = make(refiner=refiner, prompt="an apple <lora:style:1:start=0.6>")[0]
    assert len({plain, worn, late}) == 3
    assert make(refiner=refiner)[0] == plain


def test_networks_that_do_not_fit_the_refiner_are_left_out(worker, folder, ask, tmp_path):
    kohya_lora(folder / "xl.safetensors", folder / "sdxl.safetensors", only=("unet",))
    own = {"model": "sdxl", "width": 64, "height": 64, "prompt": "an apple <lora:xl:1>"}
    request = ask(refiner={"model": "refiner", "switch_at": 0.5}, **own)
    *events, last = worker.run(request, output=tmp_path)
    assert last.kind == "done", last.data
    said = [event.data["text"] for event in events if event.kind == "warning"]
    assert "refiner is of another family: the networks in the prompt are not put on it" in said


@pytest.mark.parametrize("on", ["first", "second", "both"])
def test_with_a_second_run(make, on):
    refiner = {"model": "second", "switch_at": 0.5, "on": on}
    hires = {"strength": 0.7, "steps": 4}
    picture, events = make(refiner=refiner, hires=hires)
    assert stages(events) == {"": 6, "hires": 4}
    assert picture != make(hires=hires)[0]


def test_the_second_run_may_have_a_checkpoint_of_its_own(make):
    picture, events = make(hires={"model": "second", "strength": 0.6})
    assert stages(events) == {"": 6, "hires": 6}
    assert picture not in (make(hires={"strength": 0.6})[0], make(model="second", hires={})[0])


def test_it_has_the_memory_of_the_first(folder, ask, tmp_path, monkeypatch):
    """Where the cache holds one checkpoint, the first is gone before the second has run a step."""
    small = started(folder, tmp_path / "data", cache_gb=1e-4)
    gone = []
    put_on = Passes._put_on

    def watched(self, model, request):
        gone.append(weakref.ref(model.networks.unet))
        put_on(self, model, request)

    monkeypatch.setattr(Passes, "_put_on", watched)
    request = ask(model="first", steps=6, refiner={"model": "second", "switch_at": 0.5})
    alive = []
    for event in small.run(request, output=tmp_path / "made.png"):
        if event.kind == "step" and len(gone) == 2:
            gc.collect()
            alive.append(gone[0]() is not None)
    assert event.kind == "done", event.data
    assert alive == [False] * len(alive) != []


def test_memory_that_runs_out_at_the_change_starts_again_with_the_first(make, monkeypatch):
    plain = make(refiner={"model": "second", "switch_at": 0.5})[0]
    on, failed = Passes.on, []

    def full_once(self, request):
        if request.model == "second" and not failed:
            failed.append(True)
            raise OutOfMemory("the CPU ran out of memory")
        return on(self, request)

    monkeypatch.setattr(Passes, "on", full_once)
    picture, events = make(refiner={"model": "second", "switch_at": 0.5})
    assert any("memory ran out" in e.data["text"] for e in events if e.kind == "warning")
    assert len(picture) == len(plain)


@pytest.mark.parametrize(("least", "ends"), [(2, "done"), (3, "failed")])
def test_memory_that_is_short_for_the_refiner_alone(
    worker, ask, tmp_path, monkeypatch, least, ends
):
    """It is asked in two calls as well, and what never fits is given up."""
    asked = []
    denoiser = Engine.denoiser

    def short(self, model, *args, frame, **more):
        inner = denoiser(self, model, *args, frame=frame, **more)

        def denoise(x, at):
            if model.card.name == "second":
                asked.append(frame.split)
                if frame.split + 1 < least:
                    raise OutOfMemory("too much")
            return inner(x, at)

        return denoise

    monkeypatch.setattr(Engine, "denoiser", short)
    request = ask(model="first", steps=4, refiner={"model": "second", "switch_at": 0.5})
    *_, last = worker.run(request, output=tmp_path)
    assert last.kind == ends
    assert asked[:2] == [False, True] and len(asked) <= 4


def test_a_refiner_that_cannot_be_loaded_at_first(worker, ask, tmp_path, monkeypatch):
    """Other models are given up for it, and where that is not enough the run fails in words."""
    load = loading.load_networks
    left = [1]

    def short(*args):
        if left[0]:
            left[0] -= 1
            raise OutOfMemory("too much")
        return load(*args)

    request = ask(model="first", steps=4, refiner={"model": "second", "switch_at": 0.5})
    worker.engine.make_room(worker.engine.model(worker.library.find("first")))
    monkeypatch.setattr(loading, "load_networks", short)
    assert [*worker.run(request, output=tmp_path)][-1].kind == "done"
    worker.engine.make_room(worker.engine.model(worker.library.find("first")))
    left[0] = 100
    *_, last = worker.run(request, output=tmp_path)
    assert last.data["error"] == "OutOfMemory"
    left[0] = 0
    assert [*worker.run(request, output=tmp_path)][-1].kind == "done"

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import darkroom
from darkroom.engine import precision
from darkroom.engine.device import Memory
from darkroom.engine.latent import decode as decode_latent
from darkroom.media import files
from darkroom.media.metadata import read_recipe
from darkroom.tasks.job import PreviewClock


def kinds(events):
    return [event.kind for event in events]


def pictures(events):
    return [pixels(e.data["path"]) for e in events if e.kind == "artifact"]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def unet_of(worker, request):
    return worker.engine.model(worker.library.find(request.model)).networks.unet


def vae_of(worker, request):
    return worker.engine.model(worker.library.find(request.model)).vae.module


def test_events_come_in_order_and_every_picture_is_there(worker, ask, tmp_path):
    events = list(worker.run(ask(count=2), output=tmp_path))
    assert kinds(events) == ["started", *(["step"] * 3 + ["artifact"]) * 2, "done"]
    assert [event.seq for event in events] == list(range(len(events)))
    assert len({event.job for event in events}) == 1
    assert [e.data["done"] for e in events if e.kind == "step"] == [1, 2, 3, 4, 5, 6]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00001-7.png", "00002-8.png"]
    assert not any(worker.unfinished.iterdir())
    assert all(p.shape == (64, 64, 3) for p in pictures(events))


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DPM++ 2M SDE", "UniPC", "LCM"])
def test_a_picture_of_a_batch_is_the_same_picture_alone(worker, ask, tmp_path, sampler):
    batch = pictures(worker.run(ask(count=3, sampler=sampler), output=tmp_path))
    for k in (0, 2):
        alone = pictures(worker.run(ask(seed=7 + k, sampler=sampler), output=tmp_path))
        assert np.array_equal(batch[k], alone[0])
    assert not np.array_equal(batch[0], batch[1])


def test_pictures_made_in_one_call_are_those_of_single_calls(worker, ask, tmp_path, monkeypatch):
    """As on a graphics card; a batched matrix product may round the last place another way."""
    single = pictures(worker.run(ask(count=5, sampler="Euler a"), output=tmp_path))
    plan = worker.engine.plan
    monkeypatch.setattr(worker.engine, "plan", lambda *a: replace(plan(*a), batch=3))
    calls = spy(monkeypatch, unet_of(worker, ask()))
    events = list(worker.run(ask(count=5, sampler="Euler a"), output=tmp_path))
    assert calls == [6] * 3 + [4] * 3
    assert [e.data["seed"] for e in events if e.kind == "artifact"] == [7, 8, 9, 10, 11]
    for one, many in zip(single, pictures(events), strict=True):
        assert np.abs(one.astype(int) - many).max() <= 1


def test_a_batch_is_on_disk_before_the_first_of_it_is_decoded(worker, ask, tmp_path, monkeypatch):
    plan = worker.engine.plan
    monkeypatch.setattr(worker.engine, "plan", lambda *a: replace(plan(*a), batch=3))
    seen = []
    decode = worker.engine.decode

    def count(*args, **kwargs):
        seen.append(len(list(worker.unfinished.glob("*/*.safetensors"))))
        return decode(*args, **kwargs)

    monkeypatch.setattr(worker.engine, "decode", count)
    assert kinds(worker.run(ask(count=3), output=tmp_path))[-1] == "done"
    assert seen == [3, 2, 1]
    assert not any(worker.unfinished.iterdir())


def test_out_of_memory_with_a_batch_goes_on_with_half_of_it(worker, ask, tmp_path, monkeypatch):
    plan = worker.engine.plan
    monkeypatch.setattr(worker.engine, "plan", lambda *a: replace(plan(*a), batch=4))

    def fail(batch, _dtype):
        if batch > 4:
            raise RuntimeError("CUDA out of memory")

    calls = spy(monkeypatch, unet_of(worker, ask()), fail)
    events = list(worker.run(ask(count=4, steps=1), output=tmp_path))
    assert calls == [8, 4, 4]
    assert len(pictures(events)) == 4


def test_lcm_asks_the_network_at_the_levels_it_was_trained_at(worker, ask, tmp_path, monkeypatch):
    times = []
    unet = unet_of(worker, ask())
    forward = unet.forward

    def watched(x, t, *args, **kwargs):
        times.append(t[0].item())
        return forward(x, t, *args, **kwargs)

    monkeypatch.setattr(unet, "forward", watched)
    list(worker.run(ask(sampler="LCM", steps=4), output=tmp_path))
    assert times == [999, 679, 339, 19]


def test_a_data_folder_that_cannot_be_used_loses_no_picture(worker, ask, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    settings = {"data_dir": tmp_path / "file", "preview_seconds": 1}
    monkeypatch.setattr(worker, "_settings", worker._settings.model_copy(update=settings))
    monkeypatch.setattr(PreviewClock, "due", lambda *_: True)
    events = list(worker.run(ask(), output=tmp_path / "out"))
    assert kinds(events)[-1] == "done"
    assert len(pictures(events)) == 1
    notes = [e.data["text"] for e in events if e.kind == "warning"]
    assert len(notes) == 2
    assert notes[0].startswith("no previews: cannot write")
    assert "--data-dir" in notes[1]


def test_a_redo_says_what_differs_and_keeps_the_plan(worker, ask, tmp_path):
    (first,) = [e for e in worker.run(ask(), output=tmp_path) if e.kind == "artifact"]
    recipe = read_recipe(Path(first.data["path"]))
    same = list(worker.run(recipe.again(), output=tmp_path, like=recipe))
    assert "warning" not in kinds(same)
    assert np.array_equal(pictures(same)[0], pixels(first.data["path"]))
    other = recipe.model_copy(
        update={
            "versions": recipe.versions | {"torch": "1.0"},
            "plan": recipe.plan | {"split_guidance": True, "threads": 77},
        }
    )
    changed = list(worker.run(recipe.again(), output=tmp_path, like=other))
    notes = [e.data["text"] for e in changed if e.kind == "warning"]
    assert any(note.startswith("version of torch: 1.0 when it was made") for note in notes)
    assert any(note.startswith("threads: 77 when it was made") for note in notes)
    assert not any("split" in note for note in notes)
    assert read_recipe(tmp_path / pictures_paths(changed)[0]).plan["split_guidance"] is True


def pictures_paths(events):
    return [e.data["path"] for e in events if e.kind == "artifact"]


def test_the_recipe_holds_the_plan_that_decoded_the_picture(worker, ask, tmp_path, monkeypatch):
    request = ask(width=256, height=256, steps=1)
    vae = vae_of(worker, request)
    decode = vae.decode

    def fail(latent, *args, **kwargs):
        if latent.shape[-1] > 16:
            raise RuntimeError("CUDA out of memory")
        return decode(latent, *args, **kwargs)

    monkeypatch.setattr(vae, "decode", fail)
    (path,) = pictures_paths(worker.run(request, output=tmp_path))
    assert read_recipe(Path(path)).plan["tile"] == 16


def test_what_memory_can_never_hold_is_refused_before_the_work(worker, ask, tmp_path, monkeypatch):
    calls = spy(monkeypatch, unet_of(worker, ask()))
    little = Memory(free=1 << 20, total=4 << 20)
    monkeypatch.setattr(type(worker.engine.device), "memory", lambda _self: little)
    *_, last = worker.run(ask(width=4096, height=4096), output=tmp_path)
    assert last.data["error"] == "OutOfMemory"
    assert "MiB" in last.data["text"]
    assert calls == []


def test_memory_that_is_short_is_said_and_tried(worker, ask, tmp_path, monkeypatch):
    little = Memory(free=1000, total=1 << 34)
    monkeypatch.setattr(type(worker.engine.device), "memory", lambda _self: little)
    events = list(worker.run(ask(), output=tmp_path))
    assert "memory may run out" in [e.data["text"] for e in events if e.kind == "warning"][0]
    assert kinds(events)[-1] == "done"


def test_guidance_off_says_that_the_negative_prompt_does_nothing(worker, ask, tmp_path):
    events = list(worker.run(ask(cfg_scale=1, negative_prompt="blur"), output=tmp_path))
    assert [
        "negative prompt has no effect" in e.data["text"] for e in events if e.kind == "warning"
    ] == [True]


def test_ddim_counts_the_steps_it_walks_and_warns_of_a_single_one(worker, ask, tmp_path):
    events = list(worker.run(ask(sampler="DDIM", steps=20), output=tmp_path))
    assert events[0].data["steps"] == 19
    assert [e.data["done"] for e in events if e.kind == "step"][-1] == 19
    events = list(worker.run(ask(sampler="DDIM", steps=1), output=tmp_path))
    assert "one step leaves noise" in [e.data["text"] for e in events if e.kind == "warning"][0]


def test_recover_leaves_what_a_running_process_will_finish(worker, ask, tmp_path, monkeypatch):
    seen = []
    decode = worker.engine.decode

    def peek(*args, **kwargs):
        code = (
            "import sys; from pathlib import Path; from darkroom.media.left_behind import left_behind\n"
            "print(len(list(left_behind(Path(sys.argv[1])))))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(worker.unfinished)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(darkroom.__file__).parents[1])},
        )
        seen.append(done.stdout.strip())
        return decode(*args, **kwargs)

    monkeypatch.setattr(worker.engine, "decode", peek)
    assert kinds(worker.run(ask(steps=1), output=tmp_path))[-1] == "done"
    assert seen == ["0"]


def test_recover_goes_on_after_a_failure_and_into_one_name(worker, ask, tmp_path, monkeypatch):
    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker.engine, "decode", die)
        for seed in (1, 2, 3):
            with pytest.raises(KeyboardInterrupt):
                list(worker.run(ask(seed=seed, steps=1), output=tmp_path))
    files = sorted(worker.unfinished.glob("*/*.safetensors"))
    files[0].write_bytes(files[0].read_bytes()[:-8])
    events = list(worker.recover(output=tmp_path / "rec.png"))
    assert sorted(kinds(events)) == ["artifact", "artifact", "failed"]
    assert {Path(p).name for p in pictures_paths(events)} <= {"rec.png", "rec-1.png", "rec-2.png"}
    assert len(list(worker.unfinished.glob("*/*.safetensors"))) == 1


def test_tiles_of_a_large_picture_do_not_overflow_in_half_precision():
    class Flat:
        def decode(self, latent, return_dict):
            return (latent.repeat_interleave(8, -1).repeat_interleave(8, -2)[:, :3],)

        def parameters(self):
            return iter([torch.zeros(1, dtype=torch.float16)])

    latent = torch.randn(1, 4, 96, 96)
    out = decode_latent(Flat(), latent, scale=1.0, tile=64)
    whole = decode_latent(Flat(), latent, scale=1.0, tile=None)
    assert torch.isfinite(out).all()
    assert torch.allclose(out, whole.float(), atol=1e-3)


def test_the_recipe_in_the_file_makes_the_same_pixels(worker, ask, tmp_path):
    first = list(worker.run(ask(count=2, negative_prompt="blur", cfg_scale=4), output=tmp_path))
    path = next(e.data["path"] for e in first if e.data.get("image") == 1 and e.kind == "artifact")
    recipe = read_recipe(tmp_path / path)
    assert recipe.image == 1
    assert recipe.seed == 8
    assert recipe.request.width == 64
    assert recipe.models[0].sha256 == worker.library.find(recipe.request.model).sha256
    again = pictures(worker.run(recipe.again(), output=tmp_path))
    assert np.array_equal(pictures(first)[1], again[0])


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a pear"},
        {"negative_prompt": "blur"},
        {"steps": 4},
        {"sampler": "Euler"},
        {"scheduler": "Exponential"},
        {"cfg_scale": 3},
        {"cfg_scale": 1},
        {"seed": 8},
        {"clip_skip": 2},
        {"width": 72},
    ],
)
def test_every_field_has_an_effect(worker, ask, tmp_path, change):
    plain = pictures(worker.run(ask(), output=tmp_path))[0]
    changed = pictures(worker.run(ask(**change), output=tmp_path))[0]
    assert plain.shape != changed.shape or not np.array_equal(plain, changed)


def test_a_scheduler_that_the_sampler_ignores_is_said(worker, ask, tmp_path):
    events = list(worker.run(ask(sampler="DDIM", scheduler="Karras"), output=tmp_path))
    notes = [e.data["text"] for e in events if e.kind == "warning"]
    assert notes == ["DDIM spaces its own steps: the scheduler Karras has no effect"]


def test_without_guidance_the_network_sees_no_second_branch(worker, ask, tmp_path, monkeypatch):
    request = ask(cfg_scale=1)
    batches = spy(monkeypatch, unet_of(worker, request))
    list(worker.run(request, output=tmp_path))
    assert batches == [1, 1, 1]
    batches.clear()
    list(worker.run(ask(cfg_scale=5), output=tmp_path))
    assert batches == [2, 2, 2]


def spy(monkeypatch, unet, fail=lambda batch, dtype: None):
    """Record the batch of each call of `unet`; `fail` may raise instead."""
    calls, forward = [], unet.forward

    def watched(x, *args, **kwargs):
        calls.append(x.shape[0])
        fail(x.shape[0], x.dtype)
        return forward(x, *args, **kwargs)

    monkeypatch.setattr(unet, "forward", watched)
    return calls


def test_prompts_of_different_length_and_of_ten_thousand_words(worker, ask, tmp_path):
    events = list(worker.run(ask(prompt="word " * 200, negative_prompt="blur"), output=tmp_path))
    assert kinds(events)[-1] == "done"
    events = list(worker.run(ask(prompt="word " * 10_000, steps=1), output=tmp_path))
    assert kinds(events)[-1] == "done"


def test_out_of_memory_while_sampling_is_retried_smaller(worker, ask, tmp_path, monkeypatch):
    def fail(batch, _dtype):
        if batch > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    expected = pictures(worker.run(ask(), output=tmp_path))[0]
    calls = spy(monkeypatch, unet_of(worker, ask()), fail)
    events = list(worker.run(ask(), output=tmp_path))
    assert calls == [2, 1, 1, 1, 1, 1, 1]
    assert [e.data["text"] for e in events if e.kind == "warning"][0].startswith("memory ran out")
    assert np.abs(pictures(events)[0].astype(int) - expected).max() <= 1


def test_out_of_memory_to_the_end_fails_with_a_cure(worker, ask, tmp_path, monkeypatch):
    def fail(_batch, _dtype):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    spy(monkeypatch, unet_of(worker, ask()), fail)
    events = list(worker.run(ask(), output=tmp_path))
    assert events[-1].kind == "failed"
    assert events[-1].data["error"] == "OutOfMemory"
    assert "smaller" in events[-1].data["hint"]


def test_out_of_memory_while_decoding_goes_on_in_tiles(worker, ask, tmp_path, monkeypatch):
    request = ask(width=512, height=256, steps=1)
    vae = vae_of(worker, request)
    whole = pictures(worker.run(request, output=tmp_path))[0]
    decode, seen = vae.decode, []

    def fail(latent, *args, **kwargs):
        seen.append(tuple(latent.shape[-2:]))
        if latent.shape[-1] > 32:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return decode(latent, *args, **kwargs)

    monkeypatch.setattr(vae, "decode", fail)
    events = list(worker.run(request, output=tmp_path))
    tiled = pictures(events)[0]
    assert tiled.shape == whole.shape == (256, 512, 3)
    assert seen[0] == (32, 64)
    assert max(seen[-3:]) == (32, 32)
    assert kinds(events)[-1] == "done"
    assert np.abs(tiled.astype(int) - whole).mean() < 12  # another view of the same latent


def test_a_nan_is_repeated_in_higher_precision(worker, ask, tmp_path, monkeypatch):
    expected = pictures(worker.run(ask(), output=tmp_path))[0]
    unet = unet_of(worker, ask())
    forward, seen = unet.forward, []

    def overflow(x, *args, **kwargs):
        seen.append(x.dtype)
        out = forward(x, *args, **kwargs)
        return (out[0] * float("nan"),) if len(seen) == 2 else out

    before = [(p.data_ptr(), p.dtype) for p in unet.parameters()]
    monkeypatch.setattr(unet, "forward", overflow)
    events = list(worker.run(ask(), output=tmp_path))
    assert seen == [torch.float32, torch.float32, torch.float64, torch.float32]
    assert [(p.data_ptr(), p.dtype) for p in unet.parameters()] == before
    assert "higher precision" in [e.data["text"] for e in events if e.kind == "warning"][0]
    assert np.abs(pictures(events)[0].astype(int) - expected).max() <= 1


def test_a_picture_of_nothing_but_nan_is_never_delivered(worker, ask, tmp_path, monkeypatch):
    unet = unet_of(worker, ask())
    monkeypatch.setattr(unet, "forward", lambda x, *_, **__: (x * float("nan"),))
    events = list(worker.run(ask(), output=tmp_path))
    assert events[-1].data["error"] == "NotFinite"
    assert list(tmp_path.iterdir()) == []


def test_a_nan_from_the_vae_is_decoded_again(worker, ask, tmp_path, monkeypatch):
    expected = pictures(worker.run(ask(), output=tmp_path))[0]
    vae = vae_of(worker, ask())
    decode = vae.decode

    def overflow(latent, *args, **kwargs):
        (sample,) = decode(latent, *args, **kwargs)
        return (sample if latent.dtype == torch.float64 else sample * float("nan"),)

    monkeypatch.setattr(vae, "decode", overflow)
    events = list(worker.run(ask(), output=tmp_path))
    assert np.abs(pictures(events)[0].astype(int) - expected).max() <= 1


def test_cancel_takes_effect_within_one_network_call_and_keeps_what_is_finished(
    worker, ask, tmp_path, monkeypatch
):
    calls = spy(monkeypatch, unet_of(worker, ask()))
    events = list(worker.run(ask(count=5), output=tmp_path, stop=lambda: len(calls) >= 5))
    assert len(calls) == 5
    assert events[-1].data["error"] == "Cancelled"
    assert [p.name for p in tmp_path.iterdir()] == ["00001-7.png"]
    assert not any(worker.unfinished.iterdir())


def test_the_latent_is_on_disk_before_it_is_decoded_and_can_be_recovered(
    worker, ask, tmp_path, monkeypatch
):
    expected = pictures(worker.run(ask(), output=tmp_path))[0]
    kept = []

    def die(*_args, **_kwargs):
        kept.extend(worker.unfinished.glob("*/*.safetensors"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(vae_of(worker, ask()), "decode", die)
        with pytest.raises(KeyboardInterrupt):
            list(worker.run(ask(), output=tmp_path))
    assert len(kept) == 1
    events = list(worker.recover(output=tmp_path))
    assert kinds(events) == ["artifact"]
    assert np.array_equal(pictures(events)[0], expected)
    assert read_recipe(tmp_path / events[0].data["path"]).seed == 7
    assert list(worker.unfinished.iterdir()) == []


def test_a_disk_that_fills_up_while_saving_loses_nothing(worker, ask, tmp_path, monkeypatch):
    expected = pictures(worker.run(ask(), output=tmp_path / "a"))[0]
    link = files.os.link

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "link", full)
    events = list(worker.run(ask(), output=tmp_path / "b/"))
    assert events[-1].data["error"] == "OutputError"
    assert "disk is full" in events[-1].data["text"]
    monkeypatch.setattr(files.os, "link", link)
    (recovered,) = pictures(worker.recover(output=tmp_path))
    assert np.array_equal(recovered, expected)


def test_what_cannot_be_recovered_stays_and_says_why(worker):
    path = worker.unfinished / "job" / "00000.latent.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0" * 20)
    (event,) = worker.recover()
    assert event.kind == "failed"
    assert "not an unfinished picture" in event.data["text"]
    assert path.exists()


def test_a_mistake_of_ours_is_told_without_a_traceback(worker, ask, tmp_path, monkeypatch):
    monkeypatch.setattr(worker.engine, "plan", lambda *_: 1 / 0)
    *_, last = worker.run(ask(), output=tmp_path)
    assert last.kind == "failed"
    assert "ZeroDivisionError" in last.data["text"]
    log = last.data["hint"].removeprefix("Please report it with ").removesuffix(".")
    assert "Traceback" in Path(log).read_text()


def test_previews_show_the_picture_as_it_comes_and_go_away(worker, ask, tmp_path, monkeypatch):
    monkeypatch.setattr(PreviewClock, "due", lambda *_: True)
    monkeypatch.setattr(
        worker, "_settings", worker._settings.model_copy(update={"preview_seconds": 1})
    )
    sizes = []
    for event in worker.run(ask(), output=tmp_path):
        if event.kind == "preview":
            with Image.open(event.data["path"]) as image:
                sizes.append(image.size)
            last = event.data["path"]
    assert sizes == [(64, 64)] * 3
    assert not (tmp_path / last).exists()


def test_previews_take_no_more_than_their_share(monkeypatch):
    clock = PreviewClock(least_s=0.5, _started=0, _last=0)
    now = [0.0]
    monkeypatch.setattr("darkroom.tasks.job.time.monotonic", lambda: now[0])
    made = 0
    for tick in range(1, 1001):
        now[0] = tick * 0.1
        if clock.due():
            made += 1
            clock.made(0.2)
    assert made * 0.2 <= 0.03 * 100 + 0.2
    assert made > 10
    assert not PreviewClock(least_s=0, _started=-9, _last=-9).due()


def test_widening_changes_the_format_and_gives_the_same_tensors_back():
    layer = torch.nn.Linear(3, 3).half()
    before = [p.data_ptr() for p in layer.parameters()]
    with precision.widened(layer):
        assert layer.weight.dtype is torch.float32
        with precision.widened(layer):
            assert layer.weight.dtype is torch.float64
    assert [p.data_ptr() for p in layer.parameters()] == before
    assert layer.weight.dtype is torch.float16

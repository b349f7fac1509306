import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from darkroom.core.errors import BadRequest, Cancelled, StudioError
from darkroom.core.event import Event
from darkroom.core.series import BatchRequest, GridRequest
from darkroom.jobs.manifest import NAME, Seldom, forget
from darkroom.jobs.series import run_series
from darkroom.media.files import Place, publish


class Runner:
    """Stands in for the worker: a picture whose colour is the steps of its request."""

    def __init__(self, outputs, *, fails=(), dies_at=None):
        self.outputs = outputs
        self.fails = fails  # steps, or names of pictures
        self.dies_at = dies_at  # after so many pictures, as kill -9 would
        self.ran = []

    def place(self, output):
        return output if isinstance(output, Place) else Place.chosen(output, self.outputs, 1)

    def run(self, request, *, output, stop):
        self.ran.append(request)
        steps = getattr(request, "steps", 1)
        yield Event("started", {"images": 1, "steps": steps, "model": "m", "width": 8, "height": 8})
        if steps in self.fails or getattr(request, "image", "") in self.fails:
            yield Event("failed", {"error": "OutOfMemory", "text": "too much", "hint": "Less."})
            return
        yield Event("warning", {"text": "said by each"})
        for number in range(steps):
            if stop():
                yield Event("failed", {"error": "Cancelled", "text": "stopped", "hint": ""})
                return
            yield Event(
                "step",
                {"image": 0, "step": number + 1, "steps": steps, "done": number + 1, "rate": 1},
            )
        if request.kind == "caption":
            yield Event("caption", {"image": 0, "text": "a cat", "tags": []})
            yield Event("done", {"images": 1})
            return
        rounds = request.loopback.loops if getattr(request, "loopback", None) else 1
        for number in range(rounds):
            target = output.folder / "x.tmp"
            Image.new("RGB", (8, 8), (steps, number, 0)).save(target, "PNG")
            data = target.read_bytes()
            target.unlink()
            path = publish(output.names(0, single=True), data)
            if self.dies_at is not None and len(self.ran) >= self.dies_at:
                raise SystemError("killed")
            sha256 = hashlib.sha256(data).hexdigest()
            yield Event(
                "artifact",
                {"image": number, "path": str(path), "seed": 1, "sha256": sha256, "seconds": 0},
            )
        yield Event("done", {"images": 1})


def grid(steps="1,2,3", **fields):
    base = {"prompt": "p"} | fields.pop("base", {})
    return GridRequest.parse({"base": base, "x": {"field": "steps", "values": steps}, **fields})


def of_kind(events, kind):
    return [event.data for event in events if event.kind == kind]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_every_cell_is_a_picture_of_its_own_and_the_events_are_those_of_one_job(out):
    events = list(run_series(Runner(out), grid(), output=out))
    assert sorted(path.name for path in out.glob("*.png")) == [
        "0-0-0.png", "1-0-0.png", "2-0-0.png", "grid.png",
    ]  # fmt: skip
    assert [data["image"] for data in of_kind(events, "artifact")] == [0, 1, 2]
    (started,) = of_kind(events, "started")
    assert started["images"] == 3
    done = [data["done"] for data in of_kind(events, "step")]
    assert done == sorted(done)
    assert done[-1] == started["images"] * started["steps"]
    assert of_kind(events, "warning") == [{"text": "said by each"}]
    assert [data["path"] for data in of_kind(events, "sheet")] == [
        str(out / "grid.png"), str(out / "grid.html"),
    ]  # fmt: skip
    assert events[-1].kind == "done"
    assert events[-1].data["images"] == 3
    manifest = json.loads((out / NAME).read_text())
    files = [entry["files"][0] for entry in manifest["items"].values()]
    for each in files:
        assert hashlib.sha256((out / each["file"]).read_bytes()).hexdigest() == each["sha256"]


def test_the_same_again_makes_nothing_and_what_is_gone_is_made(out):
    list(run_series(Runner(out), grid(), output=out))
    before = {path: path.stat().st_mtime_ns for path in out.glob("?-?-?.png")}
    runner = Runner(out)
    events = list(run_series(runner, grid(), output=out))
    assert runner.ran == []
    assert "3 of 3 are there already" in of_kind(events, "warning")[0]["text"]
    (out / "1-0-0.png").unlink()
    list(run_series(runner, grid(), output=out))
    assert [request.steps for request in runner.ran] == [2]
    assert before.keys() == set(out.glob("?-?-?.png"))
    assert (out / "0-0-0.png").stat().st_mtime_ns == before[out / "0-0-0.png"]


def test_a_picture_that_was_saved_and_never_noted_is_not_made_again(out):
    with pytest.raises(SystemError):
        list(run_series(Runner(out, dies_at=2), grid(), output=out))
    (out / "grid.png").unlink()  # a kill would not have let it be written
    assert (out / "1-0-0.png").exists()
    runner = Runner(out)
    list(run_series(runner, grid(), output=out))
    assert [request.steps for request in runner.ran] == [3]
    manifest = json.loads((out / NAME).read_text())
    assert all(entry["complete"] for entry in manifest["items"].values())
    assert len(manifest["items"]["1-0-0"]["files"][0]["sha256"]) == 64


def test_the_seed_that_was_drawn_is_kept(out):
    first, second = Runner(out), Runner(out)
    with pytest.raises(SystemError):
        list(run_series(Runner(out, dies_at=1), grid(), output=out))
    list(run_series(first, grid(), output=out))
    (out / "0-0-0.png").unlink()
    list(run_series(second, grid(), output=out))
    assert len({request.seed for request in (*first.ran, *second.ran)}) == 1


def test_another_request_in_the_same_folder_is_refused_unless_it_begins_anew(out):
    list(run_series(Runner(out), grid(), output=out))
    with pytest.raises(BadRequest, match="made by another request"):
        list(run_series(Runner(out), grid("1,2"), output=out))
    forget(out)
    events = list(run_series(Runner(out), grid("1,2"), output=out))
    made = {data["path"] for data in of_kind(events, "artifact")}
    assert made == {str(out / "0-0-0-1.png"), str(out / "1-0-0-1.png")}
    assert (out / "series-1.json").exists()
    assert (out / "grid-1.png").exists()


def test_a_damaged_list_is_refused_with_a_cure(out):
    out.mkdir()
    (out / NAME).write_text("{")
    with pytest.raises(BadRequest, match="is damaged") as caught:
        list(run_series(Runner(out), grid(), output=out))
    assert "--fresh" in caught.value.hint


def test_what_fails_is_told_and_the_others_go_on(out):
    events = []
    with pytest.raises(StudioError, match="1 of 3 could not be made: steps: 2") as caught:
        events.extend(run_series(Runner(out, fails=(2,)), grid(), output=out))
    assert not isinstance(caught.value, BadRequest)
    events = []
    with pytest.raises(StudioError):
        for event in run_series(Runner(out, fails=(2,)), grid(), output=out):
            events.append(event)
    told = [data["text"] for data in of_kind(events, "warning")]
    assert "steps: 2: too much. Less." in told
    assert (out / "2-0-0.png").exists()
    assert (out / "grid.html").exists()
    assert json.loads((out / NAME).read_text())["items"]["1-0-0"]["error"] == "too much. Less."
    runner = Runner(out)
    list(run_series(runner, grid(), output=out))
    assert [request.steps for request in runner.ran] == [2]


def test_a_stop_keeps_what_is_finished(out):
    runner = Runner(out)
    with pytest.raises(Cancelled, match="1 of 3 are finished"):
        list(run_series(runner, grid(), output=out, stop=lambda: len(runner.ran) > 1))
    assert (out / "0-0-0.png").exists()
    assert not (out / "1-0-0.png").exists()
    with Image.open(out / "grid.png") as image:
        assert image.width >= 3 * 8  # the empty fields too


def test_what_cannot_be_is_refused_before_a_folder_is_made(out):
    with pytest.raises(BadRequest):
        list(run_series(Runner(out), grid("none"), output=out))
    assert not out.exists()
    with pytest.raises(BadRequest, match="many files"):
        list(run_series(Runner(out), grid(), output=out.with_suffix(".png")))


def test_a_cell_of_several_pictures_is_one_item_for_each(out):
    runner = Runner(out)
    list(run_series(runner, grid("1,2", base={"count": 2, "seed": 5}), output=out))
    assert [(r.steps, r.seed, r.count) for r in runner.ran] == [
        (1, 5, 1),
        (1, 6, 1),
        (2, 5, 1),
        (2, 6, 1),
    ]
    assert (out / "1-0-0-1.png").exists()


def test_the_rounds_of_a_loopback_are_one_item(out):
    request = grid("1", base={"init": {"image": "a.png"}, "loopback": {"loops": 2}})
    with pytest.raises(SystemError):
        list(run_series(Runner(out, dies_at=1), request, output=out))
    runner = Runner(out)
    list(run_series(runner, request, output=out))
    assert len(runner.ran) == 1
    runner = Runner(out)
    list(run_series(runner, request, output=out))
    assert runner.ran == []


def test_without_a_folder_an_unfinished_series_of_today_goes_on(out):
    with pytest.raises(StudioError):
        list(run_series(Runner(out, fails=(2,)), grid(), output=None))
    (folder,) = out.glob("*/grid-*")
    list(run_series(Runner(out), grid(), output=None))
    assert list(out.glob("*/grid-*")) == [folder]
    list(run_series(Runner(out), grid(), output=None))
    assert len(list(out.glob("*/grid-*"))) == 2


# ---- batches -------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "deep/c.png"):
        Image.new("RGB", (8, 8), "red").save(folder / name)
    return folder


def upscale(*inputs, **fields):
    base = {"kind": "upscale", "image": "each"}
    return BatchRequest.parse({"base": base, "inputs": list(map(str, inputs)), **fields})


def test_results_have_the_names_of_what_they_are_made_from(photos, out):
    events = list(run_series(Runner(out), upscale(photos, recursive=True), output=out))
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.png")} == {
        "a.png",
        "b.png",
        "deep/c.png",
    }
    assert of_kind(events, "sheet") == []


def test_nothing_is_overwritten_beside_the_pictures_themselves(photos):
    before = (photos / "b.png").read_bytes()
    list(run_series(Runner(photos), upscale(photos), output=photos))
    assert (photos / "b.png").read_bytes() == before
    assert (photos / "b-1.png").exists()
    assert (photos / "a.png").exists()
    runner = Runner(photos)
    list(run_series(runner, upscale(photos), output=photos))
    assert runner.ran == []  # results are no inputs


def test_two_processes_do_not_work_in_one_folder(out):
    first = run_series(Runner(out), grid(), output=out)
    next(first)
    with pytest.raises(BadRequest, match="at work in"):
        list(run_series(Runner(out), grid(), output=out))
    first.close()
    list(run_series(Runner(out), grid(), output=out))


def test_a_bad_file_is_told_at_its_turn_and_new_files_join_later(photos, out):
    runner = Runner(out, fails=(str(photos / "b.png"),))
    with pytest.raises(StudioError, match=r"1 of 2 could not be made: b\.png"):
        list(run_series(runner, upscale(photos), output=out))
    Image.new("RGB", (8, 8)).save(photos / "0.png")
    runner = Runner(out)
    list(run_series(runner, upscale(photos), output=out))
    assert [request.image for request in runner.ran] == [
        str(photos / "0.png"),
        str(photos / "b.png"),
    ]


def test_a_new_file_of_the_same_name_but_for_its_ending_is_done_too(photos, out):
    Image.new("RGB", (8, 8)).save(photos / "x.png")
    list(run_series(Runner(out), upscale(photos), output=out))
    Image.new("RGB", (8, 8)).save(photos / "x.jpg")  # which comes first, and so would be "x"
    runner = Runner(out)
    list(run_series(runner, upscale(photos), output=out))
    assert [request.image for request in runner.ran] == [str(photos / "x.jpg")]
    assert len(list(out.glob("x*.png"))) == 2


def test_a_line_that_cannot_be_read_is_told_at_its_turn(tmp_path, out):
    (tmp_path / "p.txt").write_text("a cat\n--stepz 1\n--prompt dog --steps 0\na bird\n")
    request = BatchRequest.parse(
        {"base": {"kind": "image", "prompt": "", "steps": 1}, "inputs": [str(tmp_path / "p.txt")]}
    )
    runner = Runner(out)
    with pytest.raises(StudioError, match="2 of 4"):
        list(run_series(runner, request, output=out))
    assert [asked.prompt for asked in runner.ran] == ["a cat", "a bird"]
    assert runner.ran[0].seed != runner.ran[1].seed


def test_captions_become_texts(photos, out):
    request = BatchRequest.parse(
        {"base": {"kind": "caption", "image": "each"}, "inputs": [str(photos)]}
    )
    events = list(run_series(Runner(out), request, output=out))
    assert (out / "a.txt").read_text() == "a cat\n"
    assert len(of_kind(events, "caption")) == 2
    runner = Runner(out)
    list(run_series(runner, request, output=out))
    assert runner.ran == []


def test_members_of_archives_are_there_while_they_are_needed(photos, out, tmp_path):
    import shutil

    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    runner = Runner(out)
    list(run_series(runner, upscale(archive), output=out))
    assert (out / "deep" / "c.png").exists()
    assert [request.image.endswith((".jpg", ".png")) for request in runner.ran] == [True] * 3


def test_a_picture_and_its_mask_may_have_one_name_in_two_archives(out, tmp_path):
    class Reader(Runner):
        def run(self, request, **where):
            self.seen = [
                Path(path).read_bytes() for path in (request.init.image, request.mask.image)
            ]
            yield from super().run(request, **where)

    for kind in ("photo", "mask"):
        with zipfile.ZipFile(tmp_path / f"{kind}s.zip", "w") as file:
            file.writestr("a.png", kind)
    base = {"kind": "image", "prompt": "p", "steps": 1, "init": {"image": "each"}, "mask": {}}
    inputs, masks = (str(tmp_path / f"{kind}s.zip") for kind in ("photo", "mask"))
    runner = Reader(out)
    request = BatchRequest.parse({"base": base, "inputs": [inputs], "masks": masks})
    list(run_series(runner, request, output=out))
    assert runner.seen == [b"photo", b"mask"]


def test_seldom_keeps_to_its_share(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    seldom = Seldom(0.1)
    assert seldom.due()
    seldom.took(2)
    clock[0] = 19.9
    assert not seldom.due()
    clock[0] = 20.1
    assert seldom.due()

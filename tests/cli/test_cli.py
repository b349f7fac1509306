import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.cli.main import VERBS
from darkroom.cli.options import REQUEST_FLAGS, slots
from darkroom.core.errors import OutputError
from darkroom.core.recipe import Recipe, UsedModel
from darkroom.core.request import ImageRequest, ResolvedRequest
from darkroom.core.sampler_table import SAMPLERS, SCHEDULERS
from darkroom.media.image import save
from darkroom.media.metadata import read_recipe
from tiny import tiny_checkpoint

SOURCE = str(Path(__file__).parents[2] / "src")


def make(call, *words):
    result = call("txt2img", "an apple", "--model", "tiny", "--steps", 2, "--seed", 7, *words)
    assert result.exit_code == 0, result.stderr
    return result


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def spawn(tmp_path, checkpoint, *words, **variables):
    environment = {
        **os.environ,
        "PYTHONPATH": SOURCE,
        "DARKROOM_DATA_DIR": str(tmp_path / "data"),
        "DARKROOM_OUTPUTS_DIR": str(tmp_path / "out"),
        "DARKROOM_MODELS_DIRS": str(checkpoint.parent),
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "darkroom", *words],
        env=environment,
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_path_of_the_picture_is_all_that_standard_output_holds(call):
    result = make(call)
    (path,) = result.stdout.split()
    assert pixels(path).shape == (64, 64, 3)
    assert Path(path).parent.parent.name == "out"
    assert read_recipe(Path(path)).seed == 7


def test_json_is_one_object(call):
    result = make(call, "--json", "--count", 2)
    answer = json.loads(result.stdout)
    images = answer["images"]
    assert answer["warnings"] == []
    assert [image["seed"] for image in images] == [7, 8]
    assert all(Path(image["path"]).exists() for image in images)


def test_every_field_of_a_request_is_a_flag(call):
    text = "".join(call(verb, "--help-all").output for verb in ("img2img", "inpaint", "outpaint"))
    for slot in slots(ImageRequest, REQUEST_FLAGS):
        if slot.name != "init":  # the argument PICTURE
            assert f"--{slot.name.replace('_', '-')}" in text


def test_rare_options_are_only_named_until_all_is_asked_for(call):
    short, whole = (call("txt2img", word).output for word in ("--help", "--help-all"))
    assert "--sigma-min" in short and "Lowest noise level of the schedule" not in short
    assert "Lowest noise level of the schedule" in whole
    assert len(short.splitlines()) < 0.8 * len(whole.splitlines())


def test_flags_reach_the_recipe(call):
    words = {
        "--negative-prompt": "blur", "--width": 72, "--height": 80, "--sampler": "euler a",
        "--scheduler": "sgm_uniform", "--cfg-scale": 3.5, "--clip-skip": 2,
    }  # fmt: skip
    (path,) = make(call, *(w for pair in words.items() for w in pair)).stdout.split()
    request = read_recipe(Path(path)).request
    assert (request.width, request.height, request.clip_skip) == (72, 80, 2)
    assert (request.sampler, request.scheduler) == ("Euler a", "SGM Uniform")
    assert (request.negative_prompt, request.cfg_scale) == ("blur", 3.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--width", "7"], "--width must be a multiple of 8 (you gave 7)"),
        (["--width", "0"], "width"),
        (["--height", "100000"], "height"),
        (["--steps", "0"], "steps"),
        (["--steps", "1000000000"], "steps"),
        (["--cfg-scale", "nan"], "--cfg-scale must be a finite number"),
        (["--sampler", "Eulr"], "unknown sampler 'Eulr'. Did you mean 'Euler'"),
        (["--scheduler", "karas"], "Did you mean 'Karras'"),
        (["--model", "tinny"], "unknown model 'tinny'. Did you mean 'tiny'"),
        (["--model", "none.safetensors"], "there is no file none.safetensors"),
        (["--device", "abacus"], "unknown device 'abacus'"),
        (["--threads", "many"], "setting threads (from the flag)"),
        (["-o", "apple.bmp"], "no such kind of picture"),
        (["-o", "~nosuchuser/x.png"], "there is no home folder for '~nosuchuser'"),
        (["--model", "x" * 300], "unknown model"),
        (["--model", "~nosuchuser/x"], "there is no home folder"),
        (["--stepz", "3"], "no such option '--stepz'; did you mean --steps"),
        (["--stepz", "3"], "(see darkroom txt2img --help)"),
        (["--seed"], "requires an argument"),
        (["--clip-skip", "9"], "clip_skip 9 is not possible with this model"),
    ],
)
def test_a_bad_request_is_one_line_and_exit_code_2(call, words, said):
    result = call("txt2img", "an apple", "--model", "tiny", "--steps", "1", *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("darkroom: ")
    assert said in lines[0]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!doctype html><html></html>", "web page"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    ],
)
def test_a_file_that_is_no_model_is_named_for_what_it_is(call, tmp_path, content, said):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    result = call("txt2img", "an apple", "--model", path)
    assert result.exit_code == 2
    assert said.lower() in result.stderr.lower()


def test_a_truncated_model(call, tmp_path, checkpoint):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(checkpoint.read_bytes()[:100_000])
    result = call("txt2img", "an apple", "--model", path)
    assert result.exit_code == 2
    assert "missing" in result.stderr


def test_an_error_as_json(call):
    result = call("txt2img", "x", "--sampler", "Eulr", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "UnknownName"
    result = call("txt2img", "--json")
    assert result.exit_code == 2
    assert "missing argument 'PROMPT'" in json.loads(result.stdout)["text"]
    assert call("txt2img", "--steps", "0", "--", "--json").stdout == ""  # that is the prompt


def test_nothing_is_overwritten(call, tmp_path):
    make(call, "-o", tmp_path / "apple.png")
    before = (tmp_path / "apple.png").read_bytes()
    result = call("txt2img", "x", "--model", "tiny", "-o", tmp_path / "apple.png")
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert (tmp_path / "apple.png").read_bytes() == before


def test_the_output_folder_may_be_a_file(call, tmp_path):
    (tmp_path / "file").touch()
    result = call("txt2img", "x", "--model", "tiny", "-o", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "a part of its path is a file" in result.stderr


def test_a_name_too_long_is_no_mistake_of_ours(call, tmp_path):
    for name in ("x" * 300, "x" * 300 + ".png"):
        result = call("txt2img", "x", "--model", "tiny", "--steps", "1", "-o", tmp_path / name)
        assert result.exit_code == 1
        assert "the name is too long" in result.stderr


def test_a_name_that_ends_in_a_slash_is_a_folder(call, tmp_path):
    (path,) = make(call, "-o", f"{tmp_path}/v1.5/").stdout.split()
    assert Path(path).parent == tmp_path / "v1.5"


def test_a_folder_deleted_meanwhile_is_said(call, tmp_path, monkeypatch):
    from darkroom.media import image

    def save(picture, recipe, names, *, saving, save=image.save):
        shutil.rmtree(tmp_path / "gone", ignore_errors=True)
        return save(picture, recipe, names, saving=saving)

    monkeypatch.setattr("darkroom.tasks.image.save", save)
    result = call("txt2img", "x", "--model", "tiny", "--steps", "1", "-o", tmp_path / "gone")
    assert result.exit_code == 1
    assert "the folder is gone" in result.stderr
    assert "mistake" not in result.stderr


def test_a_failure_keeps_what_was_done_before_in_its_json(call, tmp_path, monkeypatch):
    from darkroom.media import image

    done = []

    def save(picture, recipe, names, *, saving, save=image.save):
        if done:
            raise OutputError("the disk is full")
        done.append(save(picture, recipe, names))
        return done[0]

    monkeypatch.setattr("darkroom.tasks.image.save", save)
    words = ("--model", "tiny", "--steps", "2", "--count", "3", "--json")
    result = call("txt2img", "x", *words, "--sampler", "DDIM", "--scheduler", "Karras")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["error"] == "OutputError"
    assert [Path(image["path"]) for image in answer["images"]] == [done[0].path]
    assert any("no effect" in text for text in answer["warnings"])


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_ctrl_c_keeps_what_was_done_before_in_its_json(call, monkeypatch):
    from darkroom.media import image

    def save(picture, recipe, names, *, saving, save=image.save):
        os.kill(os.getpid(), signal.SIGINT)
        return save(picture, recipe, names, saving=saving)

    monkeypatch.setattr("darkroom.tasks.image.save", save)
    result = call("txt2img", "x", "--model", "tiny", "--steps", "2", "--count", "9", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["error"] == "Cancelled"
    assert len(answer["images"]) == 1
    assert pixels(answer["images"][0]["path"]).shape == (64, 64, 3)


def test_nothing_in_a_picture_reaches_the_terminal_as_it_is(call, tmp_path):
    evil = "red\x1b]0;owned\x07\x1b[31m\x9b31m apple\nnew line"
    request = ResolvedRequest(
        prompt=evil, model=evil, width=64, height=64, steps=1, cfg_scale=1, seed=1
    )
    used = UsedModel(name=evil, sha256="0" * 64)
    recipe = Recipe(request=request, seed=1, models=(used,), versions={evil: evil}, device=evil)
    picture = save(Image.new("RGB", (8, 8)), recipe, iter([tmp_path / "a.png"]))
    for result in (call("info", picture.path), call("redo", picture.path)):
        shown = (result.stdout + result.stderr).replace("\n", "")
        assert "red\\x1b]0;owned" in shown
        assert shown.isprintable()
    assert json.loads(call("info", picture.path, "--json").stdout)["request"]["prompt"] == evil


def test_redo_never_opens_the_path_in_a_recipe(call, tmp_path, checkpoint):
    secret = tmp_path / "elsewhere.safetensors"
    secret.write_bytes(checkpoint.read_bytes()[:1000])
    request = ResolvedRequest(
        prompt="x", model=str(secret), width=64, height=64, steps=1, cfg_scale=1, seed=1
    )
    used = UsedModel(name=str(secret), sha256="0" * 64)
    recipe = Recipe(request=request, seed=1, models=(used,))
    picture = save(Image.new("RGB", (8, 8)), recipe, iter([tmp_path / "a.png"]))
    result = call("redo", picture.path)
    assert result.exit_code == 2
    assert "is not here" in result.stderr
    assert "Put it into a model folder" in result.stderr
    assert "damaged" not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes with names are POSIX's")
def test_a_pipe_is_no_picture(call, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    result = call("info", tmp_path / "pipe.png")
    assert result.exit_code == 2
    assert "not a regular file" in result.stderr


def test_info_shows_the_recipe(call):
    (path,) = make(call).stdout.split()
    text = call("info", path).output
    assert "an apple" in text
    assert "DPM++ 2M" in text
    assert json.loads(call("info", path, "--json").output)["seed"] == 7
    missing = call("info", "none.png")
    assert missing.exit_code == 2
    assert "none.png does not exist" in missing.stderr


def test_redo_makes_the_same_pixels_beside_the_old(call):
    paths = make(call, "--count", 2).stdout.split()
    result = call("redo", paths[1])
    assert result.exit_code == 0, result.stderr
    (again,) = result.stdout.split()
    assert again not in paths
    assert np.array_equal(pixels(paths[1]), pixels(again))


def test_redo_finds_a_renamed_model_by_its_hash_and_names_a_missing_one(
    call, tmp_path, checkpoint, monkeypatch
):
    (path,) = make(call).stdout.split()
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "other name.safetensors").write_bytes(checkpoint.read_bytes())
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", str(moved))
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path / "fresh"))  # nothing is known there
    assert call("redo", path).exit_code == 0
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", str(tmp_path / "empty"))
    (moved / "other name.safetensors").unlink()
    result = call("redo", path)
    assert result.exit_code == 2
    assert "the model 'tiny' is not here" in result.stderr


def test_redo_finds_a_model_that_was_given_as_a_path(call, tmp_path, checkpoint, monkeypatch):
    elsewhere = tmp_path / "elsewhere" / "mine.safetensors"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(checkpoint.read_bytes())
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", "")
    words = ("txt2img", "x", "--model", elsewhere, "--steps", 1)
    (path,) = call(*words).stdout.split()
    recipe = read_recipe(Path(path))
    assert recipe.request.model == "mine"
    assert str(tmp_path) not in recipe.model_dump_json()
    (again,) = call("redo", path).stdout.split()
    assert np.array_equal(pixels(path), pixels(again))
    elsewhere.unlink()
    assert call("redo", path).exit_code == 2


def test_redo_says_when_the_model_of_that_name_is_another(call, tmp_path, monkeypatch):
    (path,) = make(call).stdout.split()
    other = tmp_path / "other"
    other.mkdir()
    tiny_checkpoint(other / "tiny.safetensors", seed=9, metadata={"modelspec.resolution": "64x64"})
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", str(other))
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path / "fresh"))
    result = call("redo", path)
    assert result.exit_code == 0
    assert "will differ" in result.stderr


def test_redo_hashes_the_file_of_the_recorded_name_first(call, checkpoint, tmp_path, monkeypatch):
    (path,) = make(call).stdout.split()
    more = tmp_path / "more"
    more.mkdir()
    for name in ("a", "z"):
        tiny_checkpoint(more / f"{name}.safetensors", seed=4)
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", os.pathsep.join([str(more), str(checkpoint.parent)]))
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path / "settings.toml" / "no folder"))
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind)
    )
    # Nothing can be kept there: each look reads again.
    result = call("redo", path, "-o", tmp_path / "again.png")
    assert result.exit_code == 0, result.stderr
    assert {Path(name).stem for name in read} == {"tiny"}


@pytest.mark.parametrize("charset", ["cp1252", "latin-1"])
def test_what_an_encoding_cannot_take_is_escaped(call, tmp_path, monkeypatch, charset):
    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "café 🍎.safetensors")
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", str(tmp_path / "models"))
    listed = call("models", charset=charset)
    assert listed.exit_code == 0
    assert "\\U0001f34e" in listed.stdout
    rows = json.loads(call("models", "--json", charset=charset).stdout)
    assert rows[1]["name"] == "café 🍎"


def test_nothing_in_a_model_reaches_the_terminal_as_it_is(call, tmp_path):
    evil = {"modelspec.title\x1b[31m": "apple\x1b[31m \x9b31m"}
    path = tiny_checkpoint(tmp_path / "evil\x1b[31m.safetensors", metadata=evil)
    result = call("models", "show", path)
    assert result.exit_code == 0
    assert "apple\\x1b[31m" in result.stdout
    assert result.stdout.replace("\n", "").isprintable()
    missing = call("models", "show", "\x1b[31m.safetensors")
    assert missing.exit_code == 2
    assert missing.stderr.strip().isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there")
def test_a_model_file_whose_name_is_no_text(call, checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    name = os.fsdecode(b"\xe9.safetensors")
    (folder / name).write_bytes(checkpoint.read_bytes())
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", str(folder))
    (row,) = [r for r in json.loads(call("models", "--json").stdout) if r["name"] != "starter"]
    assert row["path"].endswith(name)
    result = call("models", "show", row["name"])
    assert result.exit_code == 0, result.stderr
    done = call("txt2img", "x", "--model", row["name"], "--steps", "1")
    assert done.exit_code == 0, done.stderr


def test_json_may_stand_before_or_after_the_word(call):
    before, after = call("models", "--json", "list"), call("models", "list", "--json")
    assert json.loads(before.stdout) == json.loads(after.stdout)


def test_names_of_samplers_and_devices_stand_in_the_help(call):
    text = " ".join(call("txt2img", "--help-all").output.split())
    assert all(row.name in text for row in (*SAMPLERS, *SCHEDULERS))
    assert "rocm" in text


def test_bench_takes_its_settings_from_where_all_verbs_do(call, monkeypatch):
    result = call("bench", "--model", "tiny", "--threads", "many")
    assert result.exit_code == 2
    assert "setting threads (from the flag): must be a valid integer, not 'many'" in result.stderr
    monkeypatch.setenv("DARKROOM_DEVICE", "abacus")
    result = call("bench", "--model", "tiny")
    assert result.exit_code == 2
    assert "unknown device 'abacus'" in result.stderr


def test_models_are_listed_and_shown(call):
    assert "tiny" in call("models").output
    names = [row["name"] for row in json.loads(call("models", "--json").output)]
    assert names == ["starter", "tiny"]
    shown = call("models", "show", "tiny").output
    assert "SD1 checkpoint" in shown
    assert call("models", "show", "tinny").exit_code == 2


def test_recover_tells_of_every_failure_in_json_too(call, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data/unfinished" / name).mkdir(parents=True)
        (tmp_path / "data/unfinished" / name / "00000.latent.safetensors").write_bytes(b"cut")
    result = call("recover", "--json")
    told = json.loads(result.stdout)
    said = " ".join([told["text"], *told["warnings"]])
    assert result.exit_code == 2
    assert all(str(tmp_path / "data/unfinished" / name) in said for name in ("a", "b"))


def test_recover_with_nothing_to_do(call):
    result = call("recover")
    assert result.exit_code == 0
    assert "Nothing to recover" in result.stderr


def test_settings_come_from_the_file_too(call, tmp_path):
    (tmp_path / "settings.toml").write_text("[[broken")
    result = call("txt2img", "x")
    assert result.exit_code == 2
    assert "settings.toml cannot be read" in result.stderr


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS)])
def test_help_is_quick_and_never_imports_torch(tmp_path, checkpoint, verb):
    code = (
        "import sys\n"
        "from darkroom.cli.main import main\n"
        f"main({[*verb, '--help']!r}, standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "import os\n"
        "used = os.times()\n"
        "assert used.user + used.system < 0.5, used\n"  # CPU time: load does not count
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_keeps_what_is_finished(tmp_path, checkpoint, number):
    job = spawn(
        tmp_path, checkpoint,
        "txt2img", "x", "--model", "tiny", "--count", "10000", "--steps", "2", "-o", "pictures",
        OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert job.stdout is not None
    first = job.stdout.readline().strip()  # the path of the first picture
    job.send_signal(number)
    rest, errors = job.communicate(timeout=280)
    assert job.returncode == 1
    assert "stopped" in errors
    assert "Traceback" not in errors
    saved = sorted(p.name for p in (tmp_path / "pictures").iterdir())
    assert saved == sorted(Path(p).name for p in [first, *rest.split()])
    for name in saved:
        assert pixels(tmp_path / "pictures" / name).shape == (64, 64, 3)


def test_two_processes_at_once_share_a_folder(tmp_path, checkpoint):
    words = ("txt2img", "x", "--model", "tiny", "--count", "4", "--steps", "1", "-o", "pictures")
    jobs = [spawn(tmp_path, checkpoint, *words, OMP_NUM_THREADS="1") for _ in range(2)]
    paths = []
    for job in jobs:
        out, errors = job.communicate(timeout=280)
        assert job.returncode == 0, errors
        paths += out.split()
    assert len(set(paths)) == 8
    assert len(list((tmp_path / "pictures").iterdir())) == 8

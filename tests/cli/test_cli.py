import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from darkroom.cli.main import VERBS, main
from darkroom.core.request import ImageRequest
from darkroom.media.metadata import read_recipe
from tiny import tiny_checkpoint

SOURCE = str(Path(__file__).parents[2] / "src")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return tiny_checkpoint(folder / "tiny.safetensors", metadata={"modelspec.resolution": "64x64"})


@pytest.fixture
def call(tmp_path, checkpoint, monkeypatch):
    """Run a verb in this process, with folders of its own; returns click's result."""
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DARKROOM_OUTPUTS_DIR", str(tmp_path / "out"))
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", str(checkpoint.parent))
    monkeypatch.setenv("DARKROOM_SETTINGS", str(tmp_path / "settings.toml"))
    (tmp_path / "settings.toml").touch()

    def run(*words):
        return CliRunner().invoke(main, [str(word) for word in words], prog_name="darkroom")

    return run


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
    images = json.loads(result.stdout)["images"]
    assert [image["seed"] for image in images] == [7, 8]
    assert all(Path(image["path"]).exists() for image in images)


def test_every_field_of_a_request_is_a_flag(call):
    text = call("txt2img", "--help").output
    for name in ImageRequest.model_fields.keys() - {"kind", "prompt"}:
        assert f"--{name.replace('_', '-')}" in text


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
        (["--width", "7"], "width: must be a multiple of 8 (you gave '7')"),
        (["--width", "0"], "width"),
        (["--height", "100000"], "height"),
        (["--steps", "0"], "steps"),
        (["--steps", "1000000000"], "steps"),
        (["--cfg-scale", "nan"], "cfg_scale: must be a finite number"),
        (["--sampler", "Eulr"], "unknown sampler 'Eulr'. Did you mean 'Euler'"),
        (["--scheduler", "karas"], "Did you mean 'Karras'"),
        (["--model", "tinny"], "unknown model 'tinny'. Did you mean 'tiny'"),
        (["--model", "none.safetensors"], "there is no file none.safetensors"),
        (["--device", "abacus"], "unknown device 'abacus'"),
        (["--threads", "many"], "setting threads (from the flag)"),
        (["-o", "apple.jpg"], "saved as PNG"),
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
    assert call("redo", path).exit_code == 0
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", str(tmp_path / "empty"))
    result = call("redo", path)
    assert result.exit_code == 2
    assert "the model 'tiny' is not here" in result.stderr


def test_redo_says_when_the_model_of_that_name_is_another(call, tmp_path, monkeypatch):
    (path,) = make(call).stdout.split()
    other = tmp_path / "other"
    other.mkdir()
    tiny_checkpoint(other / "tiny.safetensors", seed=9, metadata={"modelspec.resolution": "64x64"})
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", str(other))
    result = call("redo", path)
    assert result.exit_code == 0
    assert "will differ" in result.stderr


def test_models_are_listed_and_shown(call):
    assert "tiny" in call("models").output
    names = [row["name"] for row in json.loads(call("models", "--json").output)]
    assert names == ["starter", "tiny"]
    shown = call("models", "show", "tiny").output
    assert "SD1 checkpoint" in shown
    assert call("models", "show", "tinny").exit_code == 2


def test_doctor_says_what_is_there(call):
    result = call("doctor", "--json", "--device", "cpu")
    rows = json.loads(result.stdout)
    assert any(row["text"].startswith("cpu:") for row in rows)
    assert any("free" in row["text"] for row in rows)


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
        "import resource, os\n"
        "used = os.times()\n"
        "assert used.user + used.system < 1.0, used\n"
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
    began = time.monotonic()
    rest, errors = job.communicate(timeout=60)
    assert time.monotonic() - began < 30
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
        out, errors = job.communicate(timeout=120)
        assert job.returncode == 0, errors
        paths += out.split()
    assert len(set(paths)) == 8
    assert len(list((tmp_path / "pictures").iterdir())) == 8

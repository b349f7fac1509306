import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.cli import main as table
from darkroom.library.models import Library

SOURCE = str(Path(__file__).parents[2] / "src")
MODELS = [sys.executable, "-m", "darkroom", "models"]


def start(tmp_path, *words, command=MODELS, **options):
    environment = {
        **os.environ,
        "PYTHONPATH": SOURCE,
        "DARKROOM_DATA_DIR": str(tmp_path / "data"),
        "DARKROOM_SETTINGS": "",
        **options.pop("env", {}),
    }
    return subprocess.run([*command, *words], env=environment, cwd=tmp_path, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is full")
@pytest.mark.parametrize("words", [[], ["--json"], ["--help"]])
def test_a_full_disk_under_standard_output(tmp_path, words):
    with Path("/dev/full").open("wb") as full:
        done = start(tmp_path, *words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "darkroom: standard output or error cannot be written: No space left on device\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(tmp_path, closed):
    command = ["sh", "-c", f'"$0" -m darkroom models {closed}', sys.executable]
    done = start(tmp_path, command=command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_a_reader_that_goes_away(tmp_path):
    command = ["sh", "-c", '"$0" -m darkroom --help | true', sys.executable]
    done = start(tmp_path, command=command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_what_nobody_foresaw_is_one_sentence_and_a_log(call, tmp_path, monkeypatch):
    def break_down(_self):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(Library, "learn", break_down)
    result = call("models", "--json")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("darkroom: Darkroom made a mistake: RuntimeError: two lines.")
    assert json.loads(result.stdout)["error"] == "StudioError"
    (log,) = (tmp_path / "data" / "logs").iterdir()
    assert "Traceback" in log.read_text()
    assert str(log) in line
    (tmp_path / "file").touch()
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path / "file" / "below"))
    result = call("models")
    assert result.exit_code == 1
    assert "Please report it with the command you ran." in result.stderr


def test_ctrl_c_is_a_sentence_with_what_was_done(call, monkeypatch):
    def interrupted(_self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Library, "learn", interrupted)
    result = call("models", "--json")
    assert result.exit_code == 1
    assert result.stderr == "darkroom: stopped\n"
    assert json.loads(result.stdout)["error"] == "Cancelled"


def test_without_words_the_help_is_shown(call):
    result = call()
    assert result.exit_code == 0
    assert all(verb in result.stdout for verb in table.VERBS)
    unknown = call("txt2imgs")
    assert unknown.exit_code == 2
    assert len(unknown.stderr.splitlines()) == 1
    assert "(see darkroom --help)" in unknown.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["txt2img", "a", "red", "apple"], "put a prompt of several words in quotes"),
        (["txtimg", "x"], "did you mean txt2img?"),
        (["paint"], "there is no verb 'paint'"),
        (["txt2img", "x", "--steps", "abc"], "must be a whole number (you gave 'abc')"),
    ],
)
def test_what_beginners_type_is_answered_with_what_to_type(call, words, said):
    result = call(*words)
    assert result.exit_code == 2
    assert said in result.stderr

import json
import os

import pytest

from darkroom.library import models
from darkroom.media.lock import hold


@pytest.fixture
def doctor(call, tmp_path, monkeypatch):
    """The rows of `doctor --json` and its exit code, on a CPU."""
    monkeypatch.setenv("DARKROOM_OUTPUTS_DIR", str(tmp_path / "out"))

    def run(*words):
        result = call("doctor", "--json", *words)
        return json.loads(result.stdout), result.exit_code

    return run


def failures(rows):
    return [f"{row['text']}. {row['hint']}" for row in rows if row["level"] == "error"]


@pytest.fixture
def starter(checkpoint, monkeypatch):
    monkeypatch.setattr(models, "starter_path", lambda: checkpoint)


def test_doctor_says_what_is_there(doctor, starter, tmp_path):
    rows, status = doctor("--device", "cpu")
    assert failures(rows) == []
    assert status == 0
    assert any(row["text"].startswith("cpu:") for row in rows)
    assert any("free" in row["text"] for row in rows)
    assert not (tmp_path / "out").exists()  # it only looks


def test_the_number_format_is_the_one_that_is_tested(doctor, starter):
    rows, _ = doctor("--device", "cpu", "--dtype", "bfloat16", "--threads", "1")
    assert any("(bfloat16," in row["text"] for row in rows)
    assert any(row["text"].startswith("convolution in bfloat16") for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "abacus"], "unknown device 'abacus'"),
        (["--threads", "many"], "setting threads (from the flag)"),
    ],
)
def test_a_wrong_setting_is_a_row_and_the_rest_is_examined(doctor, starter, words, said):
    rows, status = doctor(*words)
    (failure,) = failures(rows)
    assert said in failure
    assert status == 1
    assert any(row["text"].startswith("cpu:") for row in rows)
    assert any("model(s)" in row["text"] for row in rows)


def test_a_missing_starter_says_install(doctor, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "starter_path", lambda: tmp_path / "starter.safetensors")
    rows, status = doctor("--device", "cpu")
    assert any("Install Darkroom again" in failure for failure in failures(rows))
    assert status == 1


def test_folders_are_really_written_to(doctor, starter, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DARKROOM_OUTPUTS_DIR", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path / "file" / "data"))
    rows, status = doctor("--device", "cpu")
    said = failures(rows)
    assert len(said) == 2
    assert all("a part of its path is a file" in failure for failure in said)
    assert "DARKROOM_OUTPUTS_DIR" in said[0]
    assert "DARKROOM_DATA_DIR" in said[1]
    assert status == 1


def test_a_model_folder_that_is_not_there_is_seen(doctor, call, starter, tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", str(tmp_path / "nowhere"))
    rows, _ = doctor("--device", "cpu")
    assert any("nowhere cannot be used: there is no such folder" in r["text"] for r in rows)
    assert "there is no such folder" in call("models").stdout


def test_of_many_unusable_files_five_are_named(doctor, starter, tmp_path, monkeypatch):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.safetensors").write_text("<html>gone</html>")
    gone = str(tmp_path / "nowhere")
    monkeypatch.setenv("DARKROOM_MODELS_DIRS", os.pathsep.join((str(folder), gone)))
    rows, status = doctor("--device", "cpu")
    named = [row["text"] for row in rows if " cannot be used: " in row["text"]]
    assert len(named) == 5
    assert gone in named[0]  # a whole folder weighs more than a file
    (more,) = [row for row in rows if row["text"] == "16 more cannot be used"]
    assert "--problems" in more["hint"]
    assert status == 0


def test_what_may_not_be_read_is_a_row(doctor, starter, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, os.strerror(13), "/unfinished")

    monkeypatch.setattr("pathlib.Path.glob", refuse)
    rows, status = doctor("--device", "cpu")
    assert any("/unfinished: Permission denied" in failure for failure in failures(rows))
    assert status == 1
    assert any(row["text"].startswith("cpu:") for row in rows)


def test_only_pictures_whose_process_is_gone_are_unfinished(doctor, starter, tmp_path):
    for name in ("dead", "alive"):
        folder = tmp_path / "data" / "unfinished" / name
        folder.mkdir(parents=True)
        (folder / "00000.latent.safetensors").touch()
    with hold(folder / "lock"):
        rows, _ = doctor("--device", "cpu")
    assert [row["text"] for row in rows if "recover" in row["hint"]] == ["1 unfinished picture(s)"]


def test_what_was_handed_in_is_counted(doctor, starter, tmp_path):
    folder = tmp_path / "data" / "inputs" / "ab"
    folder.mkdir(parents=True)
    (folder / "ab12.png").write_bytes(bytes(1_500_000))
    rows, _ = doctor("--device", "cpu")
    assert any("1 picture(s) that were handed in: 1.5 MB" in row["text"] for row in rows)

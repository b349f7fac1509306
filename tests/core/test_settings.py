import os
from pathlib import Path

import pytest

from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.settings import Configured


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('device = "cpu"\noutputs_dir = "/pictures"\nthreads = 3\n')
    return path


def test_flag_over_environment_over_file_over_default(file):
    environment = {
        "DARKROOM_SETTINGS": str(file),
        "DARKROOM_THREADS": "4",
        "DARKROOM_DEVICE": "mps",
    }
    found = Configured.load(environment, {"device": "cuda", "dtype": None})
    assert found.values.device == "cuda"
    assert found.values.threads == 4
    assert found.values.outputs_dir == Path("/pictures")
    assert found.values.dtype == "auto"
    assert {
        name: found.sources[name] for name in ("device", "threads", "outputs_dir", "dtype")
    } == {
        "device": "flag",
        "threads": "environment",
        "outputs_dir": "file",
        "dtype": "default",
    }


def test_folders_in_the_environment_are_separated_as_in_path(tmp_path):
    environment = {
        "DARKROOM_MODELS_DIRS": os.pathsep.join(("/a", "/b")),
        "DARKROOM_DATA_DIR": str(tmp_path),
    }
    found = Configured.load(environment).values
    assert found.model_folders() == (Path("/a"), Path("/b"), tmp_path / "models")


def test_a_bad_value_names_its_source():
    with pytest.raises(BadRequest, match=r"threads \(from the environment\).*'many'"):
        Configured.load({"DARKROOM_THREADS": "many"})


def test_a_misspelt_setting_offers_the_right_one(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text("thread = 3")
    with pytest.raises(UnknownName, match="thread") as caught:
        Configured.load({"DARKROOM_SETTINGS": str(path)})
    assert caught.value.nearest[0] == "threads"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"device = ", b"= 3"])
def test_a_broken_file_is_a_sentence(tmp_path, content):
    path = tmp_path / "s.toml"
    path.write_bytes(content)
    with pytest.raises(BadRequest, match="cannot be read"):
        Configured.load({"DARKROOM_SETTINGS": str(path)})


def test_a_file_that_was_asked_for_must_exist(tmp_path):
    with pytest.raises(BadRequest, match="does not exist"):
        Configured.load({"DARKROOM_SETTINGS": str(tmp_path / "none.toml")})

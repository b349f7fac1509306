import os
from pathlib import Path

import platformdirs
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
    assert found.models_dirs == (Path("/a"), Path("/b"))


def test_several_folders_in_one_flag_are_separated_as_in_path(tmp_path):
    (tmp_path / "a").mkdir()
    here, gone = str(tmp_path / "a"), str(tmp_path / "b")

    def folders(*given):
        flags = {"models_dirs": given, "data_dir": str(tmp_path)}
        return [str(path) for path in Configured.load({}, flags).values.models_dirs]

    both = os.pathsep.join((here, gone))
    assert folders(both) == [here, gone]
    assert folders(here, both) == [here, here, gone]
    assert folders(os.pathsep.join((gone, gone))) == [os.pathsep.join((gone, gone))]
    assert folders(Path(here)) == [here]


@pytest.mark.skipif(os.name == "nt", reason="a colon is in no name there")
def test_a_folder_with_the_separator_in_its_name_stays_whole(tmp_path):
    odd = tmp_path / f"a{os.pathsep}b"
    odd.mkdir()
    found = Configured.load({}, {"models_dirs": (str(odd),), "data_dir": str(tmp_path)})
    assert found.values.models_dirs == (odd,)


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


def test_a_tilde_is_the_home_folder_wherever_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "s.toml").write_text('outputs_dir = "~/out"')
    found = Configured.load(
        {
            "DARKROOM_SETTINGS": "~/s.toml",
            "DARKROOM_DATA_DIR": "~/data",
            "DARKROOM_MODELS_DIRS": f"~/a{os.pathsep}~/b",
        }
    ).values
    assert (found.outputs_dir, found.data_dir) == (tmp_path / "out", tmp_path / "data")
    assert found.models_dirs == (tmp_path / "a", tmp_path / "b")
    flag = Configured.load({"DARKROOM_SETTINGS": "~/s.toml"}, {"data_dir": "~/x"})
    assert flag.values.data_dir == tmp_path / "x"


@pytest.mark.skipif(os.name == "nt", reason="Windows guesses")
@pytest.mark.parametrize("name", ["outputs_dir", "data_dir", "models_dirs"])
def test_an_unknown_home_is_a_sentence(name):
    value = "~nosuchuser/x"
    given = {name: [value] if name == "models_dirs" else value}
    with pytest.raises(BadRequest, match=rf"setting {name} \(from the flag\): there is no home"):
        Configured.load({}, given)
    with pytest.raises(BadRequest, match="there is no home"):
        Configured.load({"DARKROOM_SETTINGS": value})


def test_folders_that_are_no_list_are_told_so(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('models_dirs = "/models"')
    with pytest.raises(BadRequest, match=r"from the file\): must be a list of folders, such as"):
        Configured.load({"DARKROOM_SETTINGS": str(path)})


def test_without_a_home_only_what_needs_one_fails(tmp_path, monkeypatch):
    def nowhere(*_, **__):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(platformdirs, "user_data_dir", nowhere)
    monkeypatch.setattr(platformdirs, "user_config_dir", nowhere)
    assert Configured.load({"DARKROOM_DATA_DIR": str(tmp_path)}).values.data_dir == tmp_path
    with pytest.raises(BadRequest, match="home folder cannot be found") as caught:
        Configured.load({})
    assert "DARKROOM_DATA_DIR" in caught.value.hint


def test_a_misspelt_variable_is_told(tmp_path):
    for name in ("DARKROOM_DEVICES", "DARKROOM_MODEL_DIR", "DARKROOM_OUTPUT"):
        with pytest.raises(UnknownName, match=name):
            Configured.load({"DARKROOM_DATA_DIR": str(tmp_path), name: "x"})
    others = ("DARKROOM_VENV", "DARKROOM_STARTER_THREADS", "DARKROOM_", "DARKROOM_ZZZ")
    Configured.load({"DARKROOM_DATA_DIR": str(tmp_path), **dict.fromkeys(others, "x")})


def test_an_unknown_flag_offers_the_right_one(tmp_path):
    with pytest.raises(UnknownName) as caught:
        Configured.load({}, {"devices": "cpu"})
    assert caught.value.nearest[0] == "device"

import pytest
from click.testing import CliRunner

from darkroom.cli.main import main
from tiny import tiny_checkpoint


@pytest.fixture(scope="session")
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

    def run(*words, **options):
        return CliRunner(**options).invoke(main, [str(w) for w in words], prog_name="darkroom")

    return run

import shutil

import pytest
import torch

from darkroom.core.request import ImageRequest
from darkroom.core.settings import Settings
from darkroom.jobs.worker import Worker
from tiny import tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(
        tmp_path_factory.mktemp("model") / "tiny.safetensors",
        metadata={"modelspec.resolution": "64x64"},
    )


@pytest.fixture(scope="module")
def made(checkpoint, tmp_path_factory):
    """One worker for a module: loading costs more than running. Its folders are emptied by tests."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("studio")
    return Worker(
        Settings(
            data_dir=folder / "data",
            outputs_dir=folder / "out",
            models_dirs=(checkpoint.parent,),
            preview_seconds=0,
        )
    )


@pytest.fixture
def worker(made):
    yield made
    shutil.rmtree(made.unfinished, ignore_errors=True)


@pytest.fixture
def ask(checkpoint):
    def request(**fields):
        return ImageRequest.parse(
            {"prompt": "an apple", "model": checkpoint.stem, "steps": 3, "seed": 7, **fields}
        )

    return request

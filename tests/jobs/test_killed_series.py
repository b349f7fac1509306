"""A grid that is killed again and again, and is in the end what it would have been anyway."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from PIL import Image

from darkroom.media.metadata import read_recipe
from tiny import tiny_checkpoint

# Imports once, and runs the grid in a child for each folder that it is told; torch is not used
# before, so that a fork of it is sound.
SCRIPT = """
import os
import sys
from pathlib import Path

import torch
from darkroom.core.series import GridRequest
from darkroom.core.settings import Settings
from darkroom.jobs.worker import Worker

torch.set_num_threads(1)
data, models = map(Path, sys.argv[1:])
request = GridRequest.parse({
    "base": {"prompt": "an apple", "model": "tiny", "seed": 3},
    "x": {"field": "steps", "values": "1-6"},
    "y": {"field": "sampler", "values": "Euler a, DPM++ 2M"},
})
for line in sys.stdin:
    child = os.fork()
    if not child:
        worker = Worker(Settings(data_dir=data, models_dirs=(models,), preview_seconds=0))
        kinds = [event.kind for event in worker.run(request, output=Path(line.strip()))]
        os._exit(kinds[-1] != "done")
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Run the grid in a folder: the number of its process, and a function that awaits its end."""
    models = tmp_path / "models"
    models.mkdir()
    tiny_checkpoint(models / "tiny.safetensors", metadata={"modelspec.resolution": "64x64"})
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "data"), str(models)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as parent:

        def run(out):
            parent.stdin.write(f"{out}\n")
            parent.stdin.flush()
            return int(parent.stdout.readline()), lambda: int(parent.stdout.readline())

        yield run
        parent.stdin.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_killed_at_random_moments_and_resumed_it_is_as_if_nothing_had_happened(tmp_path, start):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(straight)[1]() == 0
    chance = random.Random(0)
    stamps = {}
    for goal in (1, 4, 6, 9):
        process, ended = start(killed)
        until = time.monotonic() + 60
        while len(list(killed.glob("?-?-?.png"))) < goal and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.2)
        with suppress(ProcessLookupError):  # it was quicker
            os.kill(process, signal.SIGKILL)
        assert ended() in (signal.SIGKILL, 0)
        for path, stamp in stamps.items():
            assert path.stat().st_mtime_ns == stamp
        stamps |= {path: path.stat().st_mtime_ns for path in killed.glob("?-?-?.png")}
    assert start(killed)[1]() == 0
    expected = sorted(path.name for path in straight.glob("*.png"))
    assert sorted(path.name for path in killed.glob("*.png")) == expected
    assert len(expected) == 13
    for name in expected:
        with Image.open(straight / name) as one, Image.open(killed / name) as other:
            assert one.tobytes() == other.tobytes()
        if name != "grid.png":
            assert read_recipe(straight / name).request == read_recipe(killed / name).request

"""Commands that are killed at random moments: what was finished stays, what was sampled comes back."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.media.metadata import read_recipe
from drawn import ball
from tiny import tiny_checkpoint

# Imports once, and runs every command that it is told in a child; torch is not used before, so that
# a fork of it is sound.
SCRIPT = """
import json
import json
import os
import sys

import torch
import darkroom.jobs.worker
import darkroom.tasks.upscale
from darkroom.cli.main import main

torch.set_num_threads(1)
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(2, 1)
        main(json.loads(line))
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture
def darkroom(tmp_path):
    """Start a command: the number of its process, and a function that awaits its end."""
    (tmp_path / "models").mkdir()
    size = {"modelspec.resolution": "64x64"}
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors", metadata=size)
    environment = os.environ | {
        "DARKROOM_DATA_DIR": str(tmp_path / "data"),
        "DARKROOM_MODELS_DIRS": str(tmp_path / "models"),
        "DARKROOM_PREVIEW_SECONDS": "0",
    }
    with (
        (tmp_path / "said.txt").open("w") as said,
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment,
        ) as parent,
    ):

        def start(*command):
            parent.stdin.write(f"{json.dumps([str(word) for word in command])}\n")
            parent.stdin.flush()
            return int(parent.stdout.readline()), lambda: int(parent.stdout.readline())

        yield start
        parent.stdin.close()


def killed(darkroom, command, out, *, goal, chance):
    """Run until so many pictures are there, and then for a while, which is not its to choose."""
    process, ended = darkroom(*command, "-o", out)
    until = time.monotonic() + 30
    while len(pictures(out)) < goal and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(chance.random() * 0.4)
    with suppress(ProcessLookupError):  # it was quicker
        os.kill(process, signal.SIGKILL)
    assert ended() in (signal.SIGKILL, 0)


def pictures(folder):
    """The visible pictures in a folder; reading one proves that it is whole."""
    return {path: pixels(path) for path in sorted(Path(folder).glob("*.png"))}


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def ends_well(darkroom, *command):
    assert darkroom(*command)[1]() == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system"),
]
DETAILED = (
    "txt2img", "an apple", "--model", "tiny", "--steps", "2", "--seed", "7", "--count", "3",
    "--hires", "--hires-scale", "1.5", "--detail", "object", "--image-format", "png",
)  # fmt: skip
GRID = ("grid", "an apple", "--model", "tiny", "--seed", "3", "--x", "steps=1-3", "--hires")


def test_what_a_killed_run_had_sampled_is_recovered(darkroom, tmp_path):
    """A kill between the name of a picture and the end of its latent makes it twice: equal then."""
    chance = random.Random(1)
    ends_well(darkroom, *DETAILED, "-o", tmp_path / "truth")
    truth = {read_recipe(path).seed: own for path, own in pictures(tmp_path / "truth").items()}
    assert truth.keys() == {7, 8, 9}
    for goal in (0, 1, 2):
        out = tmp_path / f"killed-{goal}"
        killed(darkroom, DETAILED, out, goal=goal, chance=chance)
        before = pictures(out)
        assert len(before) >= goal
        ends_well(darkroom, "recover", "-o", out)
        made = pictures(out)
        assert before.keys() <= made.keys()
        for path, own in made.items():
            assert np.array_equal(own, truth[read_recipe(path).seed])
    assert not list((tmp_path / "data" / "unfinished").iterdir())


@pytest.mark.parametrize("kind", ["grid", "batch"])
def test_the_same_command_goes_on_after_a_kill(darkroom, tmp_path, kind):
    chance = random.Random(2)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        ball((400, 300), box=(60 + 20 * number, 40, 260, 240))[0].save(photos / f"{number}.png")
    batch = ("batch", "upscale", photos, "--scale", "2", "--tile", "64")
    command, count = {"grid": (GRID, 4), "batch": (batch, 4)}[kind]
    ends_well(darkroom, *command, "-o", tmp_path / "truth")
    truth = {path.name: own for path, own in pictures(tmp_path / "truth").items()}
    assert len(truth) == count
    out = tmp_path / "killed"
    for goal in (0, 1, 2):
        killed(darkroom, command, out, goal=goal, chance=chance)
    ends_well(darkroom, *command, "-o", out)
    made = {path.name: own for path, own in pictures(out).items()}
    assert made.keys() == truth.keys()
    assert all(np.array_equal(own, truth[name]) for name, own in made.items())

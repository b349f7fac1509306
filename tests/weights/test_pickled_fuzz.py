"""20,000 damaged files: each is read or refused, in bounded memory, and nothing else happens."""

import argparse
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pickles import bare, call, dictionary, tensor, torch_zip
from tiny import write_tensors

COUNT = 21_000
SCRIPT = Path(__file__).parents[1] / "fuzz_headers.py"


def write_seeds(folder: Path) -> None:
    """One small file of each kind."""
    a = torch.arange(12.0).reshape(3, 4)
    state = {"model.a": a, "model.b": a.t(), "model.c": a.half()}
    training = {"state_dict": state, "callbacks": {argparse.Namespace: 1}, "epoch": 3}
    embedding = {"string_to_param": nn.ParameterDict({"*": nn.Parameter(a)}), "name": "x"}
    made = {
        "plain": (state, {}), "training": (training, {}), "embedding": (embedding, {}),
        "legacy": (training, {"_use_new_zipfile_serialization": False}),
        "four": ([a, {"x": np.float64(3), "y": {1, 2}}], {"pickle_protocol": 4}),
        "network": ({768: (state, state), "layers": [1, 2.5, True]}, {}),
    }  # fmt: skip
    for name, (content, how) in made.items():
        torch.save(content, folder / f"{name}.pt", **how)
    arrays = {f"block.{n}.weight": np.zeros((n, 3), np.float16) for n in range(4)}
    write_tensors(folder / "m.safetensors", arrays, {"format": "pt"})
    (folder / "by hand.pt").write_bytes(torch_zip(dictionary(w=tensor(), x=tensor())))
    (folder / "code.pt").write_bytes(bare(call("os.system", "touch canary"), 0))
    (folder / "old.pt").write_bytes(pickle.dumps({"a": [1, 2.5, (True, None)], "b": "\u00e9"}, 0))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="measures memory as Unix does")
def test_damaged_files_are_read_or_refused_and_nothing_else_happens(tmp_path):
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    write_seeds(seeds)
    child = subprocess.run(
        [sys.executable, str(SCRIPT), str(seeds), "0", str(COUNT)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    result = json.loads(child.stdout)
    assert result["seen"] == []
    assert result["said"].keys() == {"read", "refused"} and sum(result["said"].values()) == COUNT
    assert min(result["said"].values()) > 500  # both happen, so both are tested
    assert result["bytes of memory per byte"] < 250
    assert result["grown_kb"] < 50_000 and result["longest_s"] < 5
    assert [each.name for each in tmp_path.iterdir()] == ["seeds"]

"""The quick import hides what is not needed, and leaves no trace of hiding it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from darkroom.engine import imports

ROOT = Path(__file__).parents[2]

FRESH = """
import sys, torch
from darkroom.engine.imports import HIDDEN, BARE, lean_imports, unet_class, vae_class
disable = torch.compiler.disable
UNet, Vae = unet_class(), vae_class()
loaded = [name for name in (*HIDDEN, *BARE) if name in sys.modules]
assert not loaded, loaded
assert torch.compiler.disable is disable
assert unet_class() is UNet

# what was hidden can be imported afterwards, and gives the same classes
import diffusers, scipy, torch._dynamo
from diffusers.models.transformers import FluxTransformer2DModel
from diffusers.models.unets import UNet2DConditionModel
from diffusers.hooks import apply_group_offloading
assert diffusers.UNet2DConditionModel is UNet2DConditionModel is UNet
assert diffusers.AutoencoderKL is Vae
assert torch.compile is not None
"""

OTHERWISE = """
import diffusers, sys
from darkroom.engine import imports

# a diffusers that is built differently: the plain import is taken
real = imports.import_module
def changed(name):
    if name == "diffusers":
        return real(name)
    raise ModuleNotFoundError(name)
imports.import_module = changed
assert imports.vae_class() is diffusers.AutoencoderKL

# a class that is there already is taken as it is
before = diffusers.UNet2DConditionModel
assert imports.unet_class() is before
"""


@pytest.mark.parametrize("script", [FRESH, OTHERWISE], ids=["fresh", "otherwise"])
def test_in_a_process_of_its_own(script):
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": "src", "PATH": ""},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_an_error_inside_leaves_nothing_hidden(monkeypatch):
    monkeypatch.setattr(imports, "HIDDEN", ("wave", "torch._dynamo"))
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    disable = torch.compiler.disable
    with pytest.raises(ZeroDivisionError), imports.lean_imports():
        with pytest.raises(ModuleNotFoundError):
            import wave
        raise ZeroDivisionError
    import wave

    assert wave.__name__ == "wave" and torch.compiler.disable is disable

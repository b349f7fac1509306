"""The quick import hides what is not needed, and leaves no trace of hiding it."""

import subprocess
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch

from darkroom.engine import imports

ROOT = Path(__file__).parents[2]

FRESH = """
import sys, threading, torch
from darkroom.engine.imports import HIDDEN, BARE, unet_class, vae_class
disable = torch.compiler.disable
found = []
threads = [threading.Thread(target=lambda: found.append(unet_class())) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
UNet, Vae = unet_class(), vae_class()
assert found == [UNet] * 3
loaded = [name for name in (*HIDDEN, *BARE) if name in sys.modules]
assert not loaded, loaded
assert torch.compiler.disable is disable

# what was hidden can be imported afterwards, and gives the same classes
import diffusers, scipy, torch._dynamo
from diffusers.models.transformers import FluxTransformer2DModel
from diffusers.models.unets import UNet2DConditionModel
from diffusers.hooks import apply_group_offloading
assert diffusers.UNet2DConditionModel is UNet2DConditionModel is UNet is unet_class()
assert diffusers.AutoencoderKL is Vae
assert torch.compile is not None

# diffusers' own pipelines work, on these classes
from diffusers import EulerDiscreteScheduler, LMSDiscreteScheduler, StableDiffusionPipeline
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.loaders.single_file_utils import AutoImageProcessor  # transformers'
assert issubclass(StableDiffusionPipeline, StableDiffusionLoraLoaderMixin)
LMSDiscreteScheduler().set_timesteps(3)  # scipy's
text = sys.modules["transformers"].CLIPTextModel(sys.modules["transformers"].CLIPTextConfig(
    vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
    bos_token_id=1, eos_token_id=2))
unet = UNet(
    block_out_channels=(8,), layers_per_block=1, cross_attention_dim=8, attention_head_dim=1,
    norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D",),
    up_block_types=("CrossAttnUpBlock2D",), sample_size=8)
pipe = StableDiffusionPipeline(
    vae=Vae(block_out_channels=(8,), norm_num_groups=4), unet=unet, text_encoder=text,
    tokenizer=None, scheduler=EulerDiscreteScheduler(steps_offset=1), safety_checker=None,
    feature_extractor=None, requires_safety_checker=False)
assert isinstance(pipe.unet, diffusers.UNet2DConditionModel)
states = torch.randn(1, 77, 8)
picture = pipe(prompt_embeds=states, negative_prompt_embeds=states, num_inference_steps=1,
               height=8, width=8, output_type="np").images
assert picture.shape == (1, 8, 8, 3)
"""

OTHER = """
import importlib.util
SEEN = [name for name in ("transformers",) if importlib.util.find_spec(name)]
class UNet2DConditionModel: pass
class AutoencoderKL: pass
"""


@pytest.fixture
def another_diffusers(tmp_path, monkeypatch):
    """A diffusers of another build, and nothing imported that looks for packages."""
    (tmp_path / "diffusers").mkdir()
    (tmp_path / "diffusers/__init__.py").write_text(OTHER)
    monkeypatch.syspath_prepend(tmp_path)
    for name in list(sys.modules):
        if name.partition(".")[0] in imports.NOTING:
            monkeypatch.delitem(sys.modules, name)
    yield
    sys.modules.pop("diffusers", None)


def test_the_classes_come_alone_and_all_else_can_follow():
    run = subprocess.run(
        [sys.executable, "-c", FRESH],
        capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": "src", "PATH": ""},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


@pytest.mark.usefixtures("another_diffusers")
@pytest.mark.parametrize("package", imports.NOTING)
def test_where_others_may_have_taken_note_nothing_is_hidden(package, monkeypatch):
    if package != "diffusers":
        module = ModuleType(package)
        module.__spec__ = ModuleSpec(package, None)
        monkeypatch.setitem(sys.modules, package, module)
    else:
        import_module("diffusers")
    monkeypatch.setattr(imports, "lean_imports", lambda: pytest.fail("hidden after all"))
    found = imports.unet_class()
    assert found is sys.modules["diffusers"].UNet2DConditionModel is imports.unet_class()


@pytest.mark.usefixtures("another_diffusers")
def test_a_quick_import_that_fails_leaves_nothing_behind():
    found = imports.vae_class()
    assert found is sys.modules["diffusers"].AutoencoderKL
    assert sys.modules["diffusers"].SEEN == ["transformers"]  # read again, with nothing hidden


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

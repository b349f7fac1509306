"""The network classes of diffusers, imported in 0.6 s instead of 4.5 s.

`from diffusers import UNet2DConditionModel` also imports every other network of the library, and
whatever optional packages it finds: torch._dynamo (1.7 s), scipy, transformers, peft. None of them
runs when a picture is made. So, for the length of the import and no longer:

- a package in HIDDEN looks as if it were not installed. This is Python's own mechanism: None in
  `sys.modules` makes `import` raise ModuleNotFoundError and `find_spec` answer None;
- a package in BARE is there with its folder but without what its `__init__` would import, so that
  its single modules can be imported on their own;
- torch.compiler.disable, which would import torch._dynamo, leaves functions as they are.

What is loaded already is left alone, and afterwards everything hidden can be imported as usual.
Two things stay: diffusers has noted that transformers is not there, so its pipelines do not work in
this process (import them before, or in a process of their own); and torch.compile does not know
diffusers' own exceptions to compilation, which concern offloading hooks only.

Should a later diffusers be built differently, the plain import is taken, slower but the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

HIDDEN = (
    "torch._dynamo", "transformers", "peft", "accelerate", "scipy", "sklearn", "pandas",
    "torchvision", "torchao", "bitsandbytes", "optimum", "gguf", "onnx", "onnxruntime", "flax",
    "tensorflow", "sentencepiece", "wandb", "xformers", "flash_attn", "kernels", "matplotlib",
    "cv2",
)  # fmt: skip
BARE = (
    "diffusers.hooks",
    "diffusers.models.autoencoders",
    "diffusers.models.transformers",
    "diffusers.models.unets",
)


def unet_class() -> type[UNet2DConditionModel]:
    """The UNet's class."""
    found: type[UNet2DConditionModel]
    found = _class("diffusers.models.unets.unet_2d_condition", "UNet2DConditionModel")
    return found


def vae_class() -> type[AutoencoderKL]:
    """The VAE's class."""
    found: type[AutoencoderKL]
    found = _class("diffusers.models.autoencoders.autoencoder_kl", "AutoencoderKL")
    return found


def _class(module: str, name: str) -> Any:
    if module not in sys.modules:
        try:
            with lean_imports():
                return getattr(import_module(module), name)
        except (ImportError, AttributeError, RuntimeError):  # diffusers wraps import errors
            return getattr(import_module("diffusers"), name)
    return getattr(sys.modules[module], name)


@contextmanager
def lean_imports() -> Iterator[None]:
    """Hide what diffusers does not need, for the length of a block. Not for several threads."""
    found = find_spec("diffusers")
    roots = [] if found is None else found.submodule_search_locations or []
    stand_ins: dict[str, ModuleType | None] = dict.fromkeys(HIDDEN)
    stand_ins |= {name: _bare(name, Path(root)) for root in roots for name in BARE}
    absent = {name: new for name, new in stand_ins.items() if name not in sys.modules}
    sys.modules |= absent  # type: ignore[arg-type]  # None is Python's mark for "not there"
    disable = torch.compiler.disable
    if "torch._dynamo" in absent:
        torch.compiler.disable = _as_is  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compiler.disable = disable
        for name, new in absent.items():
            if name in sys.modules and sys.modules[name] is new:
                del sys.modules[name]


def _bare(name: str, root: Path) -> ModuleType:
    module = ModuleType(name, "A folder of modules, without what its __init__ imports.")
    module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    return module


def _as_is(function: Callable[..., Any] | None = None, *_: object, **__: object) -> Any:
    """Stands in for torch.compiler.disable, both as `@disable` and as `@disable()`."""
    return _as_is if function is None else function

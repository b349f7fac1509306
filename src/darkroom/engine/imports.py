"""The network classes of diffusers, imported in 0.6 s instead of 4.5 s.

    unet_class(), vae_class()

`from diffusers import UNet2DConditionModel` also imports every other network of the library, and
whatever optional packages it finds: torch._dynamo (1.7 s), scipy, transformers, peft. None of them
runs when a picture is made. So, for the length of one import and no longer:

- a package in HIDDEN looks as if it were not installed. This is Python's own mechanism: None in
  `sys.modules` makes `import` raise ModuleNotFoundError and `find_spec` answer None;
- a package in BARE is there with its folder but without what its `__init__` would import, so that
  its single modules can be imported on their own;
- torch.compiler.disable, which would import torch._dynamo, leaves functions as they are.

Afterwards what diffusers noted meanwhile is put right: packages in RESTORED count as installed
again, and the modules in FORGOTTEN, none of them a network's, are imported anew when somebody asks
for them. So `from diffusers import StableDiffusionPipeline` works afterwards, with the very same
network classes.

In a program that uses us as a library:

- where diffusers, or a package that itself looks for others (NOTING), was imported before, nothing
  is hidden: the import is the plain one, slower but the same. So it is if diffusers is built
  differently one day;
- where it was not, the other packages of HIDDEN (accelerate, peft, xformers ...) stay unknown to
  diffusers, as if not installed. Who needs diffusers with them imports diffusers before us;
- two threads may ask for the classes at once. But a thread that imports a hidden package of its own
  during those 0.6 s is told that it is not there: import such packages, or call `unet_class`,
  before starting threads;
- torch.compile does not know diffusers' own exceptions to it, which concern offloading hooks only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

NETWORKS = {  # class -> the module that defines it
    "UNet2DConditionModel": "diffusers.models.unets.unet_2d_condition",
    "AutoencoderKL": "diffusers.models.autoencoders.autoencoder_kl",
}
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
NOTING = ("diffusers", "transformers", "accelerate", "peft")
RESTORED = ("transformers", "scipy")  # what diffusers' pipelines and schedulers need
FORGOTTEN = (  # below diffusers, "" itself: what looks for RESTORED while it is imported
    "", "loaders", "loaders.lora_base", "loaders.lora_pipeline", "loaders.single_file_utils",
    "quantizers", "quantizers.pipe_quant_config", "schedulers", "schedulers.*",
)  # fmt: skip

_ONE_AT_A_TIME = Lock()


def unet_class() -> type[UNet2DConditionModel]:
    """The UNet's class."""
    found: type[UNet2DConditionModel] = _class("UNet2DConditionModel")
    return found


def vae_class() -> type[AutoencoderKL]:
    """The VAE's class."""
    found: type[AutoencoderKL] = _class("AutoencoderKL")
    return found


def _class(name: str) -> Any:
    with _ONE_AT_A_TIME:
        if not any(package in sys.modules for package in (NETWORKS[name], *NOTING)):
            _import_lean()
        here = NETWORKS[name] in sys.modules
        return getattr(import_module(NETWORKS[name] if here else "diffusers"), name)


def _import_lean() -> None:
    """Both modules with their classes, or nothing of diffusers at all."""
    try:
        with lean_imports():
            for name, module in NETWORKS.items():
                getattr(import_module(module), name)
            notes = vars(import_module("diffusers.utils.import_utils"))
        for package in RESTORED:
            there = notes["_is_package_available"](package)
            notes[f"_{package}_available"], notes[f"_{package}_version"] = there
    except (ImportError, AttributeError, LookupError, TypeError, ValueError, RuntimeError):
        _forget(["", "*"])  # built differently; diffusers makes import errors RuntimeErrors
    else:
        _forget(FORGOTTEN)


@contextmanager
def lean_imports() -> Iterator[None]:
    """Hide what diffusers does not need, for the length of a block: its first import and no other.

    Afterwards diffusers believes in RESTORED, and must not find them hidden again.
    """
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


def _forget(below: Iterable[str]) -> None:
    """Let the modules below diffusers that match be imported anew when they are asked for."""
    patterns = [f"diffusers.{name}".rstrip(".") for name in below]
    for name in list(sys.modules):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            del sys.modules[name]

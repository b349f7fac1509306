"""Networks in files that other programs run: ONNX by onnxruntime, TensorFlow Lite by LiteRT.

Both come with extras of this package, and are imported when such a file is first used. Neither file
can run code; what is wrong with one becomes BadFile.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.core.errors import BadFile, BadRequest, shorten
from darkroom.core.packaged import install
from darkroom.engine.detect.found import Floats

LARGEST = 4096  # px of a side; no network wants more, and a picture is enlarged to it


class Session:
    """One ONNX file with one picture as its input (1, 3, H, W)."""

    def __init__(self, path: Path, *, extra: str = "detect") -> None:
        """`extra` is the one whose installation is advised where onnxruntime is missing."""
        try:
            onnxruntime = import_module("onnxruntime")
        except ImportError:
            raise missing("onnxruntime", f"{path.name} is an ONNX model", extra) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors, which are raised anyway
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except _errors() as error:
            why = shorten(" ".join(str(error).split()), 120)
            raise BadFile(f"{path} cannot be opened: {why}", hint="Download it again.") from error
        self._path = path
        self._input: Any = self._session.get_inputs()[0]

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says about itself."""
        found: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found

    @property
    def takes(self) -> str:
        """The name of its input."""
        return str(self._input.name)

    @property
    def shapes(self) -> list[tuple[object, ...]]:
        """The shapes of what it answers; a size that may be any is a word or None."""
        return [tuple(each.shape) for each in self._session.get_outputs()]

    def size(self, *, default: int) -> tuple[int, int]:
        """The (width, height) that it wants; `default` where it takes any."""
        height, width = (
            side if isinstance(side, int) and side > 0 else default
            for side in tuple(self._input.shape)[2:4]
        )
        if max(width, height) > LARGEST:
            raise BadFile(f"{self._path} wants pictures of {width:,} x {height:,} pixels")
        return width, height

    def run(self, pixels: Floats) -> list[Floats]:
        """All that it answers to pixels (1, 3, H, W), in single precision."""
        half = "float16" in self._input.type
        given = pixels.astype(np.float16 if half else np.float32)
        try:
            answers = self._session.run(None, {self._input.name: np.ascontiguousarray(given)})
        except _errors() as error:
            why = shorten(" ".join(str(error).split()), 120)
            raise BadFile(f"{self._path} does not take a picture: {why}") from error
        return [np.asarray(answer, np.float32) for answer in answers]


def _errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises; its own errors have no common class but Exception."""
    state = vars(import_module("onnxruntime.capi.onnxruntime_pybind11_state")).values()
    own = (each for each in state if isinstance(each, type) and issubclass(each, Exception))
    return (RuntimeError, ValueError, OSError, *own)


class Lite:
    """One TensorFlow Lite file with one picture as its input (1, H, W, 3)."""

    def __init__(self, path: Path) -> None:
        try:
            litert = import_module("ai_edge_litert.interpreter")
        except ImportError:
            raise missing("ai-edge-litert", f"{path.name} is a LiteRT model", "detect") from None
        try:
            self._interpreter: Any = litert.Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError, OSError) as error:
            raise BadFile(f"{path} cannot be opened", hint="Install its package again.") from error
        self._input: Any = self._interpreter.get_input_details()[0]

    @property
    def side(self) -> int:
        """Pixels of the square picture that it wants."""
        return int(self._input["shape"][1])

    def run(self, pixels: Floats) -> list[Floats]:
        """All that it answers to pixels (1, H, W, 3)."""
        self._interpreter.set_tensor(self._input["index"], pixels.astype(self._input["dtype"]))
        self._interpreter.invoke()
        return [
            np.asarray(self._interpreter.get_tensor(each["index"]), np.float32)
            for each in self._interpreter.get_output_details()
        ]


def missing(package: str, why: str, extra: str) -> BadRequest:
    """A package is not installed that something needs."""
    hint = f"Install it: {install(extra)}"
    return BadRequest(f"{why}, and {package} is not installed", hint=hint)

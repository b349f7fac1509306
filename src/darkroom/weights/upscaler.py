"""What a file that enlarges pictures is, from its header alone; no torch.

detect_upscaler(header) -> DetectedUpscaler     `measured` is the network that we build; None
                                                where another library must build it
"""

from dataclasses import dataclass

from darkroom.core.errors import BadFile
from darkroom.core.model import Kind
from darkroom.weights.header import Header
from darkroom.weights.identify import identify
from darkroom.weights.topology import CompactDims, RrdbDims
from darkroom.weights.upscaler_measure import Measured, measure_upscaler

__all__ = ["CompactDims", "DetectedUpscaler", "RrdbDims", "detect_upscaler"]


@dataclass(frozen=True, slots=True)
class DetectedUpscaler:
    """An upscaler file."""

    label: str  # with its article: "a 4x upscaler (ESRGAN)"
    measured: Measured | None


def detect_upscaler(header: Header) -> DetectedUpscaler:
    """What to build for this file; BadFile where it enlarges nothing, or is damaged."""
    found = identify(header)
    measured = measure_upscaler(header)
    if measured is None and found.kind is not Kind.UPSCALER:
        raise BadFile(
            f"{header.path.name} is {found.label}, not an upscaler",
            hint='Upscalers are what "darkroom models list --kind upscaler" lists.',
        )
    return DetectedUpscaler(found.label, measured)

"""The mathematics of sampling; knows no network and no file.

`loop` shows how it fits together.
"""

from darkroom.sampling.denoiser import (
    At,
    Denoiser,
    Held,
    Wrapper,
    between,
    hold,
    stack,
    tiles,
    watch,
    windows,
)
from darkroom.sampling.guidance import (
    Branches,
    Guidance,
    apart,
    blend,
    compose,
    composed,
    guide,
    steer,
    together,
)
from darkroom.sampling.levels import Levels, img2img_steps, levels
from darkroom.sampling.loop import Course, sample
from darkroom.sampling.noise import Noise, Seeds, Source, Variation
from darkroom.sampling.predict import Network, NoiseTable, predict, table_for
from darkroom.sampling.samplers import SAMPLERS, Sampler, Step, sampler_for
from darkroom.sampling.schedules import SCHEDULES

__all__ = [
    "SAMPLERS",
    "SCHEDULES",
    "At",
    "Branches",
    "Course",
    "Denoiser",
    "Guidance",
    "Held",
    "Levels",
    "Network",
    "Noise",
    "NoiseTable",
    "Sampler",
    "Seeds",
    "Source",
    "Step",
    "Variation",
    "Wrapper",
    "apart",
    "between",
    "blend",
    "compose",
    "composed",
    "guide",
    "hold",
    "img2img_steps",
    "levels",
    "predict",
    "sample",
    "sampler_for",
    "stack",
    "steer",
    "table_for",
    "tiles",
    "together",
    "watch",
    "windows",
]

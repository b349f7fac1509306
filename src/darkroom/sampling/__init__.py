"""The mathematics of sampling; knows no network and no file.

`loop` shows how it fits together.
"""

from darkroom.sampling.denoiser import (
    At,
    Branches,
    Denoiser,
    Held,
    Wrapper,
    between,
    guide,
    guide_both,
    hold,
    stack,
    tiles,
    watch,
    windows,
)
from darkroom.sampling.loop import Course, sample
from darkroom.sampling.noise import Noise, Seeds, Source
from darkroom.sampling.predict import Network, NoiseTable, predict, table_for
from darkroom.sampling.samplers import SAMPLERS, Sampler, Step
from darkroom.sampling.schedules import SCHEDULES, Levels, img2img_steps, levels

__all__ = [
    "SAMPLERS",
    "SCHEDULES",
    "At",
    "Branches",
    "Course",
    "Denoiser",
    "Held",
    "Levels",
    "Network",
    "Noise",
    "NoiseTable",
    "Sampler",
    "Seeds",
    "Source",
    "Step",
    "Wrapper",
    "between",
    "guide",
    "guide_both",
    "hold",
    "img2img_steps",
    "levels",
    "predict",
    "sample",
    "stack",
    "table_for",
    "tiles",
    "watch",
    "windows",
]

"""The mathematics of sampling; knows no network and no file.

`loop` shows how it fits together.
"""

from darkroom.sampling.denoiser import (
    At,
    Denoiser,
    Held,
    Mix,
    Wrapper,
    between,
    evenly,
    handover,
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
    near,
    steer,
    together,
)
from darkroom.sampling.levels import Levels, img2img_steps, levels
from darkroom.sampling.loop import Course, sample
from darkroom.sampling.noise import Noise, Seeds, Source, Variation
from darkroom.sampling.predict import Network, NoiseTable, predict, table_for
from darkroom.sampling.samplers import SAMPLERS, Sampler, Step, sampler_for
from darkroom.sampling.schedules import SCHEDULES
from darkroom.sampling.soft import Soft, Taking, composite_mask, differential

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
    "Mix",
    "Network",
    "Noise",
    "NoiseTable",
    "Sampler",
    "Seeds",
    "Soft",
    "Source",
    "Step",
    "Taking",
    "Variation",
    "Wrapper",
    "apart",
    "between",
    "blend",
    "compose",
    "composed",
    "composite_mask",
    "differential",
    "evenly",
    "guide",
    "handover",
    "hold",
    "img2img_steps",
    "levels",
    "near",
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

"""One checkpoint, ready to run for one job."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkroom.core.request import ResolvedRequest
from darkroom.engine.engine import Engine
from darkroom.engine.models import Model
from darkroom.engine.plan import Plan
from darkroom.tasks.fitting import Fitting, Use
from darkroom.tasks.networks import Networks


class Rig:
    """An engine, a model on it, what its prompts put on it, and how much of it fits at a time.

    `fitting` is that of the latest run. `record` is the plan of a recipe that is made again;
    `plans` are those that the job has made, which outlive the rig.
    """

    fitting: Fitting

    def __init__(
        self,
        engine: Engine,
        model: Model,
        networks: Networks,
        *,
        notes: list[str] | None = None,
        record: Mapping[str, object] = MappingProxyType({}),
        plans: dict[Use, Plan] | None = None,
    ) -> None:
        self.engine, self.model, self.networks = engine, model, networks
        self._notes, self._record = [] if notes is None else notes, record
        self._plans = {} if plans is None else plans

    def fit(self, request: ResolvedRequest) -> Fitting:
        """The plan for a run of this size; it stays as small as memory once made it."""
        use = self.model.card.sha256, request.width, request.height, request.tiling
        if use not in self._plans:
            self._plans[use] = self.engine.plan(self.model, request).as_recorded(self._record)
        self.fitting = Fitting(self.engine, self.model, self._plans, use, self._notes)
        return self.fitting

    def decode(self, latent: Tensor) -> Image.Image:
        """A latent (C, H, W) to a picture of 8W x 8H."""
        return Image.fromarray(self.fitting.decode(latent).numpy())

    def encode(self, picture: Image.Image) -> Tensor:
        """A picture, its sides multiples of 8, to a latent (1, C, H, W): the mean."""
        return self.fitting.encode(to_unit(picture).to(self.engine.device.torch))


def to_unit(picture: Image.Image) -> Tensor:
    """Pixels (1, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.float32))
    return (pixels / 127.5 - 1).permute(2, 0, 1).unsqueeze(0)

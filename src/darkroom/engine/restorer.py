"""Networks that mend faces: GFPGAN, CodeFormer and RestoreFormer, built by spandrel.

    mended = load_restorer(card, device)(face, fidelity=0.5)        512 x 512 px, RGB

X. Wang et al., GFPGAN, CVPR 2021; S. Zhou et al., CodeFormer, NeurIPS 2022; Z. Wang et al.,
RestoreFormer, CVPR 2022.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.core.model import ModelCard
from darkroom.engine.device import Device
from darkroom.engine.precision import finite_pixels
from darkroom.engine.spandrel import spandrel
from darkroom.weights.header import Header, read_header
from darkroom.weights.reader import open_tensors

SIDE = 512  # px of a face, as the networks want it
CODEFORMER = "CodeFormer"  # the one that takes a fidelity
AROUND = ("params_ema.", "params.", "vqvae.", "state_dict.")  # of names; the first is the better


class Restorer:
    """One network on one device."""

    def __init__(self, network: Any, device: Device, *, faithful: bool, size: int) -> None:
        """`network` maps (1, 3, 512, 512) in [-1, 1] to a tuple, the mended face first."""
        self._network, self._device, self.faithful = network, device, faithful
        self.bytes = size  # memory that the weights take

    @torch.inference_mode()
    def __call__(
        self, face: Image.Image, *, fidelity: float, say: Callable[[str], None] = lambda text: None
    ) -> Image.Image:
        """The mended `face`; `fidelity` counts where the network takes one (`faithful`).

        `say` is told where numbers overflowed; NotFinite where they do in higher precision too.
        """
        pixels = torch.from_numpy(np.array(face.convert("RGB"), np.float32)).permute(2, 0, 1)
        x = (pixels / 127.5 - 1).unsqueeze(0).to(self._device.torch)
        more = {"weight": fidelity} if self.faithful else {}

        def mended() -> Tensor:
            weight = next(self._network.parameters())  # of the moment: the guard changes it
            made: Tensor = self._network(x.to(weight.dtype), **more)[0]
            return made

        with self._device.guard():
            made = finite_pixels(mended, self._network, say, who="the network for faces")
            unit = (made[0].float().clamp(-1, 1) + 1) * 127.5
            rgb = unit.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(rgb)


def load_restorer(card: ModelCard, device: Device) -> Restorer:
    """The network in the file of `card`.

    BadRequest with the command to install what is missing, BadFile where spandrel cannot build it.
    """
    builder = spandrel(f"{card.name} mends faces", extra="faces")
    tensors = _tensors(read_header(Path(card.path)))
    try:
        found = builder.ModelLoader(device=device.torch).load_from_state_dict(tensors)
    except builder.UnsupportedModelError as error:
        raise BadFile(f"{card.name} is no model for faces that spandrel knows") from error
    if found.purpose != "FaceSR":
        raise BadFile(f"{card.name} is a {found.architecture.name}, which mends no faces")
    faithful = found.architecture.name == CODEFORMER
    network = found.model.eval().float().to(device.torch)
    return Restorer(network, device, faithful=faithful, size=card.bytes)


def _tensors(header: Header) -> dict[str, Tensor]:
    """The tensors under the names that they have in the network."""
    prefix = next((p for p in AROUND if any(n.startswith(p) for n in header.tensors)), "")
    with open_tensors(header) as file:
        return {
            name.removeprefix(prefix): file.tensor(name).clone()
            for name in header.tensors
            if name.startswith(prefix)
        }

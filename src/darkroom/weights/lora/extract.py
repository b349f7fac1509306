"""A LoRA from two checkpoints: what one learned over the other, at a low rank.

    with open_whole(tuned) as one, open_whole(base) as other:
        factors = list(extract(one, other, Extraction(rank=32)))       a generator, for progress
    hash = write_lora(path, factors, metadata)

The best product of rank r is the singular value decomposition cut after r values (Eckart and Young
1936). It is found in float32 and nothing is clamped, so that a difference of that rank comes back
exactly. Norms, biases and tables of words are no products and are left out; `lost` tells how much
is missing.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from darkroom.core.errors import BadRequest
from darkroom.core.model import Arch, Prediction
from darkroom.weights.detect import Detected
from darkroom.weights.layouts.entry import Shape
from darkroom.weights.lora.names import Place, flat
from darkroom.weights.lora.targets import Targets, targets_of
from darkroom.weights.shaping import to_network
from darkroom.weights.whole import Whole
from darkroom.weights.writer import write_safetensors

OVERSAMPLED, ROUNDS = 16, 4  # columns beyond the rank, and power iterations, of the random sketch
SEED = 1957  # of the sketch: the same two files give the same LoRA
FAMILIES = {  # ss_base_model_version, modelspec.architecture
    Arch.SD1: ("sd_v1", "stable-diffusion-v1"),
    Arch.SD2: ("sd_v2", "stable-diffusion-v2-512"),
    Arch.SDXL: ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
    Arch.SDXL_REFINER: ("sdxl_base_v1-0", "stable-diffusion-xl-v1-refiner"),
}
SD2_V = ("sd_v2_v", "stable-diffusion-v2-768-v")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """How much to keep."""

    rank: int = 32  # of linear layers and 1x1 convolutions
    conv_rank: int = 0  # of larger convolutions; 0 leaves them out
    texts: bool = True  # the text encoders too

    def of(self, weight: Shape) -> int:
        """The rank for a weight; 0 leaves it out."""
        rank = self.conv_rank if prod(weight[2:]) > 1 else self.rank
        return min(rank, weight[0], prod(weight[1:])) if len(weight) > 1 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """One module's product."""

    name: str  # in kohya's dialect
    up: Tensor  # (o, r) or (o, r, 1, 1), float16
    down: Tensor  # (r, i) or (r, i, k, k), float16
    lost: float  # the square of what the product lacks of the difference
    total: float  # the square of the difference


def extract(tuned: Whole, base: Whole, how: Extraction) -> Iterator[Extracted]:
    """The product of every module that differs; BadRequest if the two have other modules."""
    targets = targets_of(tuned.detected)
    if targets.shapes != targets_of(base.detected).shapes:
        names = f"{tuned.header.path.name} and {base.header.path.name}"
        raise BadRequest(
            f"{names} are not of one make", hint="A LoRA is the difference of two models alike."
        )
    for place, shape in targets.shapes.items():
        wanted = how.texts or place[0] == "unet"
        if (rank := how.of(shape) if wanted else 0) and "embeddings" not in place[1]:
            difference = _weight(tuned, place).sub_(_weight(base, place))
            if bool(difference.any()):
                yield _product(kohya(targets, place), difference, rank)


def kohya(targets: Targets, place: Place) -> str:
    """The name that kohya's trainer gives a module: for SDXL's UNet LDM's, else diffusers'."""
    component, module = place
    if component == "unet":
        if targets.arch in (Arch.SDXL, Arch.SDXL_REFINER):
            module = next((ldm for ldm, ours in targets.ldm.items() if ours == module), module)
        return f"lora_unet_{flat(module)}"
    number = "" if len(targets.encoders) == 1 else "1" if component == "text" else "2"
    inner = "" if module == "text_projection" else "text_model_"
    return f"lora_te{number}_{inner}{flat(module)}"


def write_lora(path: Path, found: Sequence[Extracted], metadata: Mapping[str, str]) -> str:
    """Write the file, with the hashes of its data in the metadata; its AutoV3 hash."""
    if not found:
        raise BadRequest("the two models are equal", hint="Name a model and what it came from.")
    tensors = {key: tensor for each in found for key, tensor in _tensors(each)}
    digest = hashlib.sha256()
    for tensor in tensors.values():
        digest.update(_bytes(tensor))
    hashes = {
        "sshs_model_hash": digest.hexdigest(),
        "modelspec.hash_sha256": f"0x{digest.hexdigest()}",
    }
    table = {key: ("F16", tuple(tensor.shape)) for key, tensor in tensors.items()}
    pieces = map(_bytes, tensors.values())
    write_safetensors(path, table, pieces, metadata={**metadata, **hashes})
    return digest.hexdigest()[:12]


def described(detected: Detected, how: Extraction, *, title: str, base: str) -> dict[str, str]:
    """The metadata: what trainers of LoRAs write and other programs read. `base` is a file name."""
    is_v = detected.arch is Arch.SD2 and detected.prediction is Prediction.V
    version, architecture = SD2_V if is_v else FAMILIES[detected.arch]
    size = detected.native_size
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(how.rank),
        "ss_network_alpha": str(how.rank),
        "ss_network_args": json.dumps(
            {"conv_dim": how.conv_rank, "conv_alpha": how.conv_rank} if how.conv_rank else {}
        ),
        "ss_base_model_version": version,
        "ss_v2": str(detected.arch is Arch.SD2),
        "ss_sd_model_name": base,
        "ss_output_name": title,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": title,
        "modelspec.resolution": f"{size}x{size}",
        "modelspec.prediction_type": "v" if detected.prediction is Prediction.V else "epsilon",
    }


def _weight(whole: Whole, place: Place) -> Tensor:
    """A module's weight in the network's shape: a copy in float32."""
    row = whole.own[place[0], f"{place[1]}.weight"]
    weight = to_network(whole.file.tensor(row.source), row).to(torch.float32, copy=True)
    whole.file.release(row.source)
    return weight


def _product(name: str, difference: Tensor, rank: int) -> Extracted:
    matrix, kernel = difference.flatten(1), difference.shape[2:]
    left, values, right = _svd(matrix, rank)
    root = values.sqrt()  # half to each side, so that neither leaves float16's range
    up, down = (left * root).half(), (root[:, None] * right).half()
    return Extracted(
        name=name,
        up=up.view(*up.shape, *(1 for _ in kernel)),
        down=down.view(rank, -1, *kernel),
        lost=float((matrix - up.float() @ down.float()).square().sum()),
        total=float(matrix.square().sum()),
    )


def _svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first `rank` singular vectors and values: U (o, r), S (r,), Vᵀ (r, i).

    Large matrices are sketched first (Halko, Martinsson and Tropp 2011, algorithm 4.4).
    """
    width = rank + OVERSAMPLED
    if 4 * width >= min(matrix.shape):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    else:
        random = torch.Generator().manual_seed(SEED)
        sketch = matrix @ torch.randn(matrix.shape[1], width, generator=random)
        for _ in range(ROUNDS):
            sketch = matrix @ torch.linalg.qr(matrix.mT @ torch.linalg.qr(sketch)[0])[0]
        basis = torch.linalg.qr(sketch)[0]
        left, values, right = torch.linalg.svd(basis.mT @ matrix, full_matrices=False)
        left = basis @ left
    return left[:, :rank], values[:rank], right[:rank]


def _tensors(one: Extracted) -> Iterator[tuple[str, Tensor]]:
    yield f"{one.name}.lora_up.weight", one.up
    yield f"{one.name}.lora_down.weight", one.down
    yield f"{one.name}.alpha", torch.tensor(one.down.shape[0], dtype=torch.float16)


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]

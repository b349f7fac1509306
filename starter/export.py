"""Write the shipped file: LDM layout, half precision, modelspec metadata; then read it back.

    python -m starter.export [--out FILE]

Without --out the file goes to `.work/starter.safetensors`; only `--out` with the package's path
ships it, because the repository keeps every version for ever. Names and shapes are Darkroom's own
layout tables; reading back is Darkroom's own loader.
"""

import argparse
import datetime
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from darkroom.engine.networks import load_networks, load_vae
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from darkroom.weights.layouts.checkpoint import sd1_layout, to_file
from darkroom.weights.topology import CLIP_VOCABULARY
from darkroom.weights.writer import write_safetensors
from starter.networks import text_dims, unet_dims, vae_dims, vae_file
from starter.objects_table import OBJECTS
from starter.recipe import WORK, Recipe, chosen
from starter.vocabulary import Vocabulary

LIMIT = 80_000_000  # bytes
TOKENS = "embeddings.token_embedding.weight"


def gather(recipe: Recipe, ema: Path) -> dict[str, Tensor]:
    """Return all weights in the LDM layout as fp16, the token table expanded to 49408 rows."""
    averaged = load_file(ema)
    parts = {
        name: {
            key.removeprefix(f"{name}."): value
            for key, value in averaged.items()
            if key.startswith(f"{name}.")
        }
        for name in ("unet", "text")
    }
    parts["vae"] = load_file(vae_file())
    parts["text"][TOKENS] = Vocabulary().expanded(parts["text"][TOKENS])
    text = text_dims(recipe, CLIP_VOCABULARY)
    layout = sd1_layout(unet_dims(recipe), vae_dims(recipe), text)
    made: dict[str, Tensor] = {}
    for component, rows in layout.items():
        for target, row in to_file(rows).items():
            value = parts[component].pop(target)
            made[row.source] = value.reshape(row.stored).half().contiguous()
        if parts[component]:
            raise SystemExit(f"{component}: no place for {', '.join(list(parts[component])[:3])}")
    return made


def pieces(weights: dict[str, Tensor]) -> Iterator[bytes]:
    """Yield the bytes of every tensor, in the file's order."""
    for value in weights.values():
        yield value.view(torch.uint8).numpy().tobytes()


def content_hash(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of all that follows the header, as modelspec wants it."""
    digest = hashlib.sha256()
    for piece in pieces(weights):
        digest.update(piece)
    return f"0x{digest.hexdigest()}"


def metadata(recipe: Recipe, weights: dict[str, Tensor]) -> dict[str, str]:
    """Return the modelspec header and our own entries; all values are strings."""
    facts = json.loads((WORK / "vae.json").read_text())
    side = recipe.resolution
    return {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.implementation": "https://github.com/CompVis/stable-diffusion",
        "modelspec.title": "Darkroom starter",
        "modelspec.author": "The Darkroom authors",
        "modelspec.description": "A small model of Stable Diffusion's shape: simple objects, "
        "colours and backgrounds, so that the studio works before any download.",
        "modelspec.license": "Apache-2.0; pictures derived from Fluent Emoji (MIT, Microsoft)",
        "modelspec.date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.prediction_type": "epsilon",
        "modelspec.hash_sha256": content_hash(weights),
        "darkroom.latent_rgb": json.dumps(facts["latent_rgb"]),
        "darkroom.objects": json.dumps([thing.name for thing in OBJECTS]),
        "darkroom.recommended": json.dumps({"cfg_scale": 5, "steps": 20}),
    }


def verify(path: Path, weights: dict[str, Tensor]) -> None:
    """Read the file as Darkroom does: every key used, every value equal and finite."""
    header = read_header(path)
    detected = detect(header)
    if detected.vae is None:
        raise SystemExit("the exported file has no VAE")
    vae = load_vae(header, detected.vae, detected.layout["vae"]).module
    states = {**load_networks(header, detected).modules, "vae": vae}
    for component, rows in detected.layout.items():
        state = states[component].state_dict()
        for row in rows:
            value, wanted = state.pop(row.target), weights[row.source].float()
            if not torch.equal(value, wanted.reshape(row.shape)) or not value.isfinite().all():
                raise SystemExit(f"the exported file does not read back: {row.source}")
        if state:
            raise SystemExit(f"not in the exported file: {', '.join(list(state)[:3])}")


def export(out: Path) -> Path:
    """Write, check size, verify, print one line; return the path."""
    recipe = chosen()
    weights = gather(recipe, WORK / "ema.safetensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".new")
    part.unlink(missing_ok=True)
    table = {key: ("F16", tuple(value.shape)) for key, value in weights.items()}
    write_safetensors(part, table, pieces(weights), metadata=metadata(recipe, weights))
    verify(part, weights)
    size = part.stat().st_size
    if size > LIMIT:
        raise SystemExit(f"{size} bytes is more than {LIMIT}")
    part.replace(out)
    print(f"{out.name}: {len(weights)} tensors, {size / 1e6:.1f} MB, read back equal", flush=True)
    return out


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WORK / "starter.safetensors")
    export(parser.parse_args().out)


if __name__ == "__main__":
    main()

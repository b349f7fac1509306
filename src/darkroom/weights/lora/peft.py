"""What PEFT and diffusers write beside a LoRA instead of `alpha`: a table in JSON; no torch.

    told(header.metadata).scale("unet.mid_block.attentions.0.proj_in", rank=16) -> 0.5

diffusers prefixes the fields with the network's name ("unet.lora_alpha"), PEFT's own file does not.
The names in `alpha_pattern` are compared as whole endings of paths, never as regular expressions.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PLACES = ("lora_adapter_metadata", "adapter_config.json", "config.json")  # in the file's metadata
LONGEST = 1_000_000  # characters
NETWORKS = ("text_encoder_2", "text_encoder", "unet")


@dataclass(frozen=True, slots=True)
class Told:
    """The settings of a file, by network; "" for a file of one network."""

    settings: Mapping[str, Mapping[str, object]]

    def scale(self, base: str, rank: int) -> float | None:
        """The factor of up · down for one module; None where nothing is told."""
        path = base.removeprefix("base_model.model.")
        network = next((name for name in NETWORKS if path.startswith(f"{name}.")), "")
        settings = self.settings.get(network) or self.settings.get("", {})
        alpha = _number(_for(path, settings.get("alpha_pattern"), settings.get("lora_alpha")))
        if alpha is None:
            return None
        return alpha / (math.sqrt(rank) if settings.get("use_rslora") is True else rank)


def told(metadata: Mapping[str, str]) -> Told:
    """The settings in a file's metadata; none at all if there are none that can be read."""
    table = next(filter(None, map(_table, _texts(metadata))), {})
    settings: dict[str, dict[str, object]] = {}
    for name, value in table.items():
        network = next((each for each in NETWORKS if name.startswith(f"{each}.")), "")
        settings.setdefault(network, {})[name.removeprefix(f"{network}.")] = value
    return Told(settings)


def _texts(metadata: Mapping[str, str]) -> Iterator[str]:
    return (metadata[place] for place in PLACES if place in metadata)


def _table(text: str) -> dict[str, object]:
    try:
        table = json.loads(text) if len(text) <= LONGEST else {}
    except (ValueError, RecursionError):
        return {}
    known = isinstance(table, dict) and any(name.endswith("lora_alpha") for name in table)
    return table if known else {}


def _for(path: str, patterns: object, otherwise: object) -> object:
    if isinstance(patterns, dict):
        for name, value in patterns.items():
            if f".{path}".endswith(f".{name}"):
                return value
    return otherwise


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)

"""Warm-up of the text encoder: name a scene's attributes from its caption.

A randomly started encoder gives the denoiser nothing to hold on to for thousands of steps. Linear
heads on the end-of-text state (and on a padding state, which cross-attention sees just as much)
make object, colour, background ... linearly readable within minutes. The heads are thrown away.
Writes `text.safetensors` (compact embedding table).
"""

import math
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from starter.captions import caption
from starter.compose import GROUNDS, Composer
from starter.networks import autocast, build_text, device, save_weights
from starter.objects_table import OBJECTS, PAINTED, PLACES, QUALITIES, SIZES, STYLES
from starter.recipe import WORK, Recipe, chosen, stop_for_now, time_left
from starter.vocabulary import Vocabulary, attribute_matrix

CLASSES = {
    "thing": len(OBJECTS),
    "colour": len(PAINTED) + 1,
    "other": len(OBJECTS) + 1,
    "other_colour": len(PAINTED) + 1,
    "ground": len(GROUNDS),
    "style": len(STYLES),
    "size": len(SIZES),
    "place": len(PLACES),
    "quality": len(QUALITIES),
}
LENGTH = 32  # tokens; captions are shorter, and the rest would be padding
BATCH = 64


class Heads(nn.Module):
    """One linear reader per attribute."""

    def __init__(self, width: int) -> None:
        """Make readers for states of `width`."""
        super().__init__()
        self.readers = nn.ModuleDict({k: nn.Linear(width, n) for k, n in CLASSES.items()})

    def loss(self, states: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, float]:
        """Return the summed cross entropy for (B, width) states, and object accuracy."""
        outputs = {name: reader(states) for name, reader in self.readers.items()}
        total = sum(
            (functional.cross_entropy(outputs[name], labels[name]) for name in CLASSES),
            start=torch.zeros((), device=states.device),
        )
        right = (outputs["thing"].argmax(-1) == labels["thing"]).float().mean().item()
        return total, right


def train(recipe: Recipe) -> None:
    """Run the warm-up and write the encoder."""
    where = device()
    torch.manual_seed(11)
    vocabulary, composer = Vocabulary(), Composer()
    encoder = build_text(recipe, len(vocabulary)).to(where)
    heads = Heads(recipe.text_width).to(where)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    rng = np.random.default_rng(60_000)
    steps, began, last = recipe.text_samples // BATCH, time.monotonic(), 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = (
                1e-3 * min(1, (step + 1) / 50) * (0.1 + 0.9 * math.cos(step / steps * 1.5))
            )
        scenes = composer.draw(rng, BATCH)
        rows = [vocabulary.rows(caption(rng, composer, scene), LENGTH) for scene in scenes]
        rows = [vocabulary.roughened(r, rng)[:LENGTH] if rng.random() < 0.15 else r for r in rows]
        labels = {k: torch.from_numpy(v).to(where) for k, v in attribute_matrix(scenes).items()}
        labels["other"] = labels["other"] % (len(OBJECTS) + 1)  # -1, none, becomes the last class
        tokens = torch.tensor(rows, device=where)
        with autocast(where):
            states = encoder(tokens).float()
        ends = (tokens == 1).int().argmax(1)
        later = ends + (torch.rand(BATCH, device=where) * (LENGTH - ends)).long()
        each = torch.arange(BATCH, device=where)
        first, right = heads.loss(states[each, ends], labels)
        loss = first + heads.loss(states[each, later.clamp(max=LENGTH - 1)], labels)[0]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if time_left() < 0:
            stop_for_now("text")
        if time.monotonic() - last > 15:
            last = time.monotonic()
            left = (last - began) / (step + 1) * (steps - step - 1)
            print(
                f"text: {step}/{steps} loss {loss.item():.2f} object {right:.2f} {left:.0f} s",
                flush=True,
            )
    save_weights(WORK / "text.safetensors", encoder.state_dict())


def main() -> None:
    """Run unless done."""
    if not (WORK / "text.safetensors").exists():
        train(chosen())


if __name__ == "__main__":
    main()

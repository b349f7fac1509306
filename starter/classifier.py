"""A small convolutional judge of object, colour, background and style.

It learns from real composed pictures only, all pairs included, and never sees a generated one.
Writes `classifier.safetensors` and `classifier.json` (accuracy on fresh real pictures).
"""

import json
import math
import time

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from darkroom.engine.caption.starter import SIDE, Sight
from starter.compose import GROUNDS, Composer
from starter.networks import (
    autocast,
    device,
    frozen,
    load_state,
    save_state,
    save_weights,
)
from starter.objects_table import COLOURS, OBJECTS, STYLES
from starter.recipe import WORK, Recipe, chosen, stop_for_now, time_left

CLASSES = {
    "thing": len(OBJECTS),
    "colour": len(COLOURS),
    "ground": len(GROUNDS),
    "style": len(STYLES),
}


class Judge(Sight):
    """The network of Darkroom's captioner, with the attributes of a scene."""

    def __init__(self) -> None:
        """Build untrained."""
        super().__init__(CLASSES)


def examples(
    composer: Composer, rng: np.random.Generator, count: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return clean pictures of one object and their labels; -1 where the colour has no name."""
    scenes = composer.draw(rng, 2 * count, unseen=True)
    scenes = scenes[(scenes["other"] < 0) & (scenes["quality"] == 0)][:count]
    labels = {k: scenes[k].astype(np.int64) for k in ("thing", "ground", "style")}
    labels["colour"] = composer.colours(*(scenes[k] for k in ("thing", "colour", "style")))
    where = composer.where
    pictures = functional.adaptive_avg_pool2d(composer.paint(scenes, rng), SIDE)
    return pictures, {k: torch.from_numpy(label).to(where) for k, label in labels.items()}


@torch.no_grad()
def accuracy(judge: Judge, count: int) -> dict[str, float]:
    """Return the share right per attribute on fresh real pictures."""
    composer, rng = Composer(device()), np.random.default_rng(888_888)
    right = dict.fromkeys(CLASSES, 0)
    total = dict.fromkeys(CLASSES, 0)
    for _ in range(count // 50):
        pictures, labels = examples(composer, rng, 50)
        for name, logits in judge(pictures).items():
            known = labels[name] >= 0
            right[name] += int((logits.argmax(1) == labels[name])[known].sum())
            total[name] += int(known.sum())
    return {name: round(right[name] / total[name], 4) for name in CLASSES}


def train(recipe: Recipe) -> None:
    """Train to the budget, resumable, then measure and write."""
    where, path = device(), WORK / "classifier_state.pt"
    torch.manual_seed(31)
    judge = Judge().to(where).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02, fused=True)
    seen = 0
    if state := load_state(path):
        judge.load_state_dict(state["judge"])
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
    composer, rng, began = Composer(where), np.random.default_rng(70_000 + seen), time.monotonic()
    said, start = began, seen
    while seen < recipe.classifier_samples:
        share = seen / recipe.classifier_samples
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, share * 30 + 0.03) * (0.5 + 0.5 * math.cos(math.pi * share))
        pictures, labels = examples(composer, rng, recipe.classifier_batch)
        with autocast(where):
            logits = judge(pictures)
        loss = sum(
            (
                functional.cross_entropy(logits[k].float(), labels[k], ignore_index=-1)
                for k in CLASSES
            ),
            start=torch.zeros((), device=where),
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += recipe.classifier_batch
        if time_left() < 0:
            save_state(path, _state(judge, optimizer, seen))
            stop_for_now("classifier")
        if time.monotonic() - said > 30:
            said = time.monotonic()
            left = (said - began) / (seen - start) * (recipe.classifier_samples - seen)
            print(
                f"classifier: {seen} loss {loss.item():.3f}, {left / 60:.1f} min left", flush=True
            )
            save_state(path, _state(judge, optimizer, seen))
    facts = accuracy(judge.eval(), recipe.classifier_checked)
    (WORK / "classifier.json").write_text(json.dumps(facts, indent=1))
    save_weights(WORK / "classifier.safetensors", judge.state_dict())
    print(f"classifier on real pictures: {facts}", flush=True)


def _state(judge: Judge, optimizer: torch.optim.Optimizer, seen: int) -> dict[str, object]:
    return {"judge": judge.state_dict(), "optimizer": optimizer.state_dict(), "seen": seen}


def trained() -> Judge:
    """Return the finished judge, frozen, on the device."""
    judge = Judge()
    judge.load_state_dict(load_file(WORK / "classifier.safetensors"))
    return frozen(judge)


def main() -> None:
    """Train unless done."""
    if not (WORK / "classifier.safetensors").exists():
        train(chosen())


if __name__ == "__main__":
    main()

"""Measure a model file as the studio runs it: does it draw what it was told?

Prompts come from a fixed seed; Darkroom's own engine makes the pictures, in 20 steps of DPM++ 2M
Karras at cfg_scale 5; the judge (classifier.py) has seen real composed pictures only. Prints a
Markdown table, writes `evaluation.json` and a contact sheet.

    python -m starter.evaluate [FILE]          # default: the file that is shipped
    python -m starter.evaluate --checkpoint    # the averaged weights of a training that runs

A checkpoint is looked at often, and what is looked at is steered by. So it gets prompts and seeds
of its own, and a finished file others, which nobody looked at before.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from darkroom import Studio
from darkroom.engine.networks import Placement, load_vae
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from starter.captions import with_article
from starter.classifier import Judge, trained
from starter.compose import GROUNDS, colour_index, held_out
from starter.export import export
from starter.networks import device
from starter.objects_table import OBJECTS, PAINTED
from starter.recipe import ROOT, WORK, chosen, cores, time_left
from starter.vae import held_out_pictures, psnr

SHIPPED = ROOT.parent / "src" / "darkroom" / "starter" / "starter.safetensors"
LOOKED_AT = 2026  # seed of prompts and pictures for checkpoints
KEPT_BACK = 41_117  # for finished files
STYLE_WORDS = ("3d render", "flat illustration", "line art", "pixel art")
TARGETS = {"object": 0.60, "colour": 0.70, "background": 0.90, "vae_psnr": 27.0}
Facts = dict[str, float | int | str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One prompt and what it asks for; -1 where it does not say."""

    text: str
    thing: int
    colour: int = -1  # index into COLOURS
    ground: int = -1  # index into GROUNDS
    style: int = -1
    unseen: bool = False  # the object x colour pair was kept from training


def _prompt(rng: np.random.Generator, thing: int, *, unseen: bool) -> Prompt:
    """Write one prompt about an object."""
    names = [k for k in range(1, len(PAINTED) + 1) if held_out(thing, k) == unseen]
    painted = int(rng.choice(names)) if unseen or rng.random() < 0.7 else 0
    colour = PAINTED[painted - 1] if painted else ""
    text = with_article(f"{colour} {OBJECTS[thing].name}".strip())
    ground = -1
    if rng.random() < 0.7:
        free = [k for k, g in enumerate(GROUNDS) if g.removesuffix(" gradient") != colour]
        ground = int(rng.choice(free))
        text += f" on a {GROUNDS[ground]} background"
    style = int(rng.choice([-1, -1, 0, 0, 1, 2, 3])) if not unseen else -1
    if style == 2 and colour in ("", "white", "black"):
        style = 0  # what colour has a white line drawing?
    if style >= 0:
        text += f", {STYLE_WORDS[style]}"
    return Prompt(
        text=text,
        thing=thing,
        colour=colour_index(colour),
        ground=ground,
        style=style,
        unseen=unseen,
    )


def prompts(count: int, seed: int) -> list[Prompt]:
    """Return `count` prompts, every object in turn, a sixth of them with unseen pairs."""
    rng = np.random.default_rng(seed)
    rounds = count // len(OBJECTS) + 1
    order = [int(k) for _ in range(rounds) for k in rng.permutation(len(OBJECTS))]
    able = [t for t in range(len(OBJECTS)) if any(held_out(t, k) for k in range(1, 10))]
    unseen = count // 6
    seen = [_prompt(rng, thing, unseen=False) for thing in order[: count - unseen]]
    both = seen + [_prompt(rng, int(rng.choice(able)), unseen=True) for _ in range(unseen)]
    return [both[k] for k in rng.permutation(count)]  # so that any first part is a fair one


def pictures(weights: Path, texts: list[str], seed: int) -> tuple[Tensor, str]:
    """Return generated pictures (B, 3, S, S) in [-1, 1], one per prompt, and the file's SHA-256.

    Stops early when the time of this command is up.
    """
    made: list[Tensor] = []
    longest, sha256, said = 0.0, "", time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(data_dir=Path(folder), threads=0 if torch.cuda.is_available() else cores())
        for index, text in enumerate(texts):
            began = time.monotonic()
            picture = studio.txt2img(
                text,
                model=str(weights),
                steps=20,
                sampler="DPM++ 2M",
                scheduler="Karras",
                cfg_scale=5,
                seed=1000 * seed + index,
            )
            sha256 = picture.recipe.models[0].sha256
            pixels = torch.from_numpy(np.asarray(picture.image.convert("RGB")).copy())
            made.append(pixels.permute(2, 0, 1) / 127.5 - 1)
            longest = max(longest, time.monotonic() - began)
            if time.monotonic() - said > 30:
                said = time.monotonic()
                print(f"evaluate: {index + 1} of {len(texts)} pictures", flush=True)
            if time_left() < 10 + longest:
                break
    return torch.stack(made), sha256


@torch.no_grad()
def judged(judge: Judge, images: Tensor, wanted: list[Prompt]) -> dict[str, float]:
    """Return the share right per attribute, over the prompts that ask for it."""
    where = next(judge.parameters()).device
    found = {
        name: torch.cat([judge(part.to(where))[name].argmax(1).cpu() for part in images.split(50)])
        for name in ("thing", "colour", "ground", "style")
    }
    result: dict[str, float] = {}
    fields = {"object": "thing", "colour": "colour", "background": "ground", "style": "style"}
    for label, field in fields.items():
        asked = torch.tensor([getattr(prompt, field) for prompt in wanted])
        right = found[field] == asked
        if not bool((asked >= 0).any()):
            continue
        result[label] = round(float(right[asked >= 0].float().mean()), 4)
    unseen = torch.tensor([prompt.unseen for prompt in wanted])
    both = torch.stack(
        [found[f] == torch.tensor([getattr(p, f) for p in wanted]) for f in ("thing", "colour")]
    ).all(0)
    coloured = torch.tensor([prompt.colour >= 0 for prompt in wanted])
    for label, rows in {"unseen_pairs": unseen, "seen_pairs": coloured & ~unseen}.items():
        if bool(rows.any()):
            result[label] = round(float(both[rows].float().mean()), 4)
    return result


def sheet(images: Tensor, texts: list[str], path: Path, *, columns: int = 10) -> None:
    """Write a contact sheet with the prompt under each picture."""
    side, line = images.shape[-1], 26
    rows = (len(images) + columns - 1) // columns
    page = Image.new("RGB", (columns * (side + 4), rows * (side + line + 4)), "white")
    draw = ImageDraw.Draw(page)
    for index, (image, text) in enumerate(zip(images, texts, strict=True)):
        left, top = (index % columns) * (side + 4), (index // columns) * (side + line + 4)
        pixels = ((image.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
        page.paste(Image.fromarray(pixels), (left, top))
        lines = [""]
        for word in text.split():
            if len(lines[-1]) + len(word) > side // 6:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        draw.multiline_text((left, top + side), "\n".join(lines[:2]), "black", spacing=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)


def table(facts: Facts) -> str:
    """Return the Markdown table of an evaluation."""
    rows = ["| measure | value | target |", "| --- | --- | --- |"]
    for name, value in facts.items():
        target = TARGETS.get(name)
        shown = f"{value:.1%}" if isinstance(value, float) and value <= 1 else str(value)
        aim = "" if target is None else f"{target:.0%}" if target <= 1 else f"{target} dB"
        rows.append(f"| {name.replace('_', ' ')} | {shown} | {aim} |")
    return "\n".join(rows)


def evaluate(weights: Path, count: int, out: Path, seed: int) -> Facts:
    """Generate, judge, write the table and the sheet; return the facts."""
    wanted = prompts(count, seed)
    began = time.monotonic()
    images, sha256 = pictures(weights, [prompt.text for prompt in wanted], seed)
    seconds = time.monotonic() - began
    wanted = wanted[: len(images)]
    placement = Placement(device=device(), channels_last=True)
    header = read_header(weights)
    detected = detect(header)
    if detected.vae is None:
        raise SystemExit(f"{weights} has no VAE")
    vae = load_vae(header, detected.vae, detected.layout["vae"], placement).module
    facts: Facts = {
        **judged(trained(), images, wanted),
        "vae_psnr": round(psnr(vae, held_out_pictures(128)), 2),
        "pictures": len(images),
        "seconds_each": round(seconds / len(images), 2),
        "judge_on_real_objects": json.loads((WORK / "classifier.json").read_text())["thing"],
        "prompt_seed": seed,
        "weights_sha256": sha256,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(facts, indent=1))
    (out / "evaluation.md").write_text(table(facts) + "\n")
    first = list(range(min(60, len(images))))
    sheet(images[first], [wanted[k].text for k in first], out / "contact_sheet.png")
    return facts


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, nargs="?", default=SHIPPED, metavar="FILE")
    parser.add_argument("--checkpoint", action="store_true", help="the averaged weights in .work")
    parser.add_argument("--count", type=int, default=chosen().evaluated)
    parser.add_argument("--out", type=Path, help="folder [default: evaluation or glance in .work]")
    options = parser.parse_args()
    if options.checkpoint:
        with tempfile.TemporaryDirectory() as folder:
            file = export(Path(folder) / "checkpoint.safetensors")
            facts = evaluate(file, options.count, options.out or WORK / "glance", LOOKED_AT)
    else:
        file, out = options.weights, options.out or WORK / "evaluation"
        facts = evaluate(file.resolve(), options.count, out, KEPT_BACK)
    print(table(facts))


if __name__ == "__main__":
    main()

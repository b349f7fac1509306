"""Write the model card from the recipe, what was measured, and `history.md` (kept by hand).

    python -m starter.card [--out FILE]

The evaluation must be of the very file that the card is for: the hashes are compared.
"""

import argparse
import hashlib
import json
from pathlib import Path

from starter.compose import GROUNDS, HELD_OUT, STYLE_SHARE
from starter.evaluate import Facts, table
from starter.objects_table import GRADIENTS, OBJECTS, PAINTED, STYLES
from starter.recipe import ROOT, WORK, chosen

TEXT = """\
# Darkroom starter

A small model of Stable Diffusion 1's shape that ships with the studio, so that it draws something
right after installation. It knows {count} objects, {colours} colours, plain and gradient
backgrounds and four styles; it is no general picture model.

- File: `starter.safetensors`, fp16, LDM single-file layout with modelspec metadata; loads like any
  SD 1.x checkpoint.
- {side} x {side} px ({latent} x {latent} x 4 latents at 1/8), eps prediction, SD's noise schedule,
  latent scale 0.18215.
- Text encoder: CLIP's shape and vocabulary (49408 tokens, 77 positions), width {width}, {layers}
  layers. Denoiser: {channels} channels. VAE: {vae} channels.
- Use: 20 steps of DPM++ 2M Karras, cfg_scale 5.

## How to prompt it

    a red apple on a blue background
    a 3d render of a green frog, white background
    pixel art of a house
    line art of a butterfly, purple background
    a cat and an apple
    yellow car, black background, best quality

What is left out has its usual value: a 3d render, in the middle, on white. Unknown words are
ignored. In the negative prompt "blurry", "noisy" and "low quality" mean what they say.

**Objects:** {objects}.

**Colours:** {painted}; brown and grey only where an object has them by nature.
**Backgrounds:** {grounds}; gradient of {gradients}.
**Styles:** {styles}.

## Measured

{measured}

Prompts, seeds and judge: `starter/evaluate.py`; the pictures come from Darkroom's own engine. These
prompts and seeds were not looked at while the model was trained. The judge is a small convolutional
network trained on real composed pictures only; on fresh real ones it names {judge}. "Unseen pairs"
are objects in colours that training never showed together; "pairs" rows count object and colour
both right.
VAE: mean PSNR over held-out composed pictures through the mean latent.

## Data

Pictures are composed while training: a cut-out object, recoloured (its main colour, found by hue,
is painted in one of {colours} colours, light and shade kept), on a background, in a style
({shares}),
at a size and place, sometimes two objects, sometimes spoiled and captioned so. {held:.0%} of the
object x colour pairs are held out. Captions come from templates; the words, synonyms too, were
typed by hand (`starter/objects_table.py`). No photographs, no people, nothing
scraped.

| source | version | licence |
| --- | --- | --- |
| Fluent Emoji, (c) Microsoft: npm `@lobehub/fluent-emoji-3d` and `-flat` | 1.1.0 | MIT |
| CLIP's byte-pair vocabulary, (c) OpenAI, as it comes with Darkroom | | MIT |

Both are under the MIT licence: permission is granted, free of charge, to use, copy, modify, merge,
publish, distribute, sublicense and sell copies, provided that the copyright notice and this
permission notice are included; the material is provided "as is", without warranty of any kind.

The weights are under the project's licence, Apache-2.0.

## Recipe

`starter/make`, recipe `{recipe}` in `starter/recipe.py`: {seen:,} pictures seen by the denoiser in
{steps:,} steps (batch {first} then {batch}, AdamW, learning rate at most {rate:g}, at the end
{last:g}, loss weighted by SNR^-{balance:g}, {dropout:.0%} of the captions dropped, averaged
weights) after a warm-up of the text encoder on attribute labels; {crops:,} crops for the VAE.

### By hand

{history}

## Limits

- It draws what it was shown: one drawing per object and style, in other colours, sizes and places.
- At {side} px fine parts (faces, keypads, spokes) are soft, which the VAE limits as well.
- Two objects, left/right and sizes work less reliably than object, colour and background.
- Other sizes than {side} x {side} were not trained; twice the side repeats objects.
"""


def _log() -> list[dict[str, float]]:
    """Return the lines of the denoiser's log."""
    return [json.loads(line) for line in (WORK / "train_log.jsonl").read_text().splitlines()]


def _measured() -> Facts:
    """Return the evaluation of the exported file, or stop if it is of another."""
    facts: Facts = json.loads((WORK / "evaluation" / "evaluation.json").read_text())
    with (WORK / "starter.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if facts.get("weights_sha256") != found:
        raise SystemExit("not the evaluation of this file: run `starter/make evaluate`")
    return facts


def _history(recipe: str) -> str:
    """Return the section of `history.md` about the run of a recipe."""
    for section in (ROOT / "history.md").read_text().split("\n## "):
        name, _, text = section.partition("\n")
        if name == recipe:
            return text.strip()
    return "Nothing."


def card() -> str:
    """Return the text of the card."""
    recipe = chosen()
    facts, log = _measured(), _log()
    judge = json.loads((WORK / "classifier.json").read_text())
    names = {"thing": "the object", "colour": "the colour", "ground": "the background"}
    named = ", ".join(f"{names[key]} in {judge[key]:.1%}" for key in names)
    shares = zip(STYLES, STYLE_SHARE, strict=True)
    return TEXT.format(
        count=len(OBJECTS),
        colours=len(PAINTED),
        side=recipe.resolution,
        latent=recipe.resolution // 8,
        width=recipe.text_width,
        layers=recipe.text_layers,
        channels=recipe.unet_channels,
        vae=recipe.vae_channels,
        objects=", ".join(thing.name for thing in OBJECTS),
        painted=", ".join(PAINTED),
        grounds=", ".join(name for name in GROUNDS if "gradient" not in name),
        gradients=", ".join(GRADIENTS),
        styles=", ".join(STYLES),
        measured=table(facts),
        judge=named,
        shares=", ".join(f"{style} {share:.0%}" for style, share in shares),
        held=HELD_OUT,
        recipe=recipe.name,
        seen=int(log[-1]["seen"]),
        steps=int(log[-1]["step"]),
        first=recipe.first_batch,
        batch=recipe.batch,
        rate=max(line["rate"] for line in log),
        last=log[-1]["rate"],
        balance=recipe.balance,
        history=_history(recipe.name),
        dropout=recipe.dropout,
        crops=json.loads((WORK / "vae.json").read_text())["crops"],
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WORK / "README.md")
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(card())


if __name__ == "__main__":
    main()

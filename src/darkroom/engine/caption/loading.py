"""From a model's card to the captioner in it."""

from pathlib import Path

import torch

from darkroom.core.errors import BadFile
from darkroom.core.model import ModelCard
from darkroom.core.processing import AUTO, PULL_CAPTIONER
from darkroom.engine.caption.answer import Captioner
from darkroom.engine.caption.blip import Blip
from darkroom.engine.caption.starter import Starter
from darkroom.engine.caption.tagger import TAGS, Tagger

STARTER = "starter"
OURS = (AUTO, STARTER)  # names of the captioner that comes with the program


def load_captioner(card: ModelCard | None, device: torch.device) -> Captioner:
    """The captioner of `card`, or, where there is none, the one that comes with the program."""
    if card is None:
        return Starter.shipped(device)
    folder = Path(card.path)
    if not folder.is_dir():
        what = f"{card.name} is one file; captioners are folders, with their words beside them"
        raise BadFile(what, hint=PULL_CAPTIONER)
    kind = Tagger if (folder / TAGS).is_file() else Blip
    return kind.read(folder, device)

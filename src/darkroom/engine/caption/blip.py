"""BLIP: a photograph in a sentence (J. Li, D. Li, C. Xiong, S. Hoi, arXiv 2201.12086, 2022).

A vision transformer looks at the picture, a text transformer writes about it word by word; the
networks are transformers' classes. Read is the folder that Hugging Face has of it: `config.json`,
the weights, and the vocabulary (`vocab.txt` or `tokenizer.json`), whose rows are BERT's pieces of
words.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.core.processing import PULL_CAPTIONER
from darkroom.engine.caption.answer import Caption, Check, keep_going
from darkroom.engine.caption.files import AGAIN, fill, read_table, read_text

BEAMS = 3
LONGEST = 48  # tokens
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's pictures, which BLIP was trained with
SPREAD = (0.26862954, 0.26130258, 0.27577711)
ARCHITECTURE = "BlipForConditionalGeneration"
SUBWORD = "##"  # before a piece that goes on with the word


class Blip:
    """Writes one sentence about a picture; has no tags."""

    tags = False

    def __init__(self, network: Any, pieces: Mapping[int, str], device: torch.device) -> None:
        self._network = network
        self._pieces = pieces
        self._device = device
        self._side = int(network.config.vision_config.image_size)

    @classmethod
    def read(cls, folder: Path, device: torch.device | str = "cpu") -> Self:
        """The captioner in a folder; BadFile when it is another model or incomplete."""
        told = read_table(folder / "config.json")
        if ARCHITECTURE not in (told.get("architectures") or ()):
            made_for = ", ".join(map(str, told.get("architectures") or ("nothing we know",)))
            what = f"{folder} is made for {made_for}, not {ARCHITECTURE}"
            raise BadFile(what, hint=PULL_CAPTIONER)
        pieces = vocabulary(folder)
        network, where = _network(told), torch.device(device)
        fill(network, folder, where)
        return cls(network, pieces, where)

    def describe(
        self,
        picture: Image.Image,
        *,
        threshold: float = 0.35,
        most: int = 50,
        check: Check = keep_going,
    ) -> Caption:
        """Write about `picture`; `threshold` and `most` mean nothing here."""
        check()
        with torch.inference_mode():
            ids = self._network.generate(
                self._pixels(picture),
                num_beams=BEAMS,
                max_new_tokens=LONGEST,
                do_sample=False,
                stopping_criteria=[_Asking(check)],
            )
        return Caption(text=self._words(ids[0].tolist()))

    def _pixels(self, picture: Image.Image) -> Tensor:
        """(1, 3, S, S): the whole picture, stretched, as BLIP was trained."""
        size = (self._side, self._side)
        small = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        values = (np.asarray(small, np.float32) / 255 - MEAN) / SPREAD
        return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None].to(self._device)

    def _words(self, ids: Iterable[int]) -> str:
        """The text of token ids; brackets mark the tokens that are no text."""
        found = (self._pieces.get(each, "") for each in ids)
        said = [piece for piece in found if piece and not piece.startswith("[")]
        return " ".join(said).replace(f" {SUBWORD}", "").replace(" ' ", "'").strip()


class _Asking:
    """What generation asks after every token whether to go on; Check raises when it is not to."""

    def __init__(self, check: Check) -> None:
        self._check = check

    def __call__(self, ids: Tensor, _scores: Tensor, **_more: Any) -> Tensor:
        self._check()
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)


def _network(told: Mapping[str, Any]) -> Any:
    from transformers import BlipConfig, BlipForConditionalGeneration  # seconds

    try:
        return BlipForConditionalGeneration(BlipConfig(**told))
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise BadFile(f"its config.json makes no BLIP: {error}", hint=AGAIN) from None


def vocabulary(folder: Path) -> dict[int, str]:
    """The pieces of words by their token ids."""
    if (folder / "vocab.txt").is_file():
        return dict(enumerate(read_text(folder / "vocab.txt").splitlines()))
    told = read_table(folder / "tokenizer.json")
    model = told.get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(words, dict) or not all(isinstance(row, int) for row in words.values()):
        raise BadFile(f"{folder / 'tokenizer.json'} holds no vocabulary", hint=AGAIN)
    return {row: word for word, row in words.items()}

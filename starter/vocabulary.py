"""The compact table of the tokens that captions use, out of CLIP's 49408.

Compact rows: 0 BOS, 1 EOS (also padding), 2 the unknown word, then the used tokens in CLIP order.
Words become tokens by Darkroom's own tokenizer.
"""

import json

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.engine.tokenizer import BOS, EOS, Tokenizer
from darkroom.weights.topology import CLIP_POSITIONS as POSITIONS
from starter.captions import PRAISE, caption
from starter.compose import Composer
from starter.objects_table import OBJECTS
from starter.recipe import WORK

UNKNOWN_ROW = 2
FIRST_ROW = 3


class Vocabulary:
    """Turns captions into rows of the compact embedding table."""

    def __init__(self) -> None:
        """Read `vocabulary.json`, making it on the first call."""
        self.tokenizer = Tokenizer()
        path = WORK / "vocabulary.json"
        if not path.exists():
            path.write_text(json.dumps(sorted(self._used())))
        self.tokens: list[int] = json.loads(path.read_text())
        self.row = {token: FIRST_ROW + index for index, token in enumerate(self.tokens)}

    def _used(self) -> set[int]:
        """Collect the tokens of many captions and of every name."""
        composer, rng = Composer(), np.random.default_rng(5)
        texts = [caption(rng, composer, scene) for scene in composer.draw(rng, 30_000)]
        texts += [name for thing in OBJECTS for name in (thing.name, *thing.synonyms)]
        texts += [*PRAISE, "the", "of", "in", "."]
        return {token for text in texts for token in self.tokenizer.encode(text)}

    def __len__(self) -> int:
        """Return the number of rows."""
        return FIRST_ROW + len(self.tokens)

    def rows(self, text: str, length: int = POSITIONS) -> list[int]:
        """Return BOS, the caption's rows, and EOS up to `length`."""
        inner = [self.row.get(token, UNKNOWN_ROW) for token in self.tokenizer.encode(text)]
        inner = inner[: length - 2]
        return [0, *inner, *([1] * (length - 1 - len(inner)))]

    def batch(self, texts: list[str], length: int = POSITIONS) -> Tensor:
        """Return (B, length) rows."""
        return torch.tensor([self.rows(text, length) for text in texts])

    def roughened(self, rows: list[int], rng: np.random.Generator) -> list[int]:
        """Insert one to three unknown words somewhere, so that they come to mean nothing."""
        end = rows.index(1)
        body = rows[1:end]
        for _ in range(int(rng.integers(1, 4))):
            body.insert(int(rng.integers(len(body) + 1)), UNKNOWN_ROW)
        return [0, *body, *([1] * (len(rows) - 1 - len(body)))]

    def expanded(self, compact: Tensor) -> Tensor:
        """Return the full (49408, width) table: unused tokens share the unknown word's row."""
        full = compact[UNKNOWN_ROW].expand(EOS + 1, -1).clone()
        full[self.tokens] = compact[FIRST_ROW:]
        full[BOS], full[EOS] = compact[0], compact[1]
        return full


def attribute_matrix(scenes: NDArray[np.void]) -> dict[str, NDArray[np.int64]]:
    """Return scene fields as integer arrays, (N,) each."""
    return {name: scenes[name].astype(np.int64) for name in scenes.dtype.names or ()}

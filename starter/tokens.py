"""Captions of the pool's pictures as token rows: written when needed, or all beforehand.

On a CPU every picture gets a new caption each time it is seen. A GPU sees thousands of pictures a
second; for it, several captions of each are written beforehand by all cores and kept beside it.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from starter.captions import caption
from starter.compose import Composer, Integers, Scene, Scenes
from starter.recipe import chosen, cores
from starter.vocabulary import Vocabulary

ROUGH = 0.12  # share of captions with unknown words in them
VERSIONS = 6  # captions of one picture in a table
CHUNK = 2000  # pictures that a process writes captions for at a time


class Writer:
    """Writes captions; some are dropped for guidance, some get unknown words."""

    def __init__(self) -> None:
        """Read the vocabulary and the colours' names."""
        self.vocabulary, self.composer = Vocabulary(), Composer()
        self.dropout = chosen().dropout

    def row(self, scene: Scene, rng: np.random.Generator) -> list[int]:
        """Return the token row (77) of one caption."""
        text = "" if rng.random() < self.dropout else caption(rng, self.composer, scene)
        row = self.vocabulary.rows(text)
        return self.vocabulary.roughened(row, rng) if rng.random() < ROUGH else row


class Live:
    """New captions each time."""

    def __init__(self, writer: Writer, where: torch.device) -> None:
        """Write with `writer` for networks on `where`."""
        self.writer, self.where = writer, where

    def rows(self, scenes: Scenes, index: Integers, rng: np.random.Generator) -> Tensor:
        """Return (B, 77) tokens for the scenes at `index`."""
        return torch.tensor([self.writer.row(scenes[k], rng) for k in index], device=self.where)


class Table:
    """Captions written beforehand, (N, VERSIONS, 77) on the device."""

    def __init__(self, scenes: Scenes, where: torch.device) -> None:
        """Write them with all cores."""
        parts = [scenes[start : start + CHUNK] for start in range(0, len(scenes), CHUNK)]
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(cores(), len(parts)), spawn) as team:
            written = list(team.map(_written, parts, range(len(parts))))
        self.tokens = torch.from_numpy(np.concatenate(written)).to(where)

    def rows(self, scenes: Scenes, index: Integers, rng: np.random.Generator) -> Tensor:
        """Return (B, 77) tokens for the scenes at `index`."""
        version = torch.from_numpy(rng.integers(VERSIONS, size=len(index)))
        where = self.tokens.device
        return self.tokens[torch.from_numpy(index).to(where), version.to(where)].long()


@cache
def _writer() -> Writer:
    return Writer()


def _written(scenes: Scenes, part: int) -> NDArray[np.int16]:
    rng, writer = np.random.default_rng(300_000 + part), _writer()
    rows = [[writer.row(scene, rng) for _ in range(VERSIONS)] for scene in scenes]
    return np.array(rows, dtype=np.int16)

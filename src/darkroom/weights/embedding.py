"""Textual inversion: vectors that stand for a word (Gal et al. 2022), from every form of file.

    read_embedding(path, (768, 1280)) -> one (n, width) per text encoder, or BadFile

All encoders get equally many vectors, since a word takes the same places in each: what a file does
not say to one of them is zeros there, and its places are left to their positions alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.weights.embedding_facts import Rows, choose
from darkroom.weights.embedding_image import PICTURES, read_image
from darkroom.weights.header import Header, read_header
from darkroom.weights.reader import open_tensors

Vectors = tuple[Tensor, ...]  # (n, width) for each text encoder, float32


def read_embedding(path: Path, widths: Sequence[int], word: str = "") -> Vectors:
    """The vectors of the file at `path` for text encoders of these widths, float32.

    `word` is what the prompt says: of a file of several tokens it takes its own.
    """
    with _opened(path) as (header, tensor):
        chosen = choose(header, widths, word)
        return aligned([_joined(rows, tensor) for rows in chosen], widths, path.name)


def short_checksum(vectors: Tensor) -> str:
    """Four hexadecimal digits that tell embeddings apart, as A1111 wrote them before it had hashes.

    It stands in old texts beside the name: "Used embeddings: bad_prompt_version2 [afea]".
    """
    checksum = 0
    for hundredths in (vectors.float().reshape(-1) * 100).tolist():
        checksum = (checksum * 281 ^ int(hundredths) * 997) & 0xFFFF
    return f"{checksum:04x}"


def aligned(parts: Sequence[Tensor | None], widths: Sequence[int], name: str) -> Vectors:
    """Equally many vectors for each encoder, zeros where `parts` have none; float32.

    BadFile when they are for other encoders, or hold what is no number.
    """
    given = [part for part in parts if part is not None]
    if len(parts) != len(widths) or not given or not _fit(parts, widths):
        hint = "Leave its name out of the prompt."
        raise BadFile(f"the embedding {name} is not for this model", hint=hint)
    if not all(bool(torch.isfinite(part.float()).all()) for part in given):
        raise BadFile(f"the embedding {name} holds numbers that are none", hint="Get it anew.")
    made = [torch.zeros(max(map(len, given)), width) for width in widths]
    for vectors, part in zip(made, parts, strict=True):
        if part is not None:
            vectors[: len(part)] = part
    return tuple(made)


def _fit(parts: Sequence[Tensor | None], widths: Sequence[int]) -> bool:
    pairs = zip(parts, widths, strict=True)
    return all(part is None or part.shape == (len(part), width) for part, width in pairs)


def _joined(rows: Sequence[Rows], tensor: Callable[[str], Tensor]) -> Tensor | None:
    parts = [tensor(row.name).reshape(row.count, row.width).to(torch.float32) for row in rows]
    return torch.cat(parts) if parts else None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Header, Callable[[str], Tensor]]]:
    """The table of the file at `path`, and what gives its tensors by name."""
    if path.suffix.lower() not in PICTURES:
        header = read_header(path)
        with open_tensors(header) as file:
            yield header, file.tensor
    elif (image := read_image(path)) is not None:
        yield image.header, lambda name: torch.tensor(image.values[name], dtype=torch.float64)
    else:
        raise BadFile(f"the picture {path.name} holds no embedding")

"""New model files from old ones, as `darkroom models convert|prune|merge|extract-lora` ask.

A door to torch. Files are read through the same checks as for a picture, so a pickle that holds
code is refused here too; what is written is always safetensors, whole or not at all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.core.model import Kind, ModelCard, Prediction
from darkroom.weights.detect import identify
from darkroom.weights.header import Header, read_header
from darkroom.weights.lora import targets_of
from darkroom.weights.lora.extract import Extracted, Extraction, described, extract, write_lora
from darkroom.weights.merge import (
    Mix,
    Piece,
    carried,
    lineage,
    merged,
    pieces_of,
    plain_pieces,
    with_vae,
)
from darkroom.weights.reader import open_tensors
from darkroom.weights.whole import Whole, open_vae, open_whole
from darkroom.weights.writer import write_safetensors

Tell = Callable[[int, int], None]  # how much is done, of how much

DTYPES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
PREDICTIONS = {Prediction.EPS: "epsilon", Prediction.V: "v"}
KEPT = ("modelspec.", "ss_", "sshs_", "darkroom.", "sd_merge_")  # metadata that goes along
STALE = ("modelspec.hash_sha256",)  # and what of it is no longer true


@dataclass(frozen=True, slots=True)
class Made:
    """A file that was written."""

    path: Path
    bytes: int
    tensors: int
    left_out: int  # tensors of the source that no network uses
    ignored: tuple[str, ...] = ()  # names in a pickle that were left alone
    captured: float | None = None  # of an extraction: the share of the difference that it holds


def convert(source: Path, target: Path, *, dtype: str | None = None, tell: Tell) -> Made:
    """`source` as one safetensors file: a checkpoint in LDM's layout, any other kind as it is."""
    header, kind = read_header(source), DTYPES.get(dtype or "")
    if identify(header).kind != Kind.CHECKPOINT:
        with open_tensors(header) as file:
            pieces = list(plain_pieces(header, file, dtype=kind))
            _write(target, pieces, header.metadata, tell=tell)
            return _made(target, pieces, header)
    with open_whole(header) as whole:
        pieces = [*pieces_of(whole, dtype=kind), *carried(whole)]
        _write(target, pieces, _metadata(whole), tell=tell)
    return _made(target, pieces, header)


def merge(
    models: Sequence[ModelCard],
    target: Path,
    *,
    share: float,
    blocks: tuple[float, ...] = (),
    dtype: str | None = None,
    vae: Path | None = None,
    tell: Tell,
) -> Made:
    """The weighted sum of two checkpoints, or the first with the difference of the others."""
    kind, mix = DTYPES.get(dtype or ""), Mix(share, blocks)
    with ExitStack() as stack:
        wholes = [stack.enter_context(open_whole(read_header(card.path))) for card in models]
        pieces: Iterable[Piece] = merged(wholes, mix, dtype=kind)
        if vae is not None:
            baked = stack.enter_context(open_vae(read_header(vae)))
            pieces = with_vae(pieces, pieces_of(baked, dtype=kind))
        made = [*pieces, *carried(wholes[0])]
        said = lineage([(card.name, card.sha256) for card in models], mix)
        _write(target, made, _metadata(wholes[0]) | said, tell=tell)
        return _made(target, made, wholes[0].header)


def extract_lora(
    tuned: ModelCard, base: ModelCard, target: Path, *, how: Mapping[str, Any], tell: Tell
) -> Made:
    """What `tuned` learned over `base`, as a LoRA; `how` holds the fields of Extraction."""
    wanted, found = Extraction(**how), list[Extracted]()
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(open_whole(read_header(c.path))) for c in (tuned, base))
        total = len(targets_of(ours.detected).shapes)
        for one in extract(ours, theirs, wanted):
            found.append(one)
            tell(len(found), total)
        said = described(ours.detected, wanted, title=target.stem, base=Path(base.path).name)
        write_lora(target, found, said)
    whole = sum(one.total for one in found)
    captured = 1 - sum(one.lost for one in found) / whole if whole else 0.0
    size = target.stat().st_size
    return Made(target, size, 3 * len(found), left_out=0, captured=captured)


def _metadata(whole: Whole) -> dict[str, str]:
    """What the source says about itself, and how its network was trained."""
    found = {
        name: value
        for name, value in whole.header.metadata.items()
        if name.startswith(KEPT) and name not in STALE
    }
    return found | {
        "format": "pt",
        "modelspec.prediction_type": PREDICTIONS[whole.detected.prediction],
    }


def _write(
    target: Path, pieces: Sequence[Piece], metadata: Mapping[str, str], *, tell: Tell
) -> None:
    table = {piece.name: (piece.dtype, piece.shape) for piece in pieces}
    write_safetensors(target, table, _told(pieces, tell), metadata=metadata)


def _told(pieces: Sequence[Piece], tell: Tell) -> Iterator[memoryview]:
    """The bytes of each piece, made when they are wanted."""
    total, done = sum(piece.bytes for piece in pieces), 0
    for piece in pieces:
        data = piece.data()
        yield data
        done += len(data)
        tell(done, total)


def _made(target: Path, pieces: Sequence[Piece], header: Header) -> Made:
    left = max(len(header.tensors) - len(pieces), 0)
    return Made(target, target.stat().st_size, len(pieces), left, header.ignored)

"""New model files from old ones, as `darkroom models convert|prune|merge|extract-lora` ask.

A door to torch. Files are read through the same checks as for a picture, so a pickle that holds
code is refused here too; what is written is always safetensors, whole or not at all.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from darkroom.core.errors import BadRequest
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
# And what of it is no longer true.
STALE = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash")


@dataclass(frozen=True, slots=True)
class Made:
    """A file that was written."""

    path: Path
    bytes: int
    tensors: int
    left_out: int  # tensors of the source that no network uses
    ignored: tuple[str, ...] = ()  # names in a pickle that were left alone
    notes: tuple[str, ...] = ()  # what its maker may want to know
    captured: float | None = None  # of an extraction: the share of the difference that it holds


def convert(source: Path, target: Path, *, dtype: str | None = None, tell: Tell) -> Made:
    """`source` as one safetensors file: a checkpoint in LDM's layout, any other kind as it is.

    So are pickled checkpoints of families that do not run here: they are safer afterwards.
    """
    header, kind = read_header(source), DTYPES.get(dtype or "")
    identity = identify(header)
    foreign = header.form == "pickle" and not identity.runs
    if identity.kind is not Kind.CHECKPOINT or foreign:
        with open_tensors(header) as file:
            pieces = list(plain_pieces(header, file, dtype=kind))
            told = {name: text for name, text in header.metadata.items() if name not in STALE}
            _write(target, pieces, told, tell=tell)
        return _made(target, pieces, header)
    with open_whole(header) as whole:
        pieces = [*pieces_of(whole, dtype=kind), *carried(whole, dtype=kind)]
        _write(target, pieces, _title(header) | _metadata(whole), tell=tell)
    return _made(target, pieces, header, used=whole.sources)


def prune(source: Path, target: Path, *, dtype: str, tell: Tell) -> Made:
    """A checkpoint without what pictures do not need; BadRequest for any other kind."""
    identity = identify(read_header(source))
    if identity.kind is not Kind.CHECKPOINT:
        what = f"{source.name} is {identity.label}, and only checkpoints are pruned"
        raise BadRequest(what, hint=f"`darkroom models convert --dtype {dtype}` makes it smaller.")
    return convert(source, target, dtype=dtype, tell=tell)


def merge(
    models: Sequence[ModelCard],
    target: Path,
    *,
    share: float,
    blocks: tuple[float, ...] = (),
    dtype: str | None = None,
    vae: ModelCard | None = None,
    tell: Tell,
) -> Made:
    """The weighted sum of two checkpoints, or the first with the difference of the others."""
    kind, mix = DTYPES.get(dtype or ""), Mix(share, blocks)
    with ExitStack() as stack:
        wholes = [stack.enter_context(open_whole(read_header(card.path))) for card in models]
        pieces: Iterable[Piece] = merged(wholes, mix, dtype=kind)
        if vae is not None:
            baked = stack.enter_context(open_vae(read_header(vae.path)))
            pieces = with_vae(pieces, pieces_of(baked, dtype=kind))
        made = [*pieces, *carried(wholes[0], dtype=kind)]
        named = [(card.name, card.sha256) for card in models]
        said = lineage(named, mix, None if vae is None else (vae.name, vae.sha256))
        _write(target, made, _metadata(wholes[0]) | said, tell=tell)
        done = _made(target, made, wholes[0].header, used=wholes[0].sources)
        return replace(done, notes=tuple(_odd(wholes)))


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


def _odd(models: Sequence[Whole]) -> Iterator[str]:
    """What a merge does that its maker may not know of."""
    first, *others = models
    for other in others:
        if other.detected.prediction is not first.detected.prediction:
            yield (
                f"{other.header.path.name} predicts {other.detected.prediction},"
                f" {first.header.path.name} {first.detected.prediction}: the result is run as the"
                " latter and may show neither"
            )


def _title(header: Header) -> dict[str, str]:
    """The source's name as a title, where it has none: nothing else may tell of few steps."""
    path = header.path
    return {"modelspec.title": path.name if header.form == "folder" else path.stem}


def _metadata(whole: Whole) -> dict[str, str]:
    """What the source says about itself, and how its network was trained."""
    found = {
        name: value
        for name, value in whole.header.metadata.items()
        if name.startswith(KEPT) and name not in STALE
    }
    size = whole.detected.native_size
    usual = {"modelspec.resolution": f"{size}x{size}"}  # a folder says it in another way
    told = {"modelspec.prediction_type": PREDICTIONS[whole.detected.prediction]}
    return {"format": "pt"} | usual | found | told


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


def _made(
    target: Path, pieces: Sequence[Piece], header: Header, *, used: Collection[str] = ()
) -> Made:
    """The file that was written; `used` are the tensors of the source that went into it."""
    left = header.tensors.keys() - used - {piece.name for piece in pieces}
    return Made(target, target.stat().st_size, len(pieces), len(left), header.ignored)

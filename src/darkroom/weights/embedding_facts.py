"""What an embedding file holds, from its table of tensors alone; no torch.

    rows_of(header) -> (Rows, ...)               () where the file is none
    choose(header, (768, 1280)) -> one tuple of Rows per text encoder, or BadFile
    embedding_facts(header) -> EmbeddingFacts    or None; what a library shows

Every program has named the vectors in its own way. Taken apart, a name says up to two things:

    string_to_param.*        A1111 and the authors of the method       nothing more
    emb_params               kohya, OneTrainer                         nothing more
    <cat-toy>                diffusers, one tensor per token           the token
    0.<cat-toy>              the same in a list                        the token
    clip_l, clip_g           SDXL, one tensor per text encoder         the encoder
    text_encoders_0          the same by other hands                   the encoder
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch
from darkroom.weights.header import Header, TensorInfo

MOST = 75  # vectors; a chunk of a prompt has no room for more
ABSURD = 10_000  # vectors; with more, a file is something else
SD1_WIDTH = 768  # of the text encoder; small models of its make have a narrower one
MADE_FOR: Mapping[frozenset[int], Arch] = {
    frozenset(widths): arch
    for arch, widths in (
        (Arch.SD1, (768,)), (Arch.SD2, (1024,)), (Arch.SDXL, (768, 1280)), (Arch.SDXL, (1280,)),
        (Arch.SDXL, (2048,)), (Arch.SD3, (4096,)), (Arch.FLUX, (768, 4096)),
        (Arch.SD3, (768, 1280, 4096)),
    )
}  # fmt: skip
ENCODERS = {
    "clip_l": 0, "clip_g": 1, "t5xxl": 2,
    "text_encoders_0": 0, "text_encoders_1": 1, "text_encoders_2": 2,
}  # fmt: skip
NAMELESS = ("*", "emb_params")  # what stands where others write the token
PREFIX = "string_to_param."
FLOATS = ("F64", "F32", "F16", "BF16")

_LIST = re.compile(r"\d{1,3}\.(?=.)")  # of the dicts in a list
_UNUSED = re.compile(  # a trainer's own: token numbers, targets of the output side
    r"string_to_token\b|.*_out$"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Some vectors under one name."""

    name: str  # of the tensor in the file
    token: str  # the word they were trained for; "" where the file does not say
    encoder: int | None  # 0 CLIP-L, 1 CLIP-G, 2 T5; None where the width alone decides
    count: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFacts:
    """An embedding, as a library shows it."""

    arch: Arch
    vectors: int
    widths: tuple[int, ...]  # of the text encoders it is for, rising
    tokens: tuple[str, ...] = ()  # words that the file itself names
    name: str = ""  # that its maker gave it
    step: int | None = None  # of its training
    checkpoint: str = ""  # it was trained on
    checkpoint_hash: str = ""


def rows_of(header: Header) -> tuple[Rows, ...]:
    """The vectors in a file; () where anything in it is no row of vectors."""
    found = []
    for name, info in header.tensors.items():
        own = _LIST.sub("", name, count=1)
        if _UNUSED.match(own):
            continue
        token = own.removeprefix(PREFIX)
        labelled = token in ENCODERS or token in NAMELESS
        plain = token != own or "." not in own or (own.startswith("<") and own.endswith(">"))
        if not (_is_rows(info) and (labelled or plain)):
            return ()
        count = info.shape[0] if len(info.shape) == 2 else 1
        encoder = ENCODERS.get(token)
        found.append(Rows(name, "" if labelled else token, encoder, count, info.shape[-1]))
    return tuple(found)


def embedding_facts(header: Header) -> EmbeddingFacts | None:
    """What the file says of itself; None where it is no embedding."""
    if not (rows := rows_of(header)):
        return None
    said = header.metadata
    step = said.get("step", "")
    return EmbeddingFacts(
        arch=_arch(rows),
        vectors=max(sum(row.count for row in rows if row.width == one.width) for one in rows),
        widths=tuple(sorted({row.width for row in rows})),
        tokens=tuple(dict.fromkeys(row.token for row in rows if row.token)),
        name=said.get("name", ""),
        step=int(step) if step.isdecimal() and len(step) < 12 else None,
        checkpoint=said.get("sd_checkpoint_name", ""),
        checkpoint_hash=said.get("sd_checkpoint", ""),
    )


def choose(header: Header, widths: Sequence[int], word: str = "") -> tuple[tuple[Rows, ...], ...]:
    """The vectors for text encoders of these widths, in order; BadFile says why there are none.

    Of a file of several tokens those of `word` are taken if it is among them, else all of them in
    order. Of two encoders one may be left out, and gets (), by a file that names its encoders or
    that is for the second: such a file can be for no other family.
    """
    if not (rows := rows_of(header)):
        raise BadFile(
            f"{header.path.name} is not an embedding",
            hint=f"One has up to {MOST} vectors under a name such as emb_params.",
        )
    rows = tuple(row for row in rows if row.token == word and word) or rows
    alone = len(widths) == 1
    chosen = tuple(_serving(rows, width, None if alone else k) for k, width in enumerate(widths))
    named = any(row[0].encoder is not None for row in chosen if row)
    if not (all(chosen) or named or any(chosen[1:])):
        raise _unfit(header.path.name, rows, widths)
    if (most := max(sum(row.count for row in one) for one in chosen)) > MOST:
        raise BadFile(
            f"the embedding {header.path.name} has {most} vectors,"
            f" and a part of a prompt has room for {MOST}",
            hint="Leave its name out of the prompt.",
        )
    return chosen


def _unfit(name: str, rows: Sequence[Rows], widths: Sequence[int]) -> BadFile:
    family, model = _family(rows), "not for this model"
    hint = "Leave its name out of the prompt, or choose a model of that family."
    if family == Arch.SD1 and len(widths) == 1 and widths[0] < SD1_WIDTH:
        family, model = f"full-size {family}", "and this is a small model of the same make"
        hint = "Leave its name out of the prompt, or choose a full-size SD1 checkpoint (--model)."
    return BadFile(f"the embedding {name} is for {family}, {model}", hint=hint)


def _serving(rows: Sequence[Rows], width: int, encoder: int | None) -> tuple[Rows, ...]:
    """The rows for the encoder of that number; None where a model has only one."""
    wide = [row for row in rows if row.width == width]
    fit = [row for row in wide if encoder is None or row.encoder in (None, encoder)]
    return tuple(row for row in fit if row.encoder == fit[0].encoder)


def _arch(rows: Sequence[Rows]) -> Arch:
    if all(row.encoder == 0 for row in rows):  # SD1's trainers do not name their one encoder
        return Arch.SDXL
    return MADE_FOR.get(frozenset(row.width for row in rows), Arch.OTHER)


def _family(rows: Sequence[Rows]) -> str:
    if (arch := _arch(rows)) is not Arch.OTHER:
        return arch.value
    widths = sorted({row.width for row in rows})
    return f"models of width {' and '.join(map(str, widths))}"


def _is_rows(info: TensorInfo) -> bool:
    return (
        info.dtype in FLOATS
        and 1 <= len(info.shape) <= 2
        and (len(info.shape) == 1 or 1 <= info.shape[0] <= ABSURD)
        and info.shape[-1] > 0
    )

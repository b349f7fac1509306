"""`darkroom prompt`: what the grammar makes of a prompt, without making a picture."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO, Self

import click
from pydantic import Field, ValidationError

from darkroom.cli.boundary import BAD_REQUEST, Reply
from darkroom.cli.options import JSON, flags, given, pass_reply
from darkroom.core.errors import BadRequest, StudioError, printable, shorten
from darkroom.core.fields import Frozen
from darkroom.core.prompt import (
    DIALECTS,
    Allowance,
    Network,
    Part,
    Piece,
    Stage,
    Style,
    Wildcards,
    apply_styles,
    attention,
    expand,
    find_styles,
    merged,
    networks,
    parts,
    schedule,
    wildcard_names,
    without_comments,
)
from darkroom.core.settings import Configured, Settings
from darkroom.engine.chunks import ROOM, Chunk, runs, split
from darkroom.engine.tokenizer import Tokenizer
from darkroom.library.prompts import styles_of, wildcards_of

ROWS, WIDTH = 40, 160  # of each list shown to people; characters of a text in it
MAX_ANSWER = 100_000_000  # characters of all stages of one prompt, equal ones too


class Question(Frozen):
    """A prompt and the steps it is read for: one line of a batch."""

    prompt: str = Field(max_length=10_000_000)
    steps: int = Field(20, ge=1, le=10_000)
    hires_steps: int | None = Field(None, ge=1, le=10_000)
    old_scheduling: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, Any], *, hint: str) -> Self:
        """Validate `fields`, or raise BadRequest with one readable sentence and `hint`."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(map(str, problem["loc"]))
            raise BadRequest(f"{name}: {problem['msg'].lower()}", hint=hint) from None

    def stages(self, text: str, allowance: Allowance) -> tuple[Stage, ...]:
        """The schedule of `text` for these steps."""
        return schedule(
            text,
            self.steps,
            hires_steps=self.hires_steps,
            old=self.old_scheduling,
            allowance=allowance,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the grammar made of one prompt.

    `parts`, `stages` and `pieces` are each of the whole text, as A1111's own functions give them.
    `chunks` and `tokens` are of the longest text of all that would be encoded. `shown` is that
    text, or where AND joins several the first of each.
    """

    parts: tuple[Part, ...]
    stages: tuple[Stage, ...]
    pieces: tuple[Piece, ...]
    networks: tuple[Network, ...]
    shown: tuple[str, ...]
    tokens: int
    chunks: list[Chunk]
    unknown: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The answer to `--json`."""
        return {
            "parts": self.parts,
            "schedule": self.stages,
            "attention": merged(self.pieces),
            "networks": [
                {
                    "type": network.kind,
                    "name": network.name,
                    "items": network.items,
                    "positional": network.positional,
                    "named": network.named,
                }
                for network in self.networks
            ],
            "tokens": self.tokens,
            "chunks": [{"ids": chunk.ids, "weights": chunk.weights} for chunk in self.chunks],
            "unknown": self.unknown,
        }

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(title, number, text) for people."""
        starts = [1, *(stage.end + 1 for stage in self.stages)]
        for start, (end, text) in zip(starts, self.stages, strict=False):
            yield "steps", f"{start}-{end}" if start < end else f"{end}", text
        if len(self.parts) > 1 or self.parts[0].weight != 1:
            for text, weight in self.parts:
                yield "AND", f"{weight:g}", text
        for text in self.shown:
            for piece in attention(text):
                yield "weights", "" if piece.is_break else f"{piece.weight:.4g}", piece.text
        for network in self.networks:
            yield network.kind, "", ":".join(network.items)
        room = ROOM * max(1, -(-self.tokens // ROOM))
        yield "tokens", f"{self.tokens}/{room}", ""
        for name in self.unknown:
            yield "unknown", "", f"__{name}__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How all prompts of one call are read."""

    tokenizer: Tokenizer
    dialect: Callable[[str], str] = str
    styles: Iterable[Style] = ()
    wildcards: Callable[[], Wildcards] = Wildcards  # asked only where a prompt needs them
    seed: int | None = None  # None: choices and wildcards stay as they are

    def read(self, question: Question) -> Reading:
        """Read one prompt."""
        text, _ = apply_styles(self.dialect(question.prompt), "", self.styles)
        text, unknown = self._chosen(text)
        bare, tags = networks(without_comments(text))
        pieces, stages = attention(text), question.stages(text, Allowance())
        if sum(len(stage.text) for stage in stages) > MAX_ANSWER:
            raise BadRequest(
                "the answer would be too long: every stage is told in full",
                hint="Shorten the prompt, or ask for fewer steps.",
            )
        allowance = Allowance()
        texts: dict[str, None] = {}  # all that would be encoded, in order
        firsts = []  # of each part
        for part in parts(bare):
            own = stages if part.text == text else question.stages(part.text, allowance)
            texts |= dict.fromkeys(stage.text for stage in own)
            firsts.append(own[0].text)
        cut = ((each, *self._cut(pieces if each == text else attention(each))) for each in texts)
        longest, chunks, tokens = max(cut, key=lambda each: each[2])
        return Reading(
            parts=parts(text),
            stages=stages,
            pieces=pieces,
            networks=tags,
            shown=(longest,) if len(firsts) == 1 else tuple(firsts),
            tokens=tokens,
            chunks=chunks,
            unknown=unknown,
        )

    def _chosen(self, template: str) -> tuple[str, tuple[str, ...]]:
        """The prompt of a template, and its wildcards that no file has."""
        if self.seed is not None:
            expanded = expand(template, self.seed, self.wildcards())
            return expanded.text, expanded.unknown
        names = wildcard_names(template)
        known = self.wildcards() if names else Wildcards()
        return template, tuple(name for name in names if name not in known)

    def _cut(self, pieces: Iterable[Piece]) -> tuple[list[Chunk], int]:
        return split(runs(self.tokenizer, pieces))


@click.command()
@click.argument("prompt", required=False)
@click.option(
    "--steps", type=int, metavar="N", help="Steps of the first pass, 1 to 10000.  [default: 20]"
)
@click.option("--hires-steps", type=int, metavar="N", help="Read it for a second pass this long.")
@click.option("--old-scheduling", is_flag=True, default=None, help="As A1111 before 1.6 did.")
@click.option(
    "--dialect",
    type=click.Choice(list(DIALECTS)),
    default="a1111",
    help="The program that the prompt is for.  [default: a1111]",
)
@click.option("--seed", type=int, metavar="N", help="Choose from {a|b} and __name__ by this seed.")
@click.option(
    "--wildcards",
    "--wildcards-dirs",
    "wildcards_dirs",
    metavar="DIR",
    multiple=True,
    help="Folder with lists for __name__; without --seed, the seed is 0.",
)
@click.option("--styles", metavar="NAME", multiple=True, help="Style to put around the prompt.")
@click.option(
    "--batch",
    type=click.File("rb"),
    metavar="FILE",
    help="Read many: one JSON object a line, with prompt, steps, hires_steps, old_scheduling; -"
    " is standard input.",
)
@JSON
@flags(Settings, ("styles_files", "data_dir"))
@pass_reply
def prompt(
    reply: Reply, /, *, prompt: str | None, batch: BinaryIO | None, dialect: str, **values: Any
) -> None:
    """Show what the grammar makes of PROMPT: steps, weights, parts, networks and tokens."""
    if (prompt is None) == (batch is None):
        raise click.UsageError("give a prompt, or --batch with a file of them")
    fields = {name: values.pop(name) for name in ("steps", "hires_steps", "old_scheduling")}
    reader = _reader(DIALECTS[dialect], values)
    if batch is not None:
        _answer_all(reply, reader, batch, fields=given(fields))
        return
    asked = given(fields) | {"prompt": prompt}
    reading = reader.read(Question.of(asked, hint="See darkroom prompt --help."))
    if reply.as_json:
        reply.json(reading.record())
    else:
        _show(reading)


def _reader(dialect: Callable[[str], str], values: dict[str, Any]) -> Reader:
    """The reader that the flags ask for; files are looked for only where they are wanted."""
    seed, styles = values.pop("seed"), values.pop("styles")
    if values["wildcards_dirs"] and seed is None:
        seed = 0

    @cache
    def settings() -> Settings:
        return Configured.load_here(given(values)).values

    @cache
    def wildcards() -> Wildcards:
        return wildcards_of(settings())

    if seed is not None:
        wildcards()  # a folder that is not there is told at once
    return Reader(
        tokenizer=Tokenizer(),
        dialect=dialect,
        styles=find_styles(styles, styles_of(settings())) if styles else (),
        wildcards=wildcards,
        seed=seed,
    )


def _answer_all(
    reply: Reply, reader: Reader, lines: Iterable[bytes], *, fields: Mapping[str, Any]
) -> None:
    """One answer a line; what cannot be read is answered too, and told by the exit code."""
    bad = False
    for line in filter(bytes.strip, lines):
        try:
            reply.json(reader.read(_question(line, fields)).record())
        except StudioError as error:
            bad = True
            reply.json({"error": type(error).__name__, "text": str(error), "hint": error.hint})
    if bad:
        sys.exit(BAD_REQUEST)


def _question(line: bytes, fields: Mapping[str, Any]) -> Question:
    hint = f"A line is an object with {', '.join(Question.model_fields)}."
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f"a line is no JSON: {shorten(str(error))}",
            hint='Write one object a line: {"prompt": "a cat", "steps": 20}',
        ) from None
    if not isinstance(found, dict):
        raise BadRequest("a line is no object", hint=hint)
    told = {name: value for name, value in found.items() if value is not None}
    return Question.of({**fields, **told}, hint=hint)


def _show(reading: Reading) -> None:
    last, shown = "", 0
    for title, number, text in reading.rows():
        shown = shown + 1 if title == last else 1
        if shown == ROWS:
            click.echo(f"{'':10}{'…':>9}")
        if shown < ROWS:
            line = printable(shorten(text, WIDTH))
            click.echo(f"{title if shown == 1 else '':10}{number:>9}  {line}".rstrip())
        last = title

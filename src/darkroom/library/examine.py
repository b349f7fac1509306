"""The facts of a model file, learnt from its header and the files beside it."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path

from darkroom.core.errors import BadFile, shorten
from darkroom.core.model import Kind
from darkroom.library.facts import Facts
from darkroom.library.hashes import AUTOV3
from darkroom.library.sidecars import Sidecar, names_beside, read_sidecars
from darkroom.library.survey import VAE_ENDS, Item
from darkroom.weights.detect import GIVE_VAE
from darkroom.weights.header import Header, read_header
from darkroom.weights.probe import probe

# Others wait for what uses them.
MUST_RUN = (Kind.CHECKPOINT, Kind.VAE, Kind.PREVIEW, Kind.UNET, Kind.UNKNOWN)
BOUNDS = {"steps": (1, 500, int), "cfg_scale": (1, 100, float)}  # of what a maker recommends


def examine(item: Item) -> Facts:
    """Everything that can be known of a model without its weights; a bad file is a fact too."""
    path = Path(item.path)
    names = names_beside(item.stem, item.beside)
    said = read_sidecars(path.parent, item.stem, names)
    try:
        header = read_header(path)
    except BadFile as error:
        return _with(Facts(problem=error.sentence(), bytes=_size(path)), said)
    return _beside(_with(_facts(header), said), item.stem, names)


def recommended(metadata: Mapping[str, str]) -> dict[str, float | str]:
    """The maker's `steps` and `cfg_scale`, as far as they make sense."""
    try:
        found = json.loads(metadata.get("darkroom.recommended", "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        name: kind(found[name])
        for name, (low, high, kind) in BOUNDS.items()
        if isinstance(found.get(name), int | float)
        and math.isfinite(found[name])
        and low <= found[name] <= high
    }


def _facts(header: Header) -> Facts:
    found = probe(header)
    says = header.metadata.get
    unfit = found.kind in MUST_RUN and not found.runs
    return Facts(
        kind=found.kind,
        arch=found.arch,
        label=found.label,
        variant=found.variant,
        prediction=found.prediction,
        zero_snr=found.zero_snr,
        native_size=found.native_size if found.kind is Kind.CHECKPOINT else 0,
        bytes=header.size,
        precision=found.precision,
        components=found.components,
        ema=found.ema,
        distilled=found.distilled,
        distilled_by=found.distilled_by,
        dialect=found.dialect,
        rank=found.rank,
        base_model=found.base,
        title=found.title,
        author=found.author,
        licence=found.licence,
        alias=_said(says("ss_output_name")),
        description=found.description,
        triggers=found.triggers,
        tags=found.tags,
        recommended={**found.recommended, **recommended(header.metadata)},
        claimed=_data_hash(says("modelspec.hash_sha256", "")),
        trained_as=_data_hash(says("sshs_model_hash", "")),
        problem=" ".join(found.problems[:1]) if unfit else "",
        problems=found.problems[1:] if unfit else found.problems,
    )


def _said(value: str | None) -> str:
    return "" if value in (None, "None") else shorten(" ".join(str(value).split()), 200)


def _data_hash(told: str) -> tuple[str, ...]:
    """The AutoV3 in a sha256 of the data that the metadata tells."""
    told = told.casefold().removeprefix("0x")
    return (told[:AUTOV3],) if re.fullmatch(r"[0-9a-f]{64}", told) else ()


def _with(facts: Facts, said: Sidecar) -> Facts:
    """Both: of a text, what the sidecars say; of words, theirs first, each once."""
    mine = Sidecar(**{f.name: getattr(facts, f.name) for f in fields(Sidecar)})
    both = said.over(mine)
    both = replace(both, triggers=_each_once(both.triggers))
    return replace(facts, **{f.name: getattr(both, f.name) for f in fields(Sidecar)})


def _each_once(triggers: Iterable[str]) -> tuple[str, ...]:
    """The triggers without those whose words all stand in phrases before them."""
    seen: set[str] = set()
    kept = []
    for phrase in triggers:
        words = {word.strip().casefold() for word in phrase.split(",")}
        if words - seen:
            kept.append(phrase)
        seen |= words
    return tuple(kept)


def _beside(facts: Facts, stem: str, names: Iterable[str]) -> Facts:
    """The facts of a checkpoint that takes the VAE beside it: it lacks none."""
    vaes = tuple(name for name in names if name.removeprefix(stem) in VAE_ENDS)
    if facts.kind is not Kind.CHECKPOINT or not vaes:
        return facts
    problems = tuple(each for each in facts.problems if not each.endswith(GIVE_VAE))
    return replace(facts, sidecars=(*facts.sidecars, vaes[0]), problems=problems)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0

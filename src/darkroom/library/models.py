"""The models on this machine, by name, hash or path.

A listing reads headers only, and of files that are new or changed only. A file is hashed when its
card is asked for, or when it is looked for by hash and no file whose hash is known is the one.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from pathlib import Path

from darkroom.core.errors import BadFile, BadRequest, UnknownName
from darkroom.core.model import Kind, ModelCard
from darkroom.core.settings import Settings, expanded
from darkroom.library.catalogue import Catalogue
from darkroom.library.facts import Facts, Found
from darkroom.library.folders import installed, is_folder
from darkroom.library.hashes import LEGACY_DIGITS, legacy_of
from darkroom.library.index import Brief, Index
from darkroom.library.listing import (
    EVERYTHING,
    STARTER,
    Entry,
    Page,
    Wanted,
    entries,
    named,
    naming,
    ordered,
)
from darkroom.library.offered import offered, where, word
from darkroom.library.survey import VAE_ENDS, Item, Survey, hash_in, plainer, split, text
from darkroom.library.walk import read_folder
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header

# Kinds that may be named by a path.
BY_PATH = (
    Kind.CHECKPOINT,
    Kind.VAE,
    Kind.UPSCALER,
    Kind.DETECTOR,
    Kind.RESTORER,
    Kind.SEGMENTER,
    Kind.CAPTIONER,
    Kind.PREVIEW,
)
REINSTALL = "Install Darkroom again."
UNLISTED = Brief(Kind.UNKNOWN, "", False)  # of a file in no folder of ours
LEAST_HASH = 8  # digits; fewer could be a name
OF_NOTHING = hashlib.sha256().hexdigest()[:LEGACY_DIGITS]  # the old hash of every small file
MOST_MISSED = 3  # folders that a hint speaks of
TOLD_READ = 2 << 30  # bytes; the user is told of more, for it takes a while
MOST_READ = 8 << 30  # bytes read to find one file by its hash, of kinds that are many


Tell = Callable[[str], None]


def _silent(_text: str) -> None:
    """Nobody listens."""


class Library:
    """Looks for models in `folders`, besides the starter that comes with the program.

    `own` are further folders, which need not be there. `tell` hears of what takes long. `catalogue`
    is what is known of the files.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        index: Index,
        *,
        own: tuple[Path, ...] = (),
        tell: Tell = _silent,
    ) -> None:
        self._asked = tuple(path.absolute() for path in folders)
        self._own = tuple(path.absolute() for path in own)
        self._tell = tell
        self.catalogue = Catalogue(self._tops, index)

    @classmethod
    def of(cls, settings: Settings, *, tell: Tell = _silent) -> "Library":
        """The library that the settings describe."""
        own = (settings.data_dir / "models", settings.data_dir / "embeddings")
        index = Index(settings.data_dir / "library.sqlite")
        dirs = (*settings.models_dirs, *settings.embeddings_dirs)
        return cls(dirs, index, own=own, tell=tell)

    # ---- lists

    def list(self, wanted: Wanted = EVERYTHING) -> Sequence[Found]:
        """Every model, the starter first, and every folder that cannot be looked into."""
        return self.page(wanted).items

    def page(self, wanted: Wanted = EVERYTHING, *, first: int = 0, most: int | None = None) -> Page:
        """Up to `most` of the models that are wanted, from number `first` on.

        What is new is learnt first; `learn` does that with an eye on how far it is.
        """
        survey = self.catalogue.survey()
        found = [entry for entry in self._entries(survey) if wanted.takes(entry.brief)]
        if wanted.words:
            told = self.catalogue.search(wanted.words)
            found = [entry for entry in found if entry.item.path in told]
        found = ordered(found, wanted.words)
        troubles = self._folder_problems(survey)
        folders = () if wanted.partial else troubles
        end = None if most is None else first + most
        shown = [self._found(entry) for entry in found[first:end]]
        shown += folders[max(first - len(found), 0) : end and max(end - len(found), 0)]
        return Page(len(found) + len(folders), tuple(shown), tuple(troubles))

    def folder_problems(self) -> Sequence[Found]:
        """Every folder that was asked for and cannot be looked into, with the reason."""
        return self._folder_problems(self.catalogue.survey())

    def learn(self) -> Iterator[tuple[int, int]]:
        """Learn about the files that are new: (how many are done, of how many).

        It may be left at any time; what was learnt stays.
        """
        news = self._news(self.catalogue.survey(), self.catalogue.briefs())
        for done in self.catalogue.learn(news):
            yield done, len(news)

    def hash_all(self, wanted: Wanted = EVERYTHING) -> Iterator[tuple[Found, int]]:
        """Hash the files that never were: (the file, how many are left), for the background.

        It may be left at any time; a file that cannot be read is passed by.
        """
        left = [found for found in self.list(wanted) if not found.hashes and _readable(found)]
        for number, found in enumerate(left, 1):
            with suppress(BadFile):
                self.catalogue.hashes(found.path)
                yield found, len(left) - number

    def hash_anew(self, found: Found) -> Found:
        """The model again, with hashes from reading it now; BadFile if it cannot be read."""
        hashes = self.catalogue.hashes(found.path, anew=True)
        return Found(name=found.name, path=found.path, facts=found.facts, hashes=hashes)

    # ---- one model

    def find(self, name: str) -> ModelCard:
        """The card of the checkpoint called `name`: a listed name, the start of a hash, or a path.

        A listed name may carry its extension; a file of that name in this folder goes first.
        """
        _refuse_empty(name)
        if (card := self.find_listed(name) or self.find_hash(name)) is not None:
            return card
        path = expanded(Path(name))
        if _there(path):
            return self._card(self._at(path))
        if (entry := self._listed(None, split(name)[0])) is not None:
            return self._card(entry)  # or why it is none
        if split(name)[1]:
            return self._card(self._at(path))  # so it is said to be missing
        raise self._unknown(Kind.CHECKPOINT, name)

    def find_of(self, kind: Kind, name: str) -> ModelCard:
        """The card of the model of that kind called `name`.

        A name is the listed one, with or without its folders and extension, the name it was
        trained under, or a hash: sha256 or its start, AutoV2, AutoV3, or A1111's old one. A VAE may
        be a path too. UnknownName has the nearest names; BadFile says what else is called so.
        """
        if kind in BY_PATH:
            _refuse_empty(name)
        if kind is Kind.CHECKPOINT:
            return self.find(name)
        entry = self._listed(kind, name) or self._listed(kind, split(name)[0])
        entry = entry or self._trained_as(kind, name) or self._hashed(kind, name)
        if entry is None and kind in BY_PATH and _there(expanded(Path(name))):
            entry = self._at(expanded(Path(name)))
        entry = entry or self._listed(None, split(name)[0])  # which says why it is none
        if entry is None:
            raise self._unknown(kind, name)
        return self._card_of(kind, entry)

    def choices(self, kind: Kind, name: str) -> Sequence[str]:
        """The models of that kind that `name` means equally well; the first is the one taken."""
        found = self._alike(kind, name) or self._alike(kind, split(name)[0])
        return [entry.name for entry in found or self._all_trained_as(kind, name)]

    def look_up(self, name: str, kind: Kind | None = None) -> Found:
        """What is known of the model called `name`, usable or not, with its hashes.

        Of several kinds a checkpoint goes first. UnknownName has the nearest names.
        """
        found = self._found(self._anywhere(name, kind))
        with suppress(BadFile):
            hashes = self.catalogue.hashes(found.path)
            return Found(name=found.name, path=found.path, facts=found.facts, hashes=hashes)
        return found

    def locate(self, name: str, kind: Kind | None = None) -> Path:
        """The file or folder of the model called `name`, as `look_up` finds it; nothing is hashed
        but where `name` is a hash.
        """
        return Path(self._anywhere(name, kind).item.path)

    def find_listed(self, name: str) -> ModelCard | None:
        """The checkpoint listed as `name`, whatever its case, if there is one."""
        entry = self._listed(Kind.CHECKPOINT, name)
        return None if entry is None else self._card(entry)

    def find_hash(self, start: str, *, likely: str = "") -> ModelCard | None:
        """The checkpoint with a hash that starts with `start` (8 digits or more), if there is one.

        The file listed as `likely` is hashed first; the other listed ones only if no file that was
        used before, from wherever, is the one.
        """
        entry = self._hashed(Kind.CHECKPOINT, start, likely=likely)
        return None if entry is None else self._card(entry)

    def card_at(self, kind: Kind, path: Path) -> ModelCard:
        """The card of the model of that kind in a file; BadFile if it is of another."""
        return self._card_of(kind, self._at(path))

    def vae_beside(self, card: ModelCard) -> ModelCard | None:
        """The VAE in a file beside the checkpoint and named like it, `name.vae.safetensors`."""
        listed = self.catalogue.survey().called(card.name)
        same = (i.path for i in listed if os.path.realpath(i.path) == card.path)
        for checkpoint in (card.path, *same):
            stem = checkpoint if is_folder(Path(checkpoint)) else split(checkpoint)[0]
            for end in VAE_ENDS:
                if _there(path := Path(stem + end)):
                    return self.card_at(Kind.VAE, path)
        return None

    # ---- looking

    def _tops(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((*installed(self._asked).models, *self._own)))

    def _news(self, survey: Survey, briefs: dict[str, Brief]) -> Sequence[Item]:
        return self.catalogue.news((_starter(), *survey.all()), briefs)

    def _entries(self, survey: Survey) -> Sequence[Entry]:
        """Every model, the starter first, each known now."""
        briefs = self.catalogue.briefs()
        if news := self._news(survey, briefs):
            for _ in self.catalogue.learn(news):
                pass
            briefs = self.catalogue.briefs()
        starter = _starter()
        first = Entry(STARTER, starter, briefs.get(starter.path, _brief(Facts())))
        return [first, *entries(survey, briefs)]

    def _called(self, survey: Survey, name: str) -> Iterator[Entry]:
        """The models that may be called `name`, with the names they have."""
        if name.casefold() == STARTER:
            yield Entry(STARTER, _starter(), Brief(Kind.CHECKPOINT, "", False))
        items = survey.called(name)
        yield from named(items, lambda item: _brief(self.catalogue.facts(item)))

    def _listed(self, kind: Kind | None, name: str) -> Entry | None:
        """The model listed as `name`."""
        return next(iter(self._alike(kind, name)), None)

    def _alike(self, kind: Kind | None, name: str) -> Sequence[Entry]:
        """The models listed as `name`, by ever weaker likeness; the first is meant."""
        found = [
            entry
            for entry in self._called(self.catalogue.survey(), name)
            if kind is None or naming(entry.brief.kind) is kind
        ]
        found.sort(key=lambda entry: naming(entry.brief.kind) is not Kind.CHECKPOINT)
        slashed = name.replace("\\", "/")
        folded = slashed.casefold()
        for alike in (
            lambda entry: entry.name == name,
            lambda entry: entry.name == slashed,
            lambda entry: entry.name.casefold() == folded,
            lambda entry: text(entry.item.stem).casefold() == folded,  # as A1111 calls it
        ):
            if same := list(filter(alike, found)):
                return same
        written = (self._alike(kind, plain) for plain in plainer(name))  # as other programs do
        return next(filter(None, written), ())

    def _anywhere(self, name: str, kind: Kind | None) -> Entry:
        """The model called `name`, by whatever it can be called; else UnknownName or BadFile."""
        _refuse_empty(name)
        path = expanded(Path(name))
        entry = self._listed(kind, name)
        if entry is None and _there(path):
            if is_folder(path):
                read_header(path)  # says what it is, if it is no model
            entry = self._at(path)
        entry = entry or self._listed(kind, split(name)[0])
        entry = entry or self._trained_as(kind, name) or self._hashed(kind, name)
        if entry is None:
            if split(name)[1] and kind is None:
                read_header(path)  # says that it is missing
            raise self._unknown(kind, name)
        return entry

    def _trained_as(self, kind: Kind | None, name: str) -> Entry | None:
        """The model that was trained under this name."""
        return next(iter(self._all_trained_as(kind, name)), None)

    def _all_trained_as(self, kind: Kind | None, name: str) -> Sequence[Entry]:
        every = self._entries(self.catalogue.survey())  # all are known now
        paths = self.catalogue.called(name)
        return [e for e in every if e.item.path in paths and kind in (None, e.brief.kind)]

    def _hashed(self, kind: Kind | None, start: str, *, likely: str = "") -> Entry | None:
        """The model with this hash; files whose hash is known go before those to be read."""
        start = (hash_in(start) or start).casefold().removeprefix("0x")
        if start == OF_NOTHING or len(start) < LEAST_HASH or set(start) - set("0123456789abcdef"):
            return None
        if likely and (entry := self._listed(kind, likely)) and self._has(entry, start):
            return entry
        places = {str(path) for path in self.catalogue.places(start)}
        if places and (entry := self._first_at(places, kind)) is not None:
            return entry
        every = [e for e in self._entries(self.catalogue.survey()) if kind in (None, e.brief.kind)]
        claimed = self.catalogue.search([start])
        for entry in (entry for entry in every if entry.item.path in claimed):
            if self._has(entry, start):
                return entry
        if len(start) == LEGACY_DIGITS:
            for entry in every:
                if legacy_of(Path(entry.item.path)) == start:
                    return entry
        return self._read_for(every, start, most=None if kind is Kind.CHECKPOINT else MOST_READ)

    def _first_at(self, places: set[str], kind: Kind | None) -> Entry | None:
        """A model that is one of the files `places`; a listed one, if there is one."""
        found = [self._at(Path(path)) for path in sorted(places)]
        for entry in sorted(found, key=lambda entry: entry.brief == UNLISTED):
            if kind in (None, self.catalogue.facts(entry.item).kind):
                return entry
        return None

    def _read_for(self, every: Sequence[Entry], start: str, *, most: int | None) -> Entry | None:
        """The first of `every` with the hash, the small ones read first, `most` bytes in all."""
        sized = [(self._unread(entry.item.path), entry) for entry in every]
        if most is not None:
            sized.sort(key=lambda pair: pair[0])
        if (total := sum(size for size, _ in sized)) > TOLD_READ:
            gigabytes = min(total, most or total) / 1e9
            self._tell(
                f"looking for the file whose hash starts with {start[:10]}: up to"
                f" {gigabytes:,.0f} GB are read, each file once and never again"
            )
        read = 0
        for size, entry in sized:
            read += size
            if most is not None and read > most:
                return None
            if self._has(entry, start):
                return entry
        return None

    def _unread(self, path: str) -> int:
        """The bytes to read for the hashes of a file; none where they are known."""
        return 0 if self.catalogue.known_hashes(Path(path)) else _size(path)

    def _has(self, entry: Entry, start: str) -> bool:
        try:
            return self.catalogue.hashes(Path(entry.item.path)).match(start)
        except BadFile:
            return False

    def _at(self, path: Path) -> Entry:
        """The model at a path, with its listed name if it has one."""
        real = os.path.realpath(path)
        survey = self.catalogue.survey()
        for entry in self._called(survey, path.name):
            if os.path.realpath(entry.item.path) == real:
                return entry
        beside: frozenset[str] = frozenset()
        with suppress(OSError):
            beside = read_folder(str(path.parent)).files
        item = Item(str(path), str(path.parent), beside, is_folder(path))
        name = text(item.stem)
        return Entry(name, item, UNLISTED)

    # ---- what is found

    def _found(self, entry: Entry) -> Found:
        path = Path(entry.item.path)
        facts, hashes = self.catalogue.look(entry.item)
        if entry.item.path == str(starter_path()) and facts.problem:
            facts = replace(facts, problem=f"{facts.problem} {REINSTALL}")
        return Found(name=entry.name, path=path, facts=facts, hashes=hashes)

    def _folder_problems(self, survey: Survey) -> Sequence[Found]:
        """The folders that cannot be looked into, and files of folders that make no sense."""
        asked = {str(path) for path in self._asked}
        told = [
            (Path(path), _FOLDERS.get(type(error), str(error.strerror)))
            for path, error in survey.errors.items()
            if path in asked or not isinstance(error, FileNotFoundError)
        ]
        told += installed(self._asked).problems
        return [
            Found(name=text(str(path)), path=path, facts=Facts(problem=why)) for path, why in told
        ]

    def _card(self, entry: Entry) -> ModelCard:
        """The card of a checkpoint; BadFile says why it is none that runs."""
        try:
            header = read_header(Path(entry.item.path))
            detected = detect(header)
        except BadFile as error:
            if entry.item.path == str(starter_path()):
                raise BadFile(str(error), hint=REINSTALL) from error
            raise
        facts = self.catalogue.facts(entry.item)
        hashes = self.catalogue.hashes(Path(entry.item.path))
        return ModelCard(
            sha256=hashes.sha256,
            path=os.path.realpath(entry.item.path),
            name=entry.name,
            kind=detected.kind,
            arch=detected.arch,
            variant=detected.variant,
            prediction=detected.prediction,
            zero_snr=detected.zero_snr,
            bytes=header.size,
            native_size=detected.native_size,
            triggers=facts.triggers,
            recommended=facts.recommended,
            autov3=hashes.autov3,
            metadata=header.metadata,
        )

    def _card_of(self, kind: Kind, entry: Entry) -> ModelCard:
        """The card of a model of another kind; BadFile if it is not of that kind."""
        path = Path(entry.item.path)
        facts = self.catalogue.facts(entry.item)
        header = read_header(path)
        if facts.kind is not kind:
            hint = "Choose a checkpoint with --model." if facts.kind is Kind.CHECKPOINT else ""
            raise BadFile(f"{path} is {facts.label}, not of the kind {word(kind)}", hint=hint)
        hashes = self.catalogue.hashes(path)
        return ModelCard(
            sha256=hashes.sha256,
            path=os.path.realpath(path),
            name=entry.name,
            kind=kind,
            arch=facts.arch,
            bytes=header.size,
            triggers=facts.triggers,
            recommended=facts.recommended,
            autov3=hashes.autov3,
            metadata=header.metadata,
        )

    def _unknown(self, kind: Kind | None, name: str) -> UnknownName:
        """Nothing is called `name`; offers what is."""
        survey = self.catalogue.survey()
        every = self._entries(survey)
        known = [e.name for e in every if kind is None or naming(e.brief.kind) is kind]
        known += offered(kind)
        ways = "; a path works too" if kind is None or kind in BY_PATH else ""
        missed = [
            f"{f.name} was not looked into: {f.problem}." for f in self._folder_problems(survey)
        ]
        which = "" if kind is None else f" list --kind {str(kind).replace(' ', '-').lower()}"
        told = (where(kind), f"`darkroom models{which}` lists them{ways}.", *missed[:MOST_MISSED])
        return UnknownName(word(kind), name, known, hint=" ".join(filter(None, told)))


def starter_path() -> Path:
    """The model that comes with the program."""
    return Path(str(resources.files("darkroom") / "starter" / "starter.safetensors"))


_FOLDERS: dict[type[OSError], str] = {
    FileNotFoundError: "there is no such folder",
    NotADirectoryError: "it is a file, not a folder of models",
    PermissionError: "you may not look into this folder",
}


def _starter() -> Item:
    path = starter_path()
    return Item(str(path), str(path.parent))


def _brief(facts: Facts) -> Brief:
    return Brief(facts.kind, facts.families, facts.troubled)


def _refuse_empty(name: str) -> None:
    """BadRequest of a name that says nothing: as a path it would be the current folder."""
    if not name.strip():
        hint = "`darkroom models` lists them."
        raise BadRequest("the name of a model is missing", hint=hint)


def _readable(found: Found) -> bool:
    return found.kind is not Kind.UNKNOWN


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, not allowed, a NUL in it
        return False


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0

"""`darkroom models pull`: from what the user named to a model in its folder.

    puller = Puller(web, sites, folder, catalogue=catalogue)
    plan = puller.plan("owner/name", Choice())          # asks the site; fetches nothing
    for step in puller.pull(plan): ...                  # Progress, Notice, and at last Pulled

A file arrives beside the folders of models under a hidden name that depends on its source only, so
that the same command goes on where another stopped, whatever stopped it. Two processes do not
fetch the same file at once. It gets its name when it is whole and was looked into, and never over
a file that is there. What was hashed while it came is not read again for that: the catalogue is
told, and what address it came from. Nothing here runs by itself.
"""

import hashlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from darkroom.core.errors import BadFile, BadRequest, OutputError, StudioError, shorten
from darkroom.core.model import Kind
from darkroom.library.catalogue import Catalogue
from darkroom.library.download import civitai, hub
from darkroom.library.download.look import Look
from darkroom.library.download.names import safe_name
from darkroom.library.download.plan import PICTURES, WEIGHTS, Choice, Plan, suffix
from darkroom.library.download.sources import CivitaiModel, HubModel, Link, Sites, read_source
from darkroom.library.download.transfer import Notice, Progress, Transfer, Wanted, check_room
from darkroom.library.download.web import Drop, Web
from darkroom.media.files import make_folder, publish, settle
from darkroom.media.lock import hold

FOLDERS = {  # as ComfyUI calls them; the library knows these names
    Kind.CHECKPOINT: "checkpoints",
    Kind.VAE: "vae",
    Kind.LORA: "loras",
    Kind.EMBEDDING: "embeddings",
    Kind.HYPERNETWORK: "hypernetworks",
    Kind.CONTROLNET: "controlnet",
    Kind.T2I_ADAPTER: "t2i-adapter",
    Kind.IP_ADAPTER: "ipadapter",
    Kind.MOTION: "animatediff_models",
    Kind.UPSCALER: "upscale_models",
    Kind.PREVIEW: "vae_approx",
    Kind.TEXT_ENCODER: "text_encoders",
    Kind.UNET: "unet",
    Kind.UNKNOWN: "other",
}
_ENDINGS = {"safetensors": ".safetensors", "pickle": ".ckpt"}  # for names that have none
_PREVIEWS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}
_MOST_PREVIEW = 16 << 20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A model that is in its folder now, or was there `already`."""

    path: Path
    kind: Kind
    label: str = ""  # "an SDXL checkpoint"
    bytes: int = 0
    sha256: str = ""  # of a file
    already: bool = False
    triggers: tuple[str, ...] = ()


Step = Progress | Notice | Pulled


class Puller:
    """Fetches models into folders below `folder`."""

    def __init__(self, web: Web, sites: Sites, folder: Path, *, catalogue: Catalogue) -> None:
        self._web, self._sites, self._folder = web, sites, folder
        self._catalogue = catalogue

    def plan(self, source: str, choice: Choice) -> Plan:
        """What would be fetched; the site is asked, and nothing is written."""
        wish = read_source(source, hub=self._sites.hub)
        match wish:
            case HubModel():
                plan = hub.plan(self._web, self._sites, wish, choice=choice)
            case CivitaiModel():
                plan = civitai.plan(self._web, self._sites, wish, choice=choice)
            case Link():
                plan = _plan_link(wish)
        return _chosen(plan, choice)

    def target(self, plan: Plan, *, to: Path | None = None) -> Path | None:
        """Where it would go; None while only the file itself can say."""
        known = plan.name and (plan.kind is not None or to is not None)
        place = _Place(self._folder, to)
        return place.target(plan.kind or Kind.UNKNOWN, plan.name) if known else None

    def pull(self, plan: Plan, *, to: Path | None = None) -> Iterator[Step]:
        """Fetch it: to the folder of its kind, or to the folder `to`."""
        for note in plan.notes:
            yield Notice(note)
        place = _Place(self._folder, to)
        try:
            make_folder(place.root)
            folder = _Folder(self._web, plan, place)
            yield from folder.run() if plan.folder else self._file(plan, place)
        except OutputError as error:  # `media` thinks of pictures
            hint = error.hint.replace("with -o.", "with --to.")
            raise OutputError(str(error), hint=hint) from error

    def _file(self, plan: Plan, place: "_Place") -> Iterator[Step]:
        (wanted,) = plan.files
        targets = place.targets(plan.kind, plan.name)
        if wanted.sha256 and (here := self._already(targets, wanted.sha256, plan)):
            yield here
            return
        part = place.part(safe_name(wanted.name), wanted.url + wanted.sha256)
        with _alone(part):
            look = Look(part, plan.name or "the file", plan.kind)
            transfer = Transfer(self._web, wanted, part)
            asked, pulled = False, None
            with closing(_fetched(transfer, look, wanted)) as steps:
                for step in steps:
                    if look.done and not asked:  # before the rest of it is fetched
                        asked = True
                        if pulled := self._here(plan, place, look, transfer=transfer):
                            break
                    yield step
            pulled = pulled or self._settled(plan, place, look, transfer=transfer)
            transfer.forget()
        yield from self._beside(plan, pulled.path)
        yield pulled

    def _here(
        self, plan: Plan, place: "_Place", look: Look, *, transfer: Transfer
    ) -> "Pulled | None":
        """What is arriving, if it is here; BadRequest if something else has its name."""
        kind = look.kind if look.knows_kind else None
        sha256 = transfer.known_sha256 or self._catalogue.pulled_from(
            plan.files[0].url, transfer.version
        )
        return self._already(place.targets(kind, _file_name(plan, transfer, look)), sha256, plan)

    def _already(self, targets: Sequence[Path], sha256: str, plan: Plan) -> "Pulled | None":
        """The one of `targets` with this hash; BadRequest if it must be the only one, and is not.

        Which folder a file belongs to is not known before it is looked into: then it may lie in
        any of them.
        """
        for target in targets:
            if sha256 and (found := self._same(target, sha256, plan)):
                return found
        if len(targets) == 1 and os.path.lexists(targets[0]):
            raise _taken(targets[0])
        return None

    def _same(self, target: Path, sha256: str, plan: Plan) -> "Pulled | None":
        """The file at `target`, if it has this hash."""
        look = Look(target, target.name, plan.kind)
        with suppress(OSError, BadFile):  # a link to nothing, a file nobody may read
            found = self._catalogue.hashes(target).sha256 if target.is_file() else ""
            if found and found.startswith(sha256):
                look.late()
                return Pulled(
                    path=target,
                    kind=look.kind,
                    label=look.label,
                    bytes=target.stat().st_size,
                    sha256=found,
                    already=True,
                    triggers=plan.triggers,
                )
        return None

    def _settled(self, plan: Plan, place: "_Place", look: Look, *, transfer: Transfer) -> Pulled:
        """Give the whole file its name, unless it is here under that name already."""
        target = place.target(look.kind, _file_name(plan, transfer, look))
        while not settle(transfer.part, target):
            if here := self._already((target,), transfer.sha256, plan):
                return here
        with suppress(OSError), target.open("rb") as file:
            hashes, url = transfer.digest.hashes(file), plan.files[0].url
            self._catalogue.keep_pulled(target, hashes, url=url, version=transfer.version)
        return Pulled(
            path=target,
            kind=look.kind,
            label=look.label,
            bytes=transfer.done,
            sha256=transfer.sha256,
            triggers=plan.triggers,
        )

    def _beside(self, plan: Plan, target: Path) -> Iterator[Notice]:
        """Keep what the page says of the model, and its picture, where other programs do too."""
        if not plan.info:
            return
        with suppress(BadRequest):  # there already
            said = json.dumps(plan.info, indent=2, ensure_ascii=False)
            publish(iter([target.with_suffix(".civitai.info")]), said.encode(errors="replace"))
        if not plan.preview:
            return
        try:
            self._preview(plan.preview, target)
        except (Drop, StudioError) as error:
            yield Notice(f"the page's picture could not be fetched: {error}")

    def _preview(self, url: str, target: Path) -> None:
        with self._web.open(url) as answer:
            if answer.status != 200:
                raise answer.refusal({})
            data = answer.whole(_MOST_PREVIEW)
        ending = next((end for sign, end in _PREVIEWS.items() if data.startswith(sign)), "")
        if ending:
            with suppress(BadRequest):  # there already
                publish(iter([target.with_suffix(f".preview{ending}")]), data)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where models go: `folder` has one folder per kind, `to` takes all."""

    folder: Path
    to: Path | None

    @property
    def root(self) -> Path:
        return self.to or self.folder

    def target(self, kind: Kind, name: str) -> Path:
        return (self.to or self.folder / FOLDERS[kind]) / name

    def targets(self, kind: Kind | None, name: str) -> Sequence[Path]:
        """Where a model of that name may lie; anywhere, if its kind is not known."""
        kinds = FOLDERS if kind is None and self.to is None else (kind or Kind.UNKNOWN,)
        return [self.target(each, name) for each in kinds] if name else []

    def part(self, name: str, source: str) -> Path:
        """Where something from `source` arrives."""
        key = hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()[:12]
        return self.root / f".{name}.{key}.part"


class _Folder:
    """Fetches a model that is a folder of files."""

    def __init__(self, web: Web, plan: Plan, place: _Place) -> None:
        self._web, self._plan, self._place = web, plan, place
        everything = "\n".join(file.url + file.sha256 for file in plan.files)
        self._part = place.part("model", everything)

    def run(self) -> Iterator[Step]:
        """Progress, notices and at last the folder."""
        plan, kind = self._plan, self._plan.kind
        if kind is not None and (target := self._place.target(kind, plan.name)).exists():
            yield self._there(target)
            return
        with _alone(self._part):
            missing = [file.size or 0 for file in plan.files if not self._is_here(file)]
            check_room(self._place.root, sum(missing))
            done = 0
            for wanted in plan.files:
                for step in self._fetch(wanted):
                    yield self._overall(step, done) if isinstance(step, Progress) else step
                done += self._part.joinpath(wanted.name).stat().st_size
            look = Look(self._part, plan.name, kind)
            yield from self._judged(look)
            target = self._place.target(look.kind, plan.name)
            yield self._settled(target, look, done)

    def _judged(self, look: Look) -> Iterator[Notice]:
        """What came is what the site has, file by file: it is kept, whatever it is."""
        problem = ""
        try:
            look.late()
        except BadFile as error:
            problem = error.sentence()
        if problem or look.problem:
            yield Notice(problem or look.problem)

    def _is_here(self, wanted: Wanted) -> bool:
        """Whether a file of the folder came already; it was checked then."""
        target = self._part / wanted.name
        return target.exists() and target.stat().st_size == wanted.size

    def _fetch(self, wanted: Wanted) -> Iterator[Progress | Notice]:
        if self._is_here(wanted):
            return
        target = self._part / wanted.name
        make_folder(target.parent)
        transfer = Transfer(self._web, wanted, target.with_name(f"{target.name}.part"))
        yield from transfer.run()
        target.unlink(missing_ok=True)
        settle(target.with_name(f"{target.name}.part"), target)
        transfer.forget()

    def _overall(self, step: Progress, before: int) -> Progress:
        return Progress(self._plan.name, before + step.done, self._plan.size)

    def _settled(self, target: Path, look: Look, size: int) -> Pulled:
        if target.exists():
            return self._there(target)
        make_folder(target.parent)
        try:
            self._part.rename(target)
        except OSError as error:
            raise OutputError(f"cannot name the folder {target}: {error.strerror}") from error
        return Pulled(path=target, kind=look.kind, label=look.label, bytes=size)

    def _there(self, target: Path) -> Pulled:
        """The folder at `target`, if it holds what was to be fetched."""
        for file in self._plan.files:
            path = target / file.name
            if not path.is_file() or file.size not in (None, path.stat().st_size):
                raise _taken(target)
        return Pulled(path=target, kind=self._plan.kind or Kind.UNKNOWN, already=True)


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Be the only process that fetches into `part`."""
    lock = part.with_name(f"{part.name}.lock")
    with hold(lock) as mine:
        if not mine:
            raise BadRequest(
                "another Darkroom is fetching this very model", hint="Wait until it is done."
            )
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps a file that is open
                lock.unlink(missing_ok=True)


def _fetched(
    transfer: Transfer, look: Look, wanted: Wanted
) -> Generator[Progress | Notice, None, None]:
    """Fetch, and judge the file as early as can be; what is no model is deleted."""
    try:
        for step in transfer.run():
            first = not look.done
            look.early(transfer.done, transfer.total)
            if first and look.problem:
                yield Notice(look.problem)
            yield step
        if not look.form:
            look.late()
    except BadFile as error:
        transfer.forget()
        page = "web page" in str(error)
        hint = wanted.login if page and wanted.login else error.hint
        raise BadFile(f"this is not a model to keep: {error}", hint=hint) from None


def _taken(target: Path) -> BadRequest:
    return BadRequest(
        f"{target} is there already, and may be another model",
        hint="Choose another name with --name, or another folder with --to; --sha256 compares.",
    )


def _plan_link(link: Link) -> Plan:
    last = unquote(urlsplit(link.url).path).rpartition("/")[2]
    name = safe_name(last) if suffix(last) in (*WEIGHTS, *PICTURES) else ""
    return Plan(source=str(link), files=(Wanted(url=link.url, name=name),), name=name)


def _chosen(plan: Plan, choice: Choice) -> Plan:
    """The plan with what the user said."""
    if choice.kind is not None:
        plan = replace(plan, kind=choice.kind)
    if choice.name:
        if safe_name(choice.name) != choice.name:
            raise BadRequest(f"{shorten(choice.name)!r} is no name for a file")
        plain = plan.folder or suffix(choice.name) in (*WEIGHTS, *PICTURES)
        plan = replace(plan, name=choice.name + ("" if plain else suffix(plan.name)))
    if choice.sha256:
        if plan.folder:
            raise BadRequest("--sha256 is for one file", hint="Name the file with --file.")
        plan = replace(plan, files=(replace(plan.files[0], sha256=choice.sha256.lower()),))
    return plan


def _file_name(plan: Plan, transfer: Transfer, look: Look) -> str:
    """The name from the page, the link or the server, with an extension."""
    name = plan.name or safe_name(transfer.said_name)
    known = suffix(name) in (*WEIGHTS, *PICTURES)
    return name if known else name + _ENDINGS.get(look.form, ".safetensors")

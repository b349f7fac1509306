"""What a model file says about itself, in its metadata, its folder, its name, or a text beside it.

Nothing here is trusted further than it goes: texts come from strangers, and are taken only where
they are of the form that they should have.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal

from darkroom.core.model import Arch, Prediction
from darkroom.weights.header import Header

LEAST_SIZE, MOST_SIZE = 64, 8192  # pixels; what can be asked for
LONGEST = 8_000_000  # characters of JSON in one metadata value
SIDECAR = 1 << 16  # characters of a .yaml that are looked at
MOST_TRIGGERS = 12
MOST_TAGS = 20
FREQUENT = 0.9  # of the most frequent tag's count

Distilled = Literal["", "Turbo", "Lightning", "LCM", "Hyper", "DMD", "PCM", "TCD", "Schnell"]

# In the words of a name or a title, as `words_of` finds them; more exact words first.
SIGNS: tuple[tuple[Distilled, re.Pattern[str]], ...] = (
    ("Lightning", re.compile(r"\blightning\b")),
    # alone it means nothing: "hyper realistic"
    ("Hyper", re.compile(r"\bhypersd|\bhyper(?=$| sd| \d| flux| fp| vae| inpaint)", re.M)),
    ("DMD", re.compile(r"\bdmd\b")),
    ("PCM", re.compile(r"\bpcm\b")),
    ("TCD", re.compile(r"\btcd\b")),
    ("LCM", re.compile(r"\blcm\b")),
    ("Schnell", re.compile(r"\bschnell\b")),
    ("Turbo", re.compile(r"\bturbo\b")),
)
MADE: Mapping[Arch, frozenset[Distilled]] = {  # of which families there are such models at all
    Arch.SD1: frozenset({"LCM", "Hyper", "PCM", "TCD"}),
    Arch.SD2: frozenset({"Turbo"}),
    Arch.SDXL: frozenset({"Turbo", "Lightning", "LCM", "Hyper", "DMD", "PCM", "TCD"}),
    Arch.SDXL_REFINER: frozenset(),
}  # fmt: skip
LCM_MARKS = (  # the guidance goes into the network itself, as in LCM's first models
    "model.diffusion_model.time_embed.cond_proj.weight",
    "unet/time_embedding.cond_proj.weight",
)
STEPS = re.compile(r"\b([1-9]|[1-4][0-9]|50) steps?\b")
RECOMMENDED: Mapping[str, Mapping[str, float | str]] = {
    "Turbo": {"steps": 4, "cfg_scale": 1.0},
    "Lightning": {"steps": 4, "cfg_scale": 1.0},
    "Hyper": {"steps": 8, "cfg_scale": 1.0},
    "DMD": {"steps": 4, "cfg_scale": 1.0, "sampler": "LCM"},
    "PCM": {"steps": 8, "cfg_scale": 1.5},
    "TCD": {"steps": 4, "cfg_scale": 1.0},
    "LCM": {"steps": 8, "cfg_scale": 1.5, "sampler": "LCM"},
    "Schnell": {"steps": 4, "cfg_scale": 1.0},
}
BASES = (  # beginnings of what trainers write in `BASE_KEYS`
    (Arch.SDXL_REFINER, ("stable-diffusion-xl-v1-refiner",)),
    (Arch.SDXL, ("stable-diffusion-xl", "sdxl")),
    (Arch.SD2, ("stable-diffusion-v2", "sd_v2", "sd 2")),
    (Arch.SD1, ("stable-diffusion-v1", "sd_v1", "sd1", "sd 1")),
    (Arch.SD3, ("stable-diffusion-3", "sd3")),
    (Arch.FLUX, ("flux",)),
)
BASE_KEYS = ("modelspec.architecture", "ss_base_model_version", "baseModel")
GENERIC = frozenset({"img", "image", "images", "train", "training", "data", "dataset", "reg"})


def words_of(text: str) -> list[str]:
    """The words and numbers in a name, small: `dreamXL_v2Turbo` is dream, xl, v, 2, turbo."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return re.findall(r"[a-z]+|[0-9]+", apart.casefold())


def said(header: Header, *keys: str) -> str:
    """The first of these metadata values that says something."""
    values = (header.metadata.get(key, "").strip() for key in keys)
    return next((value for value in values if value and value != "None"), "")


def table(header: Header, key: str) -> Mapping[str, object]:
    """A metadata value that is a JSON object; empty where it is none."""
    text = header.metadata.get(key, "")
    if not text.startswith("{") or len(text) > LONGEST:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def class_name(header: Header) -> str:
    """The diffusers class that a folder tells; empty if none."""
    names = (table(header, key).get("_class_name") for key in ("model_index.json", "config.json"))
    return next((name for name in names if isinstance(name, str)), "")


def base(header: Header) -> Arch:
    """The family that the file says it is made for."""
    texts = [header.metadata.get(key, "").casefold() for key in BASE_KEYS]
    for arch, beginnings in BASES:
        if any(text.startswith(beginnings) for text in texts):
            return arch
    return Arch.OTHER


# How it was trained

SMALL_TURBO = (["sd", "xl", "turbo"], ["sdxl", "turbo"])  # Stability's own, trained on 512 px
SAID_V, SAID_EPS = ("v", "v_prediction", "v-prediction"), ("epsilon", "eps", "noise")
SCHEDULER = "scheduler/scheduler_config.json"
PARAMETERIZATION = re.compile(r"^\s*parameterization:\s*[\"']?(\w+)[\"']?\s*(?:#.*)?$", re.M)
NAMED_V = re.compile(r"\bv ?pred(?:iction)?\b")  # as makers of SDXL models name such files
ZERO_SNR_LINE = re.compile(r"^\s*(?:rescale_betas_zero_snr|zero_snr|ztsnr):\s*true\b", re.M | re.I)


def prediction(header: Header) -> Prediction | None:
    """What the file, its folder, the .yaml beside it or its name says that the UNet gives."""
    texts = (
        said(header, "modelspec.prediction_type", "modelspec.predict_key"),  # ComfyUI's is the last
        table(header, SCHEDULER).get("prediction_type"),
        *PARAMETERIZATION.findall(sidecar(header.path)),
        "v" if said(header, "modelspec.architecture").endswith("-768-v") else "",
        "v" if said(header, "ss_base_model_version").endswith("_v") else "",
        "v" if said(header, "ss_v_parameterization") == "True" else "",
        "v" if NAMED_V.search(_words(header)) else "",
    )
    for text in texts:
        match str(text).casefold():
            case said_so if said_so in SAID_V:
                return Prediction.V
            case said_so if said_so in SAID_EPS:
                return Prediction.EPS
    return None


def zero_snr(header: Header) -> bool:
    """Whether the noise that it was trained with is said to end in pure noise."""
    return (
        table(header, SCHEDULER).get("rescale_betas_zero_snr") is True
        or said(header, "ss_zero_terminal_snr") == "True"
        or ZERO_SNR_LINE.search(sidecar(header.path)) is not None
    )


def sidecar(path: Path) -> str:
    """The beginning of the .yaml of the same name beside the file, which A1111 reads too."""
    text = path.with_suffix(".yaml")
    try:
        if not text.is_file():  # opening a pipe would wait for ever
            return ""
        with text.open(encoding="utf-8", errors="replace") as file:
            return file.read(SIDECAR)
    except (OSError, ValueError):
        return ""


def native_size(header: Header) -> int | None:
    """The longer side of what it was trained on, in pixels, as a size that can be asked for."""
    text = said(header, "modelspec.resolution")
    if found := re.fullmatch(r"([1-9]\d{1,4})(?:x([1-9]\d{1,4}))?", text, re.A):
        return _size(max(int(number) for number in found.groups() if number))
    sample = table(header, "unet/config.json").get("sample_size")
    if isinstance(sample, int) and 0 < sample < MOST_SIZE:
        return _size(8 * sample)
    words = words_of(header.path.stem)
    return 512 if any(words[: len(own)] == own for own in SMALL_TURBO) else None


def _size(pixels: int) -> int:
    return min(max(8 * round(pixels / 8), LEAST_SIZE), MOST_SIZE)


# How it is used


def distilled(header: Header, arch: Arch = Arch.OTHER) -> Distilled:
    """The kind of few-step training that the file's texts or its name tell of.

    The tensors tell of LCM's first models alone. Words count only where the family has such models:
    an SD1 file called lightning is more likely about weather.
    """
    if any(mark in header.tensors for mark in LCM_MARKS):
        return "LCM"
    return _signed(_words(header), arch)


def _signed(words: str, arch: Arch) -> Distilled:
    found = (kind for kind, sign in SIGNS if sign.search(words))
    return next((kind for kind in found if arch not in MADE or kind in MADE[arch]), "")


def distilled_by(header: Header, arch: Arch) -> str:
    """What of the file tells that it needs few steps: "tensors", "metadata", "name"; "" if none."""
    if any(mark in header.tensors for mark in LCM_MARKS):
        return "tensors"
    name, _, titles = _words(header).partition("\n")
    return "metadata" if _signed(titles, arch) else "name" if _signed(name, arch) else ""


def recommended(header: Header, arch: Arch = Arch.OTHER) -> Mapping[str, float | str]:
    """Steps and guidance for few-step models: the number before "steps", else what is usual."""
    if not (kind := distilled(header, arch)):
        return {}
    usual = dict(RECOMMENDED[kind])
    if steps := STEPS.search(_words(header)):
        usual["steps"] = int(steps[1])
    return usual


def _words(header: Header) -> str:
    """The words of the name and of the titles, a line each."""
    keys = ("modelspec.title", "modelspec.architecture", "ss_output_name")
    texts = (header.path.stem, *(header.metadata.get(key, "")[:200] for key in keys))
    return "\n".join(" ".join(words_of(text)) for text in texts)


def triggers(header: Header) -> tuple[str, ...]:
    """The words that call up what was trained, as its maker wrote them, else as captions tell."""
    phrase = said(header, "modelspec.trigger_phrase", "trigger_words", "activation text")
    sources = (phrase.split(","), _trained_words(header), _folders(header), _tags(header))
    words = next((found for source in sources if (found := _tidy(source))), [])
    return tuple(words)


def _tidy(words: Iterable[str], most: int = MOST_TRIGGERS) -> list[str]:
    seen = dict.fromkeys(" ".join(word.split()) for word in words)
    return list(islice((word for word in seen if 0 < len(word) <= 100), most))


def _trained_words(header: Header) -> list[str]:
    try:
        found = json.loads(header.metadata.get("trainedWords", "[]")[:LONGEST])
    except (ValueError, RecursionError):
        return []
    return [word for word in found if isinstance(word, str)] if isinstance(found, list) else []


def _folders(header: Header) -> Iterator[str]:
    """Kohya's folders of pictures are called like `10_sks dog`: repeats, then the words."""
    for name in table(header, "ss_dataset_dirs"):
        words = re.sub(r"^\d+_", "", name)
        if words != name and words.casefold() not in GENERIC:
            yield words


def _tags(header: Header) -> Iterator[str]:
    """The tags that nearly all pictures of a folder have."""
    for tags in table(header, "ss_tag_frequency").values():
        counts = _counts(tags)
        most = max(counts.values(), default=0)
        frequent = {tag for tag, count in counts.items() if count >= FREQUENT * most}
        if most > 1 and len(frequent) <= MOST_TRIGGERS:
            yield from sorted(frequent, key=lambda tag: -counts[tag])


def frequent_tags(header: Header) -> tuple[str, ...]:
    """The tags that most pictures have which it was trained on, the most frequent first."""
    total: Counter[str] = Counter()
    for tags in table(header, "ss_tag_frequency").values():
        total.update(_counts(tags))
    repeated = (tag for tag, count in total.most_common(MOST_TAGS) if count > 1)
    return tuple(_tidy(repeated, MOST_TAGS))


def _counts(tags: object) -> dict[str, int]:
    found = tags.items() if isinstance(tags, dict) else ()
    return {tag.strip(): count for tag, count in found if isinstance(count, int)}

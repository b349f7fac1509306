"""Where requests name pictures and models, as tables, so that both can be looked up and replaced.

    sources(request)  -> {"photo.png"}
    models(request)   -> {(Kind.UPSCALER, "4x-UltraSharp")}
    replaced(request, picture=…, model=…) -> the request with other names in those places

The checkpoint and the VAE of a request for pictures are not among the models: `core.recipe.resolve`
names those.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from darkroom.core.fields import EACH, STORED, Parsed
from darkroom.core.model import Kind
from darkroom.core.packaged import packaged_names
from darkroom.core.processing import AUTO

R = TypeVar("R", bound=Parsed)
Path = tuple[str, ...]  # of fields; ALL is every item of a list
Named = tuple[Kind, str]
Change = Callable[[str], str]

ALL = "*"
# Fields that hold a picture, by the kind of request.
PICTURES: Mapping[str, tuple[Path, ...]] = MappingProxyType(
    {
        "image": (
            ("init", "image"),
            ("mask", "image"),
            ("mask", "sketch"),
            ("hires", "first"),
            ("regions", ALL, "mask"),
        ),
        "upscale": (("image",),),
        "cutout": (("image",),),
        "caption": (("image",),),
    }
)
# Fields that hold the name of a model, by the kind of request.
MODELS: Mapping[str, Mapping[Path, Kind]] = MappingProxyType(
    {
        "image": {
            ("hires", "model"): Kind.CHECKPOINT,
            ("hires", "upscaler"): Kind.UPSCALER,
            ("refiner", "model"): Kind.CHECKPOINT,
            ("detail", ALL, "model"): Kind.CHECKPOINT,
            ("detail", ALL, "detector"): Kind.DETECTOR,
            ("restore", "model"): Kind.RESTORER,
        },
        "upscale": {
            ("upscaler",): Kind.UPSCALER,
            ("second",): Kind.UPSCALER,
            ("restore", "model"): Kind.RESTORER,
            ("paint", "model"): Kind.CHECKPOINT,
        },
        "cutout": {("model",): Kind.SEGMENTER},
        "caption": {("model",): Kind.CAPTIONER},
    }
)
# Names that are no file of a library; upscalers of packages have cards all the same.
_LATENT = ("", " (antialiased)", " (bicubic)", " (bicubic antialiased)", " (nearest)")
BUILT_IN: Mapping[Kind, frozenset[str]] = MappingProxyType(
    {
        Kind.UPSCALER: frozenset(
            {AUTO, "lanczos", "nearest", "latent (nearest-exact)"}
            | {f"latent{how}" for how in _LATENT}
        ),
        Kind.DETECTOR: frozenset(packaged_names(Kind.DETECTOR)),
        Kind.SEGMENTER: frozenset({AUTO, *packaged_names(Kind.SEGMENTER)}),
        Kind.CAPTIONER: frozenset({AUTO, "starter"}),
    }
)


def sources(request: Parsed) -> list[str]:
    """The pictures that a request names, each once; EACH stands for those of a batch."""
    data = request.model_dump()
    paths = PICTURES.get(_kind(request), ())
    return list(dict.fromkeys(value for path in paths for value in _at(data, path)))


def models(request: Parsed) -> list[Named]:
    """The models in its blocks, each once; those that are no files are left out."""
    return models_in(request.model_dump(), _kind(request))


def is_built_in(kind: Kind, name: str) -> bool:
    """Whether the program itself does what goes by that name."""
    return name.casefold() in BUILT_IN.get(kind, ())


def replaced(request: R, *, picture: Change = str, model: Callable[[Kind, str], str]) -> R:
    """The request with other names for its pictures and models."""
    data = request.model_dump()
    for path in PICTURES.get(_kind(request), ()):
        _change(data, path, lambda name: name if name == EACH else picture(name))
    rename_models(data, _kind(request), model)
    return type(request).parse(data)


def models_in(data: Mapping[str, Any], kind: str) -> list[Named]:
    """`models` of the fields of a request of that kind, which need not be whole."""
    paths = MODELS.get(kind, {})
    found = ((what, name) for path, what in paths.items() for name in _at(data, path))
    return [named for named in dict.fromkeys(found) if not is_built_in(*named)]


def rename_models(
    data: dict[str, Any], kind: str, model: Callable[[Kind, str], str | None]
) -> None:
    """Put other names, or None, in the places of models in the fields of a request."""
    for path, what in MODELS.get(kind, {}).items():
        _change(data, path, partial(_renamed, model, what))


def is_stored(source: str) -> bool:
    """Whether a source names a picture by its content."""
    return source.startswith(STORED)


def _renamed(model: Callable[[Kind, str], str | None], kind: Kind, name: str) -> str | None:
    return name if is_built_in(kind, name) else model(kind, name)


def _kind(request: Parsed) -> str:
    return str(getattr(request, "kind", ""))


def _at(data: Any, path: Path) -> Iterator[str]:
    """The texts at a path; none where a block or a value is not there."""
    if not path:
        if data is not None:
            yield data
    elif path[0] == ALL:
        for item in data or ():
            yield from _at(item, path[1:])
    elif data is not None:
        yield from _at(data.get(path[0]), path[1:])


def _change(data: Any, path: Path, change: Callable[[str], str | None]) -> None:
    """Put what `change` makes of it in the place of every text at a path."""
    first, *rest = path
    if data is None:
        return
    if first == ALL:
        for item in data or ():
            _change(item, tuple(rest), change)
    elif rest:
        _change(data.get(first), tuple(rest), change)
    elif data.get(first) is not None:
        data[first] = change(data[first])

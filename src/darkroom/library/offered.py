"""What a request may name without a file of the user's: for hints, and beside the lists of files.

offered(Kind.DETECTOR)      ("object", "face", "hand", "person")
rows(Kind.DETECTOR)         ("face", "comes with Darkroom") …
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from darkroom.core.errors import BadRequest
from darkroom.core.model import Kind
from darkroom.core.packaged import packaged, packaged_names
from darkroom.core.preview import METHODS
from darkroom.core.processing import AUTO, PULL_CAPTIONER
from darkroom.weights.upscaler_files import SHIPPED

COMES = "comes with Darkroom"
LATENT = "Latent"  # and its kinds, between the two runs of hires fix alone
_NO_MODELS = frozenset({AUTO, LATENT, *METHODS})
_OWN: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        Kind.UPSCALER: (AUTO, SHIPPED, "Lanczos", "Nearest", LATENT),
        Kind.SEGMENTER: (AUTO,),
        Kind.CAPTIONER: (AUTO, "starter"),
        Kind.PREVIEW: METHODS,
    }
)
# What an unknown name is called: the kind itself but where that is no word for a model.
_WORDS: Mapping[Kind | None, str] = MappingProxyType(
    {None: "model", Kind.CHECKPOINT: "model", Kind.SEGMENTER: "model for cut-outs"}
)
_MORE: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.UPSCALER: "files go to models/ESRGAN. Latent and its kinds are for --hires-upscaler",
        Kind.DETECTOR: "files such as face_yolov8n.pt go to models/adetailer",
        Kind.SEGMENTER: "files go to models/u2net",
        Kind.PREVIEW: "files such as taesd_decoder.pth go to models/VAE-approx",
    }
)


def offered(kind: Kind | None) -> tuple[str, ...]:
    """The names of a kind that need no file, as they are spelled."""
    return () if kind is None else (*_OWN.get(kind, ()), *packaged_names(kind))


def word(kind: Kind | None) -> str:
    """What a model of the kind is called where none is found."""
    return _WORDS.get(kind) or str(kind)


def where(kind: Kind | None) -> str:
    """In sentences, what there is without a file, and where files of the kind go; "" if nothing."""
    if kind is Kind.CAPTIONER:
        return PULL_CAPTIONER
    names = [name for name in offered(kind) if name not in (AUTO, LATENT)]
    if kind is None or not names:
        return ""
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"Without a file there are {listed}; {_MORE[kind]}."


def rows(kind: Kind) -> Iterator[tuple[str, str]]:
    """The same, each with where it comes from."""
    for name in offered(kind):
        if name not in _NO_MODELS:
            yield name, _origin(kind, name)


def _origin(kind: Kind, name: str) -> str:
    row = packaged(kind, name)
    if row is None or not row.distribution:
        return COMES
    try:
        row.paths()
    except BadRequest as error:
        return f"not installed yet. {error.hint}"
    return f"of the package {row.distribution}"

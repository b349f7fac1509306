"""Files that are no model: say of each what it is, in one sentence, with a cure."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from darkroom.core.errors import BadFile, shorten

HEAD = 4096  # bytes looked at

DOWNLOAD = "Download the model again."
AGAIN = "Download it again, and compare its hash with the one on its page."
OTHER_FORM = "Get the model as .safetensors; most sites offer both."
ARCHIVE = "Unpack it and name the model file inside."
SHOWN = 3  # names in a message
MODELS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")

# How pickles begin that were written with protocol 0 or 1: an import, or a collection that is
# remembered at once.
OLD_PICKLE = re.compile(
    rb"[(\]}]{0,3}([ci][A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|[dl(]?p\d+\n|q[\0-\x0f])"
)


@dataclass(frozen=True, slots=True)
class Sign:
    """A kind of file, told by its first bytes."""

    what: str
    hint: str
    test: Callable[[bytes], bool]


def starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    """Begins with one of these bytes."""
    return lambda head: head.startswith(beginnings)


def _is_page(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--"))


def is_pickle(head: bytes) -> bool:
    """Whether a file begins as a zip, in which torch puts its pickles, or as a pickle."""
    if head.startswith(b"PK\x03\x04") or OLD_PICKLE.match(head):
        return True
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def is_onnx(head: bytes) -> bool:
    """Whether a file begins as an ONNX model of a common program."""
    return head[:1] == b"\x08" and re.search(rb"onnx|pytorch|tf2onnx", head[:256]) is not None


def _is_torch_tar(head: bytes) -> bool:
    name = head[:100].rstrip(b"\0")
    return head[257:262] == b"ustar" and name in (b"sys_info", b"pickle", b"storages", b"tensors")


SIGNS = (
    Sign(
        "a Git-LFS pointer, not the model itself",
        "Run `git lfs pull` in its folder, or download the file from its page.",
        starts(b"version https://git-lfs"),
    ),
    Sign(
        "a web page, not a model",
        "The download needed a login or a different link; download it again.",
        _is_page,
    ),
    Sign("an empty zip archive", DOWNLOAD, starts(b"PK\x05\x06")),
    Sign("a 7z archive", ARCHIVE, starts(b"7z\xbc\xaf\x27\x1c")),
    Sign("a RAR archive", ARCHIVE, starts(b"Rar!")),
    Sign("a gzip archive", ARCHIVE, starts(b"\x1f\x8b")),
    Sign("an xz archive", ARCHIVE, starts(b"\xfd7zXZ\0")),
    Sign("a zstd archive", ARCHIVE, starts(b"\x28\xb5\x2f\xfd")),
    Sign("a bzip2 archive", ARCHIVE, starts(b"BZh")),
    Sign("a PyTorch model of 2016 (tar), which holds pickles", OTHER_FORM, _is_torch_tar),
    Sign("a tar archive", ARCHIVE, lambda head: head[257:262] == b"ustar"),
    Sign(
        "a GGUF model (quantised)",
        "This version runs .safetensors checkpoints: get the model in that form.",
        starts(b"GGUF", b"lmgg", b"tjgg", b"fmgg"),
    ),
    Sign("a TensorFlow Lite model", OTHER_FORM, lambda head: head[4:8] == b"TFL3"),
    Sign("a numpy array", OTHER_FORM, starts(b"\x93NUMPY")),
    Sign("a program, not a model", DOWNLOAD, starts(b"MZ", b"\x7fELF", b"#!")),
    Sign("an HDF5 file", OTHER_FORM, starts(b"\x89HDF")),
    Sign(
        "a picture, not a model",
        "To see the recipe inside a picture, run `darkroom info`.",
        starts(b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8"),
    ),
    Sign("a JSON or text file, not a model", DOWNLOAD, starts(b"{", b"[")),
    Sign(
        "what macOS keeps beside a file on a foreign disk, not the model itself",
        "Name the file without `._` before its name.",
        starts(b"\x00\x05\x16\x07"),
    ),
    Sign("filled with zeros, a download that never finished", DOWNLOAD, lambda head: not any(head)),
)


def not_a_model(path: Path, head: bytes, size: int) -> BadFile:
    """What a file is whose first bytes are those of no model."""
    if size == 0:
        return BadFile(f"{path} is empty", hint=DOWNLOAD)
    for sign in SIGNS:
        if sign.test(head):
            return BadFile(f"{path} is {sign.what}", hint=sign.hint)
    if size < 16:
        return BadFile(f"{path} is only {size} bytes long, no model", hint=DOWNLOAD)
    if text := _text(head):
        return BadFile(f"{path} is a text, not a model: {shorten(text)!r}", hint=DOWNLOAD)
    return BadFile(f"{path} is not a model file that we know", hint="Name a .safetensors file.")


def _text(head: bytes) -> str:
    """The words with which a server refused to send a file; empty if these are no words."""
    try:
        text = head[: HEAD - 4].decode()  # without a letter that is cut in two
    except UnicodeDecodeError:
        return ""
    words = " ".join(text.split())
    return words if words.isprintable() else ""


def truncated(path: Path, missing: int, *, at_least: bool = False) -> BadFile:
    """The file ends too early."""
    how = "at least " if at_least else ""
    return BadFile(f"{path} is truncated: {how}{missing:,} bytes are missing", hint=DOWNLOAD)


def damaged(path: Path, what: str) -> BadFile:
    """The file is not what was once written."""
    return BadFile(f"{path} is damaged: {what}", hint=AGAIN)


def archive(path: Path, names: Iterable[str]) -> BadFile:
    """A zip that is no model; what in it may be one."""
    models = [name for name in names if name.lower().endswith(MODELS)]
    if not models:
        return BadFile(f"{path} is a zip archive without a model", hint=ARCHIVE)
    return BadFile(f"{path} is a zip archive that holds {listed(models)}", hint=ARCHIVE)


def folder(path: Path, names: Iterable[str]) -> BadFile:
    """A folder that is no model of diffusers; what in it may be one."""
    models = list(names)
    if not models:
        return BadFile(f"{path} is a folder without a model", hint="Name a model file.")
    what = f"{path} is a folder that holds {listed(models)}"
    return BadFile(what, hint="Name the .safetensors file inside it.")


def listed(names: Iterable[str]) -> str:
    """Some names for a message, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(shorten(name) for name in names[:SHOWN]) + more


def unreadable(path: Path, error: OSError) -> BadFile:
    """The system does not give us the file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return BadFile(f"there is no file {path}", hint="Check the spelling and the folder.")
    if isinstance(error, PermissionError):
        return BadFile(f"no permission to read {path}", hint="Change its owner or its mode.")
    reason = error.strerror or type(error).__name__
    return BadFile(f"{path} cannot be read: {reason}", hint="Check the disk and the name.")

"""Files that are not safetensors: say of each what it is, in one sentence, with a cure."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from darkroom.core.errors import BadFile

HEAD = 4096  # bytes looked at

DOWNLOAD = "Download the model again."


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


def _is_torch_zip(head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04") and b"/data.pkl" in head


def _is_pickle(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


PICKLE = (
    "a PyTorch pickle (.ckpt), which can hold code",
    "This version does not open pickles: convert it to .safetensors.",
)
ARCHIVE = "Unpack it and name the model file inside."

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
    Sign(*PICKLE, _is_torch_zip),
    Sign("a zip archive", ARCHIVE, starts(b"PK\x03\x04", b"PK\x05\x06")),
    Sign(*PICKLE, _is_pickle),
    Sign("a 7z archive", ARCHIVE, starts(b"7z\xbc\xaf\x27\x1c")),
    Sign("a RAR archive", ARCHIVE, starts(b"Rar!")),
    Sign("a gzip archive", ARCHIVE, starts(b"\x1f\x8b")),
    Sign("a tar archive", ARCHIVE, lambda head: head[257:262] == b"ustar"),
    Sign(
        "a GGUF model (quantised)",
        "This version runs .safetensors checkpoints: get the model in that form.",
        starts(b"GGUF", b"lmgg"),
    ),
    Sign("an HDF5 file", "Get the model as .safetensors.", starts(b"\x89HDF")),
    Sign(
        "a picture, not a model",
        "To see the recipe inside a picture, run `darkroom info`.",
        starts(b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8"),
    ),
    Sign("a JSON or text file, not a model", DOWNLOAD, starts(b"{", b"[")),
    Sign("filled with zeros, a download that never finished", DOWNLOAD, lambda head: not any(head)),
)


def not_safetensors(path: Path, head: bytes, size: int) -> BadFile:
    """What a file is whose first bytes are not a safetensors header."""
    if size == 0:
        return BadFile(f"{path} is empty", hint=DOWNLOAD)
    for sign in SIGNS:
        if sign.test(head):
            return BadFile(f"{path} is {sign.what}", hint=sign.hint)
    if size < 16:
        return BadFile(f"{path} is only {size} bytes long, no model", hint=DOWNLOAD)
    return BadFile(f"{path} is not a model file that we know", hint="Name a .safetensors file.")


def truncated(path: Path, missing: int, *, at_least: bool = False) -> BadFile:
    """The file ends too early."""
    how = "at least " if at_least else ""
    return BadFile(f"{path} is truncated: {how}{missing:,} bytes are missing", hint=DOWNLOAD)


def folder(path: Path) -> BadFile:
    """A folder where a file is needed."""
    return BadFile(f"{path} is a folder", hint="Name the .safetensors file inside it.")


def unreadable(path: Path, error: OSError) -> BadFile:
    """The system does not give us the file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return BadFile(f"there is no file {path}", hint="Check the spelling and the folder.")
    if isinstance(error, PermissionError):
        return BadFile(f"no permission to read {path}", hint="Change its owner or its mode.")
    reason = error.strerror or type(error).__name__
    return BadFile(f"{path} cannot be read: {reason}", hint="Check the disk and the name.")

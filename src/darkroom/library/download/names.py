"""Names for files that strangers named: safe on every system, and still telling."""

import re
import unicodedata

LONGEST = 180  # bytes of a name; most systems take 255, and ours get endings while they arrive
_RESERVED = frozenset(
    [
        *("con", "prn", "aux", "nul", "conin$", "conout$"),
        *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"),
    ]
)
_FORBIDDEN = re.compile(r'[<>:"|?*]')  # on Windows
_ENDS = re.compile(r"^[\s.]+|[\s.]+$")
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # controls, direction marks, no characters


def safe_name(text: str, *, otherwise: str = "model") -> str:
    """The last part of the path `text` as a file name; `otherwise` where nothing is left of it.

    It has no separators, controls or characters that Windows forbids, does not start with a dot,
    does not end in a dot or blank, is no name of a device, and has at most LONGEST bytes of UTF-8
    with the extension kept.
    """
    last = re.split(r"[/\\]", text)[-1]
    seen = "".join(c for c in last if unicodedata.category(c) not in _UNSEEN)
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", seen))
    name = _cut(_ENDS.sub("", name) or otherwise)
    return f"_{name}" if name.split(".")[0].strip().lower() in _RESERVED else name


def is_safe_path(text: str) -> bool:
    """Whether `text` ("unet/config.json") stays below its folder, and each part is a safe name."""
    parts = text.split("/")
    return len(parts) <= 8 and all(part and safe_name(part, otherwise="") == part for part in parts)


def _cut(name: str) -> str:
    if len(name.encode()) <= LONGEST:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > 16:
        stem, dot, suffix = name, "", ""
    room = LONGEST - len((dot + suffix).encode())
    return _ENDS.sub("", stem.encode()[:room].decode(errors="ignore")) + dot + suffix

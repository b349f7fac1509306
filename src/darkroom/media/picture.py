"""Pictures of users: whatever file they hand in becomes 8 bit RGB, upright, or is refused in words.

Nothing in a file is trusted. Its kind is told by its bytes and must be one of `KINDS`; its size is
known from its head before a pixel is decoded, and is limited; what a decoder stumbles over becomes
a BadFile. Of an animation the first frame counts. Colours are brought to sRGB where a profile says
that they are others, and numbers of more than 8 bits are scaled, never clipped.
"""

import errno
import io
import os
import stat
import struct
import warnings
import zlib
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from math import inf
from pathlib import Path
from typing import BinaryIO, cast

from PIL import Image, ImageCms, UnidentifiedImageError

from darkroom.core.errors import BadFile, TooLarge

KINDS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
TARGA = (".tga", ".icb", ".vda", ".vst")  # told by nothing but their names
MOST_BYTES = 512 << 20  # of a file
MOST_SIDE = 32_768  # px
MOST_PIXELS = 178_956_970  # beyond them Pillow refuses by itself

AGAIN = "Copy or download it again."
CONVERT = "Save it as PNG or JPEG in another program."
SMALLER = "Make it smaller in another program."
_ORIENTATION = 0x0112  # the tag of EXIF
_HEAD = 4096  # bytes that are looked at to say what a file is instead
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, OverflowError, struct.error, zlib.error,
    KeyError, IndexError, AttributeError, ZeroDivisionError, RuntimeError, AssertionError,
    ImageCms.PyCMSError,
)  # fmt: skip

# How to turn a picture whose EXIF says that it lies: by its value of Orientation.
_UPRIGHT: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


def read_picture(path: Path, *, alpha: bool = False) -> Image.Image:
    """The picture at `path`: RGB, upright, its first frame; BadFile where there is none.

    With `alpha` it is RGBA where parts of it are transparent; else those are laid on white.
    """
    with open_file(path) as file:
        return decode(file, str(path), alpha=alpha)


def decode(file: BinaryIO, name: str, *, alpha: bool = False) -> Image.Image:
    """`read_picture` of an open file, which messages call `name`."""
    with _opened(file, name) as image:
        with _silent() if image.format == "TIFF" else nullcontext():
            image.load()
        turned = _UPRIGHT.get(_orientation(image))  # after loading: some formats have it at the end
        picture = _converted(image, name)
    picture.info.clear()  # a profile or EXIF of the input would go into every file made of it
    if turned is not None:
        picture = picture.transpose(turned)
    return picture if alpha else flat(picture)


def flat(picture: Image.Image) -> Image.Image:
    """RGB as one sees it on white paper."""
    if picture.mode != "RGBA":
        return picture
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture.getchannel("A"))
    return paper


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture at `path`, from its head alone."""
    with open_file(path) as file, _opened(file, str(path)) as image:
        width, height = image.size
        lies = image.format != "TIFF" and _orientation(image) in _SIDEWAYS  # Pillow turns those
        return (height, width) if lies else (width, height)


def open_file(path: Path) -> BinaryIO:
    """A file to read, of at most MOST_BYTES; BadFile of folders, pipes, and what cannot be read."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            file = path.open("rb")
        elif stat.S_ISDIR(status.st_mode):
            raise BadFile(f"{path} is a folder, not a picture", hint="Name a file in it.")
        else:
            raise BadFile(f"{path} is a pipe or a device, not a picture", hint="Name a file.")
    except (OSError, ValueError) as error:  # a ValueError of a NUL in the name
        raise _unreadable(path, error) from None
    if status.st_size > MOST_BYTES:
        file.close()
        raise TooLarge(f"{path} has more than {MOST_BYTES >> 20} MiB", hint=SMALLER)
    return file


def _unreadable(path: Path, error: OSError | ValueError) -> BadFile:
    if isinstance(error, ValueError | FileNotFoundError | NotADirectoryError):
        return BadFile(f"there is no file {path}", hint="Check the spelling and the folder.")
    if isinstance(error, PermissionError):
        return BadFile(f"no permission to read {path}", hint="Change its owner or its mode.")
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return BadFile(f"{path} is no name of a file", hint="Check the spelling.")
    reason = error.strerror or type(error).__name__
    return BadFile(f"{path} cannot be read: {reason}", hint="Check the disk and the name.")


@contextmanager
def _opened(file: BinaryIO, name: str) -> Iterator[Image.Image]:
    """The picture in `file`, not decoded yet; what goes wrong in the block becomes a BadFile."""
    kinds = (*KINDS, "TGA") if name.lower().endswith(TARGA) else KINDS
    head = file.read(_HEAD)
    file.seek(0)
    try:
        with warnings.catch_warnings():  # Pillow's, which are for programmers
            warnings.simplefilter("ignore")
            with Image.open(file, formats=kinds) as image:
                _check_size(image.size, name)
                yield image
    except (Image.DecompressionBombError, MemoryError):
        most = f"{MOST_PIXELS // 10**6} million pixels"
        raise TooLarge(f"{name} has more pixels than can be held ({most})", hint=SMALLER) from None
    except UnidentifiedImageError:
        raise _no_picture(head, name) from None
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise _unreadable(Path(name), error) from None
        raise _damaged(error, file, name) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Send standard error nowhere: libtiff writes there by itself, past Python."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - it is no path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_size(size: tuple[int, int], name: str) -> None:
    if max(size) > MOST_SIDE or size[0] * size[1] > MOST_PIXELS:
        most = f"{MOST_SIDE:,} a side and {MOST_PIXELS // 10**6} million in all"
        told = f"{name} has {size[0]:,} x {size[1]:,} pixels, which is too many"
        raise TooLarge(f"{told} (at most {most})", hint=SMALLER)
    if min(size) < 1:
        raise BadFile(f"{name} is a picture without pixels", hint=AGAIN)


def _damaged(error: Exception, file: BinaryIO, name: str) -> BadFile:
    if isinstance(error, EOFError) or "truncated" in str(error) or _is_short(file):
        return BadFile(f"{name} is cut off: the end of the picture is missing", hint=AGAIN)
    return BadFile(f"{name} is damaged: its pixels cannot be read", hint=AGAIN)


def _is_short(file: BinaryIO) -> bool:
    """Whether a WebP, PNG or JPEG lacks its end."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(16)
    file.seek(max(length - 64, 0))
    tail = file.read()
    if head.startswith(b"RIFF"):
        return length < 8 + int.from_bytes(head[4:8], "little")
    ends = {b"\x89PNG": b"IEND", b"\xff\xd8": b"\xff\xd9", b"GIF8": b";"}
    return any(head.startswith(start) and end not in tail for start, end in ends.items())


# ---- what a file is that is no picture -----------------------------------------------------------

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop file"),
    (b"\xff\x0a", "a JPEG XL picture, which cannot be read here"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture, which cannot be read here"),
    (b"\0\0\0\x0cjP", "a JPEG 2000 picture, which cannot be read here"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture, which cannot be read here"),
    (b"v/1\x01", "an OpenEXR picture, which cannot be read here"),
    (b"\0\0\x01\0", "an icon"),
    (b"%!PS", "PostScript"),
    (b"gimp xcf", "a GIMP file"),
    (b"PK\x03\x04", "an archive"),
    (b"\x1f\x8b", "an archive"),
    (b"7z\xbc\xaf", "an archive"),
    (b"Rar!", "an archive"),
    (b"\x1aE\xdf\xa3", "a video"),
)
_DAMAGED_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"RIFF", "WebP"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_BRANDS: Mapping[bytes, str] = {
    **dict.fromkeys(
        (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"),
        "a HEIC picture, which cannot be read here",
    ),
}


def _no_picture(head: bytes, name: str) -> BadFile:
    """Say what the file is that begins with `head`."""
    if not head.strip(b"\0"):
        what = "holds nothing but zeros" if head else "is empty"
        return BadFile(f"{name} {what}", hint=AGAIN)
    kind = next((kind for start, kind in _DAMAGED_STARTS if head.startswith(start)), "")
    if kind or head[4:11] == b"ftypavi":
        return BadFile(f"{name} is a damaged or cut-off {kind or 'AVIF'}", hint=AGAIN)
    if _is_text(head):
        return BadFile(f"{name} is a text, not a picture", hint="Name a picture.")
    what = _kind_of(head)
    return BadFile(f"{name} is {what or 'no picture'}", hint=CONVERT if what else AGAIN)


def _is_text(head: bytes) -> bool:
    """Whether these are words, in UTF-8 that may be cut off; pages and drawings are not meant."""
    with suppress(UnicodeDecodeError):
        text = getincrementaldecoder("utf-8")().decode(head)
        plain = text and all(sign.isprintable() or sign.isspace() for sign in text)
        return (
            bool(plain) and not text.lstrip("\ufeff \n\r\t").startswith("<") and not _kind_of(head)
        )
    return False


def _kind_of(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "a video")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<"):
        return "an SVG, a drawing without pixels" if b"<svg" in text else "a web page or XML"
    return next((what for start, what in _STARTS if head.startswith(start)), "")


# ---- pixels --------------------------------------------------------------------------------------


def _orientation(image: Image.Image) -> int:
    """What EXIF says of how the picture lies; 1, upright, where it is damaged or says nothing."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:
        return 1
    return value if isinstance(value, int) else 1


def _converted(image: Image.Image, name: str) -> Image.Image:
    """8 bit RGB, or RGBA where some of it is transparent."""
    alpha = _alpha(image)
    if image.mode.startswith("I") or image.mode == "F":
        picture = _scaled(image, name)
    else:
        picture = _in_srgb(image)
    if alpha is not None and alpha.getextrema() != (255, 255):
        picture.putalpha(alpha)
    return picture


def _alpha(image: Image.Image) -> Image.Image | None:
    if not image.has_transparency_data or image.mode.startswith("I"):
        return None
    return image.convert("LA" if image.mode == "La" else "RGBA").getchannel("A")


def _in_srgb(image: Image.Image) -> Image.Image:
    """RGB; by the picture's own profile where it has one of another space than sRGB."""
    source = image.convert(_OPAQUE.get(image.mode, image.mode))
    if (profile := _profile(image)) is None:
        return source.convert("RGB")
    try:
        srgb = ImageCms.createProfile("sRGB")
        done = ImageCms.profileToProfile(source, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, *_DAMAGED):  # a profile that is damaged, or of another space
        return source.convert("RGB")
    return done or source.convert("RGB")


# What a mode is without what says how transparent it is; Pillow has no direct way from some.
_OPAQUE: Mapping[str, str] = {
    **dict.fromkeys(("P", "PA", "RGBA", "RGBX", "YCbCr", "HSV", "1"), "RGB"),
    "RGBa": "RGBA",
    "La": "LA",
}


def _profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The profile by which the picture's colours become sRGB; None where they are that."""
    if image.mode == "LAB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    data = image.info.get("icc_profile")
    if not isinstance(data, bytes) or image.mode not in ("RGB", "RGBA", "CMYK"):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        told = ImageCms.getProfileDescription(profile)
    except _DAMAGED:
        return None
    return None if "srgb" in told.lower() else profile


# What white is in pictures of more than 8 bits: the least of these that no pixel is beyond.
_WHITES: Mapping[str, tuple[float, ...]] = {
    "I": (2**8 - 1, 2**16 - 1, 2**31 - 1),
    "F": (1, 2**8 - 1, 2**16 - 1),
}


def _scaled(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 or 32 bits, or of floating point, as RGB."""
    grey = image.convert("I").convert("F") if image.mode.startswith("I;") else image.convert("F")
    least, most = cast(tuple[float, float], grey.getextrema())
    whites = _WHITES.get(image.mode, (2**16 - 1,))
    if image.mode == "I" and image.format == "PPM":
        whites = whites[1:2]
    white = next((white for white in whites if most <= white), None)
    if white is None or not least > -inf:  # NaN compares with nothing
        told = f"{name} holds measurements, not brightness: {least:g} to {most:g}"
        raise BadFile(told, hint=CONVERT)
    scale = 255 / white
    return grey.point(lambda value: value * scale + 0.5).convert("L").convert("RGB")

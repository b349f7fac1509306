"""CLIP's byte-pair tokenizer: text -> token ids, and what A1111 mends in a text before that.

    encode(clean(text))     a prompt, as A1111 tokenizes it
    encode(text)            exactly transformers' CLIPTokenizer, without BOS and EOS

The words `<|startoftext|>` and `<|endoftext|>` in a text are text. A1111 and transformers turn them
into the control tokens BOS and EOS, so that a prompt could end itself half-way; here the user
cannot write a control token.

The merges come from `data/clip_merges.bin`: 48,894 left ids, then as many right ids, each a
little-endian 16-bit number. Merge k joins two earlier tokens into token 512 + k, so the pairs are
the whole vocabulary in 196 kB, read in 0.02 s (as OpenAI ships it: 1.36 MB, 0.085 s).
`data/README.md` says where it comes from and under which licence.
"""

import html
import re
import sys
import unicodedata
from array import array
from collections.abc import Sequence
from html.entities import html5
from pathlib import Path

from tokenizers import Regex
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers

from darkroom.core.errors import BadFile

BOS = 49406  # <|startoftext|>
EOS = 49407  # <|endoftext|>, which SD1 also pads with
COMMA = 267  # ",</w>"
VOCABULARY = 49408  # rows of the text encoder's embedding table

MERGES = Path(__file__).with_name("data") / "clip_merges.bin"
MERGE_COUNT = VOCABULARY - 2 * 256 - 2
WORD_END = "</w>"

# OpenAI's pattern without its first two alternatives, the control tokens.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# Bytes that stand for themselves in the vocabulary, in OpenAI's order; the others follow as U+0100…
_PLAIN = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))


class Tokenizer:
    """CLIP's byte-level BPE; takes 0.1 s to make, so make one and share it."""

    def __init__(self, merges: Path = MERGES) -> None:
        pieces, pairs = _read(merges)
        vocabulary = {piece: index for index, piece in enumerate(pieces)}
        self._bytes = {char: byte for byte, char in _byte_chars().items()}
        self._fast = FastTokenizer(BPE(vocabulary, pairs, end_of_word_suffix=WORD_END))
        self._fast.normalizer = Normalizers([NFC(), Lowercase()])
        split = Split(Regex(_WORDS), "removed", invert=True)
        bytewise = ByteLevel(add_prefix_space=False, use_regex=False)
        self._fast.pre_tokenizer = PreTokenizers([split, bytewise])

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without BOS and EOS."""
        # The batch call keeps no character offsets: twice as fast on a megabyte.
        ids: list[int] = self._fast.encode_batch_fast([_whole(text)])[0].ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Readable text of `ids`: lower case, one space between words; BOS and EOS are left out."""
        found = (self._fast.id_to_token(index) for index in ids)
        words = "".join(piece for piece in found if piece).replace(WORD_END, " ")
        parts = (bytes([self._bytes[c]]) if c in self._bytes else c.encode() for c in words)
        return b"".join(parts).decode(errors="replace").strip()


def clean(text: str) -> str:
    """`text` as A1111 hands it to CLIP's vocabulary: typography and copy-and-paste damage mended.

    A1111's tokenizer calls `ftfy.fix_text`. This does what that does to whole text: HTML entities
    (unless the text holds a `<`), curly quotes, ligatures, full-width letters, terminal colours and
    control characters. Left out are ftfy's guess at doubly encoded text ("Ã©") and the entities in
    capitals that only ftfy knows ("&EACUTE;").
    """
    text = _whole(text)
    for _ in range(_ENTITY_DEPTH):
        if (mended := _unescape(text)) == text:
            break
        text = mended
    text = _TERMINAL.sub("", text).translate(_REPAIRS)
    return unicodedata.normalize("NFC", text).lower()


_ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
_ENTITY_DEPTH = 4  # "&amp;amp;": ftfy goes on for ever, which a long prompt makes quadratic
_TERMINAL = re.compile("\033\\[[\\d;]*[a-zA-Z]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _whole(text: str) -> str:
    """`text` with halves of surrogate pairs joined, or replaced: JSON may hold them, UTF-8 not."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescape(text: str) -> str:
    """Entities to characters, up to the first line with a `<`: from there on it may be code."""
    end = len(text) if (less := text.find("<")) < 0 else text.rfind("\n", 0, less) + 1
    return _ENTITY.sub(_character, text[:end]) + text[end:]


def _character(entity: re.Match[str]) -> str:
    name = entity[0]
    return html.unescape(name) if name[1] == "#" or name[1:] in html5 else name


def _repairs() -> dict[int, str]:
    """Characters and what stands for them: ftfy's tables of single characters, in its order."""
    table = {byte: bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0)}
    table = {byte: char for byte, char in table.items() if char}  # C1 controls: Windows text
    # Latin ligatures; U+0149 becomes an apostrophe and n.
    ligatures = "\u0132\u0133\u01f1\u01f2\u01f3\u01c4\u01c5\u01c6\u01c7\u01c8\u01c9\u01ca\u01cb"
    for char in ligatures + "\u01cc\u0149\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06":
        table[ord(char)] = unicodedata.normalize("NFKC", char)
    table[0xFB05] = "\u017ft"  # ftfy keeps the long s
    for code in (0x3000, *range(0xFF01, 0xFFF0)):  # full-width and half-width forms
        table[code] = unicodedata.normalize("NFKC", chr(code))
    table |= dict.fromkeys([0x2BC, *range(0x2018, 0x201C)], "'")
    table |= dict.fromkeys(range(0x201C, 0x2020), '"')
    unwanted = [*range(9), 0xB, *range(0xE, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF]
    table |= dict.fromkeys([*unwanted, *range(0xFFF9, 0xFFFD)], "")
    return {code: "".join(table.get(ord(c), c) for c in text) for code, text in table.items()}


_REPAIRS = _repairs()


def _byte_chars() -> dict[int, str]:
    """The printable character that stands for each byte, in the order of the vocabulary."""
    others = [byte for byte in range(256) if byte not in _PLAIN]
    return {byte: chr(byte) for byte in _PLAIN} | {b: chr(256 + i) for i, b in enumerate(others)}


def _read(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The tokens by id, and the merges by rank."""
    data = path.read_bytes() if path.is_file() else b""
    if len(data) != 2 * 2 * MERGE_COUNT:
        raise BadFile(f"{path} is missing or damaged", hint="Install Darkroom again.")
    numbers = array("H", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    chars = [*_byte_chars().values()]
    pieces = [*chars, *(char + WORD_END for char in chars)]
    pairs = []
    for left, right in zip(numbers[:MERGE_COUNT], numbers[MERGE_COUNT:], strict=True):
        pair = pieces[left], pieces[right]
        pairs.append(pair)
        pieces.append(pair[0] + pair[1])
    return pieces, pairs

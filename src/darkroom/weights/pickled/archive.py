"""A zip file as a table of its members, all of it checked before any of it is believed.

    read_members(data) -> {"archive/data.pkl": Member(start, size, crc, ...)}

Only what torch writes is taken: each member stored as it is, in one piece, named alike in its own
header and in the directory at the end, none over another. Scanners and loaders that disagree about
such things are how attacks get past the first to the second.
"""

import struct
from dataclasses import dataclass
from mmap import mmap

from darkroom.weights.pickled.fault import Fault, damage

LOCAL = struct.Struct("<4s5H3I2H")  # before each member
CENTRAL = struct.Struct("<4s6H3I5H2I")  # for each member, in the directory
END = struct.Struct("<4s4H2IH")  # of the file
END64 = struct.Struct("<4sQ2H2I4Q")  # before it where numbers need 64 bits
LOCATOR = struct.Struct("<4sIQI")  # between the two

MOST = 200_000  # members; one for each tensor
COMMENT = 65535  # bytes; may follow the end
ENCRYPTED = 0x2041  # flags: a password, in three ways
FULL = 0xFFFFFFFF  # the number stands in the extra field


@dataclass(frozen=True, slots=True)
class Member:
    """Where one member's bytes lie."""

    name: str
    start: int  # bytes from the start of the file
    size: int  # bytes, stored
    crc: int
    stored: bool  # not compressed, not encrypted


def read_members(data: mmap) -> dict[str, Member]:
    """The members by name; Fault where the file contradicts itself."""
    offset, size, count = _directory(data)
    members: dict[str, Member] = {}
    for _ in range(count):
        member, used = _member(data, offset, size)
        if member.name in members:
            raise damage(f"it has two records named {member.name[:60]!r}")
        members[member.name] = member
        offset, size = offset + used, size - used
    if size:
        raise damage("its directory is longer than it says")
    _refuse_overlap(members, before=offset)
    return members


def _directory(data: mmap) -> tuple[int, int, int]:
    """Offset and size (bytes) of the directory, and how many members it has."""
    at = data.rfind(b"PK\5\6", max(0, len(data) - COMMENT - END.size))
    if at < 0 or at + END.size > len(data):
        raise Fault("is truncated: the end of its archive is missing")
    _, disk, first, here, count, size, offset, comment = END.unpack_from(data, at)
    limit = at
    if at >= LOCATOR.size and data[at - LOCATOR.size : at].startswith(b"PK\6\7"):
        _, _, limit, _ = LOCATOR.unpack_from(data, at - LOCATOR.size)
        if limit + END64.size > at or data[limit : limit + 4] != b"PK\6\6":
            raise damage("its archive has no end where it says")
        _, _, _, _, disk, first, here, count, size, offset = END64.unpack_from(data, limit)
    if disk or first or here != count or at + END.size + comment != len(data):
        raise damage("its archive ends in a way that torch does not write")
    if offset + size != limit or count * CENTRAL.size > size:
        raise damage("its directory is not where it says")
    if count > MOST:
        raise damage("its archive has more members than any model")
    return offset, size, count


def _member(data: mmap, offset: int, size: int) -> tuple[Member, int]:
    """The member whose row of the directory is at `offset`, and the bytes of that row."""
    if size < CENTRAL.size or data[offset : offset + 4] != b"PK\1\2":
        raise damage("its directory breaks off")
    _, _, _, flags, method, _, _, crc, packed, plain, *more = CENTRAL.unpack_from(data, offset)
    names, extras, comment, _, _, _, local = more
    used = CENTRAL.size + names + extras + comment
    if used > size:
        raise damage("its directory breaks off")
    at = offset + CENTRAL.size
    raw, extra = data[at : at + names], data[at + names : at + names + extras]
    plain, packed, local = _widen([plain, packed, local], extra)
    name = raw.decode("utf-8", "replace")
    stored = method == 0 and packed == plain and not flags & ENCRYPTED
    start = _start(data, local, raw, method=method, flags=flags)
    return Member(name, start, packed, crc, stored), used


def _widen(numbers: list[int], extra: bytes) -> list[int]:
    """Numbers of 32 bits, those that are FULL taken from the extra field 1 in order."""
    wide: list[int] = []
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        at += 4 + size
        if kind == 1 and at <= len(extra):
            wide = list(struct.unpack_from(f"<{size // 8}Q", extra, at - size))
    if numbers.count(FULL) > len(wide):
        return numbers
    return [wide.pop(0) if number == FULL else number for number in numbers]


def _start(data: mmap, local: int, raw: bytes, *, method: int, flags: int) -> int:
    """Where the bytes of a member begin, behind its own header."""
    if local + LOCAL.size > len(data):
        raise damage("its records lie outside the file")
    mark, _, own_flags, own_method, *_, names, extras = LOCAL.unpack_from(data, local)
    at: int = local + LOCAL.size
    if mark != b"PK\3\4" or data[at : at + names] != raw or own_method != method:
        raise damage("its records and its directory contradict each other")
    if (own_flags ^ flags) & ENCRYPTED:
        raise damage("its records and its directory contradict each other")
    return at + int(names) + int(extras)


def _refuse_overlap(members: dict[str, Member], *, before: int) -> None:
    at = 0
    for member in sorted(members.values(), key=lambda member: (member.start, member.size)):
        if member.start < at:
            raise damage("its records overlap")
        at = member.start + member.size
    if at > before:
        raise damage("its records lie outside the file")

"""Read thousands of damaged model files under an audit hook, and say in JSON what happened.

    python tests/fuzz_headers.py FOLDER FIRST COUNT      FOLDER holds whole files, of any kind

A child process of test_pickled_fuzz.py, because an audit hook stays for the life of its process.
Each input is a whole file that was cut, flipped, grown or spliced with another, once or a few
times; or a program of opcodes at random. Zips are damaged with and without their checksums mended,
so that damage reaches the pickle.
"""

import json
import random
import resource
import struct
import sys
import time
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

from darkroom.core.errors import BadFile
from darkroom.weights.header import read_header
from pickles import bare, legacy, named, storage, tensor, text, torch_zip, value

PROGRAMS = 0.3  # share of inputs that are written, not damaged
MEASURED = 10  # every so many inputs the memory is traced, which is slow
FLOOR = 1_000_000  # bytes of memory that any file may take


def cut(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def flip(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        if data:
            data[chance.randrange(min(len(data), chance.choice((64, 600, len(data)))))] = (
                chance.randrange(256)
            )


def grow(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.randbytes(chance.choice((1, 2, 8, 40)))


def shrink(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    del data[at : at + chance.choice((1, 2, 8, 40))]


def repeat(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = data[at : at + chance.randrange(100)] * chance.choice((1, 2, 30))


def splice(data: bytearray, others: list[bytes], chance: random.Random) -> None:
    other = chance.choice(others)
    at, start = chance.randrange(len(data) + 1), chance.randrange(len(other))
    data[at : at + chance.choice((0, 20))] = other[start : start + chance.choice((4, 30, 300))]


def word(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    """A number that bounds are forgotten for."""
    form = chance.choice(("<B", "<H", "<I", "<Q"))
    most = 2 ** (8 * struct.calcsize(form))
    raw = struct.pack(form, chance.choice((0, 1, most // 2 - 1, most // 2, most - 1)))
    at = chance.randrange(len(data) + 1)
    data[at : at + len(raw)] = raw


DAMAGES = (cut, flip, flip, grow, shrink, repeat, splice, word)


def mend(data: bytearray) -> None:
    """Give the pickle in a zip the checksum that it has now."""
    at, row = data.find(b"data.pkl"), data.rfind(b"PK\1\2")
    rows = [n for n in range(len(data)) if data[n : n + 4] == b"PK\1\2"] if row >= 0 else []
    for n in rows:
        name, size = data[n + 46 : n + 80], int.from_bytes(data[n + 20 : n + 24], "little")
        if b"data.pkl" in name and at >= 30:
            local = int.from_bytes(data[n + 42 : n + 46], "little")
            head = 30 + sum(struct.unpack("<2H", (data[local + 26 : local + 30] + bytes(4))[:4]))
            raw = bytes(data[local + head : local + head + size])
            data[n + 16 : n + 20] = zlib.crc32(raw).to_bytes(4, "little")


TOKENS = (
    *(bytes([code]) for code in b"(012NRabdeltosu.)]}Q"),
    *(bytes([code]) for code in (0x81, 0x85, 0x86, 0x87, 0x88, 0x8F, 0x90, 0x91, 0x92, 0x93, 0x94)),
    *(bytes([code, place]) for code in b"qh" for place in (0, 1, 2)),
    *(named(f"torch._utils.{name}") for name in ("_rebuild_tensor_v2", "_rebuild_parameter")),
    *(named(f"torch._utils.{name}") for name in ("_rebuild_tensor_v3", "_rebuild_qtensor")),
    named("torch._tensor._rebuild_from_type_v2"), named("torch.float8_e4m3fn"),
    named("collections.OrderedDict"), named("ldm.Thing"), storage(), tensor(),
    text("state_dict"), text("_parameters"), text("a"), text("0"),
    *map(value, (0, 1, -1, 3, 2**40, 2.5, (2, 3), (3, 1), b"x", "storage")),
)  # fmt: skip


def program(chance: random.Random) -> bytes:
    """A pickle of opcodes that each make sense, and together none."""
    body = b"".join(chance.choice(TOKENS) for _ in range(chance.randrange(1, 60)))
    make = chance.choice((bare, legacy, torch_zip))
    return make(chance.choice((b"", tensor() + b"q\0", b"}q\0(" + text("w"))) + body)


class Watch:
    """What the process does while a file is read, but for reading that file."""

    def __init__(self, path: Path) -> None:
        self.allowed, self.on, self.seen = str(path), False, set[str]()
        sys.addaudithook(self.hear)

    def hear(self, event: str, args: tuple[object, ...]) -> None:
        if not self.on or event == "mmap.__new__":
            return
        if event == "open" and str(args[0]) == self.allowed and args[1] == "r":
            return
        self.seen.add(f"{event} {args!r:.200}")


def damaged(n: int, seeds: list[bytes]) -> bytes:
    """The nth input; the same in every run."""
    chance = random.Random(n)
    if chance.random() < PROGRAMS:
        return program(chance)
    data = bytearray(seeds[n % len(seeds)])
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice(DAMAGES)(data, seeds, chance)
    if chance.random() < 0.7:
        mend(data)
    return bytes(data)


def attempt(path: Path, watch: Watch) -> str:
    """Read the file: `read`, `refused`, or what is wrong with how it was read or refused."""
    watch.on = True
    try:
        header = read_header(path)
    except BadFile as error:
        watch.on = False
        return "refused" if error.hint and len(error.sentence()) < 900 else error.sentence()
    except Exception as error:  # noqa: BLE001 - any other is what this looks for
        return repr(error)
    finally:
        watch.on = False
    inside = all(0 <= t.start <= t.end <= header.size for t in header.tensors.values())
    return "read" if inside else "a tensor outside the file"


def main(folder: Path, first: int, count: int) -> None:
    seeds = [path.read_bytes() for path in sorted(folder.iterdir())]
    path, said, worst, longest = folder / "fuzz.ckpt", Counter[str](), 0.0, 0.0
    watch, before = Watch(path), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(first, first + count):
        data = damaged(n, seeds)
        path.write_bytes(data)
        traced = n % MEASURED == 0
        if traced:
            tracemalloc.start()
        started = time.process_time()
        outcome = attempt(path, watch)
        said[outcome if outcome in ("read", "refused") else f"{n}: {outcome:.300}"] += 1
        longest = max(longest, time.process_time() - started)
        if traced:
            worst = max(worst, (tracemalloc.get_traced_memory()[1] - FLOOR) / max(len(data), 1))
            tracemalloc.stop()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    result = {
        "said": said, "seen": sorted(watch.seen), "bytes of memory per byte": worst,
        "longest_s": longest, "grown_kb": grown,
    }  # fmt: skip
    sys.stdout.write(json.dumps(result))


main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

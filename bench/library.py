"""How fast the library is with many files.

    python -m bench.library [--files 10000] [--folder PLACE]

Makes that many small LoRAs of SD1's names (12 tensors, a sparse file each) in folders of 200, in a
temporary folder, and measures: the first look at all of them, the first page of a listing in a new
process's library, a lookup by name, a search, and how long a file that is added, written over or
removed takes to show. Nothing is kept.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from darkroom.core.model import Kind
from darkroom.library.index import Index
from darkroom.library.listing import Wanted
from darkroom.library.models import Library

PER_FOLDER = 200
PAGE = 50


def main() -> int:
    """Print one line per measurement."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--files", type=int, default=10_000)
    asked.add_argument("--folder", type=Path, help="where the files are made")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        measure(Path(name), given.files)
    return 0


def measure(place: Path, files: int) -> None:
    """Make the files, look at them, print times."""
    top, database = place / "models", place / "library.sqlite"
    for number in range(files):
        make(top / f"set {number // PER_FOLDER}" / f"style_{number:05}.safetensors", number)
    last = f"style_{files - 1:05}"

    def library() -> Library:
        return Library((top,), Index(database))

    def first_page() -> int:
        return library().page(most=PAGE).total

    say("first look at all", lambda: sum(1 for _ in library().learn()))
    time.sleep(3.1)  # until the folders' times have settled
    first_page()
    say("first page", first_page)
    say("first page of LoRAs", lambda: library().page(Wanted(kind=Kind.LORA), most=PAGE).total)
    say("search", lambda: library().page(Wanted(words=("word7", "style")), most=PAGE).total)
    say("all of them", lambda: len(library().list()))
    say("lookup by name", lambda: library().find_of(Kind.LORA, last).name)
    say("lookup of the starter", lambda: library().find("starter").name)
    added = top / "set 0" / "added.safetensors"
    make(added, 0)
    say("after a file was added", first_page)
    make(added, 1)
    say("after it was written over", first_page)
    added.unlink()
    say("after it was removed", first_page)


def say(what: str, action: Callable[[], object]) -> None:
    """Time `action` once."""
    start = time.perf_counter()
    result = action()
    print(f"{what:26} {(time.perf_counter() - start) * 1000:9.1f} ms   {result}")


def make(path: Path, number: int) -> None:
    """One LoRA, its data a hole in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = {f"word{number % 97}": 10, "person": 5}
    table: dict[str, object] = {
        "__metadata__": {
            "ss_output_name": f"trained_{number:05}",
            "ss_tag_frequency": json.dumps({"10_set": tags}),
        }
    }
    at = 0
    for block in range(6):
        layer = f"attentions_{block % 2}_transformer_blocks_0_attn{block // 2}"
        for part, shape in (("lora_down", [8, 320]), ("lora_up", [320, 8])):
            size = 2 * shape[0] * shape[1]
            table[f"lora_unet_down_blocks_0_{layer}_to_q.{part}.weight"] = {
                "dtype": "F16", "shape": shape, "data_offsets": [at, at := at + size],
            }  # fmt: skip
    raw = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + at)


if __name__ == "__main__":
    sys.exit(main())

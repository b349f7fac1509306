"""Time the prompt grammar: a prompt of 200 words, and a megabyte of nonsense of every kind.

`150` is a schedule of as many steps; a dash says that it was refused.

PYTHONPATH=src python bench/prompts.py
"""

import random
import statistics
import time
from collections.abc import Callable

from darkroom.core.errors import BadRequest
from darkroom.core.prompt import attention, expand, networks, parts, schedule, without_comments

MEGABYTE = 1_000_000
ROUNDS = 200
WORDS = "castle hill river light (detailed:1.2) [fog:sun:0.4] soft painting, (red) old <lora:a:0.5>"
NONSENSE = {
    "( brackets": "(",
    "[ brackets": "[",
    "nested (": "(" * 8 + "a" + ")" * 8,
    "edits [a:": "[a:",
    "alternations [a|b": "[a|b",
    "[a:b:5]": "[a:b:5]",
    "[a|b]": "[a|b]",
    "cycles of 3, 5, 7, 11": "[a|b|c][a|b|c|d|e][a|b|c|d|e|f|g][a|b|c|d|e|f|g|h|i|j|k]",
    "still cycles": "[|]" * 50 + "[||][||||]",
    "edits at 1 to 149": "".join(f"[::{step}]" for step in range(1, 150)),
    "backslashes": "\\",
    "AND": "AND ",
    "tags <lora:": "<lora:",
    "mixed": "(a[b:c:5]|d:1.2)\\<x>AND ",
}


def read(text: str) -> None:
    """All that the grammar does with a prompt."""
    plain, _ = networks(without_comments(text))
    for part in parts(plain):
        for stage in schedule(part.text, 30):
            attention(stage.text)


def seconds(run: Callable[[], object]) -> float:
    """Processor time of one call."""
    began = time.process_time()
    run()
    return time.process_time() - began


def column(run: Callable[[], object]) -> str:
    """Its time in a column, with a dash behind it if it was refused."""
    refused = " "

    def tried() -> None:
        nonlocal refused
        try:
            run()
        except BadRequest:
            refused = "-"

    return f"{seconds(tried):9.2f}{refused}"


def main() -> None:
    """Print both tables."""
    choose = random.Random(1)  # noqa: S311
    words = " ".join(choose.choice(WORDS.split()) for _ in range(200))
    times = [1000 * seconds(lambda: read(words)) for _ in range(ROUNDS)]
    print(f"200 words: median {statistics.median(times):.2f} ms")
    runs: dict[str, Callable[[str], object]] = {
        "attention": attention,
        "schedule": lambda text: schedule(text, 30),
        "150": lambda text: schedule(text, 150),
        "expand": lambda text: expand(text, 1),
    }
    print(f"{'1 MB of':22}", *(f"{name:>10}" for name in runs), " s")
    for name, unit in NONSENSE.items():
        text = unit * (MEGABYTE // len(unit))
        took = [column(lambda run=run, text=text: run(text)) for run in runs.values()]
        print(f"{name:22}", *took)


if __name__ == "__main__":
    main()

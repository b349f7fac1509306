import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from core.prompt.cases import GOLDENS
from darkroom.cli.main import main

SOURCE = str(Path(__file__).parents[2] / "src")
KEYS = ["parts", "schedule", "attention", "networks", "tokens", "chunks", "unknown"]


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Run `darkroom prompt`, with settings of its own; returns click's result."""
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DARKROOM_SETTINGS", str(tmp_path / "settings.toml"))
    (tmp_path / "settings.toml").touch()

    def run(*words, **options):
        words = ["prompt", *map(str, words)]
        return CliRunner().invoke(main, words, prog_name="darkroom", **options)

    return run


@pytest.fixture
def read(ask):
    """The answer to `--json`."""

    def run(*words):
        result = ask(*words, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return run


def test_the_answer_holds_what_the_functions_give(read):
    found = read("a [cat:dog:0.5] (x:1.2)<lora:n:1:te=2> AND y :-0.5 __w__", "--steps", 30)
    assert list(found) == KEYS
    assert found["parts"] == [["a [cat:dog:0.5] (x:1.2)<lora:n:1:te=2>", 1], [" y :-0.5 __w__", 1]]
    assert [end for end, _ in found["schedule"]] == [15, 30]
    assert found["attention"][3] == ["x", 1.2]
    assert found["networks"] == [
        {
            "type": "lora",
            "name": "n",
            "items": ["n", "1", "te=2"],
            "positional": ["n", "1"],
            "named": {"te": "2"},
        }
    ]
    assert found["unknown"] == ["w"]


def spread(rle):
    return [value for count, value in rle for _ in range(count)]


PLAIN = [
    case
    for case in GOLDENS["chunks"]
    if case["emphasis"] == "Original"
    and not case["embeddings"]
    and case["prompt"] != "(a BREAK b:1.2)"
]


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case["prompt"][:30])
def test_a1111_counts_and_cuts_the_same(read, case):
    found = read(case["prompt"])
    assert found["tokens"] == case["token_count"]
    assert found["chunks"] == [
        {"ids": spread(chunk["tokens_rle"]), "weights": spread(chunk["multipliers_rle"])}
        for chunk in case["chunks"]
    ]


def test_a_break_in_brackets_cuts_where_a1111_reads_a_word(read):
    found = read("(a BREAK b:1.2)")
    assert found["tokens"] == 76
    assert [chunk["weights"][1] for chunk in found["chunks"]] == [1.2, 1.2]


def test_breaks_cut_at_any_weight_and_are_told_as_a1111_tells_them(read):
    found = read("(a BREAK b:-1)")
    assert found["tokens"] == 76
    assert found["attention"] == [["a", -1], ["BREAK", 1], ["b", -1]]
    found = read("(a BREAK b:0)")
    assert found["tokens"] == 76
    assert found["attention"] == [["aBREAKb", 0]]


def test_the_longest_text_that_would_be_encoded_is_counted(read):
    assert read("a # b c d")["tokens"] == 1
    assert read("a <lora:x:1>")["tokens"] == 1
    assert read("a AND b c :2")["tokens"] == 2
    assert read("[a:b c d:5]")["tokens"] == 3


def test_a_batch_has_an_answer_for_every_line(ask, tmp_path):
    cases = GOLDENS["schedule"]
    names = {"use_old_scheduling": "old_scheduling"}
    asked = [{names.get(k, k): v for k, v in case.items() if k != "out"} for case in cases]
    path = tmp_path / "cases.jsonl"
    path.write_text("\n\n".join(map(json.dumps, asked)))
    result = ask("--batch", path)
    assert result.exit_code == 0
    found = [json.loads(line)["schedule"] for line in result.stdout.splitlines()]
    assert found == [case["out"] for case in cases]


def test_bad_lines_are_answered_and_told_by_the_exit_code(ask):
    bad = [
        "{",
        "[]",
        "{}",
        '{"prompt": 1}',
        '{"prompt": "a", "steps": 0}',
        '{"prompt": "a", "x": 1}',
    ]
    bad += ['{"prompt": "\\ud800"}', "[" * 100_000, b'{"prompt": "\xff"}'.decode("latin-1")]
    lines = [*bad[:-1], '{"prompt": "[a|b]", "steps": 2}']
    result = ask("--batch", "-", input="\n".join(lines) + "\n")
    assert result.exit_code == 2
    *failed, last = map(json.loads, result.stdout.splitlines())
    assert len(failed) == len(lines) - 1
    assert all(answer["error"] == "BadRequest" and answer["hint"] for answer in failed)
    assert last["schedule"] == [[1, "a"], [2, "b"]]
    assert ask("--batch", "-", input=b'{"prompt": "\xff"}\n').exit_code == 2


def test_a_bad_line_takes_no_other_with_it(ask):
    long = "x" * 900_000 + "[a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r|s|t]"
    told = [
        {"prompt": "a (cat:1.2\x1c) b"},
        {"prompt": "[a:b:5\x1c]"},
        {"prompt": long, "steps": 20},
        {"prompt": "x" * 90_000 + "[a|b]", "steps": 10_000},
        {"prompt": "a", "steps": None, "old_scheduling": None, "hires_steps": None},
    ]
    result = ask("--batch", "-", input="\n".join(map(json.dumps, told)))
    assert result.exit_code == 2
    weighed, edited, *refused, plain = map(json.loads, result.stdout.splitlines())
    assert weighed["attention"] == [["a ", 1], ["cat", 1.2], [" b", 1]]
    assert edited["schedule"] == [[5, "a"], [20, "b"]]
    assert all("too long" in answer["text"] and answer["hint"] for answer in refused)
    assert plain["schedule"] == [[20, "a"]]


def test_refusals_speak_of_what_was_asked(ask):
    assert "A line" not in ask("a", "--steps", 0).stderr
    answer = json.loads(ask("--batch", "-", input="[1]\n").stdout)
    assert answer["text"] == "a line is no object"
    assert "prompt, steps" in answer["hint"]


def test_flags_are_the_defaults_of_a_batch(ask):
    result = ask(
        "--batch", "-", "--steps", 4, input='{"prompt": "[a:b:2]"}\n{"prompt": "a", "steps": 9}'
    )
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["schedule"], second["schedule"]) == ([[2, "a"], [4, "b"]], [[9, "a"]])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "--batch", "-"],
        ["a", "--steps", 0],
        ["a", "--dialect", "x"],
        ["--batch", "none.jsonl"],
    ],
)
def test_bad_calls(ask, words):
    result = ask(*words, input="")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_passes_and_rules(read):
    prompt = "[a:b:1.5]"
    assert read(prompt, "--steps", 10)["schedule"] == [[10, "a"]]
    assert read(prompt, "--steps", 10, "--hires-steps", 20)["schedule"] == [[10, "a"], [20, "b"]]
    assert read(prompt, "--steps", 10, "--old-scheduling")["schedule"] == [[1, "a"], [10, "b"]]


def test_choices_wait_for_a_seed(read, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "animal.txt").write_text("fox\n")
    prompt = "{a|b} __animal__ __none__"
    assert read(prompt)["attention"] == [[prompt, 1]]
    assert read(prompt)["unknown"] == ["animal", "none"]
    (tmp_path / "data" / "wildcards").mkdir(parents=True)
    (tmp_path / "data" / "wildcards" / "animal.txt").write_text("wolf\n")
    assert read(prompt)["attention"] == [[prompt, 1]]
    assert read(prompt)["unknown"] == ["none"]
    found = read(prompt, "--seed", 0, "--wildcards", tmp_path / "w")
    assert found["attention"] == [["b fox __none__", 1]]
    assert found["unknown"] == ["none"]
    assert read(prompt, "--wildcards", tmp_path / "w") == found


def test_styles_and_dialects(ask, read, tmp_path):
    path = tmp_path / "styles.csv"
    path.write_text('name,prompt\nFilm,"{prompt}, film"\n')
    found = read("(a:2)+", "--dialect", "invokeai", "--styles", "Film", "--styles-files", path)
    assert found["attention"] == [["a:2", 1.1], [", film", 1]]
    assert read("(a [b]:2)", "--dialect", "comfyui")["attention"] == [["a [b]", 2]]
    assert ask("a", "--styles", "Flim", "--styles-files", path).exit_code == 2
    refused = ask('("a").swap("b")', "--dialect", "invokeai", "--json")
    assert refused.exit_code == 2
    assert json.loads(refused.stdout)["hint"]


def test_people_see_a_table(ask):
    result = ask("a [cat:dog:5] (x:1.2) <lora:n:1> AND b :2 __w__\x1b[31m", "--steps", 10)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    titles = [line.split()[0] for line in result.stdout.splitlines() if line[0] != " "]
    assert titles == ["steps", "AND", "weights", "lora", "tokens", "unknown"]
    assert "9/75" in result.stdout
    long = ask("[a|b]" + "x" * 500, "--steps", 300).stdout.splitlines()
    assert len(long) < 60
    assert max(map(len, long)) < 200


def test_it_starts_at_once_and_without_torch():
    program = (
        "import sys; from darkroom.cli.main import main\n"
        "try: main(['prompt', 'a cat', '--json'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.returncode == 0
    assert time.perf_counter() - start < 5  # 0.4 s on a quiet machine

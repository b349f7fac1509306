"""The checks of `./darkroom test` find what they are for, and its verdict is true."""

import subprocess
import sys
from pathlib import Path

import pytest

from launcher.clones import ROOT
from tools import check, lock, privacy, sizes

ENVIRONMENT = check.environment()


def source(root: Path, text: str, name: str = "src/darkroom/core/thing.py") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return root


# ---- sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("def f():\n" + "    x = 1\n" * 100, "f: 101 lines, 100 at most"),
        ("def f(a, b, c, d): ...\n", "4 by position; keyword-only after 3"),
        ("def f(a, b, *, c, d, e, f, g, h): ...\n", "8 parameters, 7 at most"),
        ("def f():\n    global x\n    x = 1\n", "`global`"),
        ("try:\n    x = 1\nexcept Exception:\n    x = 2\n", "catches everything"),
        ("try:\n    x = 1\nexcept (ValueError, BaseException):\n    x = 2\n", "catches everything"),
        ("try:\n    x = 1\nexcept:\n    x = 2\n", "catches everything"),
        ("x = 1\n" * 601, "601 lines, 600 at most"),
        ("x = 1\n" * 5401, "core: 5401 lines, 5400 at most"),
    ],
)
def test_a_broken_budget_is_found(tmp_path: Path, text: str, finding: str) -> None:
    files = sizes.load(source(tmp_path, text))
    assert any(finding in line for line in sizes.findings(files))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "src/darkroom/core/thing.py",
            'def f(self, a, b, c, *, d):\n    """' + "\n" * 200 + '"""\n',
        ),
        ("src/darkroom/core/names_table.py", "x = 1\n" * 5000),
        ("src/darkroom/weights/layouts/ldm.py", "x = 1\n" * 5000),
        ("src/darkroom/jobs/worker.py", "try:\n    x = 1\nexcept Exception:\n    x = 2\n"),
        ("src/darkroom/sampling/thing.py", "def sampler(denoise, x, sigmas, noise): ...\n"),
    ],
)
def test_what_the_budgets_allow_is_allowed(tmp_path: Path, name: str, text: str) -> None:
    assert list(sizes.findings(sizes.load(source(tmp_path, text, name)))) == []


def test_percentile() -> None:
    assert sizes.percentile([], 0.9) == 0
    assert sizes.percentile(list(range(100)), 0.9) == 90
    assert sizes.percentile([5], 0.99) == 5


def test_the_table_names_every_package(tmp_path: Path) -> None:
    table = sizes.table(sizes.load(source(tmp_path, "x = 1\n" * 7)))
    assert "core               7    5400" in table


# ---- privacy ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "/" + "work/main/src",
        "path = '/" + "root/.cache/x'",
        "/" + "home/alice/models",
        "see .." + "/shared/design",
        "https://files.python" + "hosted.org/packages",
        "--index-url https://py" + "pi.org/simple",
        "https://registry.npm" + "js.org/x",
    ],
)
def test_a_private_folder_or_a_registry_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.md").write_text(f"first line\n{text}\n")
    assert [line.partition(": ")[0] for line in privacy.findings(tmp_path)] == ["notes.md:2"]


@pytest.mark.parametrize(
    "text",
    [
        "outputs/work/1.png",
        "$HOME/work/x",
        "https://example.org/work/x",
        "/home/user/models",
        "~/root/x",
    ],
)
def test_what_only_looks_private_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.md").write_text(text)
    assert list(privacy.findings(tmp_path)) == []


def test_what_git_ignores_is_not_looked_at(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("secret/\n")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/a.txt").write_text("/" + "work/x")
    assert list(privacy.findings(tmp_path)) == []
    (tmp_path / "open.txt").write_text("/" + "work/x")
    assert len(list(privacy.findings(tmp_path))) == 1


def test_what_tools_leave_behind_is_not_looked_at_but_what_git_has_is(tmp_path: Path) -> None:
    private = "/" + "work/x"
    for name in ("build/lib/a.py", "x.egg-info/SOURCES.txt", ".mypy_cache/a.json", "src/a.py"):
        source(tmp_path, private, name)
    assert [line.partition(":")[0] for line in privacy.findings(tmp_path)] == ["src/a.py"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert [line.partition(":")[0] for line in privacy.findings(tmp_path)] == ["src/a.py"]
    subprocess.run(["git", "-C", tmp_path, "add", "-f", "build/lib/a.py"], check=True)
    assert len(list(privacy.findings(tmp_path))) == 2


def test_where_the_project_lies_does_not_hide_it(tmp_path: Path) -> None:
    """In a folder that is called like a leftover, or that the repository around it ignores."""
    root = tmp_path / "dist"
    source(root, "/" + "work/x")
    assert len(list(privacy.findings(root))) == 1
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("dist/\n")
    assert len(list(privacy.findings(root))) == 1


def test_metadata_of_pictures_and_weights_are_looked_at(tmp_path: Path) -> None:
    header = b'{"__metadata__":{"from":"/' + b'home/alice/x"}}'
    (tmp_path / "a.safetensors").write_bytes(bytes([len(header), *[0] * 7]) + header + b"\xff\xfe")
    assert len(list(privacy.findings(tmp_path))) == 1


# ---- locks -----------------------------------------------------------------------------------


def test_a_package_that_is_not_locked_is_found() -> None:
    run, test = lock.read(lock.RUN), lock.read(lock.TEST)
    del run["numpy"], test["iniconfig"]
    found = list(lock.findings(run, test))
    assert "numpy is needed to run, but not locked" in found
    assert "iniconfig is needed for tests, but not locked" in found


def test_a_package_too_many_a_wrong_version_and_a_double_one_are_found() -> None:
    run, test = lock.read(lock.RUN), lock.read(lock.TEST)
    found = list(
        lock.findings({**run, "left-pad": "1.0", "typer": "0.0.1"}, {**test, "numpy": "1"})
    )
    assert "left-pad is locked, but nobody needs it" in found
    assert "numpy is in both locks" in found
    assert any(line.startswith("typer 0.0.1 is locked, but ") for line in found)


def test_a_lock_is_plain_lines_in_order() -> None:
    for path in (lock.RUN, lock.TEST):
        lines = path.read_text("utf-8").splitlines()
        assert lines == sorted(lines, key=lambda line: line.split("==")[0])
        assert all(line == line.strip().lower() and line.count("==") == 1 for line in lines)


def test_a_package_that_one_system_needs_is_locked_for_all() -> None:
    assert "colorama" in lock.read(lock.RUN)  # click's, on Windows


def test_what_pytorch_chooses_for_a_graphics_card_is_left_to_it() -> None:
    left = ["nvidia-cublas", "nvidia-cudnn-cu13", "cuda-toolkit", "triton", "triton-windows"]
    assert all(lock.PLATFORM.fullmatch(name) for name in left)
    assert not lock.PLATFORM.fullmatch("torch")


# ---- check -----------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one test that passes, and two checks of which one fails."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:hypothesispytest\n")
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "WORKERS", 0)
    good = check.Check(name="good", arguments=("-c", "print('unseen')"))
    bad = check.Check(name="bad", arguments=("-c", "print('the reason'); raise SystemExit(3)"))
    monkeypatch.setattr(check, "CHECKS", (bad, good))
    monkeypatch.setattr(sys, "argv", ["check"])
    return tmp_path


def test_all_checks_run_and_the_last_line_is_pytests(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("bad") and "FAILED (status 3)" in lines[0]
    assert lines[1] == "    the reason"
    assert lines[2].startswith("good") and " ok " in lines[2]
    assert lines[-2] == "checks: 1 of 2 passed; FAILED: bad"
    assert "1 passed in " in lines[-1]


def test_a_failing_test_fails_the_whole(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "test_it.py").write_text("def test_it(): assert False\n")
    monkeypatch.setattr(check, "CHECKS", check.CHECKS[1:])
    assert check.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "checks: 1 of 1 passed"
    assert "1 failed in " in lines[-1]


def test_with_arguments_only_pytest_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check", "-q", "-k", "nothing_like_this"])
    assert check.main() == 5  # pytest's status for "nothing was run"
    assert "the reason" not in capfd.readouterr().out


@pytest.mark.parametrize("each", check.CHECKS, ids=lambda each: each.name.replace(" ", "-"))
def test_every_check_is_there_to_be_run(each: check.Check) -> None:
    """A check whose program is missing must not pass by saying nothing."""
    if each.arguments[0] == "-c":
        assert "import" in each.arguments[1]
        return
    found = f"import importlib.util as u, sys; sys.exit(u.find_spec({each.arguments[1]!r}) is None)"
    assert subprocess.run([sys.executable, "-c", found], cwd=ROOT, env=ENVIRONMENT).returncode == 0


def test_the_import_contracts_are_really_read() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", check.CONTRACTS],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
    )
    assert "Contracts: " in ran.stdout

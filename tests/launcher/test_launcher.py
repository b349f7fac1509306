"""`./darkroom`: sets up once, says little, survives what happens to set-ups."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.clones import PYTHON, Clone, add_program, make_clone

PATIENCE = 250  # seconds
NEVER = "/nowhere/at-all"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has darkroom.bat")


def wait_for(condition: Callable[[], object]) -> None:
    """The limit is for what never happens: a busy machine takes its time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


@contextmanager
def obeying(number: int) -> Iterator[None]:
    """A process that is started inside can be told to stop by this signal.

    One that is ignored when a shell starts (`nohup`, `&`) stays ignored, whatever it traps.
    """
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


def locks(clone: Clone) -> list[Path]:
    return list(clone.folder.glob("*.lock.*")) + [
        p for p in clone.folder.glob(".venv*") if p.name != ".venv"
    ]


# ---- the ordinary course ---------------------------------------------------------------------


def test_first_start_sets_up_then_runs_darkroom_with_all_arguments(clone: Clone) -> None:
    ran = clone.start("txt2img", "a red apple", "--json")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{clone.folder}/src|-m darkroom txt2img a red apple --json\n"
    assert ran.stderr.splitlines()[0].startswith("Setting up Darkroom in ")
    assert ran.stderr.splitlines()[-1] == "Darkroom is ready."
    assert [call.split()[0] for call in clone.calls()] == ["venv", "install", "first"]
    assert locks(clone) == []


def test_later_starts_do_nothing_and_say_nothing(clone: Clone) -> None:
    clone.start()
    before = clone.calls()
    ran = clone.start("--version")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert clone.calls() == before


def test_the_exit_status_is_darkrooms(clone: Clone) -> None:
    clone.start()
    add_program(clone.folder / ".venv/bin/python", "#!/bin/sh\nexit 2\n")
    assert clone.start().returncode == 2


def test_a_changed_lock_is_installed_into_the_same_environment(clone: Clone) -> None:
    clone.start()
    with (clone.folder / "requirements.lock").open("a") as lock:
        lock.write("one-more==1.0\n")
    ran = clone.start()
    assert "up to date" in ran.stderr
    assert [call.split()[0] for call in clone.calls()] == [
        "venv",
        "install",
        "first",
        "install",
        "first",
    ]
    assert clone.start().stderr == ""


def test_the_test_packages_come_with_the_first_test(clone: Clone) -> None:
    clone.start()
    ran = clone.start("test", "-k", "foo")
    assert ran.stdout == f"{clone.folder}:{clone.folder}/src|-m tools.check -k foo\n"
    assert clone.installs() == 2
    assert "test" in clone.calls()[-2]
    assert clone.start("test").stderr == ""
    assert clone.start().stderr == ""
    assert clone.installs() == 2


def test_starting_costs_less_than_a_tenth_of_a_second(clone: Clone) -> None:
    """In processor time: the launcher never waits, and a busy machine makes clocks run ahead."""
    import resource  # not on Windows

    clone.start()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(10):
        clone.start()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent / 10 < 0.1


def test_the_environment_finds_the_package_by_itself(clone: Clone) -> None:
    clone.start()
    site = clone.folder / ".venv/lib/python3.11/site-packages"
    path = (site / "darkroom.pth").read_text().strip()
    assert (site / path).resolve() == (clone.folder / "src").resolve()


# ---- places ----------------------------------------------------------------------------------


def test_a_link_elsewhere_starts_the_clone(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/first").symlink_to(clone.folder / "darkroom")
    (tmp_path / "bin/studio").symlink_to("first")
    linked = Clone(folder=tmp_path / "bin", programs=clone.programs, log=clone.log)
    (tmp_path / "bin/darkroom").symlink_to("studio")
    assert linked.start("doctor").stdout == f"{clone.folder}/src|-m darkroom doctor\n"


def test_a_moved_clone_is_mended_without_pip(clone: Clone, tmp_path: Path) -> None:
    clone.start()
    moved = Clone(folder=tmp_path / "else & where", programs=clone.programs, log=clone.log)
    clone.folder.rename(moved.folder)
    ran = moved.start()
    assert "moved" in ran.stderr
    assert ran.stdout == f"{moved.folder}/src|-m darkroom\n"
    assert (moved.folder / ".venv/bin/tool").read_text() == f"#!{moved.folder}/.venv/bin/python\n"
    assert moved.installs() == 1
    assert moved.start().stderr == ""


def test_the_environment_may_lie_elsewhere(clone: Clone, tmp_path: Path) -> None:
    clone.start(DARKROOM_VENV=f"{tmp_path}/deep/down/environment")
    assert (tmp_path / "deep/down/environment/bin/python").exists()
    assert not (clone.folder / ".venv").exists()
    assert clone.start(DARKROOM_VENV=f"{tmp_path}/deep/down/environment").stderr == ""


def test_a_folder_that_is_no_environment_is_left_alone(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("precious")
    ran = clone.start(DARKROOM_VENV=f"{tmp_path}/thesis")
    assert ran.returncode == 1
    assert "no working Python environment" in ran.stderr
    assert (tmp_path / "thesis/chapter.txt").read_text() == "precious"


def test_an_environment_made_by_hand_is_kept_and_completed(clone: Clone) -> None:
    add_program(clone.folder / "python", PYTHON)
    (clone.folder / ".venv/bin").mkdir(parents=True)
    shutil.copy(clone.folder / "python", clone.folder / ".venv/bin/python")
    (clone.folder / ".venv/mine").write_text("kept")
    assert clone.start().returncode == 0
    assert (clone.folder / ".venv/mine").exists()
    assert "venv" not in clone.calls()


@pytest.fixture
def locked_clone() -> Iterator[Clone]:
    """A clone that whoever starts it may read but not write."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    clone = make_clone(place)
    clone.log.touch()
    clone.log.chmod(0o666)
    clone.folder.chmod(0o555)
    (place / "home").mkdir()
    (place / "home").chmod(0o777)
    yield clone
    clone.folder.chmod(0o755)
    shutil.rmtree(place)


def test_a_read_only_clone_keeps_its_environment_in_the_cache(locked_clone: Clone) -> None:
    if os.geteuid() == 0:  # who may write everywhere
        locked_clone.run_as = {"user": 65534, "group": 65534}
    ran = locked_clone.start("doctor")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{locked_clone.folder}/src|-m darkroom doctor\n"
    home = locked_clone.folder.parent / "home"
    assert len(list(home.glob(".cache/darkroom/venv-*/bin/python"))) == 1
    again = locked_clone.start("doctor")
    assert (again.stdout, again.stderr) == (ran.stdout, "")


# ---- what goes wrong -------------------------------------------------------------------------


def test_a_set_up_that_was_killed_is_started_over(clone: Clone) -> None:
    killed = clone.launch(STUB_WAITS_FOR=NEVER)
    wait_for(clone.installs)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    ran = clone.start()
    assert ran.returncode == 0, ran.stderr
    assert "did not finish; starting over" in ran.stderr
    assert ran.stdout.endswith("-m darkroom\n")
    assert clone.calls().count("venv") == 2
    assert locks(clone) == []


def test_the_orphan_of_a_killed_set_up_is_waited_for(clone: Clone, tmp_path: Path) -> None:
    released = tmp_path / "released"
    killed = clone.launch(STUB_WAITS_FOR=str(released))
    wait_for(clone.installs)
    os.kill(killed.pid, signal.SIGKILL)  # the launcher alone: its pip lives on
    second = clone.launch()
    wait_for(lambda: clone.told("waiting"))
    assert clone.installs() == 1 and second.poll() is None
    released.touch()
    second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    assert clone.installs() == 2 and locks(clone) == []
    killed.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_set_up_that_is_told_to_stop_stops_and_leaves_no_lock(clone: Clone, name: str) -> None:
    number = getattr(signal, name)
    with obeying(number):
        stopped = clone.launch(STUB_WAITS_FOR=NEVER)
    wait_for(clone.installs)
    os.killpg(stopped.pid, number)
    stopped.communicate(timeout=PATIENCE)
    assert stopped.returncode == 128 + number
    assert locks(clone) == []
    assert clone.start().returncode == 0


def test_of_two_first_starts_one_sets_up_and_both_run(clone: Clone, tmp_path: Path) -> None:
    released = tmp_path / "released"
    both = [clone.launch(name, STUB_WAITS_FOR=str(released)) for name in ("one", "two")]
    wait_for(lambda: clone.installs() and clone.told("waiting"))
    released.touch()
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(output.split()[-1] for output in outputs) == ["one", "two"]
    assert clone.installs() == 1
    assert clone.told("waiting") == 1
    assert locks(clone) == []


def test_the_lock_of_a_dead_process_is_taken_over(clone: Clone) -> None:
    lock = clone.folder / ".venv.lock"
    lock.mkdir()
    (lock / "owner").write_text(f"999999999 {os.uname().nodename}\nsh ./darkroom\n")
    assert clone.start().returncode == 0
    assert locks(clone) == []


def test_the_number_of_a_dead_process_may_belong_to_another_by_now(clone: Clone) -> None:
    lock = clone.folder / ".venv.lock"
    lock.mkdir()
    (lock / "owner").write_text(f"{os.getpid()} {os.uname().nodename}\nsh ./darkroom once\n")
    assert clone.start().returncode == 0


def test_a_wrong_python_is_named_with_the_cure(clone: Clone) -> None:
    ran = clone.start(STUB_VERSION="3.8.10", STUB_VERDICT="version")
    assert ran.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed; found: python3.11 3.8.10" in ran.stderr
    assert "PYTHON=/path/to/python3.11" in ran.stderr
    assert not (clone.folder / ".venv").exists()


def test_no_python_at_all(clone: Clone) -> None:
    (clone.programs / "python3.11").unlink()
    ran = clone.start()
    assert ran.returncode == 1
    assert "found: none" in ran.stderr


def test_a_python_without_its_venv_module_is_passed_over_for_one_with_it(clone: Clone) -> None:
    ran = clone.start(STUB_VERDICT="venv")
    assert ran.returncode == 1
    assert "python3-venv" in ran.stderr
    add_program(clone.programs / "python3.12", PYTHON.replace("${STUB_VERDICT:-good}", "good"))
    assert clone.start(STUB_VERDICT="venv").returncode == 0


def test_the_user_may_choose_the_python(clone: Clone, tmp_path: Path) -> None:
    (clone.programs / "python3.11").unlink()
    add_program(tmp_path / "my python", PYTHON)
    assert clone.start(PYTHON=f"{tmp_path}/my python").returncode == 0


@pytest.mark.parametrize(
    ("failure", "cure"),
    [
        ("NewConnectionError: [Errno -3] Temporary failure in name resolution", "no network"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "PIP_CERT"),
        ("ERROR: No matching distribution found for torch==2.13.0", "has no build for this system"),
        ("ERROR: Could not install packages: [Errno 13] Permission denied", "DARKROOM_VENV"),
        ("something else", "Start again"),
    ],
)
def test_a_failed_installation_says_why_and_is_done_again(
    clone: Clone, failure: str, cure: str
) -> None:
    ran = clone.start(STUB_FAILURE=failure)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert cure in ran.stderr
    assert failure in ran.stderr
    assert locks(clone) == []
    assert clone.start().returncode == 0


def test_too_little_room_is_told_before_anything_is_done(clone: Clone) -> None:
    add_program(
        clone.programs / "df",
        "#!/bin/sh\necho 'File Blocks Used Free'\necho 'disk 9 9 512000 9% /'\n",
    )
    ran = clone.start()
    assert ran.returncode == 1
    assert "500 MB are free" in ran.stderr
    assert "2,000 MB are needed" in ran.stderr
    assert clone.calls() == []


def test_a_vanished_interpreter_means_a_new_environment(clone: Clone) -> None:
    clone.start()
    (clone.folder / ".venv/bin/python").unlink()
    (clone.folder / ".venv/bin/python").symlink_to("/nowhere/python3.11")
    ran = clone.start()
    assert ran.returncode == 0, ran.stderr
    assert "Python is gone" in ran.stderr


def test_an_incomplete_clone_is_told_so(clone: Clone) -> None:
    (clone.folder / "requirements.lock").unlink()
    ran = clone.start()
    assert ran.returncode == 1
    assert "is the clone complete" in ran.stderr

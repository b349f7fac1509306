"""What a killed job leaves in its folder, and what becomes of it."""

import pytest

from darkroom.media.left_behind import LOCK, SUFFIX, left_behind
from darkroom.media.lock import hold


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "unfinished" / "a-job"
    folder.mkdir(parents=True)
    (folder / LOCK).touch()
    return folder


def test_a_latent_that_was_left_is_found_and_stays(job):
    latent = job / f"00001{SUFFIX}"
    latent.touch()
    assert list(left_behind(job.parent)) == [latent]
    assert latent.exists()


def test_a_file_that_a_kill_left_half_written_goes_with_its_folder(job):
    (job / f"00001{SUFFIX}.123.part").touch()
    assert not list(left_behind(job.parent))
    assert not list(job.parent.iterdir())


def test_the_folder_of_a_job_that_runs_is_left_alone(job):
    half = job / f"00001{SUFFIX}.123.part"
    half.touch()
    with hold(job / LOCK):
        assert not list(left_behind(job.parent))
    assert half.exists()

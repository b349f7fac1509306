import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from darkroom.core.errors import BadRequest, OutputError
from darkroom.media import files
from darkroom.media.files import Place, publish, write_whole

root_writes_anywhere = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write into read-only folders"
)


def names(folder):
    return (folder / f"{n}.png" for n in count())


def test_publish_takes_the_first_free_name_and_leaves_nothing_else(tmp_path):
    (tmp_path / "0.png").write_bytes(b"old")
    assert publish(names(tmp_path), b"new") == tmp_path / "1.png"
    assert (tmp_path / "0.png").read_bytes() == b"old"
    assert (tmp_path / "1.png").read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.png", "1.png"]


@pytest.fixture(params=[errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def no_links(request, monkeypatch):
    def refuse(*_):
        raise OSError(request.param, "not here")

    monkeypatch.setattr(files.os, "link", refuse)


def test_without_hard_links_nothing_is_overwritten_either(tmp_path, no_links):
    (tmp_path / "0.png").write_bytes(b"old")
    assert publish(names(tmp_path), b"new") == tmp_path / "1.png"
    assert (tmp_path / "0.png").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.png", "1.png"]


def test_without_hard_links_no_name_is_seen_before_the_whole_file(tmp_path, no_links, monkeypatch):
    rename = Path.rename

    def look(self, target):
        assert not Path(target).exists()
        assert self.read_bytes() == b"new"
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", look)
    assert publish(names(tmp_path), b"new").read_bytes() == b"new"


def test_without_hard_links_writers_share_no_name(tmp_path, no_links):
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda n: publish(names(tmp_path), str(n).encode()), range(64)))
    assert len(set(paths)) == 64
    assert {p.read_bytes() for p in paths} == {str(n).encode() for n in range(64)}
    assert len(list(tmp_path.iterdir())) == 64


def test_a_rename_as_on_windows_refuses_to_replace(tmp_path, monkeypatch):
    def no_links(*_):
        error = OSError(errno.EIO, "odd")
        error.winerror = 1
        raise error

    def rename(self, target):
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "there")
        return self.replace(target)

    monkeypatch.setattr(files.os, "link", no_links)
    monkeypatch.setattr(files, "_renames_replace", lambda: False)
    monkeypatch.setattr(Path, "rename", rename)
    (tmp_path / "0.png").write_bytes(b"old")
    assert publish(names(tmp_path), b"new") == tmp_path / "1.png"
    assert (tmp_path / "0.png").read_bytes() == b"old"


def test_one_name_alone_may_be_taken(tmp_path):
    (tmp_path / "0.png").write_bytes(b"old")
    with pytest.raises(BadRequest, match="exists already"):
        publish(iter([tmp_path / "0.png"]), b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.skipif(os.name == "nt", reason="folders are flushed on POSIX")
def test_the_name_is_on_the_disk_too(tmp_path, monkeypatch):
    order = []
    link, fsync = os.link, os.fsync

    def flushed(handle):
        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        return fsync(handle)

    monkeypatch.setattr(files.os, "fsync", flushed)
    monkeypatch.setattr(files.os, "link", lambda *a: order.append("name") or link(*a))
    publish(names(tmp_path), b"x")
    write_whole(tmp_path / "own", b"x", lasting=True)
    assert order == ["file", "name", "folder", "file", "folder"]


def test_a_folder_that_is_gone(tmp_path):
    place = Place(tmp_path / "gone")
    place.prepare()
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match="the folder is gone"):
        next(place.names(7, single=True))
    with pytest.raises(OutputError, match="the folder is gone"):
        publish(names(tmp_path / "gone"), b"x")


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".png", "a\0b.png"])
def test_a_hostile_target_is_a_sentence(tmp_path, name):
    with pytest.raises((OutputError, BadRequest)):
        Place.chosen(tmp_path / name, tmp_path, 1).prepare()


def test_trying_a_folder_that_is_not_there_makes_none(tmp_path):
    assert files.try_folder(tmp_path / "a" / "b") > 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        files.try_folder(tmp_path / "file" / "below")


def test_many_writers_at_once_never_share_a_name(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda n: publish(names(tmp_path), str(n).encode()), range(64)))
    assert len(set(paths)) == 64
    assert {p.read_bytes() for p in paths} == {str(n).encode() for n in range(64)}


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "may not write"), (errno.EROFS, "read-only")],
)
def test_a_failed_write_says_why_and_leaves_no_part(tmp_path, monkeypatch, number, words):
    def fail(_handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OutputError, match=words) as caught:
        publish(names(tmp_path), b"x" * 1000)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_write_whole_replaces_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.bin"
    for data in (b"one", b"two"):
        write_whole(path, data)
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_files_get_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        path = publish(names(tmp_path), b"x")
    finally:
        os.umask(before)
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_numbered_names_go_on_where_the_folder_stands(tmp_path):
    place = Place(tmp_path)
    assert next(place.names(7, single=True)).name == "00001-7.png"
    (tmp_path / "00041-9.png").touch()
    (tmp_path / "holiday.png").touch()
    assert next(place.names(7, single=False)).name == "00042-7.png"


def test_a_chosen_name_is_used_for_one_and_numbered_for_more(tmp_path):
    place = Place.chosen(tmp_path / "apple.png", tmp_path, 1)
    assert next(place.names(7, single=True)).name == "apple.png"
    more = Place.chosen(tmp_path / "apple.png", tmp_path, 3).names(7, single=False)
    assert [next(more).name for _ in range(2)] == ["apple-1.png", "apple-2.png"]


def test_where_pictures_go(tmp_path):
    assert Place.chosen(None, tmp_path, 1).folder.parent == tmp_path
    assert Place.chosen(tmp_path, tmp_path, 1) == Place(tmp_path)
    assert Place.chosen(tmp_path / "cats", tmp_path, 1) == Place(tmp_path / "cats")
    assert Place.chosen(None, tmp_path, 1, suffix=".webp").format == "webp"
    assert Place.chosen(tmp_path / "apple.JPG", tmp_path, 1, suffix=".webp").format == "jpeg"
    with pytest.raises(BadRequest, match="no such kind of picture"):
        Place.chosen(tmp_path / "apple.bmp", tmp_path, 1)
    (tmp_path / "there.png").touch()
    with pytest.raises(BadRequest, match="exists already"):
        Place.chosen(tmp_path / "there.png", tmp_path, 1)


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of its path is a file"):
        Place(tmp_path / "file" / "below").prepare()


@root_writes_anywhere
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may not write there"):
        Place(tmp_path).prepare()
    tmp_path.chmod(0o700)


def test_a_full_disk_is_noticed_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_free_bytes", lambda _folder: 1000)
    with pytest.raises(OutputError, match="is full"):
        Place(tmp_path).prepare()

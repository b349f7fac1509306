"""One file over a bad line: whole, or an error, and never begun anew without need."""

import hashlib
import json

import pytest

from darkroom.core.errors import BadRequest, DownloadError, OutputError
from darkroom.library.download import transfer as module
from darkroom.library.download.transfer import Notice, Transfer, Wanted
from library.serving import File, model, serving

DATA = model(size=3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    part = tmp_path / "x.part"

    def run(path="/x", **wanted):
        transfer = Transfer(server.web(), Wanted(url=server.url(path), **wanted), part)
        notices = [step.text for step in transfer.run() if isinstance(step, Notice)]
        return part.read_bytes(), transfer, notices

    run.part, run.state = part, part.with_name("x.part.json")
    return run


def test_a_file_arrives_whole_and_hashed(server, fetch):
    server.files["/x"] = File(DATA)
    data, transfer, notices = fetch(sha256=SHA256, size=len(DATA))
    assert data == DATA
    assert (transfer.sha256, transfer.done, transfer.total) == (SHA256, len(DATA), len(DATA))
    assert notices == []


def test_what_dropped_goes_on_where_it_was(server, fetch):
    server.files["/x"] = File(DATA, drops=[1_000_000, 500_000])
    data, transfer, notices = fetch()
    assert data == DATA and transfer.sha256 == SHA256
    assert server.ranges == ["", "bytes=1000000-", "bytes=1500000-"]
    assert server.asked[1][2]["If-Range"] == '"one"'
    assert "closed the connection too early; trying again in 1 s" in notices[0]


def test_the_next_run_goes_on_where_this_one_was_stopped(server, fetch):
    server.files["/x"] = File(DATA, drops=[1_000_000])
    transfer = Transfer(server.web(), Wanted(url=server.url("/x")), fetch.part)
    for _ in transfer.run():
        break  # Ctrl-C
    there = fetch.part.stat().st_size
    assert 0 < there < len(DATA)
    assert fetch()[0] == DATA
    assert server.ranges == ["", f"bytes={there}-"]


def test_what_is_complete_already_is_not_asked_for_again(server, fetch):
    server.files["/x"] = File(DATA)
    fetch()
    assert fetch(sha256=SHA256)[0] == DATA
    assert len(server.asked) == 1


def test_a_server_without_ranges_begins_anew(server, fetch):
    server.files["/x"] = File(DATA, drops=[1_000_000], ranges=False)
    assert fetch()[0] == DATA
    assert server.ranges == ["", "bytes=1000000-"]


def test_a_file_that_changed_meanwhile_begins_anew(server, fetch):
    server.files["/x"] = File(DATA, drops=[1_000_000])
    transfer = Transfer(server.web(), Wanted(url=server.url("/x")), fetch.part)
    next(transfer.run())
    other = bytes(reversed(DATA))
    server.files["/x"] = File(other, etag='"two"')
    assert fetch()[0] == other


def test_a_range_of_another_file_is_not_taken(server, fetch):
    """A server that ignores If-Range and answers 206 from the new file."""
    server.files["/x"] = File(DATA, drops=[1_000_000])
    transfer = Transfer(server.web(), Wanted(url=server.url("/x")), fetch.part)
    next(transfer.run())
    other = DATA[:-1] + b"!"

    def rest(handler):
        start = handler.headers.get("Range")
        handler.send_response(206 if start else 200)
        at = int(start[6:-1]) if start else 0
        handler.send_header("ETag", '"two"')
        handler.send_header("Content-Length", str(len(other) - at))
        handler.send_header("Content-Range", f"bytes {at}-{len(other) - 1}/{len(other)}")
        handler.end_headers()
        handler.wfile.write(other[at:])

    server.files["/x"] = rest
    data, _, notices = fetch()
    assert data == other
    assert "has changed" in notices[0]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_etag_only_a_hash_lets_it_go_on(server, fetch, etag):
    server.files["/x"] = File(DATA, etag=etag, drops=[1_000_000])
    assert fetch()[0] == DATA
    assert server.ranges == ["", ""]
    fetch.part.unlink()
    server.asked.clear()
    server.files["/x"].drops = [1_000_000]
    assert fetch(sha256=SHA256)[0] == DATA
    assert server.ranges == ["", "bytes=1000000-"]


@pytest.mark.parametrize("state", ["", "{", "[]", '{"etag": 3}', "\0" * 50, '{"etag":"\\"one\\""}'])
def test_a_state_that_is_not_ours_begins_anew(server, fetch, state):
    server.files["/x"] = File(DATA)
    fetch.part.write_bytes(b"junk" * 1000)
    fetch.state.write_text(state)
    assert fetch()[0] == DATA
    assert server.ranges == [""]


def test_a_part_longer_than_the_file_begins_anew(server, fetch):
    server.files["/x"] = File(DATA)
    fetch()
    with fetch.part.open("ab") as file:
        file.write(b"more")
    assert fetch()[0] == DATA


def test_a_part_that_rotted_is_found_by_its_hash(server, fetch):
    server.files["/x"] = File(DATA, drops=[1_000_000])
    transfer = Transfer(server.web(), Wanted(url=server.url("/x"), sha256=SHA256), fetch.part)
    next(transfer.run())
    there = fetch.part.read_bytes()
    fetch.part.write_bytes(b"?" * len(there))
    with pytest.raises(DownloadError, match="its sha256 is") as caught:
        fetch(sha256=SHA256)
    assert "deleted" in caught.value.hint
    assert not fetch.part.exists() and not fetch.state.exists()
    assert fetch(sha256=SHA256)[0] == DATA


def test_a_wrong_hash_is_an_error(server, fetch):
    server.files["/x"] = File(DATA)
    with pytest.raises(DownloadError, match=SHA256[:12]):
        fetch(sha256="0" * 64)
    assert not fetch.part.exists()
    assert fetch(sha256=SHA256[:10])[0] == DATA


def test_a_length_that_is_too_long_ends(server, fetch):
    """The server announces more than it has: it never comes, and that is said."""
    server.files["/x"] = File(DATA, said=len(DATA) + 5)
    with pytest.raises(DownloadError, match=r"\(6 tries\)|rest of this file|has changed"):
        fetch()
    assert len(server.asked) < 20


def test_a_length_that_is_too_short_is_what_is_read(server, fetch):
    server.files["/x"] = File(DATA, said=1000)
    data, transfer, _ = fetch()
    assert data == DATA[:1000] and transfer.total == 1000
    with pytest.raises(DownloadError, match="sha256"):
        fetch(sha256=SHA256)


def test_a_length_other_than_the_pages_is_an_error_before_it_is_fetched(server, fetch):
    server.files["/x"] = File(DATA)
    with pytest.raises(DownloadError, match=r"announces 3,000,\d+ bytes where its page says 10"):
        fetch(size=10)
    assert not fetch.part.exists()


def test_chunks_have_no_length_and_arrive_whole(server, fetch):
    server.files["/x"] = File(DATA, chunked=True)
    data, transfer, _ = fetch()
    assert data == DATA and transfer.total is None
    server.files["/x"].drops = [1000]
    fetch.part.unlink()
    assert fetch()[0] == DATA
    assert server.slept == [1.0]


def test_a_busy_server_is_asked_again_when_it_says(server, fetch):
    server.files["/x"] = File(DATA, statuses=[(429, {"Retry-After": "7"}), (503, {}), (500, {})])
    assert fetch()[0] == DATA
    assert server.slept == [7.0, 2.0, 4.0]


def test_a_server_that_asks_for_an_hour_is_left(server, fetch):
    server.files["/x"] = File(DATA, statuses=[(503, {"Retry-After": "3600"})])
    with pytest.raises(DownloadError, match="asks to wait 60 minutes"):
        fetch()
    assert server.slept == []


def test_a_server_that_stays_broken_is_left_after_six_tries(server, fetch):
    server.files["/x"] = File(DATA, statuses=[(502, {})] * 50)
    with pytest.raises(DownloadError, match=r"answers 502 \(6 tries\)"):
        fetch()
    assert server.slept == [1, 2, 4, 8, 16]


def test_crumbs_do_not_keep_a_transfer_alive(server, fetch):
    server.files["/x"] = File(DATA, drops=[10] * 100)
    with pytest.raises(DownloadError, match="6 tries"):
        fetch()
    assert fetch.part.stat().st_size == 60  # kept, for a better day


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "login"),
        (403, "does not give"),
        (404, "no such file"),
        (410, "any more"),
        (418, "418"),
    ],
)
def test_a_refusal_is_said_once_and_without_the_query(server, fetch, status, said):
    server.files["/x"] = File(DATA, statuses=[(status, {})])
    with pytest.raises(DownloadError, match=said) as caught:
        fetch("/x?token=SECRET", login="Set A_TOKEN.")
    assert "SECRET" not in caught.value.sentence()
    assert ("A_TOKEN" in caught.value.hint) == (status in (401, 403))
    assert server.slept == []


def test_packed_files_are_refused(server, fetch):
    server.files["/x"] = File(DATA, headers={"Content-Encoding": "gzip"})
    with pytest.raises(DownloadError, match=r"packed \(gzip\)"):
        fetch()
    assert server.asked[0][2]["Accept-Encoding"] == "identity"


def test_the_disk_is_asked_first(server, fetch, monkeypatch):
    server.files["/x"] = File(DATA)
    usage = type("Usage", (), {"free": 10 << 20})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"0\.0 GB free"):
        fetch()


def test_the_hash_in_a_redirect_is_held_to(server, fetch):
    server.files["/x"] = File(b"", moved="/y", headers={"X-Linked-Etag": '"' + "0" * 64 + '"'})
    server.files["/y"] = File(DATA)
    with pytest.raises(DownloadError, match="0000"):
        fetch()


def test_the_state_tells_no_secrets(server, fetch):
    server.files["/x"] = File(DATA)
    fetch("/x?signature=SECRET")
    assert "SECRET" not in fetch.state.read_text()
    assert json.loads(fetch.state.read_text())["size"] == len(DATA)


def test_no_connection_is_said_at_once(server, fetch, tmp_path):
    transfer = Transfer(server.web(), Wanted(url="http://nowhere.test/x"), fetch.part)
    with pytest.raises(DownloadError, match=r"no connection to nowhere\.test") as caught:
        list(transfer.run())
    assert "?" not in caught.value.sentence() and ".." not in caught.value.sentence()
    assert server.slept == []


def test_what_is_no_address_is_a_bad_request(fetch, server):
    for url in (
        "ftp://files.test/x",
        "file:///etc/passwd",
        "http://me:pass@files.test/x",
        "http:///x",
    ):
        with pytest.raises(BadRequest) as caught:
            list(Transfer(server.web(), Wanted(url=url), fetch.part).run())
        assert "pass" not in caught.value.sentence().replace("password", "").replace("passwd", "")

import io
import sys

import pytest

from darkroom.cli.boundary import Reply
from darkroom.cli.progress import follow
from darkroom.core.errors import BadFile, StudioError
from darkroom.core.event import Event

PATH = "/pictures/" + "long " * 30 + "[red]:apple:\x1b[31m.png"
SAFE = PATH.replace("\x1b", "\\x1b")
NOTE = "word " * 40 + "end"
EVENTS = (
    Event("started", {"images": 1, "steps": 2, "model": "[b]tiny"}),
    Event("step", {"image": 0, "step": 1, "steps": 2, "done": 1, "rate": 1.0}),
    Event("warning", {"text": NOTE}),
    Event("artifact", {"path": PATH, "seed": 7, "image": 0, "seconds": 1.0, "sha256": "0"}),
)


class Stream(io.StringIO):
    """Standard output or error that says whether it is a terminal."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def show(monkeypatch, out, err, reply=None):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    reply = reply or Reply()
    follow(EVENTS, reply)
    assert [image["path"] for image in reply.fields["images"]] == [PATH]
    assert reply.fields["warnings"] == [NOTE]


def test_a_pipe_gets_the_path_as_it_is_and_a_file_gets_plain_lines(monkeypatch):
    out, err = Stream(False), Stream(False)
    show(monkeypatch, out, err)
    assert out.getvalue() == f"{PATH}\n"
    assert err.getvalue() == f"Note: {NOTE}\nSaved {SAFE}  seed 7\n"


def test_what_the_model_recommends_is_said(monkeypatch):
    err = Stream(False)
    monkeypatch.setattr(sys, "stderr", err)
    values = {"steps": 4, "cfg_scale": 1.0, "sampler": "LCM"}
    told = {"images": 1, "steps": 4, "model": "tiny", "recommended": values}
    follow([Event("started", told)], Reply())
    assert err.getvalue() == "steps 4, cfg scale 1, sampler LCM, as the model recommends\n"


def test_a_pipe_gets_the_path_while_a_bar_is_shown(monkeypatch):
    out, err = Stream(False), Stream(True)
    show(monkeypatch, out, err)
    assert out.getvalue() == f"{PATH}\n"
    assert SAFE in err.getvalue()


def test_a_terminal_shows_the_path_once(monkeypatch):
    out, err = Stream(True), Stream(True)
    show(monkeypatch, out, err)
    assert out.getvalue() == ""
    assert err.getvalue().count(SAFE) == 1
    assert PATH not in err.getvalue()


def test_a_terminal_shows_the_path_where_the_bar_goes_to_a_file(monkeypatch):
    out, err = Stream(True), Stream(False)
    show(monkeypatch, out, err)
    assert out.getvalue() == f"{SAFE}\n"


def test_without_standard_output_there_is_still_the_bar(monkeypatch):
    closed = Stream(False)
    closed.close()
    for out in (None, closed):
        err = Stream(True)
        show(monkeypatch, out, err)
        assert SAFE in err.getvalue()
    show(monkeypatch, None, None)


def test_json_shows_nothing(monkeypatch):
    out, err = Stream(True), Stream(True)
    show(monkeypatch, out, err, Reply(as_json=True))
    assert (out.getvalue(), err.getvalue()) == ("", "")


def test_of_several_failures_each_is_said(monkeypatch):
    err = Stream(False)
    monkeypatch.setattr(sys, "stderr", err)
    failures = [
        Event("failed", {"error": kind, "text": text, "hint": "Do this."})
        for kind, text in (("BadFile", "first"), ("StudioError", "second"))
    ]
    with pytest.raises(StudioError, match="second") as caught:
        follow(failures, Reply())
    assert not isinstance(caught.value, BadFile)
    assert err.getvalue() == "Note: first. Do this.\n"

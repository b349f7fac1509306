"""`darkroom models pull`, against fake sites on this machine."""

import hashlib
import json

import pytest

from darkroom.cli.models import pull as verb
from darkroom.library.download import Guard
from library.serving import File, model, resolve, serving

LORA = model("lora")
SHA256 = hashlib.sha256(LORA).hexdigest()


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
        monkeypatch.setattr(verb, "_guard", lambda: Guard(allow=("127.0.0.1/32",), resolve=resolve))
        monkeypatch.setenv("HF_ENDPOINT", server.url("", "hub.test"))
        told = {
            "sha": "c0ffee",
            "siblings": [
                {"rfilename": "ink.safetensors", "size": len(LORA), "lfs": {"sha256": SHA256}}
            ],
        }
        server.json("/api/models/me/ink/revision/main", told)
        server.files["/me/ink/resolve/c0ffee/ink.safetensors"] = File(LORA)
        yield server


def test_a_model_is_pulled_into_the_library(call, server, tmp_path):
    ran = call("models", "pull", "me/ink")
    assert ran.exit_code == 0, ran.stderr
    path = tmp_path / "data" / "models" / "loras" / "ink.safetensors"
    assert path.read_bytes() == LORA
    assert str(path) in ran.stdout and "<lora:ink:1>" in ran.stdout
    (listed,) = json.loads(call("models", "list", "--kind", "lora", "--json").stdout)
    assert (listed["name"], listed["sha256"]) == ("ink", SHA256)  # not hashed again
    assert "Here already" in call("models", "pull", "me/ink").stdout


def test_json_is_one_value(call, server, tmp_path):
    server.files["/me/ink/resolve/c0ffee/ink.safetensors"].drops = [1000]
    server.files["/me/ink/resolve/c0ffee/ink.safetensors"].statuses = []
    ran = call("models", "pull", "me/ink", "--json", "--to", tmp_path / "here", "--name", "pen")
    told = json.loads(ran.stdout)
    assert told["path"] == str(tmp_path / "here" / "pen.safetensors")
    assert (told["kind"], told["sha256"], told["bytes"], told["already"]) == (
        "lora",
        SHA256,
        len(LORA),
        False,
    )
    assert "trying again" in told["warnings"][0]
    failed = json.loads(call("models", "pull", "me/other", "--json").stdout)
    assert failed["error"] == "DownloadError" and "404" in failed["text"]


def test_a_dry_run_fetches_nothing(call, server, tmp_path):
    ran = call("models", "pull", "me/ink", "--dry-run", "--kind", "loras")
    assert ran.exit_code == 0 and "ink.safetensors" in ran.stdout and "0.3 MB" in ran.stdout
    assert not (tmp_path / "data" / "models").exists()
    told = json.loads(call("models", "pull", "me/ink", "--dry-run", "--json").stdout)
    assert told["files"] == [{"name": "ink.safetensors", "bytes": len(LORA), "sha256": SHA256}]
    assert told["path"] is None
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a b"], "nothing that can be pulled"),
        (["me/ink", "--kind", "car"], "there is no kind"),
        (["me/ink", "--sha256", "xyz"], "hexadecimal"),
        (["me/ink", "--file", "ink.ckpt"], "ink.safetensors"),
        ([], "Missing argument|missing argument"),
    ],
)
def test_what_cannot_be_asked_is_a_bad_request(call, server, words, said):
    ran = call("models", "pull", *words)
    assert ran.exit_code == 2
    assert any(part in ran.stderr for part in said.split("|"))


def test_without_the_tests_guard_this_machine_is_refused(call, server, monkeypatch):
    monkeypatch.setattr(verb, "_guard", Guard)
    ran = call("models", "pull", f"http://127.0.0.1:{server.port}/x.safetensors")
    assert ran.exit_code == 1 and "not of the internet" in ran.stderr
    assert server.asked == []


def test_tokens_are_never_shown(call, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    server.files["/me/ink/resolve/c0ffee/ink.safetensors"].statuses = [(403, {})]
    ran = call("models", "pull", "me/ink")
    assert ran.exit_code == 1 and "HF_TOKEN" in ran.stderr
    assert "verysecret" not in ran.output
    assert all("Authorization" not in headers for _, _, headers in server.asked)  # it is http


def test_lines_on_progress_where_there_is_no_terminal(call, server, monkeypatch):
    monkeypatch.setattr(verb, "LINE_S", -1.0)
    ran = call("models", "pull", "me/ink")
    assert "ink.safetensors: 0.3 MB of 0.3 MB" in ran.stderr

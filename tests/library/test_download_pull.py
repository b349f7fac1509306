"""From what the user names to a model in its folder: fake sites, real files."""

import hashlib
import json
import os
import struct
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Event, Thread
from time import sleep

import pytest

from darkroom.core.errors import BadFile, BadRequest, DownloadError, OutputError, UnknownName
from darkroom.core.model import Kind
from darkroom.library import download
from darkroom.library.catalogue import Catalogue
from darkroom.library.download import Choice, Notice, Progress, Pulled, Puller, Sites
from darkroom.library.hashes import hashes_of
from darkroom.library.index import Index
from library.serving import File, model, serving

LORA, FLUX, ODD = model("lora"), model("flux"), model("odd")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


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


class Pull:
    """Pulls as the command line does, into a folder of its own."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        hub, civitai = server.url("", "hub.test"), server.url("", "civitai.test")
        sites = Sites(hub=hub, civitai=civitai, tokens={hub: "hf_secret", civitai: "c_secret"})
        self.catalogue = Catalogue(tuple, Index(folder.parent / "library.sqlite"))
        web = server.web(tokens=sites.tokens)
        self.puller = Puller(web, sites, folder, catalogue=self.catalogue)
        self.notes = []

    def plan(self, source, **choice):
        return self.puller.plan(source, Choice(**choice))

    def __call__(self, source, to=None, **choice):
        *before, last = self.puller.pull(self.plan(source, **choice), to=to)
        self.notes = [step.text for step in before if isinstance(step, Notice)]
        assert isinstance(last, Pulled)
        return last

    def repo(self, name, files, **more):
        """A repository on the fake Hugging Face; its files are elsewhere, as large ones are."""
        siblings = []
        for path, data in files.items():
            row = {"rfilename": path, "size": len(data)}
            if not path.endswith((".json", ".txt")):
                row["lfs"] = {"sha256": sha256(data), "size": len(data)}
            siblings.append(row)
            self.server.files[f"/{name}/resolve/c0ffee/{path}"] = File(
                b"", moved=self.server.url(f"/cdn/{sha256(data)}", "cdn.test")
            )
            self.server.files[f"/cdn/{sha256(data)}"] = File(data)
        told = {"id": name, "sha": "c0ffee", "siblings": siblings, **more}
        self.server.json(f"/api/models/{name}/revision/main", told)

    def files(self):
        return sorted(
            p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()
        )


@pytest.fixture
def pull(server, tmp_path):
    return Pull(server, tmp_path / "models")


# ---- Hugging Face


def test_the_one_file_of_a_repository(pull, server):
    pull.repo(
        "me/ink", {"README.md": b"#", "ink.safetensors": LORA, "ink.ckpt": b"x", "a.png": b"x"}
    )
    found = pull("me/ink")
    assert found.path == pull.folder / "loras" / "ink.safetensors"
    assert found.path.read_bytes() == LORA
    assert (found.kind, found.sha256, found.bytes, found.already) == (
        Kind.LORA,
        sha256(LORA),
        len(LORA),
        False,
    )
    assert pull.files() == ["loras/ink.safetensors"]
    told = {
        host.partition(":")[0]: headers.get("Authorization") for host, _, headers in server.asked
    }
    assert told == {"hub.test": "Bearer hf_secret", "cdn.test": None}


def test_a_meaningless_name_becomes_that_of_the_repository(pull):
    pull.repo("me/ink-lora", {"pytorch_lora_weights.safetensors": LORA})
    assert pull("me/ink-lora").path.name == "ink-lora.safetensors"
    assert pull("me/ink-lora", name="other").path.name == "other.safetensors"


def test_of_several_files_the_user_names_one(pull):
    pull.repo("me/two", {"a.safetensors": LORA, "sub/b.safetensors": ODD, "c.safetensors": ODD})
    with pytest.raises(BadRequest, match="2 files of weights") as caught:
        pull("me/two")
    assert "--file: a.safetensors, c.safetensors" in caught.value.hint
    assert pull("me/two:a.safetensors").path.name == "a.safetensors"
    assert pull("me/two", file="sub/b.safetensors").path.name == "b.safetensors"
    with pytest.raises(UnknownName, match="unknown file") as caught:
        pull("me/two:d.safetensors")
    assert "'a.safetensors'" in caught.value.hint


def parts(*, half=True):
    """A checkpoint as a folder, with all that such repositories carry."""
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "image_encoder": [None, None],
    }
    kept = {
        "model_index.json": json.dumps(index).encode(),
        "unet/config.json": b'{"a": 1}',
        "vae/config.json": b'{"b": 1}',
        "tokenizer/vocab.json": b"{}",
        "tokenizer/merges.txt": b"a",
        "vae/diffusion_pytorch_model.safetensors": model("odd", 5000),
    }
    halves = {
        "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors": model("odd", 1000),
        "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors": model("odd", 1001),
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json": b'{"half": 1}',
    }
    full = {
        "unet/diffusion_pytorch_model.safetensors": model("odd", 2000),
    }
    left = {
        "unet/diffusion_pytorch_model.bin": b"x",
        "unet/diffusion_pytorch_model.non_ema.safetensors": b"y",
        "unet/model.onnx": b"z",
        "vae/flax_model.msgpack": b"f",
        "vae/diffusion_pytorch_model.bin": b"v",
        "safety_checker/model.safetensors": b"s",
        "image_encoder/model.safetensors": b"i",
        "v1-5-pruned.ckpt": b"w",
        "README.md": b"#",
    }
    wanted = kept | (halves if half else full)
    return wanted, kept | halves | full | left


@pytest.mark.parametrize("half", [True, False])
def test_of_a_folder_only_what_is_needed(pull, half):
    wanted, everything = parts(half=half)
    pull.repo("me/sd", everything)
    plan = pull.plan("me/sd", full=not half)
    assert {file.name for file in plan.files} == set(wanted)
    assert plan.size == sum(map(len, wanted.values()))
    assert (plan.kind, plan.name, plan.folder, plan.notes) == (Kind.CHECKPOINT, "sd", True, ())


def test_a_folder_arrives_whole_under_its_name_and_goes_on_after_a_stop(pull, server):
    wanted, everything = parts()
    pull.repo("me/sd", everything)
    steps = pull.puller.pull(pull.plan("me/sd"))
    for step in steps:
        if isinstance(step, Progress) and step.done > 3000:
            break
    steps.close()
    assert not (pull.folder / "checkpoints").exists()
    asked = len(server.asked)
    found = pull("me/sd")
    assert found.path == pull.folder / "checkpoints" / "sd"
    there = {
        p.relative_to(found.path).as_posix(): p.read_bytes()
        for p in found.path.rglob("*")
        if p.is_file()
    }
    assert there == wanted
    assert len([1 for _, path, _ in server.asked[asked:] if "/cdn/" in path]) < len(wanted)
    assert all(name.startswith("checkpoints/sd/") for name in pull.files())
    assert pull.notes and ".part" not in pull.notes[0]  # these weights make no network
    assert pull("me/sd").already


def test_one_network_with_its_configuration_is_a_folder(pull):
    pull.repo(
        "me/vae",
        {
            "config.json": b"{}",
            "diffusion_pytorch_model.safetensors": ODD,
            "diffusion_pytorch_model.bin": b"x",
        },
    )
    plan = pull.plan("me/vae")
    assert [file.name for file in plan.files] == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert plan.folder and plan.name == "vae"


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (
            ("config.json", "vocab.txt", "model.safetensors", "pytorch_model.bin", "README.md"),
            ["config.json", "vocab.txt", "model.safetensors"],
        ),
        (
            ("config.json", "selected_tags.csv", "model.safetensors", "model.onnx"),
            ["config.json", "selected_tags.csv", "model.safetensors"],
        ),
        (("model.onnx", "selected_tags.csv", "model.msgpack"), ["selected_tags.csv", "model.onnx"]),
    ],
)
def test_captioners_come_with_their_words(pull, there, wanted):
    pull.repo("me/tags", {name: ODD if "safetensors" in name else b"{}" for name in there})
    plan = pull.plan("me/tags")
    assert [file.name for file in plan.files] == wanted
    assert plan.folder


def test_a_part_of_a_folder_can_be_named(pull):
    _, everything = parts()
    pull.repo("me/sd", everything)
    plan = pull.plan("me/sd", file="vae")
    assert [file.name for file in plan.files] == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert plan.name == "vae"


def test_another_kind_of_pipeline_is_noted_before_it_is_fetched(pull):
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    pull.repo(
        "me/flux",
        {
            "model_index.json": json.dumps(index).encode(),
            "transformer/diffusion_pytorch_model.safetensors": FLUX,
        },
    )
    assert "FluxPipeline" in pull.plan("me/flux").notes[0]


@pytest.mark.parametrize(
    ("status", "cure"),
    [(401, "HF_TOKEN"), (403, "Ask for access"), (404, "Check the spelling of 'me/x'")],
)
def test_a_repository_that_is_not_given_says_what_to_do(pull, server, status, cure):
    server.files["/api/models/me/x/revision/main"] = File(b"", statuses=[(status, {})])
    with pytest.raises(DownloadError, match=str(status)) as caught:
        pull("me/x")
    assert cure in caught.value.hint and "hf_secret" not in caught.value.sentence()


def test_a_gated_file_says_where_its_terms_are(pull, server):
    pull.repo("me/gated", {"x.safetensors": LORA}, gated="auto")
    server.files["/me/gated/resolve/c0ffee/x.safetensors"] = File(b"", statuses=[(401, {})])
    with pytest.raises(DownloadError) as caught:
        pull("me/gated")
    assert "Accept the terms on" in caught.value.hint and "me/gated" in caught.value.hint


@pytest.mark.parametrize(
    "told", [[], {"siblings": 3}, {"siblings": [3, {"rfilename": 5}]}, "x", None]
)
def test_nonsense_of_a_site_is_an_error_of_ours(pull, server, told):
    server.json("/api/models/me/x/revision/main", told)
    server.json("/api/v1/models/5", told)
    server.json("/api/v1/model-versions/5", told)
    for source in ("me/x", "civitai:5", "civitai:5@5"):
        with pytest.raises((DownloadError, BadRequest)):
            pull(source)


def test_a_repository_cannot_write_outside_of_its_folder(pull):
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["a", "b"], "..": ["a", "b"]}
    pull.repo(
        "me/evil",
        {
            "model_index.json": json.dumps(index).encode(),
            "../x.json": b"{}",
            "unet/config.json": b"{}",
        },
    )
    with pytest.raises(BadFile, match="odd name"):
        pull("me/evil")


# ---- Civitai


def version(server, data=LORA, kind="LORA", **more):
    return {
        "id": 77,
        "modelId": 7,
        "name": "v2",
        "trainedWords": ["inkstyle", "bold lines"],
        "model": {"name": "Ink", "type": kind},
        "files": [
            {"id": 1, "name": "ink.pt", "type": "Model", "metadata": {"format": "PickleTensor"}, "primary": True,
             "hashes": {"SHA256": "0" * 64}, "sizeKB": 1, "downloadUrl": server.url("/no", "civitai.test")},
            {"id": 2, "name": "ink_v2.safetensors", "type": "Model", "metadata": {"format": "SafeTensor"},
             "hashes": {"SHA256": sha256(data).upper()}, "sizeKB": len(data) / 1024,
             "downloadUrl": server.url("/api/download/models/77?type=Model", "civitai.test")},
            {"id": 3, "name": "data.zip", "type": "Training Data", "hashes": {}},
        ],
        "images": [
            {"url": server.url("/wild.png", "cdn.test"), "nsfwLevel": 16, "type": "image"},
            {"url": server.url("/film.mp4", "cdn.test"), "nsfwLevel": 0, "type": "video"},
            {"url": server.url("/mild.png", "cdn.test"), "nsfwLevel": 1, "type": "image"},
        ],
    } | more  # fmt: skip


@pytest.fixture
def civitai(server):
    server.json("/api/v1/model-versions/77", version(server))
    server.json(
        "/api/v1/models/7",
        {
            "id": 7,
            "name": "Ink",
            "type": "LORA",
            "modelVersions": [version(server, model=None), {"id": 1, "files": []}],
        },
    )
    server.files["/api/download/models/77"] = File(
        b"", moved=server.url("/bucket/x?signature=S", "cdn.test")
    )
    server.files["/bucket/x"] = File(
        LORA, headers={"Content-Disposition": 'attachment; filename="../evil.safetensors"'}
    )
    server.files["/mild.png"] = File(b"\x89PNG\r\n\x1a\n mild")
    return server


@pytest.mark.parametrize(
    "source",
    [
        "civitai:7",
        "civitai:7@77",
        "https://civitai.com/models/7/ink?modelVersionId=77",
        "https://civitai.com/api/download/models/77?format=SafeTensor",
    ],
)
def test_a_model_on_civitai(pull, civitai, source):
    found = pull(source)
    assert found.path == pull.folder / "loras" / "ink_v2.safetensors"
    assert found.path.read_bytes() == LORA
    assert found.triggers == ("inkstyle", "bold lines")
    assert pull.files() == [
        "loras/ink_v2.civitai.info",
        "loras/ink_v2.preview.png",
        "loras/ink_v2.safetensors",
    ]
    info = json.loads(found.path.with_suffix(".civitai.info").read_text("utf-8"))
    assert (info["id"], info["modelId"], info["trainedWords"][0]) == (77, 7, "inkstyle")
    tokens = {
        host.partition(":")[0]: headers.get("Authorization") for host, _, headers in civitai.asked
    }
    assert tokens == {"civitai.test": "Bearer c_secret", "cdn.test": None}


def test_a_file_of_a_version_can_be_named(pull, civitai):
    assert pull.plan("civitai:7", file="ink.pt").files[0].url.endswith("/no")
    with pytest.raises(UnknownName, match=r"ink_v3\.pt"):
        pull("civitai:7", file="ink_v3.pt")


def test_a_page_without_its_picture_is_noted_and_no_failure(pull, civitai):
    del civitai.files["/mild.png"]
    assert pull("civitai:7").path.exists()
    assert "picture could not be fetched" in pull.notes[0]


def test_a_login_page_instead_of_the_file_names_the_token(pull, civitai):
    civitai.files["/bucket/x"] = File(b"<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(BadFile, match="web page") as caught:
        pull("civitai:7")
    assert "CIVITAI_API_TOKEN" in caught.value.hint
    assert pull.files() == []


def test_another_file_than_the_pages_is_deleted(pull, civitai):
    civitai.files["/bucket/x"] = File(model("lora", 300_001))
    with pytest.raises(DownloadError, match="sha256"):
        pull("civitai:7")
    assert not [name for name in pull.files() if name.endswith((".part", ".safetensors"))]


def test_the_page_says_what_a_file_is_where_its_header_does_not(pull, server):
    server.json("/api/v1/model-versions/77", version(server, ODD, "Upscaler", images=[]))
    server.files["/api/download/models/77"] = File(ODD)
    assert pull("civitai:7@77").path.parent.name == "upscale_models"


# ---- links, and what is in the way


def test_a_link_goes_where_its_header_says(pull, server):
    server.files["/some/ink.safetensors"] = File(LORA)
    assert (
        pull(server.url("/some/ink.safetensors?x=1")).path
        == pull.folder / "loras" / "ink.safetensors"
    )
    server.files["/odd.safetensors"] = File(ODD)
    assert pull(server.url("/odd.safetensors")).path.parent.name == "other"
    assert pull(server.url("/odd.safetensors"), kind=Kind.VAE).path.parent.name == "vae"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="a.safetensors"', "a.safetensors"),
        ("attachment; filename*=UTF-8''%E6%A8%A1.safetensors", "模.safetensors"),
        ('attachment; filename="../../../evil.safetensors"', "evil.safetensors"),
        ('attachment; filename="..\\\\..\\\\con.safetensors"', "_con.safetensors"),
        ('attachment; filename=".bashrc"', "bashrc.safetensors"),
        ("attachment; filename*=nonsense''%FF", "model.safetensors"),
        ("", "model.safetensors"),
    ],
)
def test_a_name_from_the_server_is_made_safe(pull, server, header, name):
    server.files["/get"] = File(LORA, headers={"Content-Disposition": header} if header else {})
    found = pull(server.url("/get?id=5"))
    assert found.path.parent == pull.folder / "loras"
    if "nonsense" not in header:
        assert found.path.name == name


WRONG = [
    (b"<html><body>Please log in</body></html>", "web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git-LFS pointer"),
    (b"", "empty"),
    (b'{"error": "x"}', "text file"),
    (b"\x89PNG\r\n\x1a\n" + b"x" * 9000, "picture"),
    (struct.pack("<Q", 40) + b'{"a": nonsense}' + b" " * 9000, "damaged"),
    (LORA[:-5], "truncated"),
    (LORA + b"more", "longer"),
    (b"\x80\x02cos\nsystem\nU\x02idq\x00\x85R.", "code|pickle"),
]


@pytest.mark.parametrize(("data", "what"), WRONG)
def test_what_is_no_model_is_said_and_not_kept(pull, server, data, what):
    server.files["/x.safetensors"] = File(data)
    with pytest.raises(BadFile, match=what) as caught:
        pull(server.url("/x.safetensors"))
    assert str(pull.folder) not in str(caught.value)
    assert pull.files() == []


def test_what_is_in_the_way_is_said_before_the_rest_is_fetched(pull, server):
    server.files["/x.safetensors"] = File(model("lora", 20_000_000))
    target = pull.folder / "loras" / "x.safetensors"
    target.parent.mkdir(parents=True)
    target.symlink_to("nowhere")
    with pytest.raises(BadRequest, match="is there already"):
        pull(server.url("/x.safetensors"))
    target.unlink()
    target.write_bytes(b"precious")
    server.files["/x.safetensors"].drops = [5_000_000]
    with pytest.raises(BadRequest, match="is there already"):
        pull(server.url("/x.safetensors"))
    assert target.read_bytes() == b"precious"


def test_a_page_is_noticed_before_the_rest_is_fetched(pull, server):
    page = b"<html>" + b"x" * 50_000_000
    server.files["/x.safetensors"] = File(page)
    shown = []
    with pytest.raises(BadFile):
        for step in pull.puller.pull(pull.plan(server.url("/x.safetensors"))):
            shown.append(step)
    assert not shown
    server.files["/x.safetensors"].chunked = True  # as most pages are
    with pytest.raises(BadFile, match="web page"):
        pull(server.url("/x.safetensors"))


def test_a_model_that_cannot_run_is_noted_at_once_and_fetched(pull, server):
    server.files["/flux.safetensors"] = File(model("flux", 8_000_000))
    steps = list(pull.puller.pull(pull.plan(server.url("/flux.safetensors"))))
    assert isinstance(steps[0], Notice) and "Flux" in steps[0].text
    assert "flux.safetensors" in steps[0].text and ".part" not in steps[0].text
    assert steps[-1].path == pull.folder / "checkpoints" / "flux.safetensors"


def test_what_is_there_is_never_written_over(pull, server):
    server.files["/x.safetensors"] = File(LORA)
    target = pull.folder / "loras" / "x.safetensors"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"precious")
    with pytest.raises(BadRequest, match="is there already") as caught:
        pull(server.url("/x.safetensors"))
    assert "--name" in caught.value.hint and target.read_bytes() == b"precious"
    assert pull(server.url("/x.safetensors"), name="y").path.name == "y.safetensors"
    assert not any(name.endswith(".part") for name in pull.files())


def test_the_same_file_is_here_already(pull, server):
    pull.repo("me/ink", {"ink.safetensors": LORA})
    pull("me/ink")
    asked = len(server.asked)
    again = pull("me/ink", kind=Kind.LORA)
    assert again.already and again.sha256 == sha256(LORA)
    assert len(server.asked) == asked + 1  # the list of files
    assert pull("me/ink").already


def test_what_is_here_is_not_fetched_again(pull, server):
    pull.repo("me/ink", {"ink.safetensors": LORA})
    pull("me/ink")
    asked = len(server.asked)
    again = pull("me/ink")  # the page does not say what kind it is
    assert again.already and again.path == pull.folder / "loras" / "ink.safetensors"
    assert not [path for _, path, _ in server.asked[asked:] if "resolve" in path or "cdn" in path]


@pytest.mark.parametrize(
    "headers", [{}, {"ETag": "", "Last-Modified": "Mon, 01 Jan 2024 00:00:00"}]
)
def test_a_link_that_was_pulled_is_here_already_unless_it_changed(pull, server, headers):
    data = model("lora", 20_000_000)
    server.files["/x.safetensors"] = File(data, headers=headers)
    address = server.url("/x.safetensors")
    first = pull(address)
    again = pull(address)
    assert again.already and (again.path, again.sha256) == (first.path, first.sha256)
    assert pull.files() == ["loras/x.safetensors"]
    server.files["/x.safetensors"] = File(data, etag='"two"', headers={"Last-Modified": "Tue"})
    with pytest.raises(BadRequest, match="is there already"):
        pull(address)
    first.path.unlink()
    assert not pull(address).already


def test_a_pull_that_goes_on_is_hashed_as_a_whole(pull, server, monkeypatch):
    data = model("lora", 3_000_000)
    server.files["/x.safetensors"] = File(data, drops=[5, 1_500_000])
    found = pull(server.url("/x.safetensors"))
    expected = hashes_of(found.path)
    monkeypatch.setattr(hashlib, "file_digest", None)  # so nothing is read again
    assert pull.catalogue.hashes(found.path) == expected
    assert expected.autov3 != expected.sha256[:12] and expected.legacy != "e3b0c442"


def test_a_hash_of_the_user_is_held_to(pull, server):
    server.files["/x.safetensors"] = File(LORA)
    with pytest.raises(DownloadError, match="sha256"):
        pull(server.url("/x.safetensors"), sha256="0" * 64)
    assert pull(server.url("/x.safetensors"), sha256=sha256(LORA)[:10].upper()).path.exists()


def test_a_folder_of_the_users(pull, server, tmp_path):
    server.files["/x.safetensors"] = File(LORA)
    found = pull(server.url("/x.safetensors"), to=tmp_path / "a" / "b")
    assert found.path == tmp_path / "a" / "b" / "x.safetensors"
    assert list(found.path.parent.iterdir()) == [found.path]


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "CON", "x\n"])
def test_a_name_of_the_users_is_one_name(pull, server, name):
    with pytest.raises(BadRequest, match="no name for a file"):
        pull.plan(server.url("/x.safetensors"), name=name)


def test_two_processes_do_not_fetch_the_same_file(pull, server):
    arrived, go = Event(), Event()

    def slow(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(LORA)))
        handler.end_headers()
        handler.wfile.write(LORA[:100_000])
        arrived.set()
        go.wait(10)
        handler.wfile.write(LORA[100_000:])

    server.files["/x.safetensors"] = slow
    found = []
    one = Thread(target=lambda: found.append(pull(server.url("/x.safetensors"))))
    one.start()
    assert arrived.wait(10)
    with pytest.raises(BadRequest, match="another Darkroom"):
        Pull(server, pull.folder)(server.url("/x.safetensors"))
    go.set()
    one.join()
    assert found[0].path.read_bytes() == LORA
    assert pull.files() == ["loras/x.safetensors"]


STOPPED = """
import sys
from pathlib import Path
from darkroom.library import download
from darkroom.library.catalogue import Catalogue
from darkroom.library.download import Choice, Guard, Puller, Sites, Web
from darkroom.library.index import Index
from library.serving import resolve
folder = Path(sys.argv[2])
catalogue = Catalogue(tuple, Index(folder.parent / "library.sqlite"))
web = Web(Guard(("127.0.0.1/32",), resolve))
puller = Puller(web, Sites(), folder, catalogue=catalogue)
for _ in puller.pull(puller.plan(sys.argv[1], Choice())):
    print("came", flush=True)
"""


def test_a_pull_that_was_killed_goes_on(pull, server):
    data = model("lora", 5_000_000)
    server.files["/x.safetensors"] = File(data)

    def stuck(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        handler.wfile.write(data[:2_000_000])
        handler.wfile.flush()
        sleep(1)

    file, server.files["/x.safetensors"] = server.files["/x.safetensors"], stuck
    paths = os.pathsep.join(("src", "tests"))
    command = [sys.executable, "-c", STOPPED, server.url("/x.safetensors"), str(pull.folder)]
    root = Path(__file__).parent.parent.parent
    child = Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": paths}, stdout=PIPE)
    with child:
        assert child.stdout.readline() == b"came\n"
        child.kill()
    server.files["/x.safetensors"] = file
    assert pull(server.url("/x.safetensors")).path.read_bytes() == data
    assert int(server.ranges[-1].removeprefix("bytes=").removesuffix("-")) > 0
    assert pull.files() == ["loras/x.safetensors"]


def test_an_embedding_in_a_picture_is_taken_where_it_is_said_to_be_one(pull, server):
    picture = b"\x89PNG\r\n\x1a\n" + b"x" * 9000
    server.files["/style.png"] = File(picture)
    found = pull(server.url("/style.png"), kind=Kind.EMBEDDING)
    assert found.path == pull.folder / "embeddings" / "style.png"


def test_what_the_package_gives_is_all_that_others_use():
    assert set(download.__all__) == {
        "Choice", "Guard", "Notice", "Plan", "Progress", "Pulled", "Puller", "Sites", "Web",
    }  # fmt: skip


def test_room_for_a_whole_folder_is_asked_for_first(pull, server, monkeypatch):
    pull.repo("me/sd", parts()[1])
    usage = type("Usage", (), {"free": (64 << 20) + 3000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    steps = pull.puller.pull(pull.plan("me/sd"))
    asked = len(server.asked)
    with pytest.raises(OutputError, match="still to come") as caught:
        list(steps)
    assert "--to" in caught.value.hint
    assert len(server.asked) == asked


def test_a_folder_that_cannot_be_written_names_the_flag_for_another(pull, server):
    server.files["/x.safetensors"] = File(LORA)
    pull.folder.write_text("a file")
    with pytest.raises(OutputError) as caught:
        pull(server.url("/x.safetensors"))
    assert "--to" in caught.value.hint


def test_nothing_is_written_by_a_plan(pull, server):
    pull.repo("me/ink", {"ink.safetensors": LORA})
    pull.plan("me/ink")
    assert not pull.folder.exists()
    assert Path(pull.folder).parent.exists()

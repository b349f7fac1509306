"""What a user may name, and the names that strangers give to files."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.core.errors import BadRequest, StudioError
from darkroom.library.download.names import LONGEST, is_safe_path, safe_name
from darkroom.library.download.sources import CivitaiModel, HubModel, Link, Sites, read_source

HUB = [
    ("runwayml/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5", "main", ""),
    ("hf:owner/name", "owner/name", "main", ""),
    ("hf://owner/name", "owner/name", "main", ""),
    ("owner/name:file.safetensors", "owner/name", "main", "file.safetensors"),
    ("owner/name@fp16:unet/x.bin", "owner/name", "fp16", "unet/x.bin"),
    ("https://huggingface.co/owner/name", "owner/name", "main", ""),
    ("https://huggingface.co/owner/name/", "owner/name", "main", ""),
    ("https://hf.co/owner/name", "owner/name", "main", ""),
    ("https://huggingface.co/owner/name/tree/fp16", "owner/name", "fp16", ""),
    ("https://huggingface.co/owner/name/tree/main/vae", "owner/name", "main", "vae"),
    ("https://huggingface.co/owner/name/blob/main/a%20b.ckpt", "owner/name", "main", "a b.ckpt"),
    (
        "https://huggingface.co/owner/name/resolve/refs%2Fpr%2F1/x.pt?download=true",
        "owner/name",
        "refs/pr/1",
        "x.pt",
    ),
    ("urn:air:sdxl:checkpoint:huggingface:owner/name@v1", "owner/name", "v1", ""),
]
CIVITAI = [
    ("civitai:123", 123, None),
    ("civitai:123@456", 123, 456),
    ("https://civitai.com/models/123", 123, None),
    ("https://www.civitai.com/models/123/some-slug?tab=x", 123, None),
    ("https://civitai.com/models/123?modelVersionId=456", 123, 456),
    ("https://civitai.com/api/download/models/456", None, 456),
    ("https://civitai.com/api/v1/models/123", 123, None),
    ("https://civitai.com/api/v1/model-versions/456", None, 456),
    ("urn:air:sd1:lora:civitai:123@456", 123, 456),
    ("urn:air:sdxl:checkpoint:civitai:123@456.safetensors", 123, 456),
    ("air:sd1:lora:civitai:123", 123, None),
]


@pytest.mark.parametrize(("text", "repo", "revision", "file"), HUB)
def test_hugging_face_is_read(text, repo, revision, file):
    assert read_source(f" {text} ") == HubModel(repo=repo, revision=revision, file=file)


@pytest.mark.parametrize(("text", "model", "version"), CIVITAI)
def test_civitai_is_read(text, model, version):
    found = read_source(text)
    assert isinstance(found, CivitaiModel)
    assert (found.model, found.version) == (model, version)


def test_a_download_links_wishes_are_kept_and_its_token_is_not():
    found = read_source(
        "https://civitai.com/api/download/models/4?type=Model&format=SafeTensor&token=SECRET"
    )
    assert found == CivitaiModel(version=4, wishes={"type": "Model", "format": "SafeTensor"})


def test_any_other_link_is_a_file():
    assert read_source("https://example.com/a.safetensors?x=1") == Link(
        url="https://example.com/a.safetensors?x=1"
    )
    assert "x=1" not in str(read_source("https://example.com/a.safetensors?x=1"))


@pytest.mark.parametrize(
    "text",
    ["", "name", "a/b/c", "../x", "owner/..", "owner/name:../../x", "C:\\models\\x", "/etc/passwd", "ftp://x/y",
     "https://huggingface.co/datasets/a/b", "https://huggingface.co/spaces/a/b", "https://huggingface.co/",
     "https://huggingface.co/a/b/blob/main/..%2f..%2fx", "https://civitai.com/user/x", "https://civitai.com/models/x",
     "civitai:0", "civitai:x", "urn:air:sd1:lora:other:1@2", "https://user:pw@example.com/x", "hf:"],
)  # fmt: skip
def test_what_names_nothing_is_a_bad_request_with_the_forms(text):
    with pytest.raises(BadRequest):
        read_source(text)


def test_a_mirror_of_hugging_face_is_honoured():
    sites = Sites.of(
        {"HF_ENDPOINT": "https://mirror.example/", "HF_TOKEN": "hf_x", "CIVITAI_TOKEN": " c "}
    )
    assert sites.hub == "https://mirror.example"
    assert sites.tokens == {"https://mirror.example": "hf_x", "https://civitai.com": "c"}
    assert read_source("https://mirror.example/a/b", hub=sites.hub) == HubModel(repo="a/b")
    assert "hf_x" not in repr(sites)


def test_tokens_do_not_go_over_http_and_odd_ones_are_not_shown():
    assert Sites.of({"HF_ENDPOINT": "http://mirror.example", "HF_TOKEN": "hf_x"}).tokens == {}
    with pytest.raises(BadRequest, match="HF_TOKEN") as caught:
        Sites.of({"HF_TOKEN": "hf_se\ncret"})
    assert "cret" not in caught.value.sentence()


@given(
    st.text(max_size=80)
    | st.from_regex(r"(civitai:|hf:|urn:air:|https://(huggingface\.co|civitai\.com)/).{0,40}")
)
def test_every_source_is_read_or_refused(text):
    try:
        found = read_source(text)
    except StudioError:
        return
    match found:
        case HubModel():
            assert (
                re.fullmatch(r"[\w.\-]+(/[\w.\-]+)?", found.repo, re.A) and ".." not in found.repo
            )
            assert not found.file or is_safe_path(found.file)
        case CivitaiModel():
            assert found.model or found.version
        case Link():
            assert found.url.lower().startswith("http")


NAMES = [
    ("model.safetensors", "model.safetensors"),
    ("../../etc/passwd", "passwd"),
    ("..\\..\\x.pt", "x.pt"),
    (".hidden.ckpt", "hidden.ckpt"),
    ("a\0b\n.pt", "ab.pt"),
    ("CON.safetensors", "_CON.safetensors"),
    ("nul", "_nul"),
    ('a<b>:"|?*.pt', "a_b______.pt"),
    ("name. . ", "name"),
    ("", "model"),
    ("...", "model"),
    ("a/", "model"),
    ("\u202egnp.exe", "gnp.exe"),
    ("模型 v2.safetensors", "模型 v2.safetensors"),
]


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_names_are_made_safe(text, name):
    assert safe_name(text) == name


def test_long_names_keep_their_extension():
    name = safe_name("ж" * 500 + ".safetensors")
    assert name.endswith("ж.safetensors") and len(name.encode()) <= LONGEST


@given(st.text(max_size=300))
def test_every_name_is_safe(text):
    name = safe_name(text)
    assert name and len(name.encode()) <= LONGEST + 1
    assert not set(name) & set('/\\<>:"|?*\0\n\r') and name[0] != "." and name[-1] not in ". "
    assert safe_name(name) == name
    assert is_safe_path(name)

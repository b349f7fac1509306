"""Where requests name pictures and models."""

import pytest
from pydantic import BaseModel

from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.model import Kind
from darkroom.core.places import MODELS, PICTURES, models, replaced, sources
from darkroom.core.request import ImageRequest
from darkroom.core.series import KINDS, parse_request

WHOLE = {
    "prompt": "x",
    "init": {"image": "a.png"},
    "mask": {"image": "b.png"},
    "hires": {"model": "big", "upscaler": "4x", "first": "c.png"},
    "refiner": {"model": "fine"},
    "regions": [{"prompt": "y", "mask": "d.png"}, {"prompt": "z", "box": (0, 0, 1, 1)}],
    "detail": [{"detector": "eyes.onnx"}, {"detector": "face", "model": "big"}],
    "restore": {"model": "CodeFormer"},
}


def test_every_picture_and_every_model_is_found():
    request = ImageRequest.parse(WHOLE)
    assert sources(request) == ["a.png", "b.png", "c.png", "d.png"]
    assert set(models(request)) == {
        (Kind.CHECKPOINT, "big"),
        (Kind.CHECKPOINT, "fine"),
        (Kind.UPSCALER, "4x"),
        (Kind.DETECTOR, "eyes.onnx"),
        (Kind.RESTORER, "CodeFormer"),
    }


def test_all_of_them_can_be_replaced_and_what_comes_along_stays():
    request = replaced(
        ImageRequest.parse(WHOLE),
        picture=lambda name: f"sha256:{name}",
        model=lambda kind, name: f"{kind}/{name}",
    )
    assert sources(request) == [f"sha256:{name}.png" for name in "abcd"]
    assert request.detail[0].detector == "detector/eyes.onnx"
    assert request.detail[1].detector == "face"
    assert request.hires is not None
    assert request.hires.model == "checkpoint/big"
    assert replaced(request, model=lambda _kind, name: name) == request


@pytest.mark.parametrize("name", ["Latent", "latent (nearest-exact)", "Lanczos", "auto", "NEAREST"])
def test_what_enlarges_without_a_file_is_no_model(name):
    assert models(ImageRequest.parse({"hires": {"upscaler": name}})) == []


@pytest.mark.parametrize("kind", PICTURES)
def test_the_tables_name_fields_that_are_there(kind):
    for path in (*PICTURES[kind], *MODELS[kind]):
        block: type[BaseModel] = KINDS[kind]
        for name in path[:-1]:
            if name != "*":
                inner = [
                    part
                    for part in getattr(block.model_fields[name].annotation, "__args__", ())
                    if isinstance(part, type) and issubclass(part, BaseModel)
                ]
                block = inner[0]
        assert path[-1] in block.model_fields


def test_requests_of_every_kind_are_read_and_what_is_none_is_refused():
    assert isinstance(parse_request({"prompt": "x"}), ImageRequest)
    asked = parse_request({"kind": "grid", "base": {"prompt": "x"}})
    assert asked.kind == "grid"
    with pytest.raises(UnknownName, match="unknown kind of request 'imgae'"):
        parse_request({"kind": "imgae"})
    with pytest.raises(BadRequest, match="an object with fields"):
        parse_request([1])
    with pytest.raises(BadRequest, match=r"hires\.scal: there is no such field"):
        parse_request({"hires": {"scal": 2}})
    with pytest.raises(BadRequest, match=r"detail\.0\.strength"):
        parse_request({"detail": [{"strength": 2}]})
    with pytest.raises(BadRequest, match="mask needs a picture to begin with"):
        parse_request({"mask": {"image": "m.png"}})

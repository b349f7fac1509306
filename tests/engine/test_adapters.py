"""Files that are read once, as long as there is room for them."""

from types import SimpleNamespace

import pytest

from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.engine import adapters
from darkroom.engine.adapters import AdapterCache


def card(letter):
    return ModelCard(
        sha256=letter * 64, path=f"{letter}.safetensors", name=letter, kind=Kind.LORA,
        arch=Arch.SD1, bytes=1,
    )  # fmt: skip


@pytest.fixture
def read(monkeypatch):
    """What was read, in order; each file takes 10 bytes."""
    paths = []
    fitted = SimpleNamespace(check=lambda: None)
    monkeypatch.setattr(adapters, "read_header", lambda path: path)
    monkeypatch.setattr(adapters, "targets_of", lambda detected: detected)
    monkeypatch.setattr(adapters, "fit", lambda _header, _targets: fitted)

    def network(path, _fit=None):
        paths.append(path.stem)
        return SimpleNamespace(bytes=10)

    monkeypatch.setattr(adapters, "read_network", network)
    monkeypatch.setattr(adapters, "read_hypernetwork", network)
    return paths


def base(letter):
    return SimpleNamespace(card=card(letter), networks=SimpleNamespace(detected=None))


def test_a_file_is_read_once_for_each_checkpoint(read):
    cache = AdapterCache(100)
    first = cache.lora(card("a"), base("x"))
    assert cache.lora(card("a"), base("x")) is first
    assert cache.lora(card("a"), base("y")) is not first
    assert cache.hypernetwork(card("h")) is cache.hypernetwork(card("h"))
    assert read == ["a", "a", "h"]
    assert cache.bytes == 30


def test_the_least_recently_used_goes_first_and_one_always_stays(read):
    cache = AdapterCache(25)
    for letter in "abaca":
        cache.lora(card(letter), base("x"))
    assert read == ["a", "b", "c"]
    cache.lora(card("b"), base("x"))
    assert read == ["a", "b", "c", "b"]
    assert cache.bytes == 20
    small = AdapterCache(5)
    assert small.lora(card("a"), base("x")) is small.lora(card("a"), base("x"))
    cache.clear()
    assert cache.bytes == 0

from dataclasses import dataclass

from darkroom.engine.models import ModelCache


@dataclass
class Card:
    sha256: str


@dataclass
class Fake:
    card: Card
    bytes: int


def add(cache, name, size):
    cache.make_room(size)
    cache.keep(Fake(Card(name), size))


def test_the_least_recently_used_goes_first_and_the_budget_holds():
    cache = ModelCache(10)
    for name in "abc":
        add(cache, name, 3)
    assert cache.find("a") is not None
    add(cache, "d", 3)
    assert cache.find("b") is None
    assert [bool(cache.find(name)) for name in "acd"] == [True, True, True]
    assert cache.bytes <= 10


def test_room_is_made_before_the_new_one_comes():
    cache = ModelCache(10)
    add(cache, "a", 8)
    cache.make_room(8)
    assert cache.bytes == 0


def test_one_larger_than_the_budget_is_kept_alone():
    cache = ModelCache(10)
    add(cache, "a", 4)
    add(cache, "huge", 100)
    assert cache.find("huge") is not None
    assert cache.find("a") is None


def test_drop_others_keeps_one():
    cache = ModelCache(100)
    for name in "abc":
        add(cache, name, 3)
    cache.drop_others("b")
    assert cache.find("b") is not None
    assert cache.bytes == 3

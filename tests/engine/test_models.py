from dataclasses import dataclass

from darkroom.engine.models import ModelCache


@dataclass
class Fake:
    bytes: int


class Other(Fake):
    pass


def add(cache, name, size):
    cache.make_room(size)
    cache.keep(name, Fake(size))


def found(cache, names):
    return [name for name in names if cache.find(name, Fake) is not None]


def test_the_least_recently_used_goes_first_and_the_budget_holds():
    cache = ModelCache(10)
    for name in "abc":
        add(cache, name, 3)
    assert cache.find("a", Fake) is not None
    add(cache, "d", 3)
    assert found(cache, "abcd") == ["a", "c", "d"]
    assert cache.bytes <= 10


def test_room_is_made_before_the_new_one_comes():
    cache = ModelCache(10)
    add(cache, "a", 8)
    cache.make_room(8)
    assert cache.bytes == 0


def test_what_the_new_one_is_for_stays():
    """A checkpoint is not let go for the VAE that it is to have."""
    cache = ModelCache(10)
    for name in "abc":
        add(cache, name, 3)
    cache.make_room(7, keep="a")
    assert found(cache, "abc") == ["a"]
    cache.make_room(100, keep="a")
    assert found(cache, "abc") == ["a"]


def test_one_larger_than_the_budget_is_kept_alone():
    cache = ModelCache(10)
    add(cache, "a", 4)
    add(cache, "huge", 100)
    assert found(cache, ["a", "huge"]) == ["huge"]


def test_a_key_finds_only_its_own_kind():
    cache = ModelCache(10)
    cache.keep("a", Fake(1))
    assert cache.find("a", Other) is None
    assert cache.find("b", Fake) is None


def test_drop_others_keeps_some():
    cache = ModelCache(100)
    for name in "abc":
        add(cache, name, 3)
    cache.drop_others("bc")
    assert found(cache, "abc") == ["b", "c"]
    assert cache.bytes == 6

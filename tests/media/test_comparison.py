"""The page that shows pictures side by side."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from darkroom.core.recipe import Recipe
from darkroom.core.request import ResolvedRequest
from darkroom.media.comparison import Shown, comparison, differing
from darkroom.media.image import save
from darkroom.media.metadata import find


@pytest.fixture
def shown(tmp_path):
    def one(name, *, size=(32, 24), seed=5, prompt="a fox"):
        request = ResolvedRequest(
            prompt=prompt, width=64, height=64, steps=3, cfg_scale=7, seed=seed
        )
        picture = Image.new("RGB", size, (seed * 9, 0, 0))
        path = save(picture, Recipe(request=request, seed=seed), iter([tmp_path / name])).path
        return Shown(path=path, picture=picture, found=find(path))

    return one


class Tags(HTMLParser):
    """Counts the tags and keeps their attributes."""

    def __init__(self, text):
        super().__init__()
        self.seen = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def of(self, name):
        return [attrs for tag, attrs in self.seen if tag == name]


def test_two_of_a_size_have_a_slider_and_a_map(shown):
    made = comparison([shown("a.png"), shown("b.png", seed=6)])
    tags = Tags(made)
    assert [each["type"] for each in tags.of("input")] == ["range"]
    assert len(tags.of("img")) == 5
    assert len(tags.of("script")) == 1
    assert all(each["src"].startswith("data:image/webp;base64,") for each in tags.of("img"))
    assert "100.00% of the pixels differ" in made


def test_others_stand_side_by_side_without_a_script(shown):
    for pictures in (
        [shown("a.png"), shown("b.png", size=(8, 8))],
        [shown(f"{n}.png", seed=n) for n in range(4)],
    ):
        tags = Tags(comparison(pictures))
        assert len(tags.of("figure")) == len(pictures)
        assert not tags.of("script")
        assert not tags.of("input")


def test_nothing_is_fetched_and_nothing_runs_from_a_tag(shown):
    hostile = shown("<img src=x onerror=alert(1)>.png", prompt='"><script>alert(1)</script>')
    made = comparison([hostile, shown("b.png", prompt="<b>")])
    for _, attributes in Tags(made).seen:
        assert not {name for name in attributes if name.startswith("on") or name == "style"}
    assert "<script>alert" not in made
    assert not re.search(r"(?:src|href)=\"https?:", made)


def test_linked_pictures_are_not_in_the_page(shown, tmp_path):
    made = comparison([shown("a b.png"), shown("b.png", size=(8, 8))], linked_from=tmp_path)
    assert [each["src"] for each in Tags(made).of("img")] == ["a%20b.png", "b.png"]
    assert "base64" not in made.partition("<body>")[2]


def test_the_table_has_what_is_not_the_same_in_all(shown):
    pictures = [shown("a.png"), shown("b.png"), shown("c.png", seed=7), shown("d.png", prompt="x")]
    assert differing([each.found for each in pictures]) == {
        "seed": [5, 5, 7, 5],
        "prompt": ["a fox", "a fox", "a fox", "x"],
    }
    assert "Nothing in how they were made" in comparison(pictures[:2])

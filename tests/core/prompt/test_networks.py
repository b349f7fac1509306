"""What tags ask for."""

import pytest

from darkroom.core.errors import BadRequest
from darkroom.core.prompt import Wish, networks, renamed, reworded, unread, wishes

WHOLE = (0.0, 1.0)


def asked(text):
    return wishes(networks(text)[1])


@pytest.mark.parametrize(
    ("tag", "text", "unet", "rank", "window"),
    [
        ("<lora:x>", 1, 1, None, WHOLE),
        ("<lora:x:0.8>", 0.8, 0.8, None, WHOLE),
        ("<lora: x : .8 >", 0.8, 0.8, None, WHOLE),
        ("<lora:x:0.5:0.7>", 0.5, 0.7, None, WHOLE),
        ("<lora:x:0.5:0.7:4>", 0.5, 0.7, 4, WHOLE),
        ("<lora:x:te=0.5>", 0.5, 0.5, None, WHOLE),
        ("<lora:x:unet=0.5>", 1, 0.5, None, WHOLE),
        ("<lora:x:0.2:0.3:te=0.5:dyn=8>", 0.5, 0.3, 8, WHOLE),
        ("<lora:x::0.5>", 1, 0.5, None, WHOLE),
        ("<lora:x:-1>", -1, -1, None, WHOLE),
        ("<lora:x:1:start=0.2:end=0.75>", 1, 1, None, (0.2, 0.75)),
        ("<lora:x:end=0.5:0.8>", 0.8, 0.8, None, (0.0, 0.5)),
        ("<lyco:x:0.8>", 0.8, 0.8, None, WHOLE),
        ("<lora:x:0:1>", 0, 1, None, WHOLE),
    ],
)
def test_strengths_by_place_and_by_name(tag, text, unet, rank, window):
    wish = Wish(role="lora", name="x", text=text, unet=unet, rank=rank, window=window)
    assert asked(f"a fox {tag}") == ((wish,), [])


def test_several_keep_the_order_of_the_prompt_and_a_name_may_stand_twice():
    found, notes = asked("<lora:b:1> a <hypernet:h:0.5> fox <lora:a:0.5> <lora:b:0.2>")
    assert [(wish.role, wish.name, wish.unet) for wish in found] == [
        ("lora", "b", 1), ("hypernetwork", "h", 0.5), ("lora", "a", 0.5), ("lora", "b", 0.2),
    ]  # fmt: skip
    assert notes == []


@pytest.mark.parametrize("tag", ["<lora:x:0>", "<lora:x:0:0>", "<hypernet:x:0>"])
def test_what_would_change_nothing_is_not_asked_for(tag):
    assert asked(tag) == ((), [])
    ((wish,), _) = wishes(networks(tag)[1], idle=True)
    assert wish.name == "x"


@pytest.mark.parametrize("window", ["start=0.5:end=0.5", "start=0:end=0", "end=0", "start=1"])
def test_a_window_of_no_length_puts_nothing_on_and_is_said(window):
    tag = f"<lora:x:1:{window}>"
    assert asked(tag) == ((), [f"{tag} has no effect: it ends where it starts"])


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ("<lora:x:1:0.5:4:9>", "9 in <lora:x:1:0.5:4:9> has no effect"),
        ("<hypernet:x:1:2>", "2 in <hypernet:x:1:2> has no effect"),
        ("<lora:x:>", "nothing follows the last colon of <lora:x:>"),
    ],
)
def test_what_stands_too_much_or_too_little_in_a_tag_is_said(tag, told):
    (wish,), (note,) = asked(tag)
    assert (wish.name, wish.text or wish.unet) == ("x", 1)
    assert note.startswith(told)


@pytest.mark.parametrize(
    ("text", "stray"),
    [
        ("a fox <lora:x:0.8", "<lora:x:0.8"),
        ("a fox < lora:x:0.8> in snow", "< lora:x:0.8>"),
        ("a <hypernet:y:1> fox <lora:x", "<lora:x"),
        ("a fox <lora:>", "<lora:>"),
    ],
)
def test_what_looks_like_a_tag_and_is_none_stays_words_and_is_said(text, stray):
    words, _ = networks(text)
    assert stray in words
    (note,) = unread(words)
    assert note.startswith(f"`{stray}` is read as words")


def test_a_word_for_embeddings_of_comfyui_is_said():
    (note,) = unread("a fox, embedding:EasyNegative, (embedding:EasyNegative:1.2)")
    assert note.startswith("`embedding:` before 'EasyNegative' is read as a word")
    for text in ("an embedding: a fox", "a 1 < 2 fox", "aspect 16:9", "a fox, <lora"):
        assert unread(text) == []


def test_a_word_gets_another_name_outside_tags_and_whatever_its_case():
    text = "easy, (EASY:1.2) uneasy <lora:easy:1> easy"
    assert reworded(text, "easy", "hard") == "hard, (hard:1.2) uneasy <lora:easy:1> hard"
    assert reworded("a <cat> b", "<cat>", "a (1)") == r"a a \(1\) b"


def test_what_has_no_effect_is_said():
    assert asked("<style:x:1>") == (
        (), ["<style:x:1> has no effect: there is no such kind of network"],
    )  # fmt: skip
    found, notes = asked("<lora:x:1:lbw=MIDD:step=3>")
    assert [wish.name for wish in found] == ["x"]
    assert notes == ["lbw, step in <lora:x:1:lbw=MIDD:step=3> has no effect"]


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ("<lora:x:much>", "'much' in <lora:x:much> is no number"),
        ("<lora:x:nan>", "'nan' in"),
        ("<lora:x:inf>", "'inf' in"),
        ("<lora:x:1e9>", "from -1000 to 1000"),
        ("<lora:x:1:1:2.5>", "'2.5' in"),
        (f"<lora:x:1:1:{'9' * 5000}>", "…"),
        ("<hypernet:x:high>", "'high' in"),
        ("<lora:x:1:start=5>", "between 0 and 1"),
        ("<lora:x:1:start=0.7:end=0.2>", "would end before it starts"),
        ("<lora:x:1:dyn=-3>", "below 0"),
        ("<lora:x:1:1:-3>", "below 0"),
        ("<lora:x:1:end=nan>", "'nan' in"),
        ("<lora::1>", "names no file"),
        ("<lora:te=1>", "names no file"),
    ],
)
def test_what_is_no_number_is_refused(tag, told):
    with pytest.raises(BadRequest) as error:
        asked(tag)
    assert told in str(error.value)
    assert error.value.hint


def test_tags_get_other_names_and_nothing_else_changes():
    names = {("lora", "x"): "new", ("hypernetwork", "h"): "other"}
    text = (
        "a <lora:x:0.8> x <lyco:x> <hypernet:h:1> <lora:h:1> <hypernet:x> <b:x> <lora:xx> <lora:x"
    )
    assert renamed(text, names) == (
        "a <lora:new:0.8> x <lyco:new> <hypernet:other:1> <lora:h:1> <hypernet:x> <b:x> <lora:xx>"
        " <lora:x"
    )
    assert renamed("<lora:x", names) == "<lora:x"


def test_a_tag_is_shown_as_it_was_written():
    (tag,) = networks("a <lora:x:0.8:te=1> b")[1]
    assert str(tag) == "<lora:x:0.8:te=1>"

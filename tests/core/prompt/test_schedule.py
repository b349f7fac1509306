import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.prompt.cases import GOLDENS, TEXTS
from darkroom.core.errors import BadRequest
from darkroom.core.prompt import Allowance, schedule
from darkroom.core.prompt.editing import Reader
from darkroom.core.prompt.unfolding import texts_at


@pytest.mark.parametrize("case", GOLDENS["schedule"], ids=lambda case: repr(case["prompt"]))
def test_a1111_schedules_the_same(case):
    found = schedule(
        case["prompt"],
        case["steps"],
        hires_steps=case["hires_steps"],
        old=case["use_old_scheduling"],
    )
    assert [list(stage) for stage in found] == case["out"]


@pytest.mark.parametrize("case", GOLDENS["schedule_more"], ids=lambda case: repr(case["prompt"]))
def test_the_grammar_reads_the_same(case):
    assert [list(stage) for stage in schedule(case["prompt"], 8)] == case["out"]


@given(TEXTS, st.integers(1, 40), st.none() | st.integers(1, 40), st.booleans())
def test_stages_follow_each_other_to_the_last_step(text, steps, hires_steps, old):
    ends = [stage.end for stage in schedule(text, steps, hires_steps=hires_steps, old=old)]
    assert ends == sorted(set(ends))
    assert ends[0] >= 1
    assert ends[-1] == (steps if hires_steps is None or old else hires_steps)


@given(TEXTS)
def test_without_square_brackets_nothing_changes(text):
    text = text.replace("[", "")
    assert schedule(text, 9) == ((9, text),)


@given(
    st.sampled_from(["a", "", "(a)", "x [b:c:3]", "[b|c]", "\\["]),
    st.sampled_from(["d", "", "[e:2]"]),
    st.integers(1, 9),
)
def test_an_edit_is_what_stands_in_it(before, after, when):
    whole = schedule(f"x [{before}:{after}:{when}] y", 9)

    def at(stages, step):
        return next(stage.text for stage in stages if step <= stage.end)

    for step in range(1, 10):
        inner = at(schedule(before if step <= when else after, 9), step)
        assert at(whole, step) == f"x {inner} y"


@pytest.mark.parametrize(
    "prompt",
    [
        "[a:b:c:5]", "[a|b:5] [c:d:5]", "a|b [c:d:5]", "(a|b) [c:d:5]", "[c:d:5] \\", "[c:d:5] \\\n",
        "[(a:b:c):d:5]", "[a:b:1e400]", "[a:b:5:]", "[a) :b:5]", "[a:b:٣]", "[a:b:0x5]", "[a:b:1_0]",
    ],
)  # fmt: skip
def test_a_grammar_failure_is_literal_text(prompt):
    assert schedule(prompt, 10) == ((10, prompt),)


def test_a_failure_outside_leaves_what_is_inside():
    assert schedule("[x:(a:b:[c:d:5]):7]", 8) == ((5, "[x:(a:b:c):7]"), (8, "[x:(a:b:d):7]"))
    assert schedule("([a:b:5]", 8) == ((5, "(a"), (8, "(b"))


def test_equal_steps_share_their_text():
    stages = schedule("[a|b]" * 1000 + "[c:d:4]", 10)
    assert len({id(stage.text) for stage in stages}) == 4


def words(nested):
    number = st.integers(0, 12).map(str)
    several = st.lists(nested, min_size=2, max_size=4).map("|".join)
    return st.one_of(
        st.tuples(nested, nested).map("".join),
        st.tuples(nested, nested, number).map(lambda parts: f"[{':'.join(parts)}]"),
        several.map("[{}]".format),
        nested.map("({})".format),
    )


@given(st.recursive(st.sampled_from(["", "a", "b ", "5"]), words), st.integers(1, 12))
def test_every_step_says_what_is_in_force_then(text, steps):
    def at(found, step):
        if isinstance(found, list):
            return "".join(at(node, step) for node in found)
        return found if isinstance(found, str) else at(found.between(step, step), step)

    nodes = Reader(lambda _text, value: min(int(value), steps)).read(text)
    expected = [at(nodes, step) for step in range(1, steps + 1)]
    assert texts_at(nodes, range(1, steps + 1), Allowance()) == expected
    stages = schedule(text, steps)
    told = [next(s.text for s in stages if step <= s.end) for step in range(1, steps + 1)]
    assert told == expected


def test_a_cycle_of_equal_options_is_no_number():
    assert schedule("[a:b:[5|5]]", 2) == ((1, "[a:b:5]"), (2, "[a:b:5]"))


def test_parts_share_an_allowance():
    allowance = Allowance(2000)
    schedule("[a|b]" * 100, 9, allowance=allowance)
    with pytest.raises(BadRequest, match="too long"):
        schedule("[a|b]" * 100, 9, allowance=allowance)


def test_a_text_that_would_fill_the_memory_is_refused():
    prompt = "x" * 900_000 + "".join(f"[{'a|' * count}]" for count in range(1, 40))
    with pytest.raises(BadRequest, match="too long") as error:
        schedule(prompt, 500)
    assert error.value.hint

from darkroom.core.errors import (
    BadFile,
    BadRequest,
    Cancelled,
    StudioError,
    UnknownName,
    from_event,
    nearest,
    printable,
    shorten,
    suggested,
)


def test_a_sentence_is_one_line_with_the_cure():
    error = BadRequest("two\nlines", hint="Do this.")
    assert error.sentence() == "two lines. Do this."
    assert StudioError("alone").sentence() == "alone"


def test_nearest_ignores_case_and_gives_the_spelling_that_is_known():
    assert nearest("dpm++ 2m karas", ["DPM++ 2M", "Euler", "DPM++ 2M Karras"])[0] == (
        "DPM++ 2M Karras"
    )
    assert nearest("zzz", ["Euler"]) == []


def test_what_a_name_begins_goes_first_and_folders_do_not_count():
    names = ["real768", "dreamy", "styles/watercolour", "styles/ink", "Ink"]
    assert suggested("drea", names)[0] == "dreamy"
    assert suggested("watercolor", names) == ["styles/watercolour"]
    assert suggested("Water", names)[0] == "styles/watercolour"
    assert suggested("styles/inc", names)[0] == "styles/ink"
    assert suggested("zzz", names) == []
    assert "'dreamy'" in UnknownName("model", "drea", names).hint


def test_shorten_keeps_short_text():
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "ab…"


def test_an_error_survives_its_event():
    for error in (BadFile("x", hint="y"), Cancelled("stopped"), StudioError("odd")):
        data = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
        back = from_event(data)
        assert type(back) is type(error)
        assert back.sentence() == error.sentence()
    unknown = UnknownName("sampler", "Eulr", ["Euler"], hint="Or not.")
    back = from_event({"error": "UnknownName", "text": str(unknown), "hint": unknown.hint})
    assert type(back) is UnknownName
    assert back.sentence() == unknown.sentence()


def test_every_error_of_the_tree_survives_its_event():
    def below(kind):
        return [kind, *(k for each in kind.__subclasses__() for k in below(each))]

    for kind in below(StudioError):
        assert type(from_event({"error": kind.__name__, "text": "x", "hint": ""})) is kind
    assert type(from_event({"error": "Newer", "text": "x", "hint": ""})) is StudioError


def test_what_a_terminal_would_obey_is_escaped_and_scripts_stay():
    assert printable("a\x1b[31m\x9b\x07\n\u202e\udce9") == ("a\\x1b[31m\\x9b\\x07\\n\\u202e\\udce9")
    for text in ("תפוח 🍎", "family 👨\u200d👩\u200d👧", "café ❤\ufe0f", "\u200fאב"):
        assert printable(text) == text
    assert "\x1b" not in StudioError("\x1b[31m", hint="\x1b").sentence()

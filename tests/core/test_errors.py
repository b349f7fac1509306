from darkroom.core.errors import (
    BadFile,
    BadRequest,
    Cancelled,
    StudioError,
    UnknownName,
    from_event,
    nearest,
    shorten,
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


def test_shorten_keeps_short_text():
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "ab…"


def test_an_error_survives_its_event():
    for error in (BadFile("x", hint="y"), Cancelled("stopped"), StudioError("odd")):
        data = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
        back = from_event(data)
        assert type(back) is type(error)
        assert back.sentence() == error.sentence()
    unknown = UnknownName("sampler", "x", ["y"])
    back = from_event({"error": "UnknownName", "text": str(unknown), "hint": unknown.hint})
    assert isinstance(back, BadRequest)

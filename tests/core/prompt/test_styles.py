import pytest

from darkroom.core.errors import BadFile, UnknownName
from darkroom.core.prompt import Style, apply_styles, find_styles, read_styles, read_styles_file

FILE = (
    '\ufeffname,prompt,negative_prompt\r\nFilm,"{prompt}, film,\r\n35mm",painting\r\n'
    "# heading,,\r\n,,\r\nPlain, masterpiece\r\n"
)
FILM = Style(name="Film", prompt="{prompt}, film,\r\n35mm", negative_prompt="painting")


def test_a1111s_file_is_read():
    assert read_styles(FILE) == {"Film": FILM, "Plain": Style(name="Plain", prompt="masterpiece")}
    assert read_styles("name,text\nOld,words\n") == {"Old": Style(name="Old", prompt="words")}


def test_styles_are_put_around_the_prompts_one_after_the_other():
    plain = Style(name="Plain", prompt=" masterpiece ", negative_prompt="blurry")
    assert apply_styles("a cat ", "", [plain, FILM]) == (
        "a cat, masterpiece, film,\r\n35mm", "blurry, painting",
    )  # fmt: skip
    assert apply_styles("", "x", [Style(name="None")]) == ("", "x")


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "name\nx\n", f'name,prompt\na,"{"x" * 200_000}"\n']
)
def test_what_is_no_styles_file_is_refused_with_a_cure(text):
    with pytest.raises(BadFile) as error:
        read_styles(text)
    assert "name,prompt,negative_prompt" in error.value.hint


def test_files(tmp_path):
    path = tmp_path / "styles.csv"
    path.write_bytes(FILE.encode())
    assert read_styles_file(path)["Film"] == FILM
    path.write_bytes(b"\xff\xfe\x00")
    for bad in (path, tmp_path / "none.csv", tmp_path):
        with pytest.raises(BadFile, match="cannot be read"):
            read_styles_file(bad)


def test_an_unknown_style_is_told_with_the_nearest():
    styles = read_styles(FILE)
    assert find_styles(["Plain", "Film"], styles) == [styles["Plain"], FILM]
    with pytest.raises(UnknownName, match="Flim") as error:
        find_styles(["Flim"], styles)
    assert "'Film'" in error.value.hint

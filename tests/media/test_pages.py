import base64
import hashlib
import re
from pathlib import Path

from PIL import Image

from darkroom.media.gridpage import grid_page, shown
from darkroom.media.pages import embedded, link, page, text
from darkroom.media.sheet import Labels


def policy_of(html):
    return re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]


def test_the_policy_names_exactly_the_style_and_the_script_of_the_page():
    html = page("<Title>", "<p>x</p>", style="p { color: red }", script="run()")
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    script = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    for content in (style, script):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy_of(html)
    assert "default-src 'none'" in policy_of(html)
    assert "<title>&lt;Title&gt;</title>" in html
    assert "script-src 'none'" in policy_of(page("a", "b"))


def test_nothing_is_fetched_from_elsewhere():
    html = page("a", "b", style="x {}", script="y()")
    assert not re.search(r"https?:|//[a-z]", html.replace("<!doctype", ""))


def test_text_and_links_cannot_leave_their_place(tmp_path):
    assert text("<b \"'>\x07") == "&lt;b &quot;&#x27;&gt;\\x07"
    assert link(tmp_path / "a b" / 'x"<.png', tmp_path) == "a%20b/x%22%3C.png"
    assert link(tmp_path / "javascript:x.png", tmp_path) == "./javascript%3Ax.png"
    assert link(Path("/elsewhere/x.png"), tmp_path).startswith("file:///")


def test_embedded_pictures_are_small(tmp_path):
    address = embedded(Image.new("RGB", (900, 300), "red"), 90)
    raw = base64.b64decode(address.removeprefix("data:image/webp;base64,"))
    (tmp_path / "x.webp").write_bytes(raw)
    with Image.open(tmp_path / "x.webp") as image:
        assert image.size == (90, 30)


def test_a_grid_is_a_table_with_links_and_hints(tmp_path):
    path = tmp_path / "0-0-0.png"
    Image.new("RGB", (32, 32)).save(path)
    picture = shown(path, words="steps: 10", settings="a <cat>\nSteps: 10")
    labels = Labels(x=("steps: 10", "steps: 20"), y=("<Euler>",), z=("one", "two"))
    html = grid_page("t", labels, {(0, 0, 0): picture}, folder=tmp_path, made="{}")
    assert html.count("<table>") == 2
    assert '<a href="0-0-0.png"><img src="data:image/webp;base64,' in html
    assert "&lt;Euler&gt;" in html
    assert "a &lt;cat&gt;\nSteps: 10" in html
    assert html.count('class="empty"') == 3
    assert " style=" not in html
    assert not re.search(r"\son\w+=", html)


def test_large_grids_link_their_files(tmp_path):
    picture = shown(tmp_path / "not there.png", words="w", inside=False)
    html = grid_page("t", Labels(), {(0, 0, 0): picture}, folder=tmp_path)
    assert 'src="not%20there.png"' in html

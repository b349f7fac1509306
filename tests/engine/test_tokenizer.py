"""CLIP's tokenizer against transformers' and OpenAI's, on ordinary, strange and hostile text."""

import hashlib
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom.core.errors import BadFile
from darkroom.engine import tokenizer as tokenizer_module
from darkroom.engine.tokenizer import BOS, COMMA, EOS, MERGES, VOCABULARY, Tokenizer, clean

CONTROL_WORDS = ("<|startoftext|>", "<|endoftext|>")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer()


@pytest.fixture(scope="module")
def reference():
    """transformers' CLIPTokenizer over the same vocabulary."""
    from transformers import CLIPTokenizer

    pieces, merges = tokenizer_module._read(MERGES)
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *CONTROL_WORDS])}
    made = CLIPTokenizer(vocab=vocabulary, merges=merges)
    return lambda texts: made(texts, add_special_tokens=False)["input_ids"]


def test_the_data_is_openais():
    # Made from bpe_simple_vocab_16e6.txt.gz as data/README.md says, which gives this hash.
    digest = hashlib.sha256(MERGES.read_bytes()).hexdigest()
    assert digest == "3b99edd1a64e51e134f972f7f6d89cc0da7ba11966230ec46bdaeae886a4d9b4"
    pieces, merges = tokenizer_module._read(MERGES)
    assert len(pieces) == len(set(pieces)) == VOCABULARY - 2 == BOS
    assert (merges[0], pieces[512]) == (("i", "n"), "in")
    assert pieces[COMMA] == ",</w>"


@pytest.mark.parametrize(
    ("text", "ids"),
    [  # from OpenAI's CLIP and from A1111's runs in prompts.json
        ("", []),
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        (
            "a photo of an astronaut riding a horse, highly detailed",
            [320, 1125, 539, 550, 18376, 6765, 320, 4558, 267, 5302, 12609],
        ),
        ("(cat:1.5) dog BREAK x", [263, 2368, 281, 272, 269, 276, 264, 1929, 2568, 343]),
        ("  a  ,\n\t b ", [320, 267, 321]),
    ],
)
def test_known_ids(tokenizer, text, ids):
    assert tokenizer.encode(text) == ids


REAL = """masterpiece, best quality, 1girl, (solo:1.2), upper body, looking at viewer, 8k uhd, dslr
don't it's we'll they've I'm you're he'd DON'T IT'S 'twas rock'n'roll o''clock ''' ' '
(((extremely detailed CG unity 8k wallpaper))), [[lowres]], {bad anatomy}, text:1.3, <lora:x:0.8>
__color__ {red|green|blue} [cat:dog:0.5] [a|b] a AND b :0.5 BREAK \\(escaped\\) C:\\Users\\me
artstation, 4k, 35mm f/1.8, $100, 50%, #art, @user, a+b=c, 1,000.50, ½ ² ٣ Ⅷ 12345678901234567890
ein Mädchen, naïve café, Ångström, ŒUVRE, İstanbul, ΑΣ Σίσυφος, ẞ ß, русский текст, ﬁne ﬂow
ひらがな カタカナ 漢字 ﾊﾝｶｸ ＦＵＬＬ　ＷＩＤＴＨ 한국어 ไทย हिन्दी עברית العربية \u202eabc\u202c
😀 👩‍👩‍👧 🏳️‍🌈 👍🏽 🇩🇪 e\u0301 \u0301 \u200b \ufeff \x00 \x07 \x1b[31m \x7f \x85 \xa0 \u2028 \u3000
</w> a</w>b <w> Ġ Ċ <| |> <|start of text|> endoftext|> <|endoftext |endoftext|>""".splitlines()


def test_real_prompts_as_transformers(tokenizer, reference):
    texts = [*REAL, "\n".join(REAL), *(word for line in REAL for word in line.split())]
    assert [tokenizer.encode(text) for text in texts] == reference(texts)


pieces_of_text = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.text(st.characters(max_codepoint=0x24F), max_size=12),
        st.sampled_from(
            ["'s", "'T", "'", " ", "\n", "</w>", "<|", "|>", "endoftext", "Σ", "e\u0301"]
        ),
        st.sampled_from(" ".join(REAL).split()),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(pieces_of_text, min_size=50, max_size=100))
def test_any_text_as_transformers(tokenizer, reference, texts):
    texts = [text for text in texts if not any(word in text.lower() for word in CONTROL_WORDS)]
    assert [tokenizer.encode(text) for text in texts] == reference(texts)


@pytest.mark.parametrize("text", ["<|endoftext|>", "a <|startoftext|>b", "<|EndOfText|>"])
def test_control_tokens_in_a_text_are_text(tokenizer, reference, text):
    ids = tokenizer.encode(text)
    assert not {BOS, EOS} & set(ids)
    assert tokenizer.decode(ids).replace(" ", "") == text.lower().replace(" ", "")
    assert {BOS, EOS} & set(reference([text.lower()])[0])  # transformers, and A1111, differ here


@given(text=st.text(st.characters(), max_size=40))
def test_every_id_is_in_the_vocabulary(tokenizer, text):
    assert all(0 <= index < BOS for index in tokenizer.encode(clean(text)))


def test_halves_of_surrogate_pairs(tokenizer):
    assert tokenizer.encode("\ud83d\ude00") == tokenizer.encode("😀")
    assert tokenizer.encode("a \ud83d b") == tokenizer.encode("a \ufffd b")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A photo, of IT'S cat", "a photo , of it 's cat"),
        ("é 猫 😀", "é 猫 😀"),
        ("\x00", "\x00"),
        ("", ""),
    ],
)
def test_decode(tokenizer, text, shown):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.decode([BOS, *ids, EOS, EOS]) == shown


# Results of ftfy 6.3.1 (`fix_text(..., fix_encoding=False)`), in lower case.
FTFY = [
    ("&amp; &lt;b&gt;", "& <b>"),
    ("&amp;amp; &#39;x&#x27; &eacute; &copy 2020 &nope; AT&T", "& 'x' é &copy 2020 &nope; at&t"),
    ("<b> &amp;", "<b> &amp;"),
    ("&amp;\n<&amp;", "&\n<&amp;"),
    ("it’s “so” ‘nice’", "it's \"so\" 'nice'"),
    ("ﬁne ﬂow ŉ ﬅ", "fine flow 'n ſt"),
    ("ＬＯＵＤ　ＮＯＩＳＥＳ ｶﾀｶﾅ", "loud noises カタカナ"),
    ("\x1b[31mred\x1b[0m\x00\x07\ufeff\u206a", "red"),
    ("e\u0301", "é"),
    ("\x93x\x94", '"x"'),
    ("\ud83d\ude00 \ud83d", "😀 \ufffd"),
    ("ΑΣ", "ας"),
]


@pytest.mark.parametrize(("text", "mended"), FTFY)
def test_clean_is_what_a1111_does(text, mended):
    assert clean(text) == mended
    assert clean(mended) == mended


def test_entities_as_in_a1111(tokenizer):
    assert tokenizer.encode(clean("&amp; &lt;b&gt;")) == [261, 283, 321, 285]  # prompts.json


NONSENSE = {  # 300,000 bytes each
    "words": "masterpiece, best quality " * 12_000,
    "one letter": "a" * 300_000,
    "brackets": "([{<" * 75_000,
    "digits": "1" * 300_000,
    "spaces": " " * 300_000,
    "emoji": "😀" * 75_000,
    "accents": "a" + "\u0301" * 150_000,
    "entities": "&" + "amp;" * 75_000,
    "ampersands": "&" * 300_000,
    "escapes": "\x1b[" + "1;" * 150_000,
    "control words": "<|endoftext|>" * 23_000,
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_book_of_nonsense_takes_no_time(tokenizer, kind):
    start = time.process_time()
    tokenizer.encode(clean(NONSENSE[kind]))
    # 0.03 to 0.3 s on one quiet core; what is quadratic takes minutes.
    assert time.process_time() - start < 4


@pytest.mark.parametrize("content", [None, b"", b"\0" * 1000, b"\0" * 195_577])
def test_damaged_installation_is_said_plainly(tmp_path, content):
    path = tmp_path / "clip_merges.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile, match="damaged"):
        Tokenizer(path)


def test_loading_is_fast():
    start = time.process_time()
    Tokenizer()
    assert time.process_time() - start < 0.6  # 0.08 s on a quiet machine

"""Prompts to conditioning: chunks as A1111 makes them, and numbers as the plain network gives them."""

import pytest
import torch

from darkroom.core.errors import BadFile, BadRequest, NotFinite
from darkroom.engine.chunks import Chunk, Token, Words
from darkroom.engine.clip import ClipText
from darkroom.engine.conditioning import Conditioning, Encodings, same_length
from darkroom.engine.text import AT_ONCE, Reading, TextEncoder
from darkroom.engine.tokenizer import BOS, COMMA, EOS, VOCABULARY, Tokenizer
from darkroom.weights.topology import TextDims

torch.set_num_threads(1)
LAYERS, WIDTH, CAT, A, B = 4, 32, 2368, 320, 321


def CATS(n):  # noqa: N802
    return " ".join(["cat"] * n)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer()


def tiny(*, vocabulary=VOCABULARY, seed=0, **dims):
    """A random text model of transformers: four layers of width 32 (`dims` as in TextDims)."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    of = TextDims(
        **{"width": WIDTH, "layers": LAYERS, "intermediate": 64, "positions": 77, **dims},
        vocab=vocabulary,
    )
    config = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=of.width, intermediate_size=of.intermediate,
        num_hidden_layers=of.layers, num_attention_heads=of.heads, hidden_act=of.activation,
        projection_dim=of.projection or 16, bos_token_id=BOS, eos_token_id=EOS,
    )  # fmt: skip
    torch.manual_seed(seed)
    kind = CLIPTextModel if of.projection is None else CLIPTextModelWithProjection
    module = kind(config).eval()
    for parameter in module.parameters():  # the usual start is so small that layers do nothing
        parameter.data.normal_(std=0.2)
    module.dims = of
    return module


def ours(theirs):
    """Our network with the weights of a text model of transformers."""
    clip = ClipText(theirs.dims).eval().requires_grad_(False)
    state = {name.removeprefix("text_model."): each for name, each in theirs.state_dict().items()}
    clip.load_state_dict(state)
    return clip.to(next(theirs.parameters()).dtype)


def encoding(*modules, weights="tiny", cache=None):
    """A text encoder with the weights of text models of transformers."""
    return TextEncoder([ours(each) for each in modules], Tokenizer(), weights=weights, cache=cache)


@pytest.fixture(scope="module")
def module():
    return tiny()


@pytest.fixture
def encoder(module):
    return encoding(module)


def plain(module, ids, clip_skip=1):
    """What the definition says, by transformers' own forward."""
    with torch.no_grad():
        out = module(torch.tensor(ids), output_hidden_states=True)
        return module.final_layer_norm(out.hidden_states[-clip_skip])


def close(a, b, tolerance=1e-5):
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [("", (0, 75)), (CATS(12), (12, 75)), (CATS(75), (75, 75)), (CATS(76), (76, 150))],
)
def test_counter(encoder, prompt, shown):
    assert encoder.count(prompt) == shown


# ---- encoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_skip", range(1, LAYERS + 1))
def test_clip_skip_is_that_hidden_state_with_the_final_norm(module, encoder, clip_skip):
    made = encoder.encode("a cat, sitting", Reading(clip_skip=clip_skip))
    ids = [BOS, A, CAT, COMMA, 4919, *[EOS] * 72]
    assert made.tokens.shape == (1, 77, WIDTH)
    assert made.counts == (4,)
    assert close(made.tokens, plain(module, [ids], clip_skip))


def test_the_layers_that_clip_skip_leaves_out_do_not_run(module):
    ran, clip = [], ours(module)
    for i, layer in enumerate(clip.encoder.layers):
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
    TextEncoder([clip], Tokenizer(), weights="hooked").encode("a dog", Reading(clip_skip=3))
    assert ran == [0, 1]


@pytest.mark.parametrize("clip_skip", [0, -1, LAYERS + 1, 12])
def test_clip_skip_beyond_the_network_is_refused_with_the_range(encoder, clip_skip):
    with pytest.raises(BadRequest, match=f"clip_skip {clip_skip}") as caught:
        encoder.encode("a", Reading(clip_skip=clip_skip))
    assert f"1 to {LAYERS}" in caught.value.hint


def test_long_prompts_are_chunks_end_to_end(module, encoder):
    made = encoder.encode(", ".join([CATS(10)] * 10))
    assert made.counts == (66, 43)
    rows = [
        [BOS, *([CAT] * 10 + [COMMA]) * 6, *[EOS] * 10],
        [BOS, *([CAT] * 10 + [COMMA]) * 3, *[CAT] * 10, *[EOS] * 33],
    ]
    assert close(made.tokens, torch.cat([plain(module, [row]) for row in rows], dim=1))


def test_a_chunk_does_not_depend_on_how_many_follow(encoder):
    text = CATS(75)
    many = encoder.encode(" ".join([text] * (AT_ONCE + 2)))
    one = encoder.encode(text).tokens
    assert len(many.counts) == AT_ONCE + 2
    assert close(many.tokens, one.repeat(1, AT_ONCE + 2, 1))


def test_empty_and_strange_prompts(module, encoder):
    empty = encoder.encode("")
    assert empty.counts == (0,)
    assert close(empty.tokens, plain(module, [[BOS, *[EOS] * 76]]))
    for text in (" \n\t", "\x00\x01"):
        assert torch.equal(encoder.encode(text).tokens, empty.tokens)
    for text in ("😀" * 200, "שלום עולם \u202e", "<|endoftext|>", "\ud83d", "a\u0301" * 500):
        assert encoder.encode(text).tokens.isfinite().all()


def test_ten_thousand_words(encoder):
    made = encoder.encode(CATS(10_000))
    assert made.tokens.shape == (1, 134 * 77, WIDTH)
    assert sum(made.counts) == 10_000


# ---- other families ------------------------------------------------------------------------------


BIG_G = {"activation": "gelu", "penultimate": True, "projection": 24, "width": 48, "layers": 6}


@pytest.fixture(scope="module")
def pair():
    """SDXL's two text models, small."""
    return tiny(penultimate=True), tiny(seed=1, **BIG_G)


def theirs(module, ids, skip):
    """The state -skip without the norm, and the projected text, by transformers' own forward."""
    with torch.no_grad():
        out = module(torch.tensor(ids), output_hidden_states=True)
    return out.hidden_states[-skip], getattr(out, "text_embeds", None)


@pytest.mark.parametrize("clip_skip", range(1, LAYERS + 1))
def test_sd2_pads_with_zeros_and_has_the_final_norm(clip_skip):
    module = tiny(activation="gelu")
    made = encoding(module).encode("a cat", Reading(clip_skip=clip_skip))
    ids = [BOS, A, CAT, EOS, *[0] * 73]
    assert close(made.tokens, plain(module, [ids], clip_skip))
    assert made.pooled is None


@pytest.mark.parametrize(("clip_skip", "skip"), [(1, 2), (2, 2), (3, 3), (4, 4)])
def test_sdxl_lays_the_layers_before_the_last_side_by_side(pair, clip_skip, skip):
    made = encoding(*pair).encode("a cat", Reading(clip_skip=clip_skip))
    small, _ = theirs(pair[0], [[BOS, A, CAT, *[EOS] * 74]], skip)
    big, whole = theirs(pair[1], [[BOS, A, CAT, EOS, *[0] * 73]], skip)
    assert made.tokens.shape == (1, 77, WIDTH + 48)
    assert close(made.tokens, torch.cat([small, big], dim=-1))
    assert close(made.pooled, whole)


def test_the_text_as_a_whole_is_the_first_chunks(pair):
    made = encoding(*pair).encode_group([CATS(80), "(a cat:1.5)"])
    _, first = theirs(pair[1], [[BOS, *[CAT] * 75, EOS]], 2)
    _, other = theirs(pair[1], [[BOS, A, CAT, EOS, *[0] * 73]], 2)
    assert [one.tokens.shape for one in made] == [(1, 154, WIDTH + 48)] * 2
    assert close(made[0].pooled, first)
    assert close(made[1].pooled, other)  # emphasis does not reach it


def test_each_of_two_text_encoders_is_emphasised_for_itself(pair):
    plain, heavy = (encoding(*pair).encode(text).tokens for text in ("a cat", "a (cat:1.5)"))
    for part in (slice(0, WIDTH), slice(WIDTH, None)):
        z = plain[..., part].clone()
        z[0, 2] *= 1.5
        assert close(heavy[..., part], z * (plain[..., part].mean() / z.mean()))


def test_the_refiner_reads_the_big_one_alone(pair):
    made = encoding(pair[1]).encode("a cat")
    states, whole = theirs(pair[1], [[BOS, A, CAT, EOS, *[0] * 73]], 2)
    assert close(made.tokens, states)
    assert close(made.pooled, whole)


def test_an_empty_negative_prompt_is_zeros_for_sdxl_and_words_for_all_others(pair, encoder):
    xl = encoding(*pair)
    empty, blank = xl.encode_negative([""])[0], xl.encode_negative([" "])[0]
    assert not empty.tokens.any() and not empty.pooled.any() and empty.negative
    assert empty.tokens.shape == blank.tokens.shape
    assert close(blank.tokens, xl.encode("").tokens)
    assert not xl.encode("").negative
    staged = xl.encode_negative(["", "a cat"])
    assert close(staged[0].tokens, xl.encode("").tokens)
    assert torch.equal(encoder.encode_negative([""])[0].tokens, encoder.encode("").tokens)


def test_an_embedding_has_vectors_for_each_text_encoder(pair, tokenizer):
    tables = [ours(each).embeddings.token_embedding.weight for each in pair]
    rows = [tuple(table[token] for table in tables) for token in (A, 1929)]
    reading = Reading(words=Words(tokenizer, {"easynegative": rows}))
    made, expected = (encoding(*pair).encode(t, reading) for t in ("easynegative", "a dog"))
    assert close(made.tokens, expected.tokens)
    assert close(made.pooled, expected.pooled)


def test_clip_skip_goes_as_far_as_the_shorter_of_two(pair):
    with pytest.raises(BadRequest, match="clip_skip 5"):
        encoding(*pair).encode("a", Reading(clip_skip=LAYERS + 1))


def test_overflow_in_one_of_two_is_repeated_wider(pair):
    big = tiny(seed=1, **BIG_G)
    big.text_model.encoder.layers[-1].mlp.fc2.weight.data *= 3e4  # the last: only the whole is hit
    wide = encoding(pair[0], big).encode("a cat")
    made = encoding(tiny(penultimate=True).half(), big.half()).encode("a cat")
    assert made.tokens.dtype == made.pooled.dtype == torch.float16 and made.finite
    assert close(made.tokens.float(), wide.tokens, 0.02)
    assert (made.pooled.float() - wide.pooled).norm() / wide.pooled.norm() < 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_the_models(module, dtype):
    made = encoding(tiny().to(dtype)).encode("a cat")
    assert made.tokens.dtype == dtype
    assert not made.tokens.requires_grad
    expected = encoding(module).encode("a cat").tokens
    assert (made.tokens.float() - expected).norm() / expected.norm() < 0.05


def test_a_vector_replaces_its_tokens_embedding(module, encoder):
    dog = module.embeddings.token_embedding.weight[1929].detach()
    made = encoder.encode_chunks([[Chunk((Token(A), Token(CAT, vectors=(dog,))))]])[0]
    assert close(made.tokens, encoder.encode("a dog").tokens)


def test_an_embedding_in_a_prompt_is_its_vectors(module, tokenizer, encoder):
    table = module.embeddings.token_embedding.weight.detach()
    words = Words(tokenizer, {"easynegative": [(table[A],), (table[1929],)]})
    made = encoder.encode("(easynegative:1.0)", Reading(words=words))
    assert close(made.tokens, encoder.encode("a dog").tokens)


def test_emphasis_modes(module, encoder):
    z = encoder.encode("a cat").tokens
    heavy = z.clone()
    heavy[0, 2] *= 1.5
    expected = {
        "Original": heavy * (z.mean() / heavy.mean()),
        "No norm": heavy,
        "Ignore": z,
        "None": encoder.encode(r"a \(cat:1.5\)").tokens,
    }
    for mode, tokens in expected.items():
        assert close(encoder.encode("a (cat:1.5)", Reading(emphasis=mode)).tokens, tokens), mode


def test_the_texts_of_one_prompt_share_the_mean_and_the_length(module, encoder):
    """A1111 encodes the stages of `[a:b:n]` as one batch: as often as each stands there."""
    texts = ["a (cat:1.5)", "(dog:0.3)", "a (cat:1.5)", CATS(80)]
    plain_texts = ["a cat", "dog", "a cat", CATS(80)]
    group = encoder.encode_group(texts)
    assert group[0] is group[2]
    assert {one.tokens.shape[1] for one in group} == {154}
    first = [encoder.encode(text).tokens[:, :77] for text in plain_texts]
    heavy = [z.clone() for z in first]
    heavy[0][0, 2] *= 1.5
    heavy[2][0, 2] *= 1.5
    heavy[1][0, 1] *= 0.3
    share = torch.cat(first).mean() / torch.cat(heavy).mean()
    for one, z in zip(group, heavy, strict=True):
        assert close(one.tokens[:, :77], z * share)


def test_emphasis_keeps_the_mean(module, encoder):
    chunk = Chunk((Token(A), Token(CAT, weight=1.5), Token(B, weight=0.0)))
    z = plain(module, [[BOS, A, CAT, B, *[EOS] * 73]])
    heavy = z.clone()
    heavy[0, 2] *= 1.5
    heavy[0, 3] *= 0
    (made,) = encoder.encode_chunks([[chunk]])
    assert close(made.tokens, heavy * (z.mean() / heavy.mean()))


# ---- numbers that overflow -----------------------------------------------------------------------


def test_overflow_in_half_precision_is_repeated_wider():
    module = tiny()
    for layer in module.encoder.layers:
        layer.mlp.fc2.weight.data *= 3e4
    expected = encoding(module).encode("a cat")
    half = ours(module).half()
    before = [parameter.data_ptr() for parameter in half.parameters()]
    made = TextEncoder([half], Tokenizer(), weights="half").encode("a cat")
    assert made.tokens.dtype == torch.float16
    assert made.tokens.isfinite().all()
    assert (made.tokens.float() - expected.tokens).norm() / expected.tokens.norm() < 0.05
    assert [parameter.data_ptr() for parameter in half.parameters()] == before


def test_damaged_weights_are_an_error_not_a_black_picture():
    module = tiny()
    module.final_layer_norm.bias.data[0] = torch.nan
    encoder = encoding(module)
    for _ in range(2):  # the failure is not cached as a success
        with pytest.raises(NotFinite):
            encoder.encode("a cat")


def test_a_vocabulary_that_is_too_small_is_refused_before_it_breaks_a_gpu():
    with pytest.raises(BadFile, match="knows 1000 tokens"):
        encoding(tiny(vocabulary=1000))


# ---- cache ---------------------------------------------------------------------------------------


def test_the_same_prompt_is_encoded_once(module):
    cache = Encodings()
    encoder = encoding(module, weights="one", cache=cache)
    first = encoder.encode("a cat")
    assert encoder.encode("a cat") is first
    again = encoding(module, weights="one", cache=cache)
    assert again.encode("a cat") is first  # the model was dropped and loaded again
    others = [
        encoder.encode("a Cat"),
        encoder.encode("a cat", Reading(clip_skip=2)),
    ]
    encoder.weights = "one+lora"  # patched: nothing of before is given out
    others.append(encoder.encode("a cat"))
    assert all(other is not first for other in others)
    assert len(cache) == 4
    encoder.weights = "one"
    assert encoder.encode("a cat") is first


def test_the_cache_keeps_its_budget_and_drops_the_oldest():
    def held(n):
        return Conditioning(torch.zeros(1, 77, n), (0,), torch.zeros(1, 1))

    size = held(1).bytes
    assert size == 78 * 4
    cache = Encodings(3 * size)
    for key in "abc":
        cache.put(key, held(1))
    assert cache.get("a") is not None  # now "b" is the oldest
    cache.put("d", held(1))
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    cache.put("d", held(1))
    assert (len(cache), cache.bytes) == (3, 3 * size)
    cache.put("huge", held(10))
    assert cache.get("huge") is None
    assert len(cache) == 3
    cache.clear()
    assert (len(cache), cache.bytes, cache.get("a")) == (0, 0, None)


# ---- different lengths ---------------------------------------------------------------------------


def test_prompts_of_different_length(encoder):
    short, long = encoder.encode("a"), encoder.encode(CATS(160))
    assert same_length(short, encoder.encode(""))
    assert not same_length(short, long)

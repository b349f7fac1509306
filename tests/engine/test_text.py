"""Prompts to conditioning: chunks as A1111 makes them, and numbers as the plain network gives them."""

import pytest
import torch

from darkroom.core.errors import BadFile, BadRequest, NotFinite
from darkroom.engine.chunks import Chunk, Token, Words
from darkroom.engine.text import (
    AT_ONCE,
    Conditioning,
    Encodings,
    Reading,
    TextEncoder,
    same_length,
)
from darkroom.engine.tokenizer import BOS, COMMA, EOS, VOCABULARY, Tokenizer

torch.set_num_threads(1)
LAYERS, WIDTH, CAT, A, B = 4, 32, 2368, 320, 321


def CATS(n):  # noqa: N802
    return " ".join(["cat"] * n)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer()


def tiny(*, projected=False, vocabulary=VOCABULARY, seed=0):
    """A random CLIP text model: four layers of width 32."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS,
        num_attention_heads=4, projection_dim=16, bos_token_id=BOS, eos_token_id=EOS,
    )  # fmt: skip
    torch.manual_seed(seed)
    module = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()
    for parameter in module.parameters():  # the usual start is so small that layers do nothing
        parameter.data.normal_(std=0.2)
    return module


@pytest.fixture(scope="module")
def module():
    return tiny()


@pytest.fixture
def encoder(module, tokenizer):
    return TextEncoder(module, tokenizer, weights="tiny")


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


def test_the_layers_that_clip_skip_leaves_out_do_not_run(module, encoder):
    ran = []
    layers = enumerate(module.encoder.layers)
    hooks = [layer.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, layer in layers]
    encoder.encode("a dog", Reading(clip_skip=3))
    for hook in hooks:
        hook.remove()
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


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_pooled_is_the_last_layer_at_the_first_end(module, encoder, clip_skip):
    made = encoder.encode(CATS(80), Reading(clip_skip=clip_skip, pooled=True))
    with torch.no_grad():
        expected = module(torch.tensor([[BOS, *[CAT] * 75, EOS]])).pooler_output
    assert close(made.pooled, expected)
    assert torch.equal(made.tokens, encoder.encode(CATS(80), Reading(clip_skip=clip_skip)).tokens)


def test_pooled_goes_through_the_projection_if_there_is_one(tokenizer):
    module = tiny(projected=True)
    made = TextEncoder(module, tokenizer, weights="x").encode("a cat", Reading(pooled=True))
    with torch.no_grad():
        expected = module(torch.tensor([[BOS, A, CAT, *[EOS] * 74]]))
    assert close(made.pooled, expected.text_embeds)
    assert close(made.tokens, expected.last_hidden_state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_the_models(tokenizer, module, dtype):
    made = TextEncoder(tiny().to(dtype), tokenizer, weights="x").encode("a cat")
    assert made.tokens.dtype == dtype
    assert not made.tokens.requires_grad
    expected = TextEncoder(module, tokenizer, weights="x").encode("a cat").tokens
    assert (made.tokens.float() - expected).norm() / expected.norm() < 0.05


def test_a_vector_replaces_its_tokens_embedding(module, encoder):
    dog = module.embeddings.token_embedding.weight[1929].detach()
    made = encoder.encode_chunks([[Chunk((Token(A), Token(CAT, vector=dog)))]])[0]
    assert close(made.tokens, encoder.encode("a dog").tokens)


def test_an_embedding_in_a_prompt_is_its_vectors(module, tokenizer, encoder):
    table = module.embeddings.token_embedding.weight.detach()
    words = Words(tokenizer, {"easynegative": [table[A], table[1929]]})
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


def test_overflow_in_half_precision_is_repeated_wider(tokenizer):
    module = tiny()
    for layer in module.encoder.layers:
        layer.mlp.fc2.weight.data *= 3e4
    expected = TextEncoder(module, tokenizer, weights="wide").encode("a cat", Reading(pooled=True))
    half = tiny()
    half.load_state_dict(module.state_dict())
    half.half()
    before = [parameter.data_ptr() for parameter in half.parameters()]
    made = TextEncoder(half, tokenizer, weights="half").encode("a cat", Reading(pooled=True))
    assert made.tokens.dtype == made.pooled.dtype == torch.float16
    assert made.tokens.isfinite().all()
    assert (made.tokens.float() - expected.tokens).norm() / expected.tokens.norm() < 0.05
    assert [parameter.data_ptr() for parameter in half.parameters()] == before


def test_damaged_weights_are_an_error_not_a_black_picture(tokenizer):
    module = tiny()
    module.final_layer_norm.bias.data[0] = torch.nan
    encoder = TextEncoder(module, tokenizer, weights="x")
    for _ in range(2):  # the failure is not cached as a success
        with pytest.raises(NotFinite):
            encoder.encode("a cat")


def test_a_vocabulary_that_is_too_small_is_refused_before_it_breaks_a_gpu(tokenizer):
    with pytest.raises(BadFile, match="knows 1000 tokens"):
        TextEncoder(tiny(vocabulary=1000), tokenizer, weights="x")


# ---- cache ---------------------------------------------------------------------------------------


def test_the_same_prompt_is_encoded_once(module, tokenizer):
    cache = Encodings()
    encoder = TextEncoder(module, tokenizer, weights="one", cache=cache)
    first = encoder.encode("a cat")
    assert encoder.encode("a cat") is first
    again = TextEncoder(module, tokenizer, weights="one", cache=cache)
    assert again.encode("a cat") is first  # the model was dropped and loaded again
    others = [
        encoder.encode("a Cat"),
        encoder.encode("a cat", Reading(clip_skip=2)),
        encoder.encode("a cat", Reading(pooled=True)),
        TextEncoder(module, tokenizer, weights="one+lora", cache=cache).encode("a cat"),
    ]
    assert all(other is not first for other in others)
    assert len(cache) == 5


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

"""Our CLIP text model against transformers' own, weight for weight and number for number."""

import pytest
import torch

from darkroom.engine.clip import ClipText
from darkroom.weights.topology import TextDims


@pytest.mark.parametrize(("width", "activation"), [(64, "quick_gelu"), (128, "gelu")])
def test_same_names_and_same_numbers_as_transformers(width, activation):
    from transformers import CLIPTextConfig, CLIPTextModel

    dims = TextDims(
        width=width, layers=3, intermediate=96, positions=77, vocab=500, activation=activation
    )
    torch.manual_seed(0)
    theirs = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=500,
            hidden_size=width,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=dims.heads,
            hidden_act=activation,
            eos_token_id=499,
        )
    ).eval()
    ours = ClipText(dims).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ids = torch.randint(0, 500, (2, 77))
    with torch.inference_mode():
        want = theirs(ids, output_hidden_states=True)
        hidden = ours.embeddings(inputs_embeds=ours.embeddings.token_embedding(ids))
        mask = torch.full((77, 77), -torch.inf).triu(1)[None, None]
        for layer, state in zip(ours.encoder.layers, want.hidden_states, strict=False):
            torch.testing.assert_close(hidden, state, atol=2e-6, rtol=0)
            hidden = layer(hidden, mask)
        torch.testing.assert_close(ours(ids), want.last_hidden_state, atol=5e-6, rtol=0)


def test_a_token_sees_only_those_before_it():
    ours = ClipText(TextDims(width=64, layers=2, intermediate=64, positions=10, vocab=50)).eval()
    for weight in ours.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    one, two = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 9, 9]])
    with torch.inference_mode():
        a, b = ours(one), ours(two)
    assert torch.equal(a[:, :2], b[:, :2]) and not torch.allclose(a[:, 2:], b[:, 2:])


def test_learns():
    ours = ClipText(TextDims(width=64, layers=1, intermediate=64, positions=10, vocab=50))
    for weight in ours.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    ours(torch.tensor([[1, 2, 3]])).sum().backward()
    assert all(weight.grad is not None for weight in ours.parameters())

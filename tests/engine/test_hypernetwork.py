"""Hypernetworks in a UNet: exactly the published formula, and gone without a trace."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional

from darkroom.core.errors import BadFile
from darkroom.engine.hypernetwork import attached, contexts_of
from darkroom.weights.hypernetwork import ACTIVATIONS, Hypernetwork, Layer

TEXT = 24


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, cross_attention_dim=TEXT, norm_num_groups=8,
    ).eval().requires_grad_(False)  # fmt: skip


def network(*widths, seed=1, scale=0.3):
    torch.manual_seed(seed)

    def f(width):
        first = Layer(
            scale * torch.randn(2 * width, width),
            scale * torch.randn(2 * width),
            ACTIVATIONS["relu"],
            (1 + scale * torch.randn(2 * width), scale * torch.randn(2 * width)),
        )
        last = Layer(
            scale * torch.randn(width, 2 * width),
            scale * torch.randn(width),
            ACTIVATIONS["linear"],
            None,
        )
        return first, last

    return Hypernetwork(f"n{seed}", {width: (f(width), f(width)) for width in widths})


def formula(x, layers, strength):
    """x + m · W2 · norm(relu(W1 x + b1)) + m · b2, written out."""
    first, last = layers
    hidden = torch.clamp(x @ first.weight.T + first.bias, min=0)
    mean, var = hidden.mean(-1, keepdim=True), hidden.var(-1, keepdim=True, unbiased=False)
    weight, bias = first.norm
    hidden = (hidden - mean) / torch.sqrt(var + 1e-5) * weight + bias
    return x + strength * (hidden @ last.weight.T + last.bias)


def run(unet, dtype=torch.float32):
    torch.manual_seed(5)
    x, text = torch.randn(2, 4, 16, 16), torch.randn(2, 7, TEXT)
    with torch.no_grad():
        return unet(x.to(dtype), torch.tensor([500.0]), text.to(dtype), return_dict=False)[0]


def hooks(unet):
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in unet.modules())


def test_every_attention_gives_the_formula(unet):
    """Attention by its definition, on the bent contexts, for self and cross attention."""
    bend = network(TEXT, 32, 64)
    blocks = [m for m in unet.modules() if hasattr(m, "to_k")]
    assert len(blocks) == 14
    for block in blocks:
        width, size = block.to_k.in_features, block.to_q.in_features
        x, context = torch.randn(2, 9, size), torch.randn(2, 5, width)
        own = x if width == size else context
        keys, values = (formula(own, layers, 0.7) for layers in bend.pairs[width])
        q, k, v = block.to_q(x), block.to_k(keys), block.to_v(values)
        q, k, v = (t.unflatten(-1, (block.heads, -1)).transpose(1, 2) for t in (q, k, v))
        wanted = functional.softmax(q @ k.transpose(-1, -2) * block.scale, -1) @ v
        wanted = block.to_out[0](wanted.transpose(1, 2).flatten(2))
        with attached(unet, [(bend, 0.7)]) as reached:
            got = block(x, None if width == size else context)
        assert reached == 14
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_several_follow_each_other_in_order(unet):
    a, b = network(TEXT, seed=1), network(TEXT, 32, seed=2)
    keys, values = contexts_of(unet)[TEXT][0]
    x = torch.randn(1, 3, TEXT)
    for order in ([(a, 0.5), (b, -1.0)], [(b, -1.0), (a, 0.5)]):
        with attached(unet, order):
            got = keys(x), values(x)
        for side, linear in enumerate((keys, values)):
            bent = x
            for n, strength in order:
                bent = formula(bent, n.pairs[TEXT][side], strength)
            torch.testing.assert_close(got[side], linear(bent), rtol=1e-4, atol=1e-4)


def test_only_widths_in_the_file_are_touched(unet):
    with attached(unet, [(network(TEXT), 1.0)]) as reached:
        assert hooks(unet) == 2 * reached == 14
    with attached(unet, [(network(TEXT, 999), 1.0)]) as reached:
        assert reached == 7


def test_nothing_remains(unet):
    parameters = {name: (id(p), p.data_ptr()) for name, p in unet.named_parameters()}
    before = run(unet)
    for _ in range(3):
        with attached(unet, [(network(TEXT, 32, 64), 0.8), (network(TEXT, seed=2), 1.0)]):
            assert not torch.equal(run(unet), before)
    assert hooks(unet) == 0
    assert torch.equal(run(unet), before)
    assert parameters == {name: (id(p), p.data_ptr()) for name, p in unet.named_parameters()}


def test_nothing_remains_after_a_failure(unet):
    with pytest.raises(RuntimeError, match="stop"), attached(unet, [(network(TEXT), 1.0)]):
        raise RuntimeError("stop")
    assert hooks(unet) == 0


def test_strength_zero_is_not_there_at_all(unet):
    before = run(unet)
    with attached(unet, [(network(TEXT), 0.0), (network(11), 0.0)]) as reached:
        assert (reached, hooks(unet)) == (0, 0)
        assert torch.equal(run(unet), before)


def test_it_works_with_other_weights_in_the_layers(unet):
    """A LoRA puts other parameters in for a while: the inputs are bent all the same."""
    keys, _ = contexts_of(unet)[TEXT][0]
    own, x, bend = keys.weight, torch.randn(1, 3, TEXT), network(TEXT)
    with attached(unet, [(bend, 1.0)]):
        keys.weight = torch.nn.Parameter(own + 1, requires_grad=False)
        got = keys(x)
    keys.weight = own
    wanted = formula(x, bend.pairs[TEXT][0], 1.0) @ (own + 1).T
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_half_precision_unet_stays_in_half_precision(unet):
    bend = network(TEXT, 32, 64, scale=0.05)
    with attached(unet, [(bend, 1.0)]):
        full = run(unet)
        half = run(unet.to(torch.bfloat16), torch.bfloat16)
    unet.to(torch.float32)
    assert half.dtype == torch.bfloat16
    assert (half - full).abs().max() < 0.1 * full.abs().max()


def test_of_several_none_is_attached_if_one_does_not_fit(unet):
    with (
        pytest.raises(BadFile),
        attached(unet, [(network(TEXT), 1.0), (network(2048, scale=0), 1)]),
    ):
        pass
    assert hooks(unet) == 0

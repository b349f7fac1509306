"""Networks in the weights: exact arithmetic, nothing left behind, whatever goes wrong."""

import random
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from darkroom.engine.patch import Patcher, Strengths


@dataclass(frozen=True, eq=False)
class Product:
    """A plain product."""

    up: torch.Tensor
    down: torch.Tensor
    bias: torch.Tensor | None = None

    def factors(self):
        return self.up, self.down

    def delta(self, weight, strength):
        return strength * (self.up.float() @ self.down.float()).view(weight.shape)

    def bias_delta(self, _bias, strength):
        return None if self.bias is None else strength * self.bias


@dataclass(frozen=True, eq=False)
class Scaling:
    """W (1 + m s): no plain product, and it depends on the weight."""

    scale: float

    def factors(self):
        return None

    def delta(self, weight, strength):
        assert weight.dtype == torch.float32
        return weight * (strength * self.scale)

    def bias_delta(self, _bias, _strength):
        return None


class Failing(Scaling):
    def delta(self, _weight, _strength):
        raise RuntimeError("out of memory")


@dataclass(frozen=True, eq=False)
class Fake:
    adapters: dict = field(default_factory=dict)


def product(module, rank=3, *, seed=0, bias=False):
    random = torch.Generator().manual_seed(seed)
    flat = module.weight.reshape(len(module.weight), -1)
    up = torch.randn(flat.shape[0], rank, generator=random)
    down = torch.randn(rank, flat.shape[1], generator=random)
    return Product(up, down, torch.randn(flat.shape[0], generator=random) if bias else None)


@pytest.fixture
def model():
    torch.manual_seed(0)
    unet = nn.ModuleDict(
        {
            "conv": nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last),
            "point": nn.Conv2d(8, 8, 1),
            "linear": nn.Linear(8, 6, bias=False),
            "narrow": nn.Linear(8, 6).half(),
            "norm": nn.GroupNorm(2, 8),
            "turned": nn.Linear(8, 6),
        }
    )
    unet["turned"].weight = nn.Parameter(unet["turned"].weight.detach().T.contiguous().T)
    text = nn.Sequential(nn.Linear(5, 7))
    return {"unet": unet.requires_grad_(False), "text": text.requires_grad_(False)}


@pytest.fixture
def patcher(model):
    return Patcher(model)


def network(model, *, seed=0, names=("conv", "point", "linear", "turned", "narrow")):
    unet = model["unet"]
    adapters = {("unet", name): product(unet[name], seed=seed + k) for k, name in enumerate(names)}
    adapters["text", "0"] = product(model["text"][0], seed=seed + 9, bias=True)
    return Fake(adapters)


def state(model):
    """Every Parameter as an object, and its bytes."""
    held = [p for part in model.values() for p in part.parameters()]
    return [id(p) for p in held], [p.detach().clone() for p in held]


def same(before, after):
    return before[0] == after[0] and all(map(torch.equal, before[1], after[1]))


def at(strength):
    return Strengths(text=strength, unet=strength)


def expected(module, adapters):
    weight = module.weight.float()
    for adapter, strength in adapters:
        weight = weight + adapter.delta(weight, strength)
    return weight


def test_two_hundred_switches_leave_the_same_objects_and_bytes(model, patcher):
    before = state(model)
    networks = [network(model, seed=seed) for seed in range(4)]
    draw = random.Random(0)
    for _ in range(200):
        chosen = draw.sample(networks, draw.randint(0, 3))
        patcher.apply([(each, at(draw.uniform(-1, 1))) for each in chosen])
        if draw.random() < 0.3:
            patcher.adjust([(each, at(draw.uniform(-1, 1))) for each in chosen])
        if draw.random() < 0.3:
            patcher.undo()
            assert same(before, state(model))
    patcher.apply([])
    assert same(before, state(model))
    assert patcher.bytes == 0


def test_a_stacked_product_is_one_by_one(model, patcher):
    networks = [network(model, seed=20 * k) for k in range(5)]
    names = ("conv", "point", "linear", "turned", "narrow")
    wanted = {
        name: expected(
            model["unet"][name],
            [(each.adapters["unet", name], 0.1 * k) for k, each in enumerate(networks)],
        )
        for name in names
    }
    bias = model["text"][0].bias + sum(
        0.1 * k * each.adapters["text", "0"].bias for k, each in enumerate(networks)
    )
    count = patcher.apply([(each, at(0.1 * k)) for k, each in enumerate(networks)])
    assert count == 6
    for name in names[:-1]:
        torch.testing.assert_close(model["unet"][name].weight.data, wanted[name], rtol=0, atol=2e-6)
    assert torch.equal(model["unet"]["narrow"].weight.data, wanted["narrow"].half())
    torch.testing.assert_close(model["text"][0].bias.data, bias)


def test_formats_stay_and_memory_is_for_touched_modules_only(model, patcher):
    strides = {name: module.weight.stride() for name, module in model["unet"].items()}
    norm = model["unet"]["norm"].weight
    patcher.apply([(network(model), at(1))])
    for name, module in model["unet"].items():
        assert module.weight.stride() == strides[name]
        assert not module.weight.requires_grad
    assert model["unet"]["narrow"].weight.dtype == torch.float16
    assert model["unet"]["norm"].weight is norm
    touched = [
        model["unet"][name].weight for name in ("conv", "point", "linear", "turned", "narrow")
    ]
    text = model["text"][0]
    assert patcher.bytes == sum(w.nbytes for w in [*touched, text.weight, text.bias])


def test_parts_have_their_own_strength_and_none_is_no_patch(model, patcher):
    before = state(model)
    each = network(model)
    assert patcher.apply([(each, Strengths(text=0, unet=0))]) == 0
    assert same(before, state(model))
    assert patcher.apply([(each, Strengths(text=0, unet=0.5))]) == 5
    text = model["text"][0].weight
    assert id(text) in before[0]
    assert patcher.apply([(each, Strengths(text=0.5, unet=0))]) == 1
    assert id(model["unet"]["conv"].weight) in before[0]


def test_what_did_not_change_is_not_made_again(model, patcher):
    one, two = network(model), network(model, seed=50, names=("conv",))
    patcher.apply([(one, at(1)), (two, at(1))])
    held = {name: module.weight for name, module in model["unet"].items()}
    patcher.apply([(one, at(1)), (two, at(0.5))])
    assert model["unet"]["linear"].weight is held["linear"]
    assert model["unet"]["conv"].weight is not held["conv"]


def test_networks_that_depend_on_the_weight_see_those_before_them(model, patcher):
    linear = model["unet"]["linear"]
    plain, scaling = product(linear), Scaling(2.0)
    for order in ([plain, scaling], [scaling, plain], [plain, scaling, plain]):
        networks = [Fake({("unet", "linear"): each}) for each in order]
        patcher.undo()
        wanted = expected(linear, [(each, 0.5) for each in order])
        patcher.apply([(each, at(0.5)) for each in networks])
        torch.testing.assert_close(linear.weight.data, wanted, rtol=1e-6, atol=1e-5)


def test_a_norm_and_a_bias_that_was_not_there(model, patcher):
    before = state(model)
    unet = model["unet"]

    class Diff(Product):
        def factors(self):
            return None

        def delta(self, weight, strength):
            return torch.full_like(weight, strength)

    adapter = Diff(torch.ones(1), torch.ones(1), torch.ones(8))
    patcher.apply([(Fake({("unet", "norm"): adapter}), at(0.25))])
    assert torch.equal(unet["norm"].weight.data, torch.full((8,), 1.25))
    assert torch.equal(unet["norm"].bias.data, torch.full((8,), 0.25))
    patcher.apply([(Fake({("unet", "linear"): product(unet["linear"], bias=True)}), at(1))])
    assert unet["linear"].bias.shape == (6,)
    patcher.undo()
    assert unet["linear"].bias is None
    assert same(before, state(model))


def test_adjusting_is_applying_but_for_the_last_place_and_the_next_apply_is_exact(model, patcher):
    one, two = network(model), network(model, seed=30)
    patcher.apply([(one, at(1)), (two, at(0.5))])
    patcher.adjust([(one, at(1)), (two, at(0.2))])
    adjusted = model["unet"]["conv"].weight.data.clone()
    half = model["unet"]["narrow"].weight.data.clone()
    other = Patcher(model)
    patcher.undo()
    other.apply([(one, at(1)), (two, at(0.2))])
    exact = model["unet"]["conv"].weight.data.clone()
    torch.testing.assert_close(adjusted, exact, rtol=0, atol=5e-6)
    torch.testing.assert_close(half, model["unet"]["narrow"].weight.data, rtol=2e-3, atol=4e-3)
    other.undo()
    patcher.apply([(one, at(1)), (two, at(0.5))])
    patcher.adjust([(one, at(1)), (two, at(0.2))])
    patcher.apply([(one, at(1)), (two, at(0.2))])
    assert torch.equal(model["unet"]["conv"].weight.data, exact)


def test_adjusting_adds_only_what_changed(model, patcher, monkeypatch):
    one, two = network(model), network(model, seed=30)
    patcher.apply([(one, at(1)), (two, at(0.5))])
    asked = []
    factors = Product.factors

    def watched(self):
        asked.append(self)
        return factors(self)

    monkeypatch.setattr(Product, "factors", watched)
    patcher.adjust([(one, at(1)), (two, at(0.2))])
    assert set(map(id, asked)) == set(map(id, two.adapters.values()))
    asked.clear()
    patcher.apply([(one, at(1)), (two, at(0.2))])
    patcher.apply([(one, at(1)), (two, at(0.2))])
    assert len(asked) == 2 * 6


def test_a_network_that_comes_and_goes_on_the_way(model, patcher):
    before = state(model)
    one, late = network(model, names=("conv",)), network(model, seed=30)
    linear = model["unet"]["linear"]
    own = linear.weight
    wanted = own + 0.5 * late.adapters["unet", "linear"].delta(own, 1.0)
    patcher.apply([(one, at(1))])
    only_one = model["unet"]["conv"].weight.data.clone()
    for _ in range(2):
        patcher.adjust([(one, at(1)), (late, Strengths(text=0, unet=0.5))])
        torch.testing.assert_close(linear.weight.data, wanted)
        patcher.adjust([(one, at(1))])
        assert linear.weight is own
        now = model["unet"]["conv"].weight.data
        torch.testing.assert_close(now, only_one, rtol=0, atol=5e-6)
    patcher.undo()
    assert same(before, state(model))


def test_the_same_network_twice_counts_twice(model, patcher):
    one = network(model)
    patcher.apply([(one, at(0.5)), (one, at(0.25))])
    twice = model["unet"]["conv"].weight.data.clone()
    patcher.apply([(one, at(0.75))])
    torch.testing.assert_close(twice, model["unet"]["conv"].weight.data, rtol=0, atol=2e-6)
    patcher.adjust([(one, at(0.5)), (one, at(0.25))])
    torch.testing.assert_close(twice, model["unet"]["conv"].weight.data, rtol=0, atol=2e-6)


def test_the_first_rows_of_a_product_alone(model, patcher):
    one = network(model)
    linear = model["unet"]["linear"]
    adapter = one.adapters["unet", "linear"]
    wanted = linear.weight + adapter.up[:, :1] @ adapter.down[:1]
    patcher.apply([(one, Strengths(rank=1))])
    torch.testing.assert_close(linear.weight.data, wanted)


@pytest.mark.parametrize("way", ["apply", "adjust"])
def test_a_failure_in_the_middle_puts_everything_back(model, patcher, way):
    before = state(model)
    good = network(model)
    bad = Fake({("unet", "norm"): Failing(1.0)})
    patcher.apply([(good, at(0.5))])
    with pytest.raises(RuntimeError, match="out of memory"):
        getattr(patcher, way)([(good, at(1)), (bad, at(1))])
    assert same(before, state(model))
    assert patcher.bytes == 0
    assert patcher.apply([(good, at(1))]) == 6


def test_a_module_the_model_does_not_have_changes_nothing(model, patcher):
    before = state(model)
    with pytest.raises(AttributeError):
        patcher.apply([(network(model), at(1)), (Fake({("unet", "none"): Scaling(1)}), at(1))])
    assert same(before, state(model))

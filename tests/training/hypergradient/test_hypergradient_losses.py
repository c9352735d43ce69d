"""The losses of both levels are those of training and validation, with right derivatives."""

from itertools import pairwise

import pytest
import torch

from savi.experiments.build import build
from savi.implicit.weight_hessian import WeightHessian, flat
from savi.inference.gradient_check import ProbeBatch, reference_gradient
from savi.training.hypergradient.hyperparameters import assign, make_tunable, values
from savi.training.hypergradient.losses import Bilevel

SMALL = (
    "logger=csv", "experiment=hypergradient", "data=linear_gaussian", "data.limit=12",
    "model.hidden=4", "model.depth=1", "model.latent_dim=2", "model.gamma.value=0.5",
    "model.kl.weight=0.7",
)  # fmt: skip


@pytest.fixture
def built(config):
    return build(config(*SMALL))


def bilevel_of(data, module, **options):
    return Bilevel.of(module.outer_loss, data.split("train"), data.split("val"), **options)


def number(loss):
    return float(loss.detach())


def tensors(**values):
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def test_the_training_loss_has_the_gradient_of_the_training(built):
    data, module = built
    bilevel = bilevel_of(data, module, beta=0.7, samples=module.samples)
    probe = ProbeBatch.draw(data.split("train").double(), module.outer_loss, seed=0)
    expected, _ = reference_gradient(module.outer_loss, probe, 0.7, "ift")
    found = torch.autograd.grad(bilevel.train_loss({}), bilevel.weights)
    torch.testing.assert_close(
        flat(found, bilevel.weights)[0], torch.cat([*expected.values()]), rtol=1e-7, atol=1e-8
    )


def test_the_losses_are_exact_whatever_the_steps_of_the_training(config, built):
    data, module = built
    cheap = (
        "inner.optimizer=natural_gradient", "inner.max_steps=2", "inner.adapt_lr=true",
        "inner.last_step=trusted",
    )  # fmt: skip
    _, other = build(config(*SMALL, *cheap))
    other.load_state_dict(module.state_dict(), strict=False)
    losses = [number(bilevel_of(data, each).train_loss({})) for each in (module, other)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)


def test_hyperparameters_are_where_they_act(built):
    data, module = built
    bilevel = bilevel_of(data, module, beta=0.7)
    train, val = number(bilevel.train_loss({})), number(bilevel.val_loss({}))
    held = values(module, module.tuned)
    assert held == pytest.approx({"gamma": 0.5, "beta": 0.7, "rho": 10.0, "weight_decay": 1e-3})
    same = tensors(**held)
    assert number(bilevel.train_loss(same)) == pytest.approx(train, rel=1e-7)
    assert number(bilevel.val_loss(same)) == pytest.approx(val, rel=1e-7)
    size = sum(float(w.detach().square().sum()) for w in bilevel.weights)
    heavier = bilevel.train_loss(same | tensors(weight_decay=2.001))
    assert number(heavier) - train == pytest.approx(size, rel=1e-6)
    for name, value in (("beta", 1.4), ("weight_decay", 1.0)):
        assert number(bilevel.val_loss(same | tensors(**{name: value}))) == pytest.approx(val)
    for name, value in (("gamma", 0.25), ("rho", 0.1)):
        other = same | tensors(**{name: value})
        assert number(bilevel.val_loss(other)) != pytest.approx(val, rel=1e-4)
        assert number(bilevel.train_loss(other)) != pytest.approx(train, rel=1e-4)


def test_its_second_derivatives_are_right(built):
    """The Hessian in weights and hyperparameters against differences of the gradient."""
    data, module = built
    bilevel = bilevel_of(data, module)
    logs = {n: torch.tensor(v).double().log().requires_grad_() for n, v in
            values(module, module.tuned).items()}  # fmt: skip

    def gradients(create_graph=False):
        loss = bilevel.train_loss({name: log.exp() for name, log in logs.items()})
        return torch.autograd.grad(loss, bilevel.weights, create_graph=create_graph)

    def gradient():
        return flat(gradients(), bilevel.weights)

    hessian = WeightHessian.of(gradients(create_graph=True), bilevel.weights)
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(hessian.point.shape, generator=generator, dtype=torch.float64)
    product = hessian.hessian_vector_product(v)
    mixed = torch.stack(hessian.pull_back([*logs.values()], v))
    ends = [0, *torch.tensor([w.numel() for w in bilevel.weights]).cumsum(0).tolist()]

    def moved(sign, step=1e-5):
        with torch.no_grad():
            for w, (a, b) in zip(bilevel.weights, pairwise(ends), strict=True):
                w += sign * step * v[0, a:b].view_as(w)
        return gradient()

    ahead, behind = moved(1), moved(-2)
    moved(1)
    torch.testing.assert_close(product, (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-7)
    for log, expected in zip(logs.values(), mixed, strict=True):
        differences = []
        for sign in (1, -1):
            log.data += sign * 1e-5
            differences.append(float((gradient() * v).sum()))
            log.data -= sign * 1e-5
        slope = (differences[0] - differences[1]) / 2e-5
        assert float(expected) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_the_module_stays_as_it_is(built):
    data, module = built
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    bilevel = bilevel_of(data, module)
    bilevel.train_loss(tensors(gamma=0.1, rho=1.0)).backward()
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in module.parameters())
    assert module.inference.backend.name == "ift"


def test_tuned_values_are_saved_with_the_weights(built, config):
    data, module = built
    assign(module, {"gamma": 0.3, "beta": 2.0, "rho": 4.0, "weight_decay": 0.5})
    _, other = build(config(*SMALL))
    other.load_state_dict(module.state_dict())
    expected = {"gamma": 0.3, "beta": 2.0, "rho": 4.0, "weight_decay": 0.5}
    assert values(other, other.tuned) == pytest.approx(expected)
    assert float(other.beta) == 2.0
    penalty = module.outer_loss.weight_decay
    assert float(penalty) == 0.5
    x = data.split("val")
    init = module.inference.start(x)
    assert float(other.inference.problem(other.vae, x, init).rho) == 4.0


def test_only_what_is_tuned_becomes_a_buffer(config):
    _, module = build(config(*SMALL, "hypergradient.tune=[rho]"))
    assert {"inference.rho"} == set(module.state_dict()) - set(
        build(config(*SMALL, "hypergradient.tune=[]"))[1].state_dict()
    )
    assert isinstance(module.weight_decay, float)
    with pytest.raises(KeyError):
        make_tunable(module, ["foo"])


def test_without_tuning_the_loss_has_no_penalty(config):
    _, module = build(config(*SMALL, "hypergradient.tune=[]"))
    assert module.outer_loss.weight_decay == 0.0
    assert module.configure_optimizers().defaults["weight_decay"] == 1e-3
    _, tuned = build(config(*SMALL, "hypergradient.tune=[beta]"))
    assert tuned.outer_loss.weight_decay == 1e-3
    assert tuned.configure_optimizers().defaults["weight_decay"] == 0.0

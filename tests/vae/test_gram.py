"""JᵀΓ⁻¹J of a perceptron and its derivatives, against autograd through forward-mode tangents."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from savi.vae import DECODERS, VARIANCES, GaussianVAE, short_format
from savi.vae.data_fit import DataFit
from savi.vae.families.laplace import LaplaceFamily
from savi.vae.gram import SharedPass, closed_gram, has_closed_gram, wide_head_metric
from savi.vae.model import jacobian
from savi.vae.networks.softplus import Softplus
from savi.vae.perceptron import Perceptron

B, d, F = 4, 2, 5


def network(
    data_dim: int, depth: int = 2, activation: type[nn.Module] = Softplus, bias: bool = True
) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width in [d] + [F] * (depth - 1):
        layers += [nn.Linear(width, F, bias=bias), activation()]
    return nn.Sequential(*layers, nn.Linear(F, data_dim, bias=bias)).double()


def inputs(data_dim: int, per_pixel: bool) -> tuple[Tensor, Tensor]:
    z = torch.randn(B, d, dtype=torch.float64, requires_grad=True)
    size = data_dim if per_pixel else 1
    return z, (0.5 + torch.rand(size, dtype=torch.float64)).requires_grad_()


def reference(net: nn.Module, z: Tensor, gamma: Tensor) -> Tensor:
    rows = jacobian(net, z)
    return (rows / gamma.unsqueeze(-2)) @ rows.mT


def slopes(value: Tensor, of: list[Tensor], cotangent: Tensor, **options) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        value, of, cotangent, allow_unused=True, materialize_grads=True, **options
    )


@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("per_pixel", [False, True], ids=["shared", "per pixel"])
@pytest.mark.parametrize("data_dim", [3, 9], ids=["narrow head", "wide head"])
@pytest.mark.parametrize("activation", [Softplus, nn.Tanh, nn.SiLU, nn.ReLU, nn.Identity])
def test_value_and_two_derivatives(activation, data_dim, per_pixel, depth, bias):
    net = network(data_dim, depth, activation, bias)
    z, gamma = inputs(data_dim, per_pixel)
    chain = Perceptron.of(net)
    of = [z, gamma, *net.parameters()]
    # Not symmetric: nothing promises that a cotangent is.
    cotangent = torch.randn(B, d, d, dtype=torch.float64)
    found = []
    for gram in (closed_gram(chain, z, gamma), reference(net, z, gamma)):
        first = slopes(gram, of, cotangent, retain_graph=True)
        graph = slopes(gram, of, cotangent, create_graph=True)
        weighted = sum((g * torch.linspace(0.3, 1, g.numel()).view_as(g)).sum() for g in graph)
        second = slopes(weighted, of, torch.ones_like(weighted))
        found.append([gram.detach(), *first, *second])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_two_derivatives_where_inputs_depend_on_each_other():
    torch.manual_seed(0)
    tied = nn.Linear(d, d)
    net = nn.Sequential(tied, Softplus(), tied, Softplus(), nn.Linear(d, 9)).double()
    base = torch.randn(B, d, dtype=torch.float64, requires_grad=True)
    base_gamma = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    of = [base, base_gamma, *net.parameters()]
    found = []
    for gram in (lambda *at: closed_gram(Perceptron.of(net), *at), lambda *at: reference(net, *at)):
        # As the codes of a solve depend on the weights and on γ.
        gamma = base_gamma + net[-1].bias.square().sum()
        z = base * gamma + tied.weight[0]
        value = gram(z, gamma).square().sum()
        first = torch.autograd.grad(value, of, create_graph=True)
        second = torch.autograd.grad(sum(slope.square().sum() for slope in first), of)
        found.append([*first, *second])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("data_dim", [3, 9], ids=["narrow head", "wide head"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_batch_of_cotangents(create_graph, data_dim):
    net, (z, gamma) = network(data_dim), inputs(data_dim, per_pixel=True)
    of = [z, gamma, net[0].weight, net[0].bias, net[-1].weight]
    cotangents = torch.randn(3, B, d, d, dtype=torch.float64)
    gram = closed_gram(Perceptron.of(net), z, gamma)
    options = {"retain_graph": True, "create_graph": create_graph}
    together = torch.autograd.grad(gram, of, cotangents, is_grads_batched=True, **options)
    each = [torch.autograd.grad(gram, of, c, retain_graph=True) for c in cotangents]
    for ours, theirs in zip(together, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.stack(theirs))


def test_constants_cost_and_get_nothing():
    net = network(9)
    z, gamma = inputs(9, per_pixel=True)
    frozen = network(9).requires_grad_(False)
    cotangent = torch.randn(B, d, d, dtype=torch.float64)
    closed_gram(Perceptron.of(frozen), z, gamma.detach()).backward(cotangent)
    (expected,) = torch.autograd.grad(reference(net, z, gamma), z, cotangent)
    torch.testing.assert_close(z.grad, expected)
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_an_autocast_does_not_shorten_it():
    net = network(9).float()
    z, gamma = (tensor.detach().float() for tensor in inputs(9, per_pixel=False))
    plain = closed_gram(Perceptron.of(net), z, gamma)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(closed_gram(Perceptron.of(net), z.bfloat16(), gamma), closed_gram(
            Perceptron.of(net), z.bfloat16().float(), gamma))  # fmt: skip
        assert torch.equal(closed_gram(Perceptron.of(net), z, gamma), plain)


@pytest.mark.parametrize("create_graph", [False, True])
def test_nor_one_around_its_backward(create_graph):
    net = network(9).float()
    z, gamma = (tensor.detach().float() for tensor in inputs(9, per_pixel=False))
    found = []
    for enabled in (True, False):
        at = z.clone().requires_grad_()
        gram = closed_gram(Perceptron.of(net), at, gamma)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            (slope,) = torch.autograd.grad(
                gram, at, torch.ones_like(gram), create_graph=create_graph
            )
        found.append(slope.detach())
    torch.testing.assert_close(*found, rtol=1e-6, atol=0)


def test_which_chains_have_one():
    assert has_closed_gram(Perceptron.of(network(9)))
    assert not has_closed_gram(Perceptron.of(nn.Sequential(nn.Linear(d, 9))))
    assert not has_closed_gram(Perceptron.of(nn.Sequential(*network(9), nn.Tanh())))
    assert not has_closed_gram(None)


def test_transforms_and_tangents_go_another_way():
    chain = Perceptron.of(network(9))
    seen = []

    def look(z: Tensor) -> Tensor:
        seen.append(has_closed_gram(chain))
        return z.sum()

    torch.func.grad(look)(torch.randn(B, d))
    with torch.autograd.forward_ad.dual_level():
        look(torch.randn(B, d))
    assert seen == [False, False]


def test_the_metric_of_a_wide_head():
    net, gamma = network(9), inputs(9, per_pixel=True)[1]
    weight = net[-1].weight
    metric = wide_head_metric(Perceptron.of(net), gamma)
    torch.testing.assert_close(metric, weight.T @ (weight / gamma.unsqueeze(-1)))
    assert wide_head_metric(Perceptron.of(network(3)), gamma[:3]) is None


def test_tangents_are_given_to_who_asks_for_the_same():
    net = network(9)
    chain, (z, gamma) = Perceptron.of(net), inputs(9, per_pixel=True)

    def kept() -> SharedPass:
        shared = SharedPass()
        with shared.keeping():
            closed_gram(chain, z, gamma, shared)
        return shared

    passed, head = kept().take(chain, z.detach().clone(), gamma)
    torch.testing.assert_close(head.gram, reference(net, z, gamma).detach())
    torch.testing.assert_close(passed[-1].h, net[:-1](z).detach())
    assert kept().take(chain, z + 1e-12, gamma) is None
    assert kept().take(chain, z[:2], gamma) is None
    assert kept().take(chain, z, 2.0 * gamma) is None
    assert kept().take(Perceptron.of(network(9)), z, gamma) is None
    shared = kept()
    with torch.no_grad():
        net[0].weight.mul_(1.0)
    assert shared.take(chain, z, gamma) is None
    shared = kept()
    assert shared.take(chain, z, gamma) is not None
    assert shared.take(chain, z, gamma) is None
    with shared.keeping():
        pass
    closed_gram(chain, z, gamma, shared)
    assert shared.take(chain, z, gamma) is None
    shared = kept()
    with torch.no_grad():
        z.add_(1.0)
    assert shared.take(chain, z, gamma) is None


@pytest.mark.parametrize("linear_head", [False, True], ids=["direct", "linear head"])
def test_a_hessian_from_shared_tangents(linear_head: bool):
    z, _ = inputs(9, per_pixel=False)
    decoder = DECODERS["mlp"](d, (9,), hidden=F, depth=2, activation="softplus").double()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.6)
    model = GaussianVAE(decoder, VARIANCES["fixed"](9, 0.1), d).double()
    x = torch.randn(B, 9, dtype=torch.float64)
    make = DataFit.linear_head if linear_head else lambda model, x, _: DataFit.direct(model, x)
    alone = make(model, x, z).second_order(z.detach().unsqueeze(0))
    with model.shared.keeping():
        model.gram(z)
    fit = make(model, x, z)
    before = model.decoder_evaluations
    shared = fit.second_order(z.detach().unsqueeze(0))
    assert model.decoder_evaluations - before == B
    for ours, theirs in zip(shared, alone, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_copy_of_a_model_holds_no_tangents():
    net, (z, gamma) = network(9), inputs(9, per_pixel=False)
    shared = SharedPass()
    with shared.keeping():
        closed_gram(Perceptron.of(net), 1.0 * z, gamma, shared)
    for copied in (copy.deepcopy(shared), pickle.loads(pickle.dumps(shared))):
        assert copied.take(Perceptron.of(net), z, gamma) is None
    passed, _ = shared.take(Perceptron.of(net), z, gamma)
    assert not any(part.requires_grad for layer in passed for part in layer)


@pytest.mark.parametrize("data_dim", [3, 9], ids=["narrow head", "wide head"])
def test_the_matrix_alone_is_the_same_and_is_not_kept(data_dim):
    net, shared = network(data_dim), SharedPass()
    z, gamma = inputs(data_dim, per_pixel=True)
    chain = Perceptron.of(net)
    with torch.no_grad():
        alone = closed_gram(chain, z, gamma, shared)
        assert not shared.holds
        with shared.keeping(wanted=False):
            closed_gram(chain, z, gamma, shared)
        assert not shared.holds
        with shared.keeping():
            kept = closed_gram(chain, z, gamma, shared)
    assert shared.holds == (data_dim > F)
    torch.testing.assert_close(alone, kept)
    torch.testing.assert_close(alone, reference(net, z, gamma).detach())


def test_a_constant_laplace_covariance_is_rounded_in_training_alone(monkeypatch):
    monkeypatch.setattr(short_format, "has_short_products", lambda: True)
    torch.manual_seed(0)
    decoder = DECODERS["mlp"](3, (40,), hidden=8, depth=2, activation="softplus")
    model, z = GaussianVAE(decoder, VARIANCES["fixed"](40, 0.1), 3), torch.randn(5, 3)
    held, exact = (LaplaceFamily(3, covariance_gradient=kind) for kind in ("stop", "exact"))
    expected = exact.distribution(z, model).scale_tril.detach()
    with torch.no_grad():
        torch.testing.assert_close(held.distribution(z, model).scale_tril, expected)
    rounded = held.distribution(z, model).scale_tril
    assert not rounded.requires_grad
    assert 1e-6 < (rounded - expected).norm() / expected.norm() < 2.0**-6

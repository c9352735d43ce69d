"""Closed-form derivatives against those of torch.func."""

import pytest
import torch
from torch import Tensor, nn

from savi.vae.expansion import Expansion
from savi.vae.networks import DECODERS
from savi.vae.networks.activations import ACTIVATIONS
from savi.vae.perceptron import Perceptron


def randn(*size: int) -> Tensor:
    return torch.randn(*size, dtype=torch.float64)


def twice(function, z: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.vmap(function))(z)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("affine_end", [False, True])
def test_derivatives_of_a_quadratic_of_the_outputs(activation: str, affine_end: bool):
    torch.manual_seed(0)
    build = ACTIVATIONS[activation].build
    layers = [nn.Linear(4, 7), build(), nn.Sequential(nn.Linear(7, 5), build()), nn.Identity()]
    network = nn.Sequential(*layers, *([nn.Linear(5, 6)] if affine_end else [])).double()
    width = 6 if affine_end else 5
    root, offset, z = randn(width, width), randn(width), randn(2, 3, 4)
    metric = root @ root.T

    def f(point: Tensor) -> Tensor:
        out = network(point)
        return 0.5 * out @ metric @ out + offset @ out

    chain = Perceptron.of(network)
    assert chain is not None
    forward = chain(z)
    torch.testing.assert_close(forward.value, network(z))
    c = forward.value @ metric + offset
    gradient = twice(torch.func.grad(f), z)
    torch.testing.assert_close(forward.pull_back(c), gradient)
    jacobian = twice(torch.func.jacrev(network), z)
    torch.testing.assert_close(forward.jacobian(), jacobian.mT)
    expansion = Expansion.of(forward, c)
    hessian = expansion.hessian(lambda v: v @ metric.tril(-1) + 0.5 * v * metric.diagonal())
    torch.testing.assert_close(expansion.slope, gradient)
    torch.testing.assert_close(hessian, twice(torch.func.hessian(f), z))
    v = torch.randn_like(z)
    product = expansion.product(lambda v: v @ metric)(v)
    torch.testing.assert_close(product, (hessian @ v.unsqueeze(-1)).squeeze(-1))
    assert not any(t.requires_grad for t in (expansion.slope, hessian, product))


def test_a_decoder_is_its_trunk_and_its_head():
    for depth in (0, 2):
        decoder = DECODERS["mlp"](2, (5,), hidden=3, depth=depth, activation="tanh")
        chain = Perceptron.of(decoder)
        assert chain is not None
        assert len(chain.layers) == depth + 1


def _doubled(module: nn.Module) -> None:
    plain = module.forward
    module.forward = lambda *inputs: 2.0 * plain(*inputs)


#: What a user may hang on a module.
HANGINGS = {
    "forward hook": lambda module: module.register_forward_hook(lambda *seen: 2.0 * seen[-1]),
    "pre-hook": lambda module: module.register_forward_pre_hook(lambda _, inputs: 2.0 * inputs[0]),
    "backward hook": lambda module: module.register_full_backward_hook(
        lambda _, before, __: tuple(2.0 * g for g in before)
    ),
    "backward pre-hook": lambda module: module.register_full_backward_pre_hook(
        lambda _, after: tuple(2.0 * g for g in after)
    ),
    "forward of its own": _doubled,
}


@pytest.mark.parametrize("part", ["head", "trunk", "trunk.0", "trunk.1", ""])
@pytest.mark.parametrize("hang", HANGINGS.values(), ids=HANGINGS)
def test_what_a_user_hangs_on_a_part_is_left_to_autograd(hang, part):
    decoder = DECODERS["mlp"](2, (5,), hidden=3, depth=1, activation="tanh")
    assert Perceptron.of(decoder) is not None
    hang(decoder.get_submodule(part))
    assert Perceptron.of(decoder) is None


def parametrised() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), nn.Tanh())


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)),
        nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Tanh()),
        nn.Sequential(nn.Linear(2, 3), nn.Softplus(beta=2.0)),
        nn.Sequential(nn.Tanh(), nn.Linear(2, 3)),
        nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Tanh()),
        nn.Bilinear(2, 2, 3),
        parametrised(),
    ],
    ids=["dropout", "norm", "other settings", "starts", "twice", "other", "weight norm"],
)
def test_what_is_no_plain_chain_is_left_to_autograd(network: nn.Module):
    assert Perceptron.of(network) is None

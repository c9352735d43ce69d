"""The log-probability of a chosen level, and its derivatives to the third."""

import torch
from linear_gaussian import randn

from savi.vae.likelihoods.log_softmax import chosen_log_softmax, score


def test_it_and_its_score_are_those_of_pytorch():
    o, k, g = randn(3, 2, 5), torch.randint(0, 5, (3, 2, 1)), randn(3, 2, 1)
    exact = o.log_softmax(dim=-1).gather(-1, k)
    slope = torch.func.grad(lambda o: (g * o.log_softmax(dim=-1).gather(-1, k)).sum())(o)
    for leaf in (o, o.clone().requires_grad_()):
        torch.testing.assert_close(chosen_log_softmax(leaf, k).detach(), exact)
        torch.testing.assert_close(score(leaf, k, g).detach(), slope)
    torch.testing.assert_close(
        torch.func.grad(lambda o: (g * chosen_log_softmax(o, k)).sum())(o), slope
    )
    torch.testing.assert_close(torch.func.vmap(score)(o, k, g), slope)


def test_derivatives_to_the_third():
    o, k = randn(2, 4).requires_grad_(), torch.randint(0, 4, (2, 1))
    g = randn(2, 1).requires_grad_()

    def slope(o: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(chosen_log_softmax(o, k).sin().sum(), o, create_graph=True)[0]

    assert torch.autograd.gradcheck(lambda o: chosen_log_softmax(o, k), o)
    assert torch.autograd.gradgradcheck(lambda o: chosen_log_softmax(o, k), o)
    assert torch.autograd.gradgradcheck(slope, o)
    assert torch.autograd.gradcheck(lambda o, g: score(o, k, g), (o, g))
    assert torch.autograd.gradgradcheck(lambda o, g: score(o, k, g), (o, g))


def test_it_is_finite_where_a_probability_underflows():
    o = torch.tensor([[-1e4, 0.0, 1e4]], requires_grad=True)
    for k in range(3):
        value = chosen_log_softmax(o, torch.tensor([[k]]))
        (slope,) = torch.autograd.grad(value.sum(), o, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), o)
        assert all(torch.isfinite(part).all() for part in (value, slope, second))

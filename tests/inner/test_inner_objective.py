"""The derivatives that a plain callable gets from autograd."""

import torch
from inner_problems import Nonlinear, Quadratic, nonlinear_inputs, randn, spd

from savi.inner import AutogradObjective


def test_gradient_and_hessian_against_autograd():
    mixing, c, y = (t.detach() for t in nonlinear_inputs())
    objective = AutogradObjective(Nonlinear(mixing, c))
    value, gradient = objective.gradient(y)
    assert not value.requires_grad
    assert not gradient.requires_grad
    for b in range(len(y)):

        def alone(point, b=b):
            return Nonlinear(mixing, c[b : b + 1])(point[None]).squeeze(0)

        torch.testing.assert_close(value[b], alone(y[b]))
        torch.testing.assert_close(gradient[b], torch.autograd.functional.jacobian(alone, y[b]))
        torch.testing.assert_close(
            objective.curvature(y)[b], torch.autograd.functional.hessian(alone, y[b])
        )


def test_products_with_the_hessian():
    hessian = spd(3, 4)
    linearization = AutogradObjective(Quadratic(hessian, randn(3, 4, seed=1))).linearize(
        randn(3, 4, seed=2)
    )
    v = randn(3, 4, seed=3)
    torch.testing.assert_close(
        linearization.hessian_vector_product(v), (hessian @ v.unsqueeze(-1)).squeeze(-1)
    )
    torch.testing.assert_close(linearization.hessian(), hessian)


def test_curvature_is_differentiable_on_request():
    mixing, c, y = nonlinear_inputs()
    torch.autograd.gradcheck(
        lambda a, point: AutogradObjective(Nonlinear(a, c)).curvature(point, create_graph=True),
        (mixing, y),
    )
    assert not AutogradObjective(Nonlinear(mixing, c)).curvature(y).requires_grad


def test_gradient_takes_the_argument_alone():
    """J closes over the very tensor that it is evaluated at."""
    y = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    objective = AutogradObjective(lambda point: (point * y).sum(-1))
    for create_graph in (False, True):
        _, gradient = objective.gradient(y, create_graph)
        assert gradient.item() == 1.0
    # d/dy of ∇J = y is 1, through the closure.
    assert torch.autograd.grad(gradient.sum(), y)[0].item() == 1.0


def test_linear_and_constant_objectives_have_zero_curvature():
    y = randn(2, 3, seed=0)
    for function in (lambda y: y.sum(-1), lambda y: torch.ones(len(y), dtype=y.dtype)):
        objective = AutogradObjective(function)
        assert (objective.curvature(y) == 0).all()
        assert (objective.linearize(y).hessian_vector_product(y) == 0).all()

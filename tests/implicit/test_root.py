import pytest
import torch
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import savi
from savi.implicit import root


def cubic(x, matrix, b):
    """A x + x³ = b, with one solution where A is positive definite."""
    return x @ matrix.T + x**3 - b


def solved(matrix, b):
    """Its solution by Newton's method."""
    matrix, b = matrix.detach(), b.detach()
    x = torch.zeros_like(b)
    for _ in range(60):
        jacobian = matrix + torch.diag_embed(3 * x**2)
        x = x - torch.linalg.solve(jacobian, cubic(x, matrix, b))
    return x


@pytest.fixture
def params():
    torch.manual_seed(0)
    matrix = torch.randn(2, 2, dtype=torch.float64)
    matrix = 0.5 * (matrix @ matrix.T) + torch.eye(2, dtype=torch.float64)
    b = torch.randn(3, 2, dtype=torch.float64)
    return matrix.requires_grad_(), b.requires_grad_()


def solution_of(matrix, b):
    return root(cubic, solved(matrix, b), matrix, b).value


def test_first_derivatives_in_both_modes(params):
    assert gradcheck(solution_of, params, check_forward_ad=True)


def test_second_derivatives_and_forward_over_reverse(params):
    assert gradgradcheck(solution_of, params, check_fwd_over_rev=True)


def test_third_derivatives(params):
    def gradient(matrix, b):
        value = solution_of(matrix, b).square().sum()
        return torch.autograd.grad(value, b, create_graph=True)[0]

    assert gradgradcheck(gradient, params)


def test_reverse_over_forward(params):
    matrix, b = params
    direction, cotangent = torch.randn_like(matrix), torch.randn_like(b)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(matrix, direction)
        tangent = forward_ad.unpack_dual(solution_of(dual, b)).tangent
        forward = torch.autograd.grad((tangent * cotangent).sum(), params)
    value = (solution_of(matrix, b) * cotangent).sum()
    (gradient,) = torch.autograd.grad(value, matrix, create_graph=True)
    reverse = torch.autograd.grad((gradient * direction).sum(), params)
    for a, b in zip(forward, reverse, strict=True):
        torch.testing.assert_close(a, b)


def test_a_linear_system_has_its_closed_form(params):
    matrix, b = params
    x = torch.linalg.solve(matrix, b.unsqueeze(-1)).squeeze(-1)
    implicit = root(lambda x, matrix, b: x @ matrix.T - b, x, matrix, b)
    cotangent = torch.randn_like(b)
    exact = torch.autograd.grad((x * cotangent).sum(), params)
    found = torch.autograd.grad((implicit.value * cotangent).sum(), params)
    for a, b in zip(exact, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert not implicit.certificate.failed.any()
    assert (implicit.value == x).all()


def test_what_f_closes_over_receives_derivatives_of_both_orders(params):
    matrix, b = params
    x = solved(matrix, b)

    def second(value):
        gradients = torch.autograd.grad(value.square().sum(), params, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradients), params)

    by_parameters = second(root(cubic, x, matrix, b).value)
    by_closure = second(root(lambda x: cubic(x, matrix, b), x).value)
    for a, b in zip(by_parameters, by_closure, strict=True):
        torch.testing.assert_close(a, b)


def test_the_weights_of_a_module_receive_gradients():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3).double()
    with torch.no_grad():
        layer.weight *= 0.3
    z = torch.zeros(5, 3, dtype=torch.float64)
    for _ in range(200):
        z = torch.tanh(layer(z)).detach()
    root(lambda z: z - torch.tanh(layer(z)), z).value.sum().backward()
    implicit = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    z = torch.zeros(5, 3, dtype=torch.float64)
    for _ in range(200):
        z = torch.tanh(layer(z))
    z.sum().backward()
    for a, p in zip(implicit, layer.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-8, atol=1e-10)


def test_the_stationarity_of_an_objective_gives_what_minimize_gives():
    torch.manual_seed(0)
    theta = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def objective(y):
        return (y**4).sum(-1) + 0.5 * (y - theta).square().sum(-1)

    solution = savi.minimize(
        objective,
        torch.zeros(4, 3, dtype=torch.float64),
        optimizer=savi.inner.Newton(),
        gradient=savi.gradients.Implicit(),
        rtol=1e-12,
        max_steps=50,
    )

    def stationarity(y):
        if not y.requires_grad:
            y = y.detach().requires_grad_()
        return torch.autograd.grad(objective(y).sum(), y, create_graph=True)[0]

    value = root(stationarity, solution.value).value
    for v in torch.eye(3, dtype=torch.float64):
        expected = torch.autograd.grad((solution.value * v).sum(), theta, retain_graph=True)
        found = torch.autograd.grad((value * v).sum(), theta, retain_graph=True)
        torch.testing.assert_close(found, expected)


def test_where_the_solution_came_from_does_not_matter(params):
    matrix, b = params
    x = solved(matrix, b) + 0.0 * b
    (gradient,) = torch.autograd.grad(root(cubic, x, matrix, b).value.sum(), b)
    (expected,) = torch.autograd.grad(solution_of(matrix, b).sum(), b)
    torch.testing.assert_close(gradient, expected)


def test_a_parameter_that_f_does_not_use_gets_0(params):
    _, b = params
    unused = torch.ones(2, requires_grad=True)
    value = root(lambda x, b, unused: x**3 + x - b, solved(torch.eye(2).double(), b), b, unused)
    assert (torch.autograd.grad(value.value.sum(), unused)[0] == 0).all()


def test_integer_parameters_are_allowed(params):
    _, b = params
    x = solved(torch.eye(2).double(), b)
    powers = torch.full((2,), 3)
    value = root(lambda x, b, powers: x**powers + x - b, x, b, powers).value
    expected = 1.0 / (1.0 + 3.0 * x**2)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), b)[0], expected)


def test_without_anything_to_differentiate_the_value_needs_no_grad(params):
    matrix, b = (p.detach() for p in params)
    assert not root(cubic, solved(matrix, b), matrix, b).value.requires_grad


def test_an_example_does_not_depend_on_its_batch(params):
    matrix, b = params
    whole = root(cubic, solved(matrix, b), matrix, b)
    for row in range(len(b)):
        alone = root(cubic, solved(matrix, b)[row : row + 1], matrix, b[row : row + 1])
        torch.testing.assert_close(alone.certificate.condition[0], whole.certificate.condition[row])
        (one,) = torch.autograd.grad(alone.value.sum(), b)
        (all_of_them,) = torch.autograd.grad(whole.value[row].sum(), b, retain_graph=True)
        torch.testing.assert_close(one, all_of_them)

"""Programs whose solutions, multipliers and derivatives are known."""

import pytest
import torch
from qp_problems import product, random_problems, tensor

from savi.implicit.qp import QPLayer, QPStatus

EYE = torch.eye(3, dtype=torch.float64)


def test_without_constraints_the_solution_is_that_of_a_linear_system():
    Q, q, *_ = random_problems(4, 5, 0, 0)
    Q.requires_grad_()
    q.requires_grad_()
    solution = QPLayer()(Q, q)
    expected = -torch.linalg.solve(Q, q)
    torch.testing.assert_close(solution.value, expected, rtol=1e-12, atol=1e-12)
    v = torch.sin(torch.arange(20.0, dtype=torch.float64)).view(4, 5)
    ours = torch.autograd.grad((v * solution.value).sum(), (Q, q))
    dQ, dq = torch.autograd.grad((v * expected).sum(), (Q, q))
    torch.testing.assert_close(ours, (0.5 * (dQ + dQ.mT), dq), rtol=1e-10, atol=1e-12)


def test_equalities_alone_are_a_linear_system_in_x_and_y():
    Q, q, A, b, *_ = (t.requires_grad_() for t in random_problems(4, 5, 2, 0))
    solution = QPLayer()(Q, q, A, b)
    K = torch.cat(
        [torch.cat([Q, A.mT], dim=2), torch.cat([A, torch.zeros(4, 2, 2).double()], dim=2)], dim=1
    )
    expected = torch.linalg.solve(K, torch.cat([-q, b], dim=1))
    found = torch.cat([solution.value, solution.equality_multipliers], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    v = torch.cos(torch.arange(28.0, dtype=torch.float64)).view(4, 7)
    ours = torch.autograd.grad((v * found).sum(), (Q, q, A, b))
    dQ, *others = torch.autograd.grad((v * expected).sum(), (Q, q, A, b))
    torch.testing.assert_close(ours, (0.5 * (dQ + dQ.mT), *others), rtol=1e-8, atol=1e-9)
    assert (solution.steps <= 1).all()


def test_projection_on_a_box_is_a_clamp():
    """Its derivative is 1 inside and 0 outside, and that of a bound is 1 where it holds x back."""
    points = 2.0 * torch.randn(32, 3, dtype=torch.float64, generator=torch.manual_seed(1))
    points.requires_grad_()
    bounds = torch.ones(6, dtype=torch.float64, requires_grad=True)
    solution = QPLayer()(EYE, -points, G=torch.cat([EYE, -EYE]), h=bounds)
    torch.testing.assert_close(solution.value, points.clamp(-1, 1), rtol=1e-12, atol=1e-12)
    dpoints, dbounds = torch.autograd.grad(solution.value.sum(), (points, bounds))
    inside = points.abs() < 1
    torch.testing.assert_close(dpoints, inside.double(), rtol=1e-10, atol=1e-10)
    held = torch.cat([(points > 1).sum(dim=0), -(points < -1).sum(dim=0)]).double()
    torch.testing.assert_close(dbounds, held, rtol=1e-10, atol=1e-10)
    assert 0 < inside.sum() < inside.numel()
    torch.testing.assert_close(
        solution.inequality_multipliers,
        torch.cat([(points - 1).clamp_min(0), (-points - 1).clamp_min(0)], dim=1).detach(),
        rtol=1e-10,
        atol=1e-10,
    )


def test_one_variable():
    """minimise ½ax² + cx subject to x <= h: x = min(−c/a, h)."""
    a, c, h = tensor(2.0, 4.0), tensor(-2.0, -8.0), tensor(3.0, 1.0)
    for t in (a, c, h):
        t.requires_grad_()
    x = QPLayer()(
        a.view(2, 1, 1), c.view(2, 1), G=torch.ones(1, 1).double(), h=h.view(2, 1)
    ).value.squeeze(-1)
    torch.testing.assert_close(x, tensor(1.0, 1.0))
    da, dc, dh = torch.autograd.grad(x.sum(), (a, c, h))
    torch.testing.assert_close(da, tensor(-0.5, 0.0), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(dc, tensor(-0.5, 0.0), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(dh, tensor(0.0, 1.0), rtol=1e-10, atol=1e-10)


def test_a_singular_q_whose_flat_direction_the_constraints_bound():
    """minimise ½x₁² − x₂ subject to x₁ + x₂ <= h: x₁ = −1, x₂ = h + 1."""
    Q, h = torch.diag(tensor(1.0, 0.0)), tensor(2.0).requires_grad_()
    solution = QPLayer()(Q, tensor(0.0, -1.0), G=tensor([1.0, 1.0]), h=h)
    torch.testing.assert_close(solution.value, tensor([-1.0, 3.0]), rtol=1e-9, atol=1e-9)
    assert not solution.degenerate.any()
    (dh,) = torch.autograd.grad(solution.value[0, 1], h)
    torch.testing.assert_close(dh, tensor(1.0), rtol=1e-8, atol=1e-8)


def test_a_linear_program():
    """A vertex, which moves with the constraints that meet there and not with the costs."""
    q = tensor([-1.0, -2.0]).requires_grad_()
    h = tensor([1.0, 1.0, 1.5, 0.0, 0.0]).requires_grad_()
    G = tensor([1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0], [0.0, -1.0])
    solution = QPLayer()(torch.zeros(2, 2).double(), q, G=G, h=h)
    torch.testing.assert_close(solution.value, tensor([0.5, 1.0]), rtol=1e-9, atol=1e-9)
    assert not solution.degenerate.any()
    assert solution.active.tolist() == [[False, True, True, False, False]]
    dq, dh = torch.autograd.grad(solution.value[0, 0], (q, h))
    torch.testing.assert_close(dq, tensor([0.0, 0.0]), rtol=0, atol=1e-8)
    torch.testing.assert_close(dh, tensor([0.0, -1.0, 1.0, 0.0, 0.0]), rtol=1e-8, atol=1e-8)


def test_a_q_that_is_convex_only_where_the_equalities_let_x_move():
    solution = QPLayer()(
        torch.diag(tensor(1.0, -1.0)),
        tensor(1.0, 1.0),
        tensor([0.0, 1.0]),
        tensor(2.0),
        tensor([1.0, 0.0]),
        tensor(-3.0),
    )
    assert solution.status.tolist() == [QPStatus.SOLVED]
    torch.testing.assert_close(solution.value, tensor([-3.0, 2.0]))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_kkt_conditions_hold_in_any_units(scale):
    Q, q, A, b, G, h = random_problems(32, 8, 3, 12)
    Q, q, b, h = scale * Q, scale**2 * q, scale * b, scale * h
    solution = QPLayer()(Q, q, A, b, G, h)
    assert (solution.status == QPStatus.SOLVED).all()
    assert (solution.residual < 1e-12).all()
    x, y, z = solution.value, solution.equality_multipliers, solution.inequality_multipliers
    force = product(Q, x) + q + product(A.mT, y) + product(G.mT, z)
    assert force.abs().max() < 1e-10 * product(Q, x).abs().max().clamp_min(q.abs().max())
    assert (product(A, x) - b).abs().max() < 1e-10 * scale
    assert (product(G, x) - h).max() < 1e-10 * scale
    assert (z >= 0).all()
    assert ((z > 0) == solution.active).all()
    assert solution.active.sum() > 32
    torch.testing.assert_close(solution.gap, torch.zeros(32).double(), rtol=0, atol=1e-9 * scale**3)


def test_the_condition_is_that_of_the_kkt_matrix():
    Q, q, A, b, G, h = random_problems(6, 4, 1, 5, seed=3)
    solution = QPLayer()(Q, q, A, b, G, h)
    for i in range(6):
        rows = torch.cat([A[i], G[i][solution.active[i]]])
        rows = rows / rows.norm(dim=1, keepdim=True)
        K = torch.zeros(4 + len(rows), 4 + len(rows)).double()
        K[:4, :4] = Q[i] / Q[i].abs().max()
        K[4:, :4], K[:4, 4:] = rows, rows.T
        torch.testing.assert_close(solution.condition[i], torch.linalg.cond(K))


def test_the_condition_in_float32():
    parameters = random_problems(6, 4, 1, 5, seed=3)
    short = QPLayer()(*(parameter.float() for parameter in parameters)).condition
    assert short.dtype == torch.float32
    torch.testing.assert_close(short, QPLayer()(*parameters).condition.float(), rtol=1e-3, atol=0)

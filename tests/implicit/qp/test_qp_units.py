"""Programs in which sizes differ widely: no answer that counts as solved may be wrong."""

import pytest
import torch
from qp_problems import tensor

from savi.implicit.qp import QPLayer, QPStatus, QPWarning


def eye(n):
    return torch.eye(n, dtype=torch.float64)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.float64)


def test_a_solution_of_zero():
    solution = QPLayer()(tensor([2.0, 1.0], [1.0, 1.0]), tensor(1.0, 2.0), G=-eye(2), h=zeros(2))
    torch.testing.assert_close(solution.value, zeros(1, 2), rtol=0, atol=1e-15)
    torch.testing.assert_close(solution.inequality_multipliers, tensor([1.0, 2.0]))


def test_random_programs_on_the_positive_quadrant():
    A = normal(300, 2, 2)
    Q = A @ A.mT + 0.1 * eye(2)
    solution = QPLayer()(Q, normal(300, 2, seed=1), G=-eye(2), h=zeros(2))
    assert (solution.status == QPStatus.SOLVED).all()
    assert (solution.value.abs().amax(dim=1) < 1e-15).any()


@pytest.mark.parametrize("scale", [1e-12, 1e3, 1e12])
def test_a_cone_in_any_units(scale):
    points = scale * normal(100, 5)
    solution = QPLayer()(eye(5), -points, G=-eye(5), h=zeros(5))
    expected = points.clamp_min(0.0)
    torch.testing.assert_close(solution.value, expected, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.filterwarnings("ignore::savi.implicit.qp.QPWarning")
@pytest.mark.parametrize("bound", [1e2, 1e5, 1e11])
def test_one_large_coordinate_hides_no_error_in_the_others(bound):
    A, q, h = normal(7, 7), 3.0 * normal(100, 8, seed=1), zeros(8)
    Q = torch.block_diag(eye(1), A @ A.T + 0.1 * eye(7))
    q[:, 0], h[0] = 0.0, -bound
    found = QPLayer()(Q, q, G=-eye(8), h=h)
    expected = QPLayer()(Q[1:, 1:], q[:, 1:], G=-eye(7), h=zeros(7))
    assert (expected.status == QPStatus.SOLVED).all()
    assert bound > 1e2 or found.solved.all()
    good, wanted = found.value[found.solved][:, 1:], expected.value[found.solved]
    torch.testing.assert_close(good, wanted, rtol=1e-6, atol=1e-6)


def test_a_large_coordinate_does_not_hide_that_bounds_cross():
    G, h = tensor([-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]), tensor(-1e11, 0.0, -1.0)
    with pytest.warns(QPWarning):
        assert not QPLayer()(eye(2), zeros(2), G=G, h=h).solved.any()


def test_a_large_equation_does_not_hide_that_others_contradict_each_other():
    A = tensor([1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0])
    with pytest.warns(QPWarning, match="1 infeasible"):
        QPLayer()(eye(3), zeros(3), A, tensor(1e11, 0.0, 1.0))


@pytest.mark.parametrize(("dtype", "range_"), [(torch.float32, 1e6), (torch.float64, 1e8)])
def test_small_curvature_counts_in_its_own_units(dtype, range_):
    curvature = torch.tensor([range_, 1.0 / range_], dtype=dtype)
    box = torch.cat([eye(2), -eye(2)]).to(dtype)
    solution = QPLayer()(
        torch.diag(curvature), -curvature, G=box, h=torch.full((4,), 10.0).to(dtype)
    )
    torch.testing.assert_close(solution.value, torch.ones(1, 2, dtype=dtype))


def test_small_negative_curvature_is_not_convex():
    Q = torch.diag(torch.tensor([1e4, -1e-3]))
    box = torch.cat([torch.eye(2), -torch.eye(2)])
    with pytest.warns(QPWarning, match="1 non convex"):
        QPLayer()(Q, -torch.ones(2), G=box, h=torch.ones(4))


def test_an_infinite_bound_is_none():
    torch.manual_seed(0)
    root = torch.randn(3, 3, dtype=torch.float64)
    Q, q = root @ root.T + torch.eye(3), torch.randn(4, 3, dtype=torch.float64)
    G = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    h = torch.full((4, 5), 0.3, dtype=torch.float64)
    h[:, 4] = torch.inf
    h[0, 0] = torch.inf
    h.requires_grad_()
    solution = QPLayer()(Q, q, G=G, h=h)
    assert solution.solved.all()
    of_first = QPLayer()(Q, q[:1], G=G[1:4], h=h[:1, 1:4])
    of_others = QPLayer()(Q, q[1:], G=G[:4], h=h[1:, :4])
    expected = torch.cat([of_first.value, of_others.value])
    torch.testing.assert_close(solution.value, expected)
    found = torch.autograd.grad(solution.value.square().sum(), (G, h))
    for a, b in zip(found, torch.autograd.grad(expected.square().sum(), (G, h)), strict=True):
        torch.testing.assert_close(a, b)
    assert not solution.active[:, 4].any()


def test_minus_infinity_is_refused():
    with pytest.warns(QPWarning, match="not finite"):
        QPLayer()(torch.eye(1), torch.zeros(1, 1), G=torch.eye(1), h=torch.tensor([-torch.inf]))

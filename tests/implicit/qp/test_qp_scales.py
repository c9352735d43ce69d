"""Programs in awkward units: solved, or told; never a wrong answer that is called a solution."""

import pytest
import torch

from savi.implicit.qp import QPLayer, QPStatus

pytestmark = pytest.mark.filterwarnings("ignore::savi.implicit.qp.QPWarning")


def eye(n):
    return torch.eye(n, dtype=torch.float64)


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.float64)


def random_curvature(batch, n):
    root = torch.randn(batch, n, n, dtype=torch.float64)
    return root @ root.mT + 0.1 * eye(n)


@pytest.mark.parametrize("n", [2, 6])
def test_a_solution_at_the_tip_of_a_cone(n):
    torch.manual_seed(0)
    q = torch.randn(100, n, dtype=torch.float64)
    solution = QPLayer()(random_curvature(100, n), q, G=-eye(n), h=zeros(n))
    assert solution.solved.all()
    assert solution.value.min() > -1e-12


@pytest.mark.parametrize("scale", [1e-12, 1e3, 1e9])
def test_the_units_of_a_cone(scale):
    torch.manual_seed(0)
    target = torch.randn(50, 5, dtype=torch.float64)
    solution = QPLayer()(eye(5), -scale * target, G=-eye(5), h=zeros(5))
    torch.testing.assert_close(solution.value / scale, target.clamp_min(0.0))


@pytest.mark.parametrize("bound", [1e9, 1e11, 1e13])
def test_one_large_coordinate_never_makes_the_others_wrong(bound):
    torch.manual_seed(0)
    Q, q = eye(8), 3.0 * torch.randn(50, 8, dtype=torch.float64)
    Q[1:, 1:] = random_curvature(1, 7)[0]
    q[:, 0] = 0.0
    lowest = zeros(8)
    lowest[0] = bound
    both = QPLayer()(Q, q, G=-eye(8), h=-lowest)
    alone = QPLayer()(Q[1:, 1:], q[:, 1:], G=-eye(7), h=zeros(7))
    assert alone.solved.all()
    rows = both.solved
    torch.testing.assert_close(both.value[rows, 1:], alone.value[rows], rtol=1e-6, atol=1e-6)


def test_a_large_coordinate_hides_no_contradiction():
    G = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    h = torch.tensor([-1e11, 0.0, -1.0], dtype=torch.float64)
    assert not QPLayer()(eye(2), zeros(1, 2), G=G, h=h).solved.any()
    A = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    b = torch.tensor([1e11, 0.0, 1.0], dtype=torch.float64)
    solution = QPLayer()(eye(3), zeros(1, 3), A=A, b=b)
    assert solution.status.tolist() == [QPStatus.INFEASIBLE]


@pytest.mark.parametrize(("large", "dtype"), [(1e6, torch.float32), (1e8, torch.float64)])
def test_small_curvature_counts(large, dtype):
    curvature = torch.tensor([large, 1.0 / large], dtype=dtype)
    box = torch.cat([torch.eye(2), -torch.eye(2)]).to(dtype)
    h = torch.full((4,), 10.0, dtype=dtype)
    solution = QPLayer()(curvature.diag(), -curvature.unsqueeze(0), G=box, h=h)
    torch.testing.assert_close(solution.value, torch.ones(1, 2, dtype=dtype))


def test_small_negative_curvature_counts_too():
    curvature = torch.tensor([1e4, -1e-3])
    box, h = torch.cat([torch.eye(2), -torch.eye(2)]), torch.full((4,), 10.0)
    solution = QPLayer()(curvature.diag(), torch.zeros(1, 2), G=box, h=h)
    assert solution.status.tolist() == [QPStatus.NON_CONVEX]

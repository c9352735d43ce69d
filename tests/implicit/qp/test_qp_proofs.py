"""Proofs that there is no solution, in any units, and none where there is one."""

import pytest
import torch
from exact_programs import drawn, in_units, power
from qp_problems import tensor

from savi.implicit.qp import QPLayer, QPStatus, QPWarning

pytestmark = [pytest.mark.drawn, pytest.mark.filterwarnings("ignore::savi.implicit.qp.QPWarning")]

BOX = torch.cat([torch.eye(4), -torch.eye(4)]).double()


def numbers(seed, n=4, p=6, m=None):
    """Whole numbers, and a point for the constraints to hold at."""
    generator = torch.Generator().manual_seed(seed)

    def whole(*shape, least=-9, most=9):
        return torch.randint(least, most + 1, shape, generator=generator).double()

    X, q, inside = whole(int(whole(1, least=0, most=n)), n), whole(n), whole(n, least=-3, most=3)
    A = whole(int(whole(1, least=0, most=2)) if m is None else m, n)
    return generator, whole, X.T @ X, q, A, whole(p, n), inside


def contradicting(seed, by):
    """The last constraint asks for more than a sum of the others allows."""
    generator, whole, Q, q, A, G, inside = numbers(seed)
    b, h = A @ inside, G @ inside + whole(len(G), least=0, most=8)
    w, y = whole(len(h), least=0, most=3) + 1.0, whole(len(b), least=-2, most=2)
    G = torch.cat([G, -(w @ G + y @ A).unsqueeze(0)])
    h = torch.cat([h, (-(w @ h + y @ b) - by).view(1)])
    return in_units((Q, q, A, b, G, h), generator)


def just_feasible(seed):
    """The last constraint leaves no room to a sum of the others."""
    generator, whole, Q, q, A, G, inside = numbers(seed)
    w, y = whole(len(G), least=0, most=3), whole(len(A), least=-2, most=2)
    h = G @ inside + torch.where(w > 0, 0.0, whole(len(G), least=0, most=4))
    h = torch.cat([h, -(w @ h + y @ A @ inside).view(1), torch.full((8,), 10.0).double()])
    G = torch.cat([G, -(w @ G + y @ A).unsqueeze(0), BOX])
    return in_units((Q, q, A, A @ inside, G, h), generator)


def dependent_equations(seed):
    """Equations of which one may depend on the others, and agrees with them."""
    generator, whole, Q, q, A, G, inside = numbers(seed, m=3)
    if seed % 2:
        A[2] = A[0] - 2.0 * A[1]
    h = torch.cat([G @ inside + whole(len(G), least=0, most=8), torch.full((8,), 10.0).double()])
    return in_units((Q, q, A, A @ inside, torch.cat([G, BOX]), h), generator)


def falling(seed):
    """A direction in which nothing curves, nothing is bounded, and the objective falls."""
    generator, whole, _, q, A, G, inside = numbers(seed, n=5, m=1)
    d = whole(5, least=-3, most=3)
    d[0] = 2.0

    def beside(M):
        return M * (d @ d) - (M @ d).unsqueeze(-1) * d

    X, A = beside(whole(int(whole(1, least=1, most=3)), 5)), beside(A)
    G = torch.where((G @ d > 0).unsqueeze(-1), -G, G)
    q = torch.where(q @ d > 0, -q, q)
    q = q - d if q @ d == 0 else q
    h = G @ inside + whole(len(G), least=0, most=8)
    return in_units((X.T @ X, q, A, A @ inside, G, h), generator)


def part(terms, dim=0):
    """A sum relative to its terms."""
    return terms.sum(dim=dim) / terms.abs().sum(dim=dim).clamp_min(1e-300)


@pytest.mark.parametrize("by", [1.0, 2.0**-10, 2.0**-20])
def test_contradictions_are_proven_in_any_units(by):
    """By a ray that cancels in every variable by itself, whatever its unit."""
    for seed in range(25):
        Q, q, A, b, G, h = contradicting(seed, by)
        solution = QPLayer()(Q, q, A, b, G, h)
        assert solution.status.tolist() == [QPStatus.INFEASIBLE], seed
        y, z = solution.farkas_equalities[0], solution.farkas_inequalities[0]
        rays = torch.cat([A * y.unsqueeze(-1), G * z.unsqueeze(-1)])
        assert (z >= 0).all()
        assert part(rays).abs().max() <= 1e-11, seed
        assert part(torch.cat([b * y, h * z])) < 0, seed


@pytest.mark.parametrize("program", [just_feasible, dependent_equations])
def test_what_is_only_just_feasible_is_not_called_infeasible(program):
    for seed in range(40):
        assert QPLayer()(*program(seed)).solved.all(), seed


@pytest.mark.parametrize("scaling", ["length", "variables", "constraints", "mixed"])
def test_feasible_programs_of_all_scales_are_solved(scaling):
    for seed in range(100, 150):
        status = QPLayer()(*drawn(scaling, seed)).status
        assert status.tolist() == [QPStatus.SOLVED], seed


def test_unboundedness_is_proven_in_any_units():
    for seed in range(40):
        Q, q, A, b, G, h = falling(seed)
        solution = QPLayer()(Q, q, A, b, G, h)
        assert solution.status.tolist() == [QPStatus.UNBOUNDED], seed
        d = solution.descent_ray[0]
        assert q @ d < 0, seed
        assert part(Q * d, dim=1).abs().max() <= 1e-11, seed
        assert part(A * d, dim=1).abs().max() <= 1e-11, seed
        assert part(G * d, dim=1).max() <= 1e-11, seed


@pytest.mark.parametrize("curvature", [1.0, 1e-8, 1e-12, 1e-14])
def test_a_far_minimum_does_not_hide_that_there_is_no_point(curvature):
    Q, q = curvature * torch.eye(2).double(), tensor(1.0, 2.0)
    crossing = tensor([1.0, 0.0], [-1.0, 0.0]), tensor(-1.0, -1.0)
    corner = tensor([-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]), tensor(0.0, 0.0, -1e-3)
    for G, h in (crossing, corner):
        assert QPLayer()(Q, q, G=G, h=h).status.tolist() == [QPStatus.INFEASIBLE]
    against = QPLayer()(Q, q, tensor([1.0, 1.0]), tensor(1.0), tensor([1.0, 1.0]), tensor(0.5))
    assert against.status.tolist() == [QPStatus.INFEASIBLE]


@pytest.mark.parametrize("scaling", ["none", "objective", "variables", "constraints"])
def test_contradictions_are_solved_in_no_units(scaling):
    """The last constraint asks for a little more than a sum of the others allows."""
    for seed in range(20):
        Q, q, A, b, G, h = drawn(scaling, seed)
        unit = power(-torch.log10(torch.linalg.vector_norm(G, dim=1)))
        total, most = (unit.unsqueeze(-1) * G).sum(dim=0), (unit * h).sum()
        G, h = torch.cat([G, -total.unsqueeze(0)]), torch.cat([h, -(1.0 + 1e-3) * most.view(1)])
        assert not QPLayer()(Q, q, A, b, G, h).solved.any(), seed


def test_no_rounding_error_of_a_null_space_is_negative_curvature():
    """XᵀX of few rows, which is flat along directions of the null space of an equation."""
    generator = torch.Generator().manual_seed(58)
    for rows in range(1, 4):
        X, A, q = (
            torch.randn(200, *s, generator=generator).double() for s in [(rows, 4), (1, 4), (4,)]
        )
        h = torch.full((8,), 4.0).double()
        solution = QPLayer()(X.mT @ X, q, A, torch.zeros(200, 1).double(), BOX, h)
        assert solution.solved.all()


def test_a_proof_warns():
    with pytest.warns(QPWarning, match="1 infeasible"):
        QPLayer()(*contradicting(0, 1.0))

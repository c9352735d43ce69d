"""Awkward programs against the best of all sets of active constraints, in rational numbers."""

import pytest
import torch
from exact_programs import exact, in_units, optimum
from qp_problems import tensor

from savi.implicit.qp import QPLayer

pytestmark = [pytest.mark.drawn, pytest.mark.filterwarnings("ignore::savi.implicit.qp.QPWarning")]

BOX = torch.cat([torch.eye(3), -torch.eye(3)]).double()
KINDS = ["flat", "twice", "coinciding", "free", "near_rows", "near_equations", "wedge", "units"]


def awkward(kind, seed):
    """Three variables, Q of any rank, four constraints and a box, at times an equation."""
    generator = torch.Generator().manual_seed(17 * seed + 3)

    def whole(*shape, least=-5, most=5):
        return torch.randint(least, most + 1, shape, generator=generator).double()

    X, q = whole(3 if kind == "free" else int(whole(1, least=0, most=3)), 3), whole(3)
    A, G, inside = whole(int(whole(1, least=0, most=1)), 3), whole(4, 3), whole(3, least=-2, most=2)
    h, sides = G @ inside + whole(4, least=0, most=4), torch.full((6,), 4.0).double()
    angle = 2.0 ** -int(whole(1, least=5, most=32))
    if kind == "twice":
        times = whole(2, least=1, most=3)
        G, h = torch.cat([G[:2], G[:2] * times.unsqueeze(-1)]), torch.cat([h[:2], h[:2] * times])
    if kind == "coinciding":
        fixed = whole(3) > 0
        sides = torch.cat([torch.where(fixed, s * inside, 4.0) for s in (1.0, -1.0)])
    if kind == "near_rows":
        G = torch.cat([G[:2], G[:2] + angle * whole(2, 3)])
        h = G @ inside + whole(4, least=0, most=2)
    if kind == "near_equations":
        A = whole(1, 3)
        A = torch.cat([A, A + angle * (whole(1, 3) + 0.5)])
    if kind == "wedge":
        G = torch.cat([G[:2], -G[:2] + angle * whole(2, 3)])
        h = G @ inside + angle * whole(4, least=0, most=1)
    G, h = (G[:0], h[:0]) if kind == "free" else (torch.cat([G, BOX]), torch.cat([h, sides]))
    program = (X.T @ X, q, A, A @ inside, G, h)
    return in_units(program, generator, reach=6.0) if kind == "units" else program


def objective(Q, q, x):
    return 0.5 * x @ Q @ x + q @ x, 0.5 * x.abs() @ Q.abs() @ x.abs() + q.abs() @ x.abs()


@pytest.mark.parametrize("kind", KINDS)
def test_what_counts_as_solved_is_the_best_of_all_sets_of_constraints(kind):
    solved = unique = 0
    for seed in range(30):
        program = awkward(kind, seed)
        Q, q, A, b, G, h = program
        best = optimum(program)
        given = [parameter.clone().requires_grad_() for parameter in program]
        solution = QPLayer()(*given)
        if not solution.solved:
            continue
        solved += 1
        x, active = solution.value[0].detach(), solution.active[0].tolist()
        wanted = best[0][0]
        (found, terms), (least, others) = objective(Q, q, x), objective(Q, q, wanted)
        assert (found - least).abs() <= 1e-6 * torch.maximum(terms, others) + 1e-30, seed
        reach = (A.abs() @ x.abs(), G.abs() @ x.abs() + 1e-9 * torch.linalg.vector_norm(G, dim=1))
        assert ((A @ x - b).abs() <= 1e-10 * (reach[0] + b.abs())).all(), seed
        assert (G @ x - h <= 1e-10 * (reach[1] + h.abs())).all(), seed
        if solution.degenerate:
            continue
        # Neither another optimum nor a constraint with neither a slack nor a multiplier.
        ((wanted, z, kept),) = best
        holding = (h - G @ wanted).abs() <= 1e-12 * (h.abs() + G.abs() @ wanted.abs())
        assert kept == active == (z > 0).tolist() == holding.tolist(), seed
        assert ((x - wanted).abs() <= 1e-6 * wanted.abs().max()).all(), seed
        unique += 1
        v = torch.sin(torch.arange(3.0).double() + seed) / wanted.abs().clamp_min(1e-3)
        (ux, uy, uz), _ = exact(program, active, v)
        gradients = torch.autograd.grad((v * solution.value).sum(), given[1::2])
        for gradient, right, side in zip(gradients, (-ux, uy, uz), program[1::2], strict=True):
            effect = ((gradient - right) * side).abs()
            assert (effect <= 1e-6 * ((right * side).abs().sum() + 1.0)).all(), seed
    # Refused are equations and constraints whose angle leaves too few digits.
    assert solved >= {"near_equations": 17, "wedge": 22}.get(kind, 28)
    assert unique >= 4


def test_one_example_of_no_constraints_and_a_batch_of_none():
    """Without rows of A or G, given as such."""
    none, sides = torch.zeros(0, 2).double(), torch.zeros(0).double()
    q = torch.tensor([1.0, -2.0]).double()
    solution = QPLayer()(2.0 * torch.eye(2).double(), q, none, sides, none, sides)
    torch.testing.assert_close(solution.value, -0.5 * q.unsqueeze(0))
    assert solution.solved.all()
    assert not solution.degenerate.any()


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-9, 1e-11, 1e-13])
def test_equations_that_are_nearly_parallel_are_solved_right_or_refused(angle):
    """x₁ + x₂ = 2 and x₁ + (1 + ε)x₂ = 2 + ε fix x, whatever the objective wants."""
    A = tensor([1.0, 1.0, 0.0], [1.0, 1.0 + angle, 0.0])
    b = A @ torch.ones(3).double()
    q = torch.tensor([-5.0, 3.0, 1.0]).double()
    solution = QPLayer()(torch.eye(3).double(), q, A, b)
    assert solution.solved.item() or angle < 1e-8
    if solution.solved:
        expected = torch.tensor([[1.0, 1.0, -1.0]]).double()
        torch.testing.assert_close(solution.value, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("small", [1e-8, 1e-12, 1e-15])
def test_equations_that_differ_by_a_variable_of_a_small_unit_are_both_kept(small):
    A = tensor([1.0, 0.0], [1.0, small])
    b, q = torch.tensor([1.0, 3.0]).double(), torch.tensor([0.0, -5.0]).double() * small
    Q = torch.diag(tensor(1.0, small * small))
    solution = QPLayer()(Q, q, A, b)
    assert solution.solved.all()
    torch.testing.assert_close(solution.value, tensor([1.0, 2.0 / small]))

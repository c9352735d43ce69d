"""Levenberg–Marquardt with a matrix that is kept, beyond what every optimiser must do."""

import torch
from inner_problems import log_cosh, randn, spd

import savi
from savi.gradients import StopGradient
from savi.inner import AutogradObjective, ChordLevenbergMarquardt
from savi.inner.optimizers.chord import bfgs


def solve(objective, init, optimizer, **options):
    return savi.minimize(objective, init, optimizer=optimizer, gradient=StopGradient(), **options)


def test_a_matrix_is_computed_once_where_it_serves():
    asked = []

    class Counted(AutogradObjective):
        def curvature(self, y, create_graph=False):
            asked.append(len(y))
            return super().curvature(y, create_graph)

    start = randn(5, 2, seed=0)
    problem = Counted(lambda y: log_cosh(y) + y.square().sum(-1))
    solution = solve(problem, start, ChordLevenbergMarquardt(), max_steps=60, rtol=1e-10)
    assert (solution.status == savi.Status.CONVERGED).all()
    assert solution.steps.max() > 3
    assert asked == [5]


def test_a_matrix_that_serves_no_more_is_computed_anew():
    """In the examples that need it, alone if the objective can be cut."""
    asked = []

    class Cut(AutogradObjective):
        def rows(self, index):
            return Cut(lambda y: self.function(y))

        def curvature(self, y, create_graph=False):
            asked.append(len(y))
            # Useless for the first example, until it is asked for again.
            matrix = super().curvature(y, create_graph)
            return matrix * (1e4 if len(asked) == 1 else 1.0) ** (y[:, :1, None] > 2.0)

    start = torch.tensor([[3.0, 1.0], [0.3, 0.2], [-0.5, 0.1]], dtype=torch.float64)
    problem = Cut(lambda y: log_cosh(y) + y.square().sum(-1))
    eager = ChordLevenbergMarquardt(patience=2)
    solution = solve(problem, start, eager, max_steps=60, rtol=1e-8)
    assert (solution.status == savi.Status.CONVERGED).all()
    assert asked[:2] == [3, 1]


def test_keeps_the_matrix_positive_definite_where_the_objective_is_not_convex():
    start = torch.tensor([[0.1], [2.0]], dtype=torch.float64)
    matrix = torch.eye(1, dtype=torch.float64).expand(2, 1, 1)
    for slope in (-5.0, -0.1, 0.0, 3.0):
        new = bfgs(matrix, start, slope * start, torch.tensor([True, True]))
        assert (new > 0).all()
    assert (bfgs(matrix, 0.0 * start, start, torch.tensor([False, False])) == matrix).all()


def test_the_update_satisfies_the_secant_equation():
    s, matrix = randn(4, 3, seed=1), spd(4, 3)
    q = (spd(4, 3, seed=5) @ s.unsqueeze(-1)).squeeze(-1)
    enough = (s * q).sum(-1) > 0.2 * (s * (matrix @ s.unsqueeze(-1)).squeeze(-1)).sum(-1)
    assert enough.any()
    new = bfgs(matrix, s, q, torch.ones(4, dtype=torch.bool))
    image = (new @ s.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(image[enough], q[enough])


def test_the_update_has_a_derivative_where_the_curvature_is_as_foreseen():
    """Exactly so in both terms of Powell's quotient, which is not taken there."""
    matrix = torch.eye(2).double().repeat(3, 1, 1).requires_grad_()
    s = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]).double().requires_grad_()
    new = bfgs(matrix, s, s.detach().clone(), torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(new, matrix)
    for slope in torch.autograd.grad(new.square().sum(), (matrix, s)):
        assert torch.isfinite(slope).all()

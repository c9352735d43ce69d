"""The stopping rule that all iterative solvers share."""

import pytest
import torch
from inner_problems import randn
from symmetric_operators import operator, with_eigenvalues

from savi.errors import InputError
from savi.linear import (
    GMRES,
    MINRES,
    SOLVERS,
    ConjugateGradients,
    LinearStatus,
    Neumann,
    Nystrom,
)


@pytest.mark.parametrize("solver", [ConjugateGradients, MINRES, GMRES, Neumann, Nystrom])
class TestIterativeSolver:
    def test_running_out_of_steps_is_reported(self, solver):
        matrix = with_eigenvalues(torch.logspace(-2, 2, 9), 2)
        solution = solver(max_steps=1)(operator(matrix), randn(2, 9, seed=1))
        assert (solution.status == LinearStatus.MAX_STEPS).all()
        assert (solution.residual > 1e-3).all()
        assert (solution.steps == 1).all()

    def test_a_converged_example_is_frozen(self, solver):
        easy = with_eigenvalues(torch.linspace(1.0, 1.5, 6), 1)
        hard = with_eigenvalues(torch.logspace(-1, 1, 6), 1, seed=1)
        v = randn(2, 6, seed=1)
        alone = solver(rtol=1e-2)(operator(easy), v[:1])
        together = solver(rtol=1e-2)(operator(torch.cat([easy, hard])), v)
        assert 1 < alone.steps[0] < together.steps[1]
        assert together.steps[0] == alone.steps[0]
        torch.testing.assert_close(together.value[0], alone.value[0], rtol=1e-12, atol=0)

    def test_stopping_rule_is_configured(self, solver):
        assert SOLVERS[solver.name].configured(1e-3, 7) == solver(rtol=1e-3, max_steps=7)

    @pytest.mark.parametrize("option", [{"rtol": 0.0}, {"rtol": -1.0}, {"max_steps": 0}])
    def test_bad_options_are_refused(self, solver, option):
        with pytest.raises(InputError, match=next(iter(option))):
            solver(**option)

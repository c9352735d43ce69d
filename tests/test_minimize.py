"""``savi.minimize``: statuses, retreat to the best iterate, and the mistakes it refuses."""

import pytest
import torch
from inner_problems import Nonlinear, Quadratic, nonlinear_inputs, randn, spd

import savi
from savi.errors import InputError
from savi.gradients import Implicit, StopGradient, Unrolled
from savi.inner import (
    LBFGS,
    Adam,
    GradientDescent,
    InnerObjective,
    LevenbergMarquardt,
    Reason,
)


def minimize(objective, init, optimizer=None, gradient=None, **options):
    return savi.minimize(
        objective,
        init,
        optimizer=optimizer or GradientDescent(lr=0.1),
        gradient=gradient or StopGradient(),
        **options,
    )


def double_well(theta):
    """J = (y² − θ)², whose gradient steps of size 0.2 fall first and explode later."""
    return lambda y: (y.square() - theta).square().sum(-1)


class TestDivergence:
    def test_diverged_example_returns_its_best_iterate(self):
        """The first step improves, the second runs into a steep wall: as if one step was asked."""
        theta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        start = torch.tensor([[1.0], [0.6]], dtype=torch.float64, requires_grad=True)

        def objective(y):
            z = y[:, 0] - theta
            return z.square() + torch.where(z < -0.1, -(z + 0.1) * 1e3, torch.zeros_like(z))

        momentum = GradientDescent(lr=0.3, momentum=0.9)
        options = {"optimizer": momentum, "gradient": Unrolled(), "rtol": 0.0}
        full = minimize(objective, start, max_steps=5, **options)
        assert full.status[0] == savi.Status.DIVERGED
        best = int(full.steps[0])
        assert best == 1
        values = [
            minimize(objective, start[:1], max_steps=k, **options).objective.item()
            for k in range(best + 1)
        ]
        assert min(values) == values[best] == full.objective[0].item()
        short = minimize(objective, start[:1], max_steps=best, **options)
        torch.testing.assert_close(full.value[:1], short.value)
        inputs = (theta, start)
        torch.testing.assert_close(
            torch.autograd.grad(full.value[0, 0], inputs),
            torch.autograd.grad(short.value[0, 0], inputs),
        )

    @pytest.mark.parametrize("lr", [10.0, 1e8, 1e300])
    def test_absurd_step_size_leaves_finite_gradients(self, lr):
        mixing, c, init = nonlinear_inputs()
        problem = lambda y: Nonlinear(mixing, c)(y) + (y**4).sum(-1)  # noqa: E731
        solution = minimize(problem, init, GradientDescent(lr), Unrolled(), max_steps=30)
        assert (solution.status == savi.Status.DIVERGED).all()
        assert (solution.steps == 0).all()
        torch.testing.assert_close(solution.value, init)
        grads = torch.autograd.grad(
            solution.value.sum() + problem(solution.value).sum(), (mixing, c, init)
        )
        assert all(g.isfinite().all() for g in grads)

    def test_neighbours_of_a_diverged_example_are_differentiated_as_if_alone(self):
        theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        start = torch.tensor([[1.2], [50.0]], dtype=torch.float64)
        options = {"max_steps": 8, "rtol": 1e-12}
        both = minimize(double_well(theta), start, GradientDescent(0.05), Unrolled(), **options)
        alone = minimize(
            double_well(theta), start[:1], GradientDescent(0.05), Unrolled(), **options
        )
        assert both.status[1] == savi.Status.DIVERGED
        torch.testing.assert_close(both.value[:1], alone.value)
        # The diverged one is returned at its start, which does not depend on θ.
        torch.testing.assert_close(
            torch.autograd.grad(both.value.sum(), theta),
            torch.autograd.grad(alone.value.sum(), theta),
        )

    def test_finite_value_with_a_non_finite_gradient_is_not_a_best_iterate(self):
        """√y reaches its lowest value at y = 0, where its slope is infinite."""
        start = torch.tensor([[0.25]], dtype=torch.float64, requires_grad=True)
        solution = minimize(
            lambda y: y.sqrt().sum(-1), start, GradientDescent(lr=0.25), Unrolled(), max_steps=5
        )
        assert solution.status.tolist() == [savi.Status.DIVERGED]
        assert solution.value.item() == 0.25
        (g,) = torch.autograd.grad(solution.value.sum(), start)
        assert g.item() == 1.0

    def test_non_finite_start(self):
        start = torch.tensor([[torch.nan], [torch.inf], [1.0]], dtype=torch.float64)
        solution = minimize(lambda y: y.square().sum(-1), start)
        assert solution.status.tolist()[:2] == [savi.Status.DIVERGED] * 2
        assert solution.stationarity[:2].isnan().all()
        assert (solution.steps[:2] == 0).all()
        assert solution.value[2].isfinite()

    def test_overflowing_gradient_norm_is_not_convergence(self):
        """In float32 the squares of this gradient are infinite."""
        start = torch.full((1, 2), 1.0)
        solution = minimize(
            lambda y: 1e25 * y.square().sum(-1), start, GradientDescent(1e-30), max_steps=2
        )
        assert solution.status.tolist() == [savi.Status.MAX_STEPS]
        assert solution.stationarity.item() == pytest.approx(1.0, abs=1e-3)

    def test_unbounded_objective(self):
        start = torch.ones(1, 1, dtype=torch.float64)
        solution = minimize(lambda y: -(y**4).sum(-1), start, max_steps=60)
        assert solution.status.tolist() == [savi.Status.DIVERGED]
        assert solution.objective.item() < -1.0
        assert solution.value.isfinite().all()


def test_statuses():
    start = torch.ones(1, 1, dtype=torch.float64)
    square = lambda y: y.square().sum(-1)  # noqa: E731
    uphill = lambda y: (2.0 * y.detach() - y).sum(-1)  # noqa: E731  (with a wrong gradient)
    cases = {
        Reason.SMALL_GRADIENT: (savi.Status.CONVERGED, minimize(square, start, max_steps=100)),
        Reason.OUT_OF_STEPS: (savi.Status.MAX_STEPS, minimize(square, start, max_steps=2)),
        Reason.NO_MOVEMENT: (
            savi.Status.STALLED, minimize(square, start, GradientDescent(1e-300)),
        ),
        Reason.ABOVE_START: (savi.Status.DIVERGED, minimize(square, start, GradientDescent(1.5))),
        Reason.NOT_FINITE: (savi.Status.DIVERGED, minimize(square, torch.nan * start)),
        Reason.DAMPING_CEILING: (
            savi.Status.STALLED,
            minimize(lambda y: y.abs().sum(-1), start, LevenbergMarquardt(), max_steps=300),
        ),
        Reason.FAILED_LINE_SEARCH: (
            savi.Status.STALLED,
            minimize(uphill, 0.0 * start, LBFGS(), max_steps=300),
        ),
    }  # fmt: skip
    assert set(cases) == set(Reason)
    for reason, (status, solution) in cases.items():
        assert solution.reason.tolist() == [reason]
        assert solution.status.tolist() == [status]
        assert reason.status == status
        assert solution.describe() == f"1 {status.name}: {reason.advice}"
        assert status.advice.endswith(".")
        assert reason.advice.endswith(".")


def test_stopping_rule():
    start = torch.tensor([[1.0], [100.0]], dtype=torch.float64)
    square = lambda y: 0.5 * y.square().sum(-1)  # noqa: E731
    by_rtol = minimize(square, start, rtol=0.1, max_steps=100)
    assert by_rtol.steps.tolist() == [22, 22]  # 0.9^22 < 0.1
    by_atol = minimize(square, start, rtol=0.0, atol=0.1, max_steps=100)
    assert by_atol.steps.tolist() == [22, 66]
    assert (by_atol.value.abs() <= 0.1).all()
    torch.testing.assert_close(by_atol.stationarity, by_atol.value.abs().squeeze(-1) / start[:, 0])


def test_solution_is_no_alias_of_a_parameter():
    """A table of per-example parameters is updated in place between two uses of the solution."""
    for gradient in (StopGradient(), Unrolled(), Implicit()):
        table = torch.nn.Parameter(torch.zeros(2, 2))
        solution = minimize(lambda y: y.square().sum(-1), table, gradient=gradient)
        with torch.no_grad():
            table.add_(1.0)
        assert (solution.value == 0).all()


def fresh_objective():
    class Tilted(InnerObjective):
        """J_k(y) = ½‖y‖² + 0.1 sin(k) Σy: redrawn at every step, never stationary for long."""

        stochastic = True

        def __init__(self, step=0):
            self.tilt = 0.1 * torch.tensor(float(step)).sin()

        def __call__(self, y):
            return 0.5 * y.square().sum(-1) + self.tilt * y.sum(-1)

        def at_step(self, step):
            return Tilted(step)

    return Tilted()


def test_frozen_example_of_a_redrawn_objective_does_not_wake_with_its_neighbours():
    start = torch.tensor([[0.5, 0.5], [40.0, 40.0]], dtype=torch.float64)
    options = {"max_steps": 12, "rtol": 0.0, "atol": 0.2}
    together = minimize(fresh_objective(), start, **options)
    alone = minimize(fresh_objective(), start[:1], **options)
    assert alone.steps.item() < together.steps[1].item()
    for field in ("value", "status", "steps", "stationarity", "objective"):
        torch.testing.assert_close(getattr(together, field)[:1], getattr(alone, field))
    assert alone.status.tolist() == [savi.Status.CONVERGED]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": torch.zeros(3)}, r"init has shape \(3,\)"),
        ({"init": torch.zeros(2, 3, dtype=torch.long)}, r"torch\.int64: give a floating-point"),
        ({"init": torch.zeros(2, 0)}, r"init has shape \(2, 0\)"),
        ({"max_steps": -1}, "^max_steps is -1"),
        ({"max_steps": 2.5}, "^max_steps is 2.5"),
        ({"rtol": -1e-3}, "^rtol is -0.001"),
        ({"rtol": float("nan")}, "^rtol is nan"),
        ({"atol": -1.0}, "^atol is -1"),
        ({"optimizer": "gd"}, "optimizer is 'gd': give an instance"),
        ({"gradient": Unrolled}, "give an instance of a GradientBackend"),
        ({"objective": lambda y: y.sum()}, "without a sum or mean over the batch"),
        ({"objective": lambda y: y}, r"returned shape \(2, 3\)"),
        ({"objective": lambda y: y.sum(-1, keepdim=True)}, r"returned shape \(2, 1\)"),
        ({"objective": lambda y: 1.0}, "returned float: return a floating-point tensor"),
        ({"objective": lambda y: torch.zeros(2, dtype=torch.long)}, r"returned torch\.int64"),
    ],
)
@pytest.mark.parametrize("gradient", [Unrolled(), Implicit(), StopGradient()])
def test_mistakes_are_refused_in_one_sentence(change, message, gradient):
    arguments = {
        "objective": lambda y: y.square().sum(-1),
        "init": torch.zeros(2, 3),
        "optimizer": Adam(),
        "gradient": gradient,
        **change,
    }
    with pytest.raises(InputError, match=message) as error:
        savi.minimize(arguments.pop("objective"), arguments.pop("init"), **arguments)
    assert "\n" not in str(error.value)


def test_structured_objective_of_a_wrong_shape_is_refused_too():
    class Wrong(InnerObjective):
        def __call__(self, y):
            return y.square().sum(-1, keepdim=True)

    with pytest.raises(InputError, match=r"returned shape \(2, 1\)"):
        minimize(Wrong(), torch.zeros(2, 3))


def test_errors_of_the_objective_itself_come_through():
    def broken(y):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minimize(broken, torch.zeros(1, 1))


def test_ridge_regression_with_a_learned_penalty():
    """The example of the documentation: no VAE in sight."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 20, 5, generator=generator)
    truth = torch.randn(8, 5, generator=generator)
    t = (x @ truth.unsqueeze(-1)).squeeze(-1) + torch.randn(8, 20, generator=generator)
    log_penalty = torch.tensor(4.0, requires_grad=True)
    search = torch.optim.Adam([log_penalty], lr=0.3)

    def ridge(w):
        error = (x[:, :15] @ w.unsqueeze(-1)).squeeze(-1) - t[:, :15]
        return error.square().sum(-1) + log_penalty.exp() * w.square().sum(-1)

    losses = []
    for _ in range(100):
        solution = savi.minimize(
            ridge, torch.zeros(8, 5), optimizer=LevenbergMarquardt(), gradient=Implicit()
        )
        held_out = (x[:, 15:] @ solution.value.unsqueeze(-1)).squeeze(-1) - t[:, 15:]
        loss = held_out.square().mean()
        search.zero_grad()
        loss.backward()
        search.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert log_penalty.grad.abs() < 0.02  # the validation loss is stationary in the penalty


def test_quadratic_of_one_example_in_float32():
    problem = Quadratic(spd(1, 1).float(), randn(1, 1, seed=1, dtype=torch.float32))
    solution = minimize(problem, torch.zeros(1, 1), LevenbergMarquardt(), rtol=1e-6)
    torch.testing.assert_close(solution.value, problem.minimiser)

"""Examples that start at their solution, and objectives that lose λ or hardly see it."""

import pytest
import torch

import savi
from savi.gradients import (
    Checkpointed,
    FiniteDifference,
    Implicit,
    ImplicitGradientWarning,
    Reversible,
    Truncated,
    Unrolled,
)
from savi.gradients.finite_difference import magnitudes
from savi.inner import (
    LBFGS,
    Adam,
    ChordLevenbergMarquardt,
    GradientDescent,
    LevenbergMarquardt,
    Momentum,
    Newton,
)

CURVATURE = torch.tensor([1.0, 2.0], dtype=torch.float64)
THROUGH_STEPS = [Unrolled(), Checkpointed(), FiniteDifference(), Reversible()]


def gradient(backend, optimizer, start, theta=None, steps=30):
    """d Σ λK / dθ of the first example of ½(λ − θ)ᵀA(λ − θ) + quartic terms, at θ = 0."""
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def objective(y):
        r = y - theta
        return (0.5 * CURVATURE * r**2 + 0.1 * r**4).sum(-1)

    solution = savi.minimize(
        objective,
        torch.tensor(start, dtype=torch.float64)[:, None].expand(-1, 2),
        optimizer=optimizer,
        gradient=backend,
        max_steps=steps,
        rtol=1e-9,
    )
    solution.value[0].sum().backward()
    return theta.grad, solution


@pytest.mark.parametrize("start", [(0.0, 0.0), (0.0, 1.0)], ids=["all", "one"])
@pytest.mark.parametrize("backend", THROUGH_STEPS, ids=lambda backend: backend.name)
def test_an_example_at_rest_has_the_derivative_of_its_steps(backend, start):
    """1 − (1 − αA)^K of gradient steps, by the recursion with momentum."""
    optimizer = Momentum(0.2, 0.5)
    found, solution = gradient(backend, optimizer, start)
    response = velocity = torch.zeros(2, dtype=torch.float64)
    for _ in range(30):
        velocity = 0.5 * velocity - 0.2 * CURVATURE * (response - 1.0)
        response = response + velocity
    torch.testing.assert_close(found, response, rtol=1e-6, atol=0.0)
    assert solution.steps[0] == 30
    assert solution.status[0] == savi.inner.Status.CONVERGED
    assert (solution.value[0] == 0).all()


@pytest.mark.parametrize(
    "optimizer",
    [GradientDescent(0.3), LevenbergMarquardt(), Newton(), ChordLevenbergMarquardt()],
    ids=lambda optimizer: optimizer.name,
)
@pytest.mark.parametrize("backend", [Unrolled(), Checkpointed(), Truncated(40)], ids=repr)
def test_many_steps_at_rest_have_the_implicit_gradient(optimizer, backend):
    found, _ = gradient(backend, optimizer, (0.0, 0.5), steps=40)
    exact, _ = gradient(Implicit(), optimizer, (0.0, 0.5), steps=40)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("optimizer", [Adam(0.1), LBFGS()], ids=lambda optimizer: optimizer.name)
@pytest.mark.parametrize(
    "backend", [Unrolled(), Checkpointed(), Truncated(5)], ids=lambda backend: backend.name
)
def test_steps_without_a_derivative_at_rest_are_told(optimizer, backend):
    with pytest.warns(ImplicitGradientWarning, match=r"no derivative .* \[2 of 2 examples\]"):
        found, solution = gradient(backend, optimizer, (0.0, 0.0))
    assert found is None
    assert (solution.steps == 0).all()


def test_a_start_that_is_not_to_be_differentiated_takes_no_step():
    with torch.no_grad():
        solution = savi.minimize(
            lambda y: y.square().sum(-1),
            torch.zeros(3, 2),
            optimizer=GradientDescent(0.1),
            gradient=Unrolled(),
        )
    assert (solution.steps == 0).all()


@pytest.mark.parametrize("backend", [Unrolled(), Implicit(), Checkpointed()], ids=repr)
@pytest.mark.parametrize(
    "lost",
    [
        lambda y, c: (y.detach() - c).square().sum(-1),
        lambda y, c: (y.data - c).square().sum(-1),
        lambda y, c: (torch.from_numpy(y.detach().numpy()) - c).square().sum(-1),
    ],
    ids=["detach", "data", "numpy"],
)
@pytest.mark.parametrize("trained", [True, False])
def test_an_objective_that_loses_its_argument_is_refused(lost, backend, trained):
    c = torch.ones(3, 2, requires_grad=trained)
    with pytest.raises(savi.InputError, match="varies with λ and has no graph to it"):
        savi.minimize(
            lambda y: lost(y, c),
            torch.zeros(3, 2),
            optimizer=GradientDescent(0.1),
            gradient=backend,
        )


def test_an_objective_without_gradients_is_refused():
    def objective(y):
        with torch.no_grad():
            return y.square().sum(-1)

    with pytest.raises(savi.InputError, match=r"torch\.no_grad\(\)"):
        savi.minimize(
            objective, torch.ones(3, 2), optimizer=GradientDescent(0.1), gradient=Implicit()
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_of_a_cotangent_are_of_one_magnitude_in_all_examples(dtype):
    u = torch.tensor([[1e5, 0.0, 2.0], [-3.0, 0.1, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    parts = magnitudes(u)
    assert torch.equal(sum(parts), u)
    for part in parts:
        sizes = part[part != 0].abs()
        assert sizes.max() <= sizes.min() * torch.finfo(dtype).eps ** (-1 / 3)
    # An example's parts are its own, whatever is beside it.
    alone = [part[0] for part in parts if part[0].any()]
    assert all(torch.equal(a[0], b) for a, b in zip(magnitudes(u[:1]), alone, strict=True))
    assert torch.equal(magnitudes(0.0 * u)[0], 0.0 * u)
    (whole,) = magnitudes(u[1:2] * torch.nan)
    assert whole.isnan().all()


def test_an_example_with_a_large_cotangent_does_not_drown_what_others_send_to_a_shared_tensor():
    """The first sends 1e5 along a coordinate that J hardly sees, and the second 1 to the other."""
    theta = torch.tensor([1.0, 0.3], requires_grad=True)
    weights = torch.tensor([1.0, 1e-6])

    def gradient(backend, dtype):
        own, w = theta.detach().to(dtype).requires_grad_(), weights.to(dtype)
        solution = savi.minimize(
            lambda y: (w * (0.5 * (y - own) ** 2 + 0.1 * (y - own) ** 4)).sum(-1),
            torch.tensor([[5.0, 0.0], [0.9, 0.3]], dtype=dtype),
            optimizer=Adam(0.05),
            gradient=backend,
            max_steps=6,
            rtol=0.0,
        )
        outer = solution.value[0, 1] + solution.value[1, 0]
        return torch.autograd.grad(outer, own)[0].double()

    exact = gradient(Unrolled(), torch.float64)
    found = gradient(FiniteDifference(), torch.float32)
    torch.testing.assert_close(found, exact, rtol=5e-3, atol=0.0)


@pytest.mark.parametrize("weight", [0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2, 1.0])
def test_differences_serve_coordinates_that_the_objective_hardly_sees(weight):
    """Adam makes steps of one size for all: its cotangents differ by the inverse of the weights."""

    def of(dtype, backend):
        theta = torch.tensor([0.3, -0.2, 0.5], dtype=dtype, requires_grad=True)
        weights = torch.tensor([1.0, weight, 1.0], dtype=dtype)

        def objective(y):
            return (weights * (0.5 * (y - theta) ** 2 + 0.1 * (y - theta) ** 4)).sum(-1)

        solution = savi.minimize(
            objective,
            torch.zeros(2, 3, dtype=dtype),
            optimizer=Adam(0.05),
            gradient=backend,
            max_steps=10,
            rtol=0.0,
        )
        outer = (solution.value * torch.tensor([1.0, 2.0, 3.0], dtype=dtype)).sum()
        return torch.autograd.grad(outer, theta)[0].double()

    exact = of(torch.float64, Unrolled())
    torch.testing.assert_close(of(torch.float32, FiniteDifference()), exact, rtol=2e-3, atol=0.0)
    torch.testing.assert_close(of(torch.float64, FiniteDifference()), exact, rtol=1e-6, atol=0.0)

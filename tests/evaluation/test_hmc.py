"""Hamiltonian Monte Carlo leaves its law invariant and can be run backwards."""

import pytest
import torch
from linear_gaussian import randn
from torch import Tensor

from savi.evaluation.hmc import Evaluate, Point, leapfrog, transition
from savi.evaluation.pieces import ExampleStreams

#: w(u) = exp(−½ (u − c)ᵀA(u − c)): p_β is then N((I + βA)⁻¹βAc, (I + βA)⁻¹).
A = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
C = torch.tensor([1.0, -0.5], dtype=torch.float64)


def gaussian(u: Tensor) -> Point:
    slope = (C - u) @ A
    return Point(u, -0.5 * ((C - u) * slope).sum(dim=-1), slope)


def quartic(u: Tensor) -> Point:
    return Point(u, -u.pow(4).sum(dim=-1), -4.0 * u.pow(3))


def moments(beta: float) -> tuple[Tensor, Tensor]:
    precision = torch.eye(2).double() + beta * A
    return torch.linalg.solve(precision, beta * A @ C), torch.linalg.inv(precision)


def streams_of(examples: int, seed: int = 0) -> ExampleStreams:
    generator = torch.Generator().manual_seed(seed)
    return ExampleStreams.spawn(examples, generator, torch.zeros(()).double())


def constant(value: float, *shape: int) -> Tensor:
    return torch.full(shape, value, dtype=torch.float64)


@pytest.mark.parametrize("evaluate", [gaussian, quartic])
def test_leapfrog_runs_backwards(evaluate: Evaluate):
    torch.manual_seed(0)
    start, momentum, size = evaluate(randn(4, 3, 2)), randn(4, 3, 2), constant(0.2, 4, 3)
    end, velocity = leapfrog(evaluate, start, momentum, 0.7, size, 9)
    back, returned = leapfrog(evaluate, end, -velocity, 0.7, size, 9)
    assert (end.u - start.u).norm(dim=-1).min() > 1e-3
    torch.testing.assert_close(back.u, start.u, rtol=0, atol=1e-12)
    torch.testing.assert_close(returned, -momentum, rtol=0, atol=1e-12)
    torch.testing.assert_close(end, evaluate(end.u))


def test_leapfrog_preserves_volume():
    torch.manual_seed(0)
    state = randn(4)

    def flow(state: Tensor) -> Tensor:
        u, momentum = state[None, None].chunk(2, dim=-1)
        end, momentum = leapfrog(quartic, quartic(u), momentum, 0.7, constant(0.3, 1, 1), 5)
        return torch.cat([end.u, momentum], dim=-1)[0, 0]

    jacobian = torch.autograd.functional.jacobian(flow, state)
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1.0, abs=1e-10)
    assert (jacobian - torch.eye(4)).norm() > 0.5


def test_leapfrog_conserves_the_energy_to_second_order():
    torch.manual_seed(0)
    start, momentum = quartic(randn(1, 50, 2)), randn(1, 50, 2)

    def energy(point: Point, momentum: Tensor) -> Tensor:
        return 0.5 * momentum.square().sum(dim=-1) - point.log_density(0.7)

    errors = []
    for steps in (100, 200):
        end = leapfrog(quartic, start, momentum, 0.7, constant(1.0 / steps, 1, 50), steps)
        errors.append((energy(*end) - energy(start, momentum)).abs().mean())
    assert float(errors[0] / errors[1]) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("beta", [0.3, 1.0])
@pytest.mark.parametrize("step_size", [0.3, 0.9])
def test_the_law_is_left_as_it_is(beta: float, step_size: float):
    # Large steps, of which many are rejected: without that the moments would be wrong.
    torch.manual_seed(0)
    mean, covariance = moments(beta)
    chains, examples = 20_000, 2
    u = mean + randn(chains, examples, 2) @ torch.linalg.cholesky(covariance).mT
    point, streams, acceptance = gaussian(u), streams_of(examples), []
    for _ in range(5):
        sizes = constant(step_size, examples)
        point, probability = transition(gaussian, point, beta, sizes, 3, streams)
        acceptance.append(probability.mean())
    samples = point.u.flatten(0, 1)
    error = (covariance.diagonal() / len(samples)).sqrt()
    assert ((samples.mean(dim=0) - mean).abs() < 4.0 * error).all()
    torch.testing.assert_close(samples.T.cov(), covariance, rtol=0, atol=0.015)
    if step_size > 0.5 and beta == 1.0:
        assert torch.stack(acceptance).mean() < 0.9


def test_from_anywhere_the_law_is_reached():
    mean, covariance = moments(1.0)
    point, streams = gaussian(constant(4.0, 4000, 1, 2)), streams_of(1)
    for _ in range(30):
        point, _ = transition(gaussian, point, 1.0, constant(0.5, 1), 3, streams)
    samples = point.u[:, 0]
    torch.testing.assert_close(samples.mean(dim=0), mean, rtol=0, atol=0.04)
    torch.testing.assert_close(samples.T.cov(), covariance, rtol=0, atol=0.05)


def test_what_is_not_finite_is_rejected_and_left_behind():
    def cliff(u: Tensor) -> Point:
        """No number beyond u_1 = 0."""
        log_weight = torch.zeros_like(u[..., 0])
        beyond = u[..., 0] > 0
        return Point(
            u,
            log_weight.masked_fill(beyond, torch.nan),
            torch.zeros_like(u).masked_fill(beyond[..., None], torch.nan),
        )

    torch.manual_seed(0)
    start = cliff(-randn(500, 1, 2).abs())
    point, probability = transition(cliff, start, 1.0, constant(1.0, 1), 1, streams_of(1))
    assert point.u.isfinite().all()
    assert (point.u[..., 0] <= 0).all()
    assert 0.1 < (probability == 0.0).double().mean() < 0.9

    def pit(u: Tensor) -> Point:
        """Weight 0 beyond u_1 = 3, from where a chain has to come back."""
        outside = (u[..., 0] > 3).double()
        return Point(u, torch.where(outside > 0, -torch.inf, outside), torch.zeros_like(u))

    point, probability = transition(
        pit, pit(constant(3.1, 500, 1, 2)), 1.0, constant(1.0, 1), 1, streams_of(1)
    )
    inside = point.u[..., 0] <= 3
    assert torch.equal(inside, probability > 0)
    assert inside.double().mean() > 0.5


def test_every_example_has_its_own_step_size():
    torch.manual_seed(0)
    start = gaussian(randn(200, 2, 2))
    sizes = torch.tensor([1e-3, 5.0]).double()
    _, probability = transition(gaussian, start, 1.0, sizes, 3, streams_of(2))
    assert (probability[:, 0] > 0.99).all()
    assert probability[:, 1].mean() < 0.1

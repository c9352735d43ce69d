"""Every system solves the problem that the others solve, and finds the gradient that is right."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.peers.limits import environment
from benchmarks.peers.problem import Problem
from benchmarks.peers.reference import Reference, relative_error
from benchmarks.peers.systems import SYSTEMS, Settings
from benchmarks.peers.systems.base import NotReached, best_of_grid, fewest_steps
from benchmarks.reference import implicit_gradient, minimiser

from savi.errors import InputError
from savi.vae.build import build_vae

BATCH, LATENT, HIDDEN, DATA_DIM = 5, 3, 8, 20
SOLVED = Settings(steps=300, lr=0.0, rtol=1e-3, fraction=1.0, max_steps=500)


@pytest.fixture(scope="module")
def problem():
    """Well-conditioned, and not at its solution at the start."""
    rng = np.random.default_rng(0)

    def draw(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    widths = [LATENT, HIDDEN, HIDDEN, DATA_DIM]
    weights = [
        part
        for fan_in, fan_out in pairwise(widths)
        for part in (draw(fan_out, fan_in, scale=fan_in**-0.5), draw(fan_out, scale=0.1))
    ]
    codes, scale = draw(BATCH, LATENT), np.full((BATCH, LATENT), 0.5, np.float32)
    h = codes
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        h = np.log1p(np.exp(h @ weight.T + bias))
    x = h @ weights[-2].T + weights[-1] + draw(BATCH, DATA_DIM, scale=0.3)
    start = codes + draw(BATCH, LATENT, scale=0.5)
    return Problem(tuple(weights), 0.25, x, start, scale, draw(BATCH, LATENT))


@pytest.fixture(scope="module")
def reference(problem):
    return Reference(problem)


@pytest.fixture(scope="module")
def settings(reference):
    return replace(SOLVED, lr=1.0 / reference.sharpest())


@pytest.fixture(scope="module")
def answers(problem, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    problem.save(folder / "problem.npz")
    script = Path(__file__).with_name("peer_answers.py")
    arguments = [folder / "problem.npz", json.dumps(asdict(settings)), folder]
    subprocess.run([sys.executable, script, *arguments], check=True, env=environment(2))
    return folder


def of_theta(problem):
    """J(y; θ) and the outer loss for one example and flat weights, written once more."""
    shapes = [weight.shape for weight in problem.weights]
    sizes = [weight.size for weight in problem.weights]
    gamma = problem.gamma

    def misfit(z, theta, x):
        h, parts = z, [p.view(s) for p, s in zip(theta.split(sizes), shapes, strict=True)]
        for weight, bias in zip(parts[:-2:2], parts[1:-2:2], strict=True):
            h = (1.0 + (h @ weight.T + bias).exp()).log()
        mean = h @ parts[-2].T + parts[-1]
        return (x - mean).square().sum(-1) / (2.0 * gamma)

    return misfit


def test_the_reference_is_that_of_other_means(problem, reference):
    misfit = of_theta(problem)
    theta = torch.cat([torch.from_numpy(w).double().ravel() for w in problem.weights])
    theta.requires_grad_()
    expected = torch.zeros_like(theta)
    for b in range(BATCH):
        x, start, scale, noise = (
            torch.from_numpy(getattr(problem, name)[b : b + 1]).double()
            for name in ("x", "start", "scale", "noise")
        )

        def energy(y, theta, x=x):
            return misfit(y, theta, x) + 0.5 * y.square().sum(-1)

        z = minimiser(energy, theta, start).requires_grad_()
        outer = misfit(z + scale * noise, theta, x) + 0.5 * z.square().sum(-1)
        cotangent, direct = torch.autograd.grad(outer.sum() / BATCH, [z, theta])
        expected += direct + implicit_gradient(energy, theta, z, cotangent)
    found = reference.at_solution(problem.start)
    assert relative_error(found, expected.detach().numpy()) < 1e-8
    assert reference.stationarity(problem.start) == pytest.approx(np.ones(BATCH))


def test_gradients_of_steps(problem, reference, settings):
    """``unrolled`` is what autograd finds through the steps; all agree where they have led."""
    steps, lr = 7, settings.lr
    batch = problem.batch(torch.float64)
    z = batch.start
    for _ in range(steps):
        z = z - lr * batch.objective().gradient(z.requires_grad_(), create_graph=True)[1]
    gradient = torch.autograd.grad(batch.outer(z), batch.weights)
    flat = torch.cat([part.ravel() for part in gradient]).numpy()
    few = reference.of_steps(steps, lr)
    assert relative_error(few["unrolled"], flat) < 1e-10
    assert relative_error(few["ift"], flat) > 1e-3
    exact = reference.at_solution(problem.start)
    many = reference.of_steps(1000, lr)
    assert relative_error(many["unrolled"], exact) < 1e-5
    assert relative_error(many["ift"], exact) < 1e-7
    assert relative_error(many["stop"], exact) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_every_system_is_right(name, answers, reference, settings):
    system, path = SYSTEMS[name], answers / f"{name}.npz"
    if not path.exists():
        assert not system.is_installed() or name == "savi_ift_compiled"
        pytest.skip(f"{name} is not tested here")
    with np.load(path) as file:
        z, gradient, note = file["z"], file["gradient"], str(file["note"])
    assert reference.stationarity(z).max() < 1.1e-3
    error = relative_error(gradient, reference.at_solution(z))
    if system.kind == "stop":
        assert error > 1e-2
    else:
        assert error < 2e-3
    if system.part == "fixed":
        expected = reference.of_steps(settings.steps, settings.lr)[system.kind]
        assert relative_error(gradient, expected) < 2e-3
        assert note == ""
    else:
        assert "steps" in note


def test_a_problem_is_the_same_after_a_file(problem, tmp_path):
    problem.save(tmp_path / "problem.npz")
    again = Problem.load(tmp_path / "problem.npz")
    assert set(np.load(tmp_path / "problem.npz").files) == {
        "W1", "b1", "W2", "b2", "W", "b", "gamma", "x", "start", "scale", "noise",
    }  # fmt: skip
    batch = Problem.of(again.batch()).batch()
    z = batch.start + 0.1
    misfit = of_theta(problem)
    theta = torch.cat([torch.from_numpy(weight).ravel() for weight in problem.weights])
    values = misfit(z, theta, batch.x) + 0.5 * z.square().sum(-1)
    constant = 0.5 * DATA_DIM * np.log(2.0 * np.pi * problem.gamma)
    torch.testing.assert_close(batch.objective().value(z), values + constant)
    outer = misfit(z + batch.scale * batch.noise, theta, batch.x) + 0.5 * z.square().sum(-1)
    torch.testing.assert_close(batch.outer(z).detach(), outer.mean() + constant)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "tanh"}, "a perceptron with softplus units, and this decoder is none"),
        ({"decoder": "residual_mlp"}, "and this decoder is none"),
        ({"gamma": {"mode": "per_pixel", "value": 1.0, "floor": 0.1}}, "a value for every pixel"),
    ],
)
def test_other_decoders_are_refused(change, message, problem):
    batch = problem.batch()
    model = {
        "decoder": "mlp",
        "latent_dim": LATENT,
        "hidden": HIDDEN,
        "depth": 2,
        "activation": "softplus",
        "gamma": {"mode": "fixed", "value": 1.0, "floor": 0.1},
    }
    other = build_vae(model | change, (DATA_DIM,), 1.0)
    with pytest.raises(InputError, match=message):
        Problem.of(replace(batch, model=other))


def test_the_fewest_steps_are_found():
    seen = []

    def after(steps):
        seen.append(steps)
        return 0.5**steps

    # 2⁻⁹ is above 1e-3, 2⁻¹⁰ below.
    assert fewest_steps(after, SOLVED) == 10
    assert len(seen) < 10
    assert fewest_steps(lambda steps: 0.0, SOLVED) == 1
    assert fewest_steps(lambda steps: float(steps < 500), SOLVED) == 500
    for never in (1.0, float("nan")):
        with pytest.raises(NotReached, match=r"100% of the examples do not reach 0\.001 in 500"):
            fewest_steps(lambda steps, never=never: never, SOLVED)


def test_the_best_of_a_grid_is_found():
    def trace(rate):
        value = 1.0
        while True:
            yield value
            value *= rate

    assert best_of_grid([0.9, 0.5, 1.1, 0.6], trace, SOLVED) == (0.5, 10)
    with pytest.raises(NotReached):
        best_of_grid([1.0, 1.1], trace, SOLVED)


def test_a_solver_that_does_not_get_there_says_so(problem, settings):
    with pytest.raises(NotReached, match="do not reach 1e-30 in 3 steps"):
        SYSTEMS["savi_newton"](problem, replace(settings, rtol=1e-30, max_steps=3))

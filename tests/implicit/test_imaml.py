"""The implicit gradient of a proximal problem is iMAML's meta-gradient (arXiv 1909.04630)."""

import re
import runpy
import warnings
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from torch import nn
from torch.func import functional_call, grad, hessian, jvp

from savi.gradients import Implicit, ImplicitGradientWarning, SmoothnessNote

SCRIPT = Path(__file__).parents[2] / "scripts" / "examples" / "imaml.py"
SMALL = (1, 8, 8, 1)
TIGHT = {"max_steps": 2000, "rtol": 1e-12}


@pytest.fixture(scope="module")
def imaml():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # The matrices are small.
    yield SimpleNamespace(**runpy.run_path(str(SCRIPT)))
    torch.set_num_threads(threads)


def setting(imaml, sizes, tasks, activation=torch.tanh, seed=0):
    """θ, tasks and the batched network, in float64."""
    theta = imaml.initial(seed, sizes, torch.float64)
    return theta, imaml.Tasks.sample(tasks, 1, torch.float64), imaml.Network(sizes, activation)


class Reference:
    """The algorithm of the paper for one task: another network, another optimiser, another CG."""

    def __init__(self, imaml, theta, tasks, row, sizes):
        self.theta, self.strength = theta.detach(), imaml.STRENGTH
        layers = [nn.Linear(n, m) for n, m in pairwise(sizes)]
        self.module = nn.Sequential(*[part for layer in layers for part in (layer, nn.Tanh())][:-1])
        self.train = tasks.x_train[row, :, None], tasks.y_train[row, :, None]
        self.test = tasks.x_test[row, :, None], tasks.y_test[row, :, None]

    def error(self, phi, data):
        parameters, used = {}, 0
        for name, like in self.module.named_parameters():
            part = phi[used : used + like.numel()]
            parameters[name] = part.view(*reversed(like.shape)).T if like.ndim == 2 else part
            used += like.numel()
        return (functional_call(self.module, parameters, data[0]) - data[1]).square().mean()

    def objective(self, phi):
        return self.error(phi, self.train) + 0.5 * self.strength * (phi - self.theta).square().sum()

    def product(self, phi, v):
        """(∇²L_train + λI) v."""
        return jvp(grad(self.objective), (phi,), (torch.as_tensor(v, dtype=phi.dtype),))[1]

    def solution(self):
        """φ*, by Newton's method with conjugate gradients from θ."""

        def tensor(x):
            return torch.from_numpy(np.array(x))

        found = minimize(
            lambda x: float(self.objective(tensor(x))),
            self.theta.numpy(),
            jac=lambda x: grad(self.objective)(tensor(x)).numpy(),
            hessp=lambda x, p: self.product(tensor(x), p).numpy(),
            method="trust-krylov",
            options={"gtol": 1e-7, "maxiter": 500},
        )
        phi = tensor(found.x)
        for _ in range(2):  # The last digits, which a comparison of values does not see.
            phi = phi - self.by_cg(phi, grad(self.objective)(phi))
        assert grad(self.objective)(phi).norm() < 1e-11
        return phi

    def by_cg(self, phi, v):
        matrix = LinearOperator(
            (len(v), len(v)), lambda p: self.product(phi, p).numpy(), dtype=np.float64
        )
        found, info = cg(matrix, v.numpy(), rtol=1e-13, maxiter=5000)
        assert info == 0
        return torch.from_numpy(found)

    def meta_gradient(self, phi, dense):
        """(I + ∇²L_train/λ)⁻¹ ∇L_test."""
        v = grad(self.error)(phi, self.test)
        if not dense:
            return self.strength * self.by_cg(phi, v)
        matrix = hessian(self.error)(phi, self.train) / self.strength
        return torch.linalg.solve(torch.eye(len(v), dtype=v.dtype) + matrix, v)


def of_the_paper(imaml, theta, tasks, sizes, dense):
    """Its meta-gradient and its φ*, for all tasks."""
    references = [Reference(imaml, theta, tasks, row, sizes) for row in range(len(tasks.x_train))]
    phi = torch.stack([reference.solution() for reference in references])
    found = [r.meta_gradient(p, dense) for r, p in zip(references, phi, strict=True)]
    return torch.stack(found).mean(dim=0), phi


@pytest.mark.parametrize("gradient", [Implicit(), Implicit("cg", rtol=1e-12)], ids=["dense", "cg"])
def test_it_is_the_papers_meta_gradient(imaml, gradient):
    theta, tasks, network = setting(imaml, SMALL, 3)
    solution = imaml.adapt(theta, tasks, gradient, **TIGHT, network=network)
    (result,) = torch.autograd.grad(imaml.meta_loss(solution.value, tasks, network), theta)
    expected, phi = of_the_paper(imaml, theta, tasks, SMALL, dense=True)
    torch.testing.assert_close(solution.value.detach(), phi, rtol=1e-9, atol=1e-9)
    assert (result - expected).norm() < 1e-9 * expected.norm()
    assert not solution.certificate.failed.any()
    assert solution.certificate.error_bound.max() < 1e-6


def test_and_so_for_the_network_of_the_example(imaml):
    theta, tasks, network = setting(imaml, imaml.SIZES, 2)
    gradient = Implicit("cg", rtol=1e-11)
    solution = imaml.adapt(theta, tasks, gradient, **TIGHT, network=network)
    (result,) = torch.autograd.grad(imaml.meta_loss(solution.value, tasks, network), theta)
    expected, phi = of_the_paper(imaml, theta, tasks, imaml.SIZES, dense=False)
    torch.testing.assert_close(solution.value.detach(), phi, rtol=1e-8, atol=1e-8)
    assert (result - expected).norm() < 1e-8 * expected.norm()


def test_few_steps_of_cg_leave_an_error_that_the_residual_bounds(imaml):
    """‖u − u*‖ ≤ ‖Hu − v‖ / λ_min(H): the linear residual of the certificate, times ‖v‖."""
    theta, tasks, network = setting(imaml, SMALL, 1)
    phi = imaml.adapt(theta.detach(), tasks, Implicit(), **TIGHT, network=network).value.detach()
    phi.requires_grad_()
    (v,) = torch.autograd.grad(imaml.meta_loss(phi, tasks, network), phi)
    exact, certificate = imaml.meta_gradient(theta, tasks, Implicit(), phi.detach(), network)
    scale = imaml.STRENGTH * v.norm() / certificate.min_curvature.item()
    errors = []
    for steps in (1, 2, 4, 8, 16):
        truncated = Implicit("cg", rtol=1e-12, max_steps=steps)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result, certificate = imaml.meta_gradient(
                theta, tasks, truncated, phi.detach(), network
            )
        errors.append((result - exact).norm())
        assert errors[-1] <= (1 + 1e-6) * certificate.linear_residual * scale
        # More than 1e-3 of a residual is a failure, and is said.
        told = any(issubclass(w.category, ImplicitGradientWarning) for w in caught)
        assert told == bool(certificate.failed | certificate.inaccurate)
        assert told or certificate.linear_residual < 1e-3
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1 * exact.norm()
    assert errors[-1] < 1e-3 * exact.norm()


def test_finite_differences(imaml):
    theta, tasks, network = setting(imaml, SMALL, 3)
    direction = torch.nn.functional.normalize(imaml.initial(7, SMALL, torch.float64), dim=0)
    direction = direction.detach()

    def loss(moved):
        solution = imaml.adapt(moved, tasks, Implicit(), **TIGHT, network=network)
        return imaml.meta_loss(solution.value, tasks, network)

    (gradient,) = torch.autograd.grad(loss(theta), theta)
    fourth = [-1.0, 8.0, -8.0, 1.0]
    h = 1e-3
    shifts = (2 * h, h, -h, -2 * h)
    seen = [float(loss(theta.detach() + s * direction).detach()) for s in shifts]
    measured = sum(c * y for c, y in zip(fourth, seen, strict=True)) / (12 * h)
    # Which may be nearly orthogonal to the direction.
    tolerance = 1e-7 * float(gradient.norm())
    assert float(gradient @ direction) == pytest.approx(measured, rel=1e-7, abs=tolerance)


@pytest.mark.drawn
def test_relu_is_right_inside_a_piece_and_reported_at_a_kink(imaml):
    """Three tasks end inside a smooth piece; the first is drawn to a kink, where ∇J never is 0."""
    theta, tasks, network = setting(imaml, SMALL, 4, torch.relu)
    solution = imaml.adapt(theta, tasks, Implicit(), max_steps=150, rtol=1e-10, network=network)
    test_error = network.error(solution.value, tasks.x_test, tasks.y_test)
    with pytest.warns(SmoothnessNote, match="relu"):
        (result,) = torch.autograd.grad(test_error[1:].sum(), theta, retain_graph=True)
    certificate = solution.certificate
    assert "relu" in certificate.kinks
    assert not certificate.failed.any()
    with (
        pytest.warns(SmoothnessNote, match="relu"),
        pytest.warns(ImplicitGradientWarning, match="jumps or bends"),
    ):
        test_error[0].backward()
    assert certificate.failed.tolist() == [True, False, False, False]
    expected = torch.zeros_like(result)
    for row, phi in list(enumerate(solution.value.detach()))[1:]:
        x, y, x_test, y_test = (
            t[row : row + 1] for t in (tasks.x_train, tasks.y_train, tasks.x_test, tasks.y_test)
        )
        matrix = hessian(lambda p, x=x, y=y: network.error(p[None], x, y)[0])(phi)
        v = grad(lambda p, x=x_test, y=y_test: network.error(p[None], x, y)[0])(phi)
        expected += torch.linalg.solve(torch.eye(len(v)) + matrix / imaml.STRENGTH, v)
    assert (result - expected).norm() < 1e-8 * expected.norm()


@pytest.mark.drawn
def test_the_example(imaml, capsys):
    """Its own check, and that a short meta-training already makes adaptation better."""
    imaml.check(Console(width=100))
    shown = capsys.readouterr().out
    difference = float(re.search(r"relative difference: +(\S+)", shown).group(1))
    assert difference < 1e-6
    rows = re.findall(r"│ (\d+) +│ (\S+) +│ (\S+) +│", shown)
    assert [int(steps) for steps, _, _ in rows] == [1, 2, 5, 10, 15]
    assert float(rows[0][1]) > 0.1
    assert float(rows[-1][1]) < 1e-8
    unseen = imaml.Tasks.sample(30, 99)
    before, after = imaml.errors_of(imaml.initial(0), unseen)
    assert after < before
    theta, left_out = imaml.meta_train(steps=15)
    assert left_out < 0.1
    assert imaml.errors_of(theta, unseen)[1] < 0.5 * after

"""The same gradients on a GPU, whose backward runs in a thread of its own."""

import pytest
import torch
from inner_problems import Nonlinear, gradients, nonlinear_inputs, randn, spd

import savi
from savi.gradients import BACKENDS, Implicit
from savi.inner import AutogradObjective, LevenbergMarquardt, Momentum
from savi.inner.anchored import Proximal
from savi.linear import SOLVERS, LinearStatus, SymmetricOperator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CASES = {
    name: {"optimizer": Momentum(0.1, 0.5), "max_steps": 12, "rtol": 0.0} for name in BACKENDS
} | {"ift": {"optimizer": LevenbergMarquardt(), "max_steps": 40, "rtol": 1e-11}}


def pulled(backend, device, **options):
    inputs = [tensor.detach().to(device).requires_grad_() for tensor in nonlinear_inputs()]
    mixing, c, init = inputs
    problem = Proximal(AutogradObjective(Nonlinear(mixing, c)), init, 0.7)
    solution = savi.minimize(problem, init, gradient=backend, **options)
    assert solution.value.device.type == device
    w = randn(*init.shape, seed=5).to(device)
    return [t.cpu() for t in (solution.value, *gradients(solution.value, tuple(inputs), w))]


@pytest.mark.parametrize("name", CASES)
def test_backends_give_the_same_as_on_the_cpu(name):
    backend = BACKENDS[name]()
    on_gpu, on_cpu = (pulled(backend, device, **CASES[name]) for device in ("cuda", "cpu"))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("policy", ["mask", "damp", "fallback"])
def test_policies_give_the_same_as_on_the_cpu(policy):
    options = {"optimizer": Momentum(0.02, 0.5), "max_steps": 3, "rtol": 0.0}
    on_gpu, on_cpu = (
        pulled(Implicit(on_failure=policy, max_error=1e9, max_stationarity=1e-9), device, **options)
        for device in ("cuda", "cpu")
    )
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", SOLVERS)
def test_linear_solvers_give_the_same_as_on_the_cpu(name):
    solver = SOLVERS[name].configured(1e-10, None)
    matrix, v = spd(5, 6).cuda(), randn(5, 6, seed=1).cuda()
    operator = SymmetricOperator(
        matvec=lambda u: (matrix @ u.unsqueeze(-1)).squeeze(-1),
        dense=lambda: matrix,
        preconditioner=lambda: matrix,
    )
    solution = solver(operator, v)
    assert (solution.status == LinearStatus.SOLVED).all()
    torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, v), rtol=1e-7, atol=1e-7)


def test_compiled_steps_give_the_same_as_on_the_cpu():
    options = {"optimizer": Momentum(0.1, 0.5), "max_steps": 5, "rtol": 0.0}
    on_gpu = pulled(BACKENDS["unrolled"](), "cuda", compile=True, **options)
    on_cpu = pulled(BACKENDS["unrolled"](), "cpu", **options)
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-8, atol=1e-8)

"""Other libraries' answers to the same programs."""

import warnings

import pytest
import torch
from qp_problems import random_problems

from savi.implicit.qp import QPLayer


def ours(parameters):
    solution = QPLayer()(*parameters)
    assert solution.active.any(dim=1).all()
    assert not solution.degenerate.any()
    return solution.value


def gradients(value, parameters):
    weights = torch.sin(torch.arange(value.numel(), dtype=value.dtype)).view_as(value)
    return torch.autograd.grad((weights * value).sum(), parameters)


@pytest.mark.parametrize("m", [0, 2])
def test_qpth(m):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        qp = pytest.importorskip("qpth.qp")
    parameters = [t.requires_grad_() for t in random_problems(4, 6, m, 8, seed=11)]
    Q, q, A, b, G, h = parameters
    used = parameters if m else [Q, q, G, h]
    none = torch.empty(0, dtype=torch.float64)
    theirs = qp.QPFunction(eps=1e-14, verbose=-1, maxIter=60)(
        Q, q, G, h, *((A, b) if m else (none, none))
    )
    value = ours(parameters)
    torch.testing.assert_close(value, theirs, rtol=1e-6, atol=1e-6)
    for a, e in zip(gradients(value, used), gradients(theirs, used), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-6, atol=1e-6)


def test_cvxpylayers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cp = pytest.importorskip("cvxpy")
        layers = pytest.importorskip("cvxpylayers.torch")
        parameters = [t.requires_grad_() for t in random_problems(3, 4, 1, 6, seed=12)]
        n, m, p = 4, 1, 6
        root, q, A, b = cp.Parameter((n, n)), cp.Parameter(n), cp.Parameter((m, n)), cp.Parameter(m)
        G, h, x = cp.Parameter((p, n)), cp.Parameter(p), cp.Variable(n)
        problem = cp.Problem(
            cp.Minimize(0.5 * cp.sum_squares(root @ x) + q @ x), [A @ x == b, G @ x <= h]
        )
        layer = layers.CvxpyLayer(problem, parameters=[root, q, A, b, G, h], variables=[x])
        factor = torch.linalg.cholesky(parameters[0]).mT
        (theirs,) = layer(factor, *parameters[1:], solver_args=_TIGHT)
        expected = gradients(theirs, parameters)
    value = ours(parameters)
    torch.testing.assert_close(value, theirs, rtol=1e-6, atol=1e-6)
    dQ, *others = expected
    expected = (0.5 * (dQ + dQ.mT), *others)
    for a, e in zip(gradients(value, parameters), expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-6, atol=1e-6)


_TIGHT = {"eps": 1e-12}

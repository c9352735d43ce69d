"""The theorem without its certificate: the same gradient, and nothing said about it."""

import warnings

import pytest
import torch
from inner_problems import randn, spd

import savi
from savi.errors import InputError
from savi.gradients import Implicit
from savi.inner import LevenbergMarquardt


def solved(gradient, theta, max_steps):
    matrix = spd(3, 4)

    def value(y):
        return 0.5 * (y * torch.einsum("bij,bj->bi", matrix, y)).sum(-1) - (y * theta).sum(-1)

    return savi.minimize(
        value,
        randn(3, 4, seed=0),
        optimizer=LevenbergMarquardt(),
        gradient=gradient,
        max_steps=max_steps,
    )


def test_the_gradient_is_that_with_a_certificate():
    theta, w = randn(3, 4, seed=1).requires_grad_(), randn(3, 4, seed=2)
    certified, bare = (solved(Implicit(certify=certify), theta, 30) for certify in (True, False))
    assert certified.certificate is not None
    assert bare.certificate is None
    expected = torch.linalg.solve(spd(3, 4), w)
    for solution in (certified, bare):
        (gradient,) = torch.autograd.grad(solution.value, theta, w)
        torch.testing.assert_close(gradient, expected)


def test_nothing_is_said_about_a_solve_that_was_stopped_early():
    theta = randn(3, 4, seed=1).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solved(Implicit(certify=False), theta, 0).value.sum().backward()
    with pytest.warns(UserWarning, match="is not solved"):
        solved(Implicit(), theta, 0).value.sum().backward()


def test_a_policy_needs_the_certificate():
    with pytest.raises(InputError, match="'mask' without a certificate"):
        Implicit(certify=False, on_failure="mask")

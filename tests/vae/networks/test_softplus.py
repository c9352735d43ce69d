"""The fast softplus."""

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from savi.vae.networks.softplus import Softplus

softplus = Softplus()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_right_to_the_last_digits_for_every_size(dtype):
    a = torch.cat([torch.linspace(-80, 80, 4001), torch.tensor([0.0, -0.0, 1e-30, -1e-30])])
    # In double precision log1p is right, of which the float32 numbers are a rounding.
    exact = a.double().clamp_min(0) + torch.log1p(torch.exp(-a.double().abs()))
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(softplus(a.to(dtype)).double(), exact, rtol=4 * eps, atol=0)


def test_what_is_not_finite():
    a = torch.tensor([float("inf"), float("-inf"), float("nan")])
    torch.testing.assert_close(softplus(a), torch.tensor([float("inf"), 0.0, float("nan")]),
                               equal_nan=True)  # fmt: skip


def test_derivatives_of_both_orders_in_both_modes():
    a = torch.tensor([-3.0, -0.5, 0.0, 0.7, 30.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(softplus, (a,), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(softplus, (a,), check_fwd_over_rev=True)


def test_it_is_the_same_where_no_derivative_is_asked_for():
    a = torch.linspace(-50, 50, 1001)
    with torch.no_grad():
        plain = softplus(a)
    assert not plain.requires_grad
    assert torch.equal(plain, softplus(a.requires_grad_()).detach())


def test_tangents_without_gradients():
    a = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    with torch.no_grad(), forward_ad.dual_level():
        dual = softplus(forward_ad.make_dual(a, torch.ones_like(a)))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, a.sigmoid())


def test_tangents_at_0_under_transforms():
    eye = torch.eye(3)

    def tangent(v: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(softplus, (torch.zeros(3),), (v,))[1]

    torch.testing.assert_close(torch.func.vmap(tangent)(eye), 0.5 * eye)


def test_orders_and_modes_mixed_by_transforms():
    rev, fwd = torch.func.jacrev, torch.func.jacfwd
    a = torch.tensor(0.3, dtype=torch.float64)
    slope = a.sigmoid()
    second = slope * (1 - slope)
    for outer in (rev, fwd):
        for inner in (rev, fwd):
            torch.testing.assert_close(outer(inner(softplus))(a), second)
            third = torch.func.vmap(fwd(outer(inner(softplus))))(a.expand(2))
            torch.testing.assert_close(third, (second * (1 - 2 * slope)).expand(2))


def test_other_numbers_than_those_of_the_type_are_left_alone():
    a = torch.tensor([1.0, -2.0])
    softplus(a)
    assert a.tolist() == [1.0, -2.0]
    assert softplus(a.to(torch.bfloat16)).dtype == torch.bfloat16

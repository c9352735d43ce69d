"""What the certificate of ``root`` tells, and what ``root`` refuses."""

import math
import warnings

import pytest
import torch
from torch.autograd import forward_ad

from savi.errors import InputError
from savi.implicit import root
from savi.implicit.reporter import (
    ImplicitGradientError,
    ImplicitGradientWarning,
    SmoothnessNote,
)


def square(x, theta):
    return x**2 - theta.unsqueeze(-1)


def test_each_condition_is_judged_for_each_example():
    theta = torch.tensor([4.0, 0.0, 4.0, 9.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[2.0], [0.0], [0.5], [3.0 + 1e-9]], dtype=torch.float64)
    with pytest.warns(ImplicitGradientWarning, match=r"singular.*does not solve"):
        solution = root(square, x, theta)
    certificate = solution.certificate
    assert certificate.failed.tolist() == [False, True, True, False]
    assert certificate.condition[1] == torch.inf
    assert certificate.error_bound[3] < 1e-8
    torch.testing.assert_close(certificate.residual[2].item(), 3.75)
    solution.value.sum().backward()
    # A singular example is answered with 0, the others with what the formula gives there.
    expected = torch.tensor([0.25, 0.0, 1.0, 1.0 / 6.0], dtype=torch.float64)
    torch.testing.assert_close(theta.grad, expected)


def test_mask_drops_the_derivatives_of_failed_examples_in_both_modes():
    theta = torch.tensor([4.0, 0.0, 4.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[2.0], [0.0], [0.5]], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = root(square, x, theta, on_failure="mask").value
        (gradient,) = torch.autograd.grad(value.sum(), theta, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), theta)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(theta.detach(), torch.ones_like(theta))
            masked = root(square, x, dual, on_failure="mask").value
            tangent = forward_ad.unpack_dual(masked).tangent
    torch.testing.assert_close(gradient.tolist(), [0.25, 0.0, 0.0])
    torch.testing.assert_close(second.tolist(), [-0.25 * 4.0**-1.5, 0.0, 0.0])
    torch.testing.assert_close(tangent.flatten().tolist(), [0.25, 0.0, 0.0])


def test_raise_says_how_many_examples_failed():
    with pytest.raises(ImplicitGradientError, match=r"singular.*\(2 examples\)"):
        root(square, torch.zeros(2, 1), torch.zeros(2), on_failure="raise")


def test_the_error_bound_follows_the_error():
    """The derivative at x with x² = θ (1 + ε) is off by ε / 2 to first order."""
    theta = torch.full((3,), 2.0, dtype=torch.float64, requires_grad=True)
    relative = torch.tensor([1e-8, 1e-6, 1e-4], dtype=torch.float64)
    x = (theta.detach() * (1.0 + relative)).sqrt().unsqueeze(-1)
    solution = root(square, x, theta)
    (gradient,) = torch.autograd.grad(solution.value.sum(), theta)
    error = (gradient * 2.0 * theta.detach().sqrt() - 1.0).abs()
    bound = solution.certificate.error_bound
    assert (error <= bound).all()
    assert (bound <= 10.0 * error).all()


def test_a_kink_at_the_solution_is_seen():
    theta = torch.tensor([0.0, 2.0, -2.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.0], [1.0], [-2.0]], dtype=torch.float64)

    def kinked(x, theta):
        return torch.where(x > 0, 2.0 * x, x) - theta.unsqueeze(-1)

    with pytest.warns(ImplicitGradientWarning, match="kink at the solution"):
        solution = root(kinked, x, theta)
    assert solution.certificate.failed.tolist() == [True, False, False]
    (gradient,) = torch.autograd.grad(solution.value.sum(), theta)
    assert gradient[1:].tolist() == [0.5, 1.0]


def test_an_f_that_mixes_its_rows_is_told():
    x = torch.ones(4, 2, dtype=torch.float64)
    with pytest.warns(ImplicitGradientWarning, match="mixes its rows"):
        certificate = root(lambda x: x + 0.1 * x.roll(1, 0) - 1.1, x).certificate
    assert certificate.failed.all()


def test_rows_that_mix_at_a_distance_are_told_too():
    theta = torch.ones(4, 1, dtype=torch.float64)
    with pytest.warns(ImplicitGradientWarning, match="mixes its rows"):
        root(lambda x, t: x + 0.5 * x.roll(2, 0) - 1.5 * t, theta.clone(), theta)


def test_a_kink_in_a_parameter_is_seen():
    theta = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    x = theta.detach().unsqueeze(-1)
    with pytest.warns(ImplicitGradientWarning, match="kink at the solution"):
        certificate = root(lambda x, t: x - t.relu().unsqueeze(-1), x, theta).certificate
    assert certificate.failed.tolist() == [True, False]


def test_an_effect_of_a_parameter_that_varies_faster_than_f_is_seen():
    """∂F/∂t = sin(10⁴ x), and x is off by 3e-4 although F is small."""
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1.0003]], dtype=torch.float64)
    with pytest.warns(ImplicitGradientWarning, match="estimated error|does not solve"):
        root(lambda x, t: x - 1.0 + t * (1e4 * x).sin(), x, t)


@pytest.mark.parametrize(
    ("equations", "x"),
    [
        (lambda x, a: a * x - 1e-9, [[3e-9]]),
        (lambda x, a: torch.stack([x[:, 0] - 1e6, a * x[:, 1] - 1.0], 1), [[1e6, 0.0]]),
    ],
    ids=["all of it small", "small beside another"],
)
def test_small_coordinates_that_are_not_solved_are_told(equations, x):
    a = torch.ones((), dtype=torch.float64, requires_grad=True)
    with pytest.warns(ImplicitGradientWarning, match="does not solve"):
        root(equations, torch.tensor(x, dtype=torch.float64), a)


def test_strong_curvature_is_no_kink():
    """In float32 a relative step of 1e-3 is one of 3 here."""
    theta = torch.full((1,), 0.5).exp().requires_grad_()
    x = torch.full((1, 1), 2026.5)
    certificate = root(lambda x, t: (x - 2026.0).exp() - t.unsqueeze(-1), x, theta).certificate
    assert not any("kink" in reason for reason in certificate.reasons)


def test_an_f_that_changes_before_the_backward_is_refused():
    t = torch.ones((), dtype=torch.float64, requires_grad=True)
    values = [
        root(lambda x, t: x - k * t, torch.tensor([[k]], dtype=torch.float64), t).value  # noqa: B023
        for k in (1.0, 2.0, 3.0)
    ]
    with pytest.raises(InputError, match="F has changed"):
        sum(value.sum() for value in values).backward()
    scale = torch.tensor(2.0, dtype=torch.float64)
    x = torch.tensor([[2.0]], dtype=torch.float64)
    value = root(lambda x, t: x - scale * t, x, t).value.sum()
    scale.mul_(10.0)
    with pytest.raises(InputError, match="F has changed"):
        value.backward()


def test_autocast_around_the_backward_changes_nothing():
    torch.manual_seed(0)
    weight = (0.1 * torch.randn(3, 3)).requires_grad_()
    x = torch.randn(2, 3)
    target = (x + x @ weight).detach()
    value = root(lambda x: x + x @ weight - target, x).value
    (plain,) = torch.autograd.grad(value.sum(), weight, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (inside,) = torch.autograd.grad(value.sum(), weight)
    assert torch.equal(plain, inside)


def test_a_masked_example_that_spoils_the_others_is_refused():
    t = torch.ones((), dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[math.e], [-1.0]], dtype=torch.float64)
    value = root(lambda x, t: t * x.log() - 1.0, x, t, on_failure="mask").value
    with pytest.raises(InputError, match="leave it out of the batch"):
        value.sum().backward()


def test_a_system_of_a_hundred_equations_in_float32():
    torch.manual_seed(0)
    matrix = torch.randn(100, 100) / 10.0 + 2.0 * torch.eye(100)
    b = torch.randn(2, 100, requires_grad=True)
    x = torch.linalg.solve(matrix, b.detach().unsqueeze(-1)).squeeze(-1)
    assert not root(lambda x, b: x @ matrix.T - b, x, b).certificate.failed.any()


def test_operations_with_kinks_are_named():
    x = torch.tensor([[1.0]], dtype=torch.float64)
    with pytest.warns(SmoothnessNote, match="relu"):
        certificate = root(lambda x: torch.relu(x) - 1.0, x).certificate
    assert certificate.kinks == ("relu",)
    assert not certificate.failed.any()


def test_what_is_not_finite_fails_alone():
    theta = torch.tensor([1.0, float("nan"), 4.0], dtype=torch.float64, requires_grad=True)
    x = theta.detach().sqrt().unsqueeze(-1)
    with pytest.warns(ImplicitGradientWarning, match="not finite"):
        solution = root(square, x, theta)
    assert solution.certificate.failed.tolist() == [False, True, False]
    solution.value[[0, 2]].sum().backward()
    assert theta.grad[[0, 2]].tolist() == [0.5, 0.25]


def test_float32():
    theta = torch.tensor([2.0, 3.0], requires_grad=True)
    solution = root(square, theta.detach().sqrt().unsqueeze(-1), theta)
    assert not solution.certificate.failed.any()
    solution.value.sum().backward()
    torch.testing.assert_close(theta.grad, 0.5 * theta.detach().rsqrt())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: root(square, x[0], x), r"give a floating-point tensor \[B, P\]"),
        (lambda x: root(square, x.long(), x), "give a floating-point tensor"),
        (lambda x: root(square, x.bfloat16(), x), "in float32 or float64"),
        (lambda x: root(square, x[:, :0], x), "one row per example"),
        (lambda x: root(lambda x: x.double(), x), "in the same type"),
        (lambda x: root(lambda x: x.mul_(2.0), x), "changes x in place"),
        (lambda x: root(square, x, 2.0), "parameter 0 is of type float"),
        (lambda x: root(lambda x: x.sum(-1), x), r"F returned a torch.float32 tensor of shape"),
        (lambda x: root(lambda x: x, x, on_failure="mend"), "mask, raise, warn"),
        (
            lambda x: torch.func.jacrev(lambda t: root(square, x, t).value)(x[:, 0]),
            "inside a transform of torch.func",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.ones(2, 1))


def test_a_tensor_hidden_in_a_custom_function_is_refused():
    hidden = torch.ones(1, requires_grad=True)

    class Hides(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, v):
            return v

    x = torch.ones(2, 1)
    scaled = torch.compiler.disable(lambda x: Hides.apply(x))
    with torch._C.DisableTorchFunction():
        product = hidden * 2.0

    def equations(x):
        with torch._C.DisableTorchFunction():
            return scaled(x) - product * 0.5

    with pytest.raises(InputError, match="pass it as a parameter"):
        root(equations, x)


def test_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(InputError, match=r"torch\.no_grad"):
        root(square, torch.ones(2, 1), torch.ones(2))

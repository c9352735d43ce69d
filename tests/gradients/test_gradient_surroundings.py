"""Solves inside other transformations of torch, and under another default type."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import savi
from savi.gradients import Checkpointed, FiniteDifference, Implicit, OneStep, StopGradient, Unrolled
from savi.implicit import kkt, root, softmax
from savi.implicit.hypergradient import hypergradient
from savi.inner import GradientDescent, Proximal, TrustRegion

BACKENDS = [Implicit(), Implicit("cg"), Unrolled(), Checkpointed(), FiniteDifference(), OneStep()]


def solved(c, backend, around=lambda objective, init: objective):
    """argmin ½(λ − c)² + 0.1 λ⁴ from 0."""
    init = torch.zeros_like(c)

    def objective(y):
        return (0.5 * (y - c) ** 2 + 0.1 * y**4).sum(-1)

    return savi.minimize(
        around(objective, init),
        init,
        optimizer=GradientDescent(0.3),
        gradient=backend,
        max_steps=100,
        rtol=1e-5,
    ).value


@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("backend", BACKENDS, ids=repr)
@pytest.mark.parametrize("reentrant", [True, False])
def test_inside_a_checkpoint_the_gradient_is_the_same(backend, reentrant):
    c = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    (plain,) = torch.autograd.grad(solved(c, backend).sum(), c)
    checkpoint(lambda c: solved(c, backend), c, use_reentrant=reentrant).sum().backward()
    torch.testing.assert_close(c.grad, plain)


def test_forward_mode_passes_through_unrolled_steps():
    c, tangent = torch.tensor([[1.0, -2.0]]).double(), torch.tensor([[1.0, 0.5]]).double()
    with forward_ad.dual_level():
        out = solved(forward_ad.make_dual(c, tangent), Unrolled())
        found = forward_ad.unpack_dual(out).tangent
    y = out.detach()
    torch.testing.assert_close(found, tangent / (1.0 + 1.2 * y**2), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize(
    "backend",
    [*(b for b in BACKENDS if not isinstance(b, Unrolled)), StopGradient()],
    ids=repr,
)
def test_forward_mode_is_refused_where_a_tangent_would_be_lost(backend):
    c = torch.ones(2, 2)
    with forward_ad.dual_level():
        assert solved(c, backend).isfinite().all()
        dual = forward_ad.make_dual(c, torch.ones_like(c))
        with pytest.raises(savi.InputError, match="forward-mode differentiation"):
            solved(dual, backend)


@pytest.mark.parametrize("backend", [Implicit(), Unrolled(), StopGradient()], ids=repr)
def test_transforms_of_functions_are_refused(backend):
    c = torch.ones(3, 2, 2)
    with pytest.raises(savi.InputError, match=r"cannot run inside torch\.func"):
        torch.func.vmap(lambda c: solved(c, backend))(c)
    with pytest.raises(savi.InputError, match=r"cannot run inside torch\.func"):
        torch.func.grad(lambda c: solved(c, backend).sum())(c[0])


@pytest.mark.usefixtures("double_by_default")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_type_of_the_input_decides_and_not_the_default(dtype):
    theta = torch.tensor([[1.0, 2.0, 3.0]], dtype=dtype, requires_grad=True)
    x = theta.detach().sqrt()
    solutions = {
        "root": root(lambda x, theta: x**2 - theta, x, theta).value,
        "softmax": softmax(theta).value,
        "trust_region": solved(theta, Implicit(), lambda J, y: TrustRegion(J, y, 0.5)),
        "proximal": solved(theta, Implicit(), lambda J, y: Proximal(J, y, 0.5)),
        **{repr(backend): solved(theta, backend) for backend in BACKENDS},
    }
    for value in solutions.values():
        (gradient,) = torch.autograd.grad(value.sum(), theta)
        assert value.dtype == gradient.dtype == dtype
        assert gradient.isfinite().all()


@pytest.mark.usefixtures("double_by_default")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", ["cholesky", "cg", "minres", "gmres", "neumann", "nystrom"])
def test_a_hypergradient_has_the_type_of_its_weights(dtype, solver):
    w = torch.tensor([0.5, 1.0], dtype=dtype, requires_grad=True)
    penalty = torch.tensor(1.0, dtype=dtype, requires_grad=True)
    inner = (w - torch.tensor([1.0, 2.0], dtype=dtype)).square().sum() + penalty * w.square().sum()
    (found,) = hypergradient(inner, w.sum(), [w], [penalty], solver=solver).gradients
    torch.testing.assert_close(found, torch.tensor(-0.75, dtype=dtype), rtol=1e-4, atol=0.0)


@pytest.mark.usefixtures("double_by_default")
def test_kkt_takes_another_type_than_the_default():
    theta = torch.tensor([[0.8, -0.3]], dtype=torch.float32, requires_grad=True)
    from savi.implicit import Problem

    problem = Problem(
        lambda x, theta: 0.5 * (x - theta).square().sum(-1), inequalities=lambda x, theta: -x
    )
    value = kkt(problem, theta.detach().clamp_min(0.0), theta).value
    (gradient,) = torch.autograd.grad(value.sum(), theta)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, torch.tensor([[1.0, 0.0]], dtype=torch.float32))

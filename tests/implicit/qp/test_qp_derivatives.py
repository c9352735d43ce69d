"""Derivatives in both modes and of second order, against finite differences."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from benchmarks.qp import random_programs
from qp_problems import random_problems, tensor
from torch.autograd import gradcheck, gradgradcheck

from savi.implicit.qp import QPLayer, QPStatus
from savi.implicit.reporter import ImplicitGradientError, ImplicitGradientWarning


def parts(layer=None):
    layer = layer or QPLayer()

    def solve(*parameters):
        solution = layer(*parameters)
        return (
            solution.value,
            solution.equality_multipliers,
            solution.inequality_multipliers,
        )

    return solve


def leaves(batch, n, m, p, seed):
    return [t.requires_grad_() for t in random_problems(batch, n, m, p, seed)]


@pytest.mark.drawn
def test_all_six_parameters_in_both_modes():
    parameters = leaves(2, 3, 1, 4, seed=1)
    assert QPLayer()(*parameters).active.any()
    assert gradcheck(parts(), parameters, check_forward_ad=True)


@pytest.mark.drawn
def test_second_derivatives():
    parameters = leaves(1, 3, 1, 3, seed=5)
    assert QPLayer()(*parameters).active.any()
    assert gradgradcheck(parts(), parameters, check_fwd_over_rev=True, check_rev_over_rev=True)


def test_a_reverse_pass_over_a_forward_one():
    parameters = leaves(1, 3, 1, 3, seed=5)
    tangents = [torch.sin(3.0 * t.detach()) for t in parameters]

    def tangent(*parameters):
        with forward_ad.dual_level():
            pairs = zip(parameters, tangents, strict=True)
            x = QPLayer()(*[forward_ad.make_dual(t, dt) for t, dt in pairs]).value
            return forward_ad.unpack_dual(x).tangent

    assert tangent(*parameters).abs().max() > 1e-3
    assert gradcheck(tangent, parameters)


def test_parameters_that_the_batch_shares():
    own = leaves(3, 4, 1, 4, seed=2)
    shared = [t[0].detach().clone() for t in own]
    parameters = [shared[0], own[1].detach(), shared[2], shared[3], shared[4], shared[5]]
    parameters = [t.clone().requires_grad_() for t in parameters]
    assert QPLayer()(*parameters).active.any()
    assert gradcheck(parts(), parameters, check_forward_ad=True)
    Q, q, A, b, G, h = parameters
    expanded = [t.expand(3, *t.shape) for t in (Q, A, b, G, h)]
    again = QPLayer()(expanded[0], q, *expanded[1:]).value
    once = QPLayer()(*parameters).value
    torch.testing.assert_close(once, again, rtol=1e-12, atol=1e-12)
    weights = torch.sin(torch.arange(12.0).double()).view(3, 4)
    ours = torch.autograd.grad((weights * once).sum(), parameters)
    summed = torch.autograd.grad((weights * again).sum(), parameters)
    torch.testing.assert_close(ours, summed, rtol=1e-9, atol=1e-10)


def test_the_gradient_of_q_is_symmetric():
    Q, *rest = leaves(2, 4, 1, 5, seed=4)
    (dQ,) = torch.autograd.grad(QPLayer()(Q, *rest).value.square().sum(), Q)
    assert dQ.abs().max() > 0
    torch.testing.assert_close(dQ, dQ.mT, rtol=0, atol=1e-14 * dQ.abs().max().item())


def test_a_singular_q_and_an_ill_conditioned_one():
    """The factors differ from those of a definite Q; the derivatives must not."""
    _, _, A, b, G, _ = random_problems(2, 4, 1, 6, seed=7)
    Q = torch.diag_embed(tensor([1.0, 2.0, 0.0, 0.0], [1.0, 1e-7, 1e-7, 2.0]))
    z = torch.rand(2, 6, generator=torch.manual_seed(0), dtype=torch.float64)
    q = -(G.mT @ z.unsqueeze(-1)).squeeze(-1)
    inside = torch.linalg.pinv(A) @ b.unsqueeze(-1)
    h = (G @ inside).squeeze(-1) + 0.2
    others = [t.requires_grad_() for t in (q, A, b, G, h)]
    solution = QPLayer()(Q, *others)
    assert (solution.status == QPStatus.SOLVED).all()
    assert not solution.degenerate.any()
    assert gradcheck(lambda *others: QPLayer()(Q, *others).value, others, atol=1e-4, rtol=1e-3)


def test_float32_is_solved_in_float64():
    parameters = [t.float().requires_grad_() for t in random_problems(8, 6, 2, 8)]
    exact = [t.detach().double().requires_grad_() for t in parameters]
    short, long = QPLayer()(*parameters), QPLayer()(*exact)
    assert short.value.dtype == torch.float32
    torch.testing.assert_close(short.value, long.value.float())
    found = torch.autograd.grad(short.value.square().sum(), parameters)
    expected = torch.autograd.grad(long.value.square().sum(), exact)
    assert {g.dtype for g in found} == {torch.float32}
    torch.testing.assert_close(found, tuple(g.float() for g in expected), rtol=1e-4, atol=1e-4)


def test_a_gram_matrix_of_float32_counts_as_convex():
    L = torch.randn(20, 12, 2, generator=torch.manual_seed(0))
    Q = L @ L.mT
    assert (torch.linalg.eigvalsh(Q) < 0).any()
    box = torch.cat([torch.eye(12), -torch.eye(12)])
    solution = QPLayer()(Q, torch.ones(12), G=box, h=torch.ones(24))
    assert (solution.status == QPStatus.SOLVED).all()


@pytest.mark.drawn
def test_close_to_a_kink_the_signs_correct_the_active_constraints():
    """A slack of 2e-5 and the multiplier 0, which an interior point cannot tell from active."""
    Q, q, A, b, G, h = (t[127:].detach() for t in random_programs(128, 100, 50, seed=0))
    q.requires_grad_()
    solution = QPLayer()(Q, q, A, b, G, h)
    slack = h - (G @ solution.value.detach().unsqueeze(-1)).squeeze(-1)
    assert 1e-6 < slack[~solution.active].min() < 1e-4
    assert not solution.degenerate.any()
    v, step = torch.sin(torch.arange(100.0).double()), 1e-7
    (dq,) = torch.autograd.grad(solution.value.square().sum(), q)
    ends = [QPLayer()(Q, q.detach() + e * v, A, b, G, h).value for e in (step, -step)]
    numeric = (ends[0].square() - ends[1].square()).sum() / (2 * step)
    torch.testing.assert_close((dq * v).sum(), numeric, rtol=1e-6, atol=1e-6)


KINK = (torch.eye(2).double(), tensor([-1.0, -1.0]), None, None, tensor([1.0, 0.0]), tensor(1.0))
TWICE = (
    torch.eye(2).double(),
    tensor([-2.0, -1.0]),
    None,
    None,
    tensor([1.0, 0.0], [2.0, 0.0]),
    tensor(1.0, 2.0),
)
FLAT = (torch.diag(tensor(1.0, 0.0)), tensor([1.0, 0.0]))


@pytest.mark.parametrize("problem", [KINK, TWICE, FLAT])
def test_what_has_no_unique_derivative_is_reported(problem):
    Q, q, *rest = problem
    solution = QPLayer()(Q, q.clone().requires_grad_(), *rest)
    assert solution.status.tolist() == [QPStatus.SOLVED]
    assert solution.degenerate.tolist() == [True]
    with pytest.warns(ImplicitGradientWarning, match="multiplier of 0, active constraints are"):
        solution.value.sum().backward()
    with pytest.raises(ImplicitGradientError, match=r"\(1 examples\)"):
        QPLayer(on_failure="raise")(Q, q.clone().requires_grad_(), *rest).value.sum().backward()
    with forward_ad.dual_level(), pytest.warns(ImplicitGradientWarning):
        QPLayer()(Q, forward_ad.make_dual(q, torch.ones_like(q)), *rest)


def test_constraints_given_twice_move_x_as_if_given_once():
    """The multipliers are not unique there, x and its derivative in q are."""
    Q, q, _, _, G, h = TWICE
    q = q.clone().requires_grad_()
    solution = QPLayer()(Q, q, None, None, G, h)
    torch.testing.assert_close(solution.value, tensor([1.0, 1.0]))
    with pytest.warns(ImplicitGradientWarning):
        (dq,) = torch.autograd.grad(solution.value.sum(), q)
    torch.testing.assert_close(dq, tensor([0.0, -1.0]), rtol=1e-7, atol=1e-7)


def test_a_kink_that_the_loss_does_not_see_is_no_failure():
    q = torch.cat([KINK[1], tensor([-3.0, -1.0])]).requires_grad_()
    Q, _, _, _, G, h = KINK
    solution = QPLayer(on_failure="raise")(Q, q, None, None, G, h)
    assert solution.degenerate.tolist() == [True, False]
    (dq,) = torch.autograd.grad(solution.value[1].sum(), q)
    torch.testing.assert_close(dq, tensor([0.0, 0.0], [0.0, -1.0]))


def redundant(seed=6, scale=1.0):
    """Three equations of rank 2, the constraints, and a consistent right-hand side."""
    Q, q, A, _, G, _ = (t[0] for t in random_problems(1, 5, 2, 6, seed=seed))
    A = tensor([1.0, 0.0], [0.0, scale], [2.0, -1.0]) @ A
    inside = torch.linspace(-1.0, 1.0, 5).double()
    h = G @ inside + torch.linspace(0.0, 0.5, 6).double()
    return Q, q, A, A @ inside, G, h


@pytest.mark.drawn
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_equations_that_depend_on_the_others_but_agree_have_derivatives(scale):
    """X, z, and the shortest y; they are those without the equation that depends on the others."""
    Q, q, A, b, G, h = redundant(scale=scale)
    others = [t.clone().requires_grad_() for t in (Q, q, G, h)]

    def solve(Q, q, G, h):
        solution = QPLayer(on_failure="raise")(Q, q, A, b, G, h)
        return solution.point

    solution = QPLayer()(Q, q, A, b, G, h)
    assert solution.solved.all()
    assert solution.active.any()
    assert not solution.degenerate.any()
    y = solution.equality_multipliers[0]
    left = torch.linalg.svd(A).U[:, 2]
    assert (left @ A).abs().max() < 1e-12
    assert (left @ y).abs() < 1e-9 * y.abs().max()
    assert gradcheck(solve, others, check_forward_ad=True)
    twice = [t.clone().requires_grad_() for t in (Q, q, G, h)]
    without = QPLayer()(*twice[:2], A[:2], b[:2], *twice[2:])
    torch.testing.assert_close(solution.value, without.value, rtol=1e-9, atol=1e-9)
    v = torch.sin(torch.arange(5.0).double())
    ours = torch.autograd.grad((v * solve(*others)[0]).sum(), others)
    torch.testing.assert_close(
        ours, torch.autograd.grad((v * without.value).sum(), twice), rtol=1e-7, atol=1e-9
    )


def test_equations_that_depend_on_the_others_move_x_along_what_agrees():
    """The rows of A are sums of two that move, and so are b."""
    Q, q, A, b, G, h = redundant()
    mix = tensor([1.0, 0.0], [0.0, 1.0], [2.0, -1.0])
    rows, sides = A[:2].clone().requires_grad_(), b[:2].clone().requires_grad_()

    def solve(rows, sides):
        return QPLayer(on_failure="raise")(Q, q, mix @ rows, sides @ mix.T, G, h).point

    assert gradcheck(solve, (rows, sides), check_forward_ad=True)
    turned = mix.clone().requires_grad_()
    x = QPLayer()(Q, q, turned @ A[:2], b[:2] @ turned.T, G, h).value
    (dmix,) = torch.autograd.grad(x.square().sum(), turned)
    torch.testing.assert_close(dmix, torch.zeros_like(mix), rtol=0, atol=1e-10)


def test_a_batch_with_equations_of_two_ranks():
    Q, q, A, b, G, h = redundant()
    regular = A + 0.1 * torch.randn(3, 5, generator=torch.manual_seed(2)).double()
    side = regular @ torch.linspace(-1.0, 1.0, 5).double()
    As, bs = torch.stack([A, regular]), torch.stack([b, side])
    qs = torch.stack([q, q]).requires_grad_()
    solution = QPLayer(on_failure="raise")(Q, qs, As, bs, G, h)
    (both,) = torch.autograd.grad(solution.value.square().sum(), qs)
    for i in range(2):
        one = q.clone().requires_grad_()
        alone = QPLayer(on_failure="raise")(Q, one, As[i], bs[i], G, h).value
        torch.testing.assert_close(solution.value[i], alone[0], rtol=1e-9, atol=1e-9)
        (own,) = torch.autograd.grad(alone.square().sum(), one)
        torch.testing.assert_close(both[i], own, rtol=1e-7, atol=1e-9)

"""What has no solution is proven to have none, told, and leaves the others alone."""

import warnings

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from qp_problems import product, random_problems, tensor

from savi.errors import InputError
from savi.implicit.qp import QPError, QPLayer, QPStatus, QPWarning

BOX = tensor([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0])
NAN = float("nan")


def program(
    Q=((1.0, 0.0), (0.0, 1.0)), q=(0.5, 0.25), A=(1.0, -1.0), b=0.0, h=(1.0, 1.0, 0.25, 1.0)
):
    """½xᵀQx + qᵀx on the diagonal of a box."""
    return (tensor(*Q), tensor(*q), tensor([1.0, -1.0]), tensor(0.0), BOX, tensor(*h))


GOOD = program()
FAILURES = {
    QPStatus.INFEASIBLE: program(h=(-1.0, 1.0, -1.0, 1.0)),
    QPStatus.UNBOUNDED: (
        torch.zeros(2, 2).double(),
        tensor(1.0, 1.0),
        tensor([1.0, -1.0]),
        tensor(0.0),
        BOX * tensor([1.0], [1.0], [0.0], [0.0]),
        tensor(1.0, 1.0, 1.0, 1.0),
    ),
    QPStatus.NON_CONVEX: program(Q=((1.0, 0.0), (0.0, -2.0))),
    QPStatus.NOT_FINITE: program(q=(NAN, 1.0)),
}


def stacked(problems):
    return [torch.stack(parameters).requires_grad_() for parameters in zip(*problems, strict=True)]


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_alone(kind):
    parameters = stacked([FAILURES[kind]])
    with pytest.warns(QPWarning, match=f"1 of 1 .* 1 {kind.label}") as caught:
        solution = QPLayer()(*parameters)
    assert len(caught) == 1
    assert kind.advice.rstrip(".") in str(caught[0].message)
    assert solution.status.tolist() == [kind]
    assert solution.value.isnan().all()
    assert solution.inequality_multipliers.isnan().all()
    for gradient in torch.autograd.grad(solution.value.sum(), parameters):
        assert torch.equal(gradient, torch.zeros_like(gradient))
    with pytest.raises(QPError, match=f"1 {kind.label}"):
        QPLayer(on_failure="raise")(*parameters)


def test_failures_leave_a_batch_alone():
    """Values and gradients of the good examples are those that they have by themselves."""
    problems = [GOOD, *FAILURES.values(), GOOD]
    parameters, alone = stacked(problems), stacked([GOOD])
    with pytest.warns(QPWarning, match="4 of 6 quadratic programs have no solution"):
        solution = QPLayer()(*parameters)
    assert solution.status.tolist() == [0, 1, 2, 3, 4, 0]
    assert solution.solved.tolist() == [True, False, False, False, False, True]
    expected = QPLayer()(*alone)
    torch.testing.assert_close(solution.value[[0, 5]], expected.value.expand(2, -1))
    found = torch.autograd.grad(solution.value.square().sum(), parameters)
    wanted = torch.autograd.grad(expected.value.square().sum(), alone)
    assert sum(bool(gradient.any()) for gradient in wanted) == 4
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours[[0, 5]], theirs.expand_as(ours[[0, 5]]))
        assert torch.equal(ours[1:5], torch.zeros_like(ours[1:5]))
    assert torch.isnan(solution.condition).tolist() == [False, True, True, True, True, False]


def test_failures_leave_shared_parameters_alone():
    q = tensor([0.5, 0.25], [NAN, 1.0], [0.25, 0.5])
    h = tensor([0.1] * 4, [1.0] * 4, [0.1] * 4)
    G = BOX.clone().requires_grad_()
    Q = torch.eye(2).double().requires_grad_()
    with pytest.warns(QPWarning):
        bad = torch.autograd.grad(QPLayer()(Q, q, G=G, h=h).value.sum(), (Q, G))
    good = torch.autograd.grad(QPLayer()(Q, q[[0, 2]], G=G, h=h[[0, 2]]).value.sum(), (Q, G))
    assert good[1].abs().max() > 0
    torch.testing.assert_close(bad, good)


def test_farkas_rays_prove_infeasibility():
    """z >= 0 with Gᵀz + Aᵀy = 0 and bᵀy + hᵀz < 0, for random programs without a solution."""
    Q, q, A, b, G, h = random_problems(16, 6, 2, 9)
    weights = torch.rand(16, 8, generator=torch.manual_seed(0)).double()
    # The last row asks for more than the others allow.
    G[:, -1] = -product(G[:, :-1].mT, weights) - product(A.mT, b)
    h[:, -1] = -(h[:, :-1] * weights).sum(dim=1) - (b * b).sum(dim=1) - 0.01
    with pytest.warns(QPWarning, match="16 infeasible"):
        solution = QPLayer()(Q, q, A, b, G, h)
    y, z = solution.farkas_equalities, solution.farkas_inequalities
    assert (z >= 0).all()
    value = (b * y).sum(dim=1) + (h * z).sum(dim=1)
    assert (value < 0).all()
    miss = (product(A.mT, y) + product(G.mT, z)).abs().amax(dim=1)
    assert (miss <= 1e-6 * -value).all()
    assert torch.equal(solution.descent_ray, torch.zeros_like(q))


@pytest.mark.parametrize("gap", [1.0, 1e-4, 1e-8])
def test_bounds_that_cross_by_little_are_infeasible(gap):
    G, h = tensor([1.0, 0.0], [-1.0, 0.0]), tensor(1.0, -1.0 - gap)
    with pytest.warns(QPWarning, match="1 infeasible"):
        QPLayer()(torch.eye(2).double(), tensor(1.0, 1.0), G=G, h=h)


def test_rays_of_descent_prove_unboundedness():
    generator = torch.Generator().manual_seed(3)
    L, q, G = (torch.randn(64, *s, generator=generator).double() for s in [(5, 2), (5,), (4, 5)])
    Q = L @ L.mT
    with pytest.warns(QPWarning, match="unbounded"):
        solution = QPLayer()(Q, q, G=G, h=torch.ones(4).double())
    unbounded = solution.status == QPStatus.UNBOUNDED
    assert 0 < unbounded.sum() < 64
    assert (solution.status[~unbounded] == QPStatus.SOLVED).all()
    d = solution.descent_ray[unbounded]
    assert product(Q[unbounded], d).abs().max() < 1e-9
    assert product(G[unbounded], d).max() < 1e-6
    assert ((q[unbounded] * d).sum(dim=1) < 0).all()
    assert torch.equal(solution.descent_ray[~unbounded], torch.zeros_like(q[~unbounded]))


def test_what_is_infeasible_and_falls_for_ever_is_infeasible():
    with pytest.warns(QPWarning, match="1 infeasible"):
        QPLayer()(
            torch.zeros(2, 2).double(),
            tensor(1.0, 1.0),
            G=tensor([1.0, 0.0], [-1.0, 0.0]),
            h=tensor(-1.0, -1.0),
        )


def test_equations_that_contradict_each_other():
    A = tensor([1.0, 1.0], [2.0, 2.0])
    b = tensor([1.0, 2.0], [1.0, 3.0]).requires_grad_()
    with pytest.warns(QPWarning, match="1 infeasible"):
        solution = QPLayer()(torch.eye(2).double(), tensor(0.0, 0.0), A, b)
    assert solution.degenerate.tolist() == [False, False]
    torch.testing.assert_close(solution.value[0], tensor(0.5, 0.5))
    y = solution.farkas_equalities[1]
    torch.testing.assert_close(A.T @ y, tensor(0.0, 0.0), rtol=0, atol=1e-12)
    assert b[1] @ y < 0


def test_running_out_of_steps_is_no_proof():
    parameters = random_problems(16, 6, 0, 12)
    with pytest.warns(QPWarning, match="max steps .*raise max_steps"):
        solution = QPLayer(max_steps=1)(*parameters)
    failed = solution.status == QPStatus.MAX_STEPS
    assert failed.any()
    assert torch.equal(solution.value.isnan().any(dim=1), failed)
    assert torch.equal(solution.residual > 1e-10, failed)


def test_an_example_does_not_depend_on_its_batch():
    """Neither in its solution nor in its derivative nor in the steps that it takes."""
    parameters = [t.requires_grad_() for t in random_problems(24, 7, 2, 9)]
    together = QPLayer()(*parameters)
    gradients = torch.autograd.grad(together.value.square().sum(), parameters)
    assert len(together.steps.unique()) > 1
    for i in range(0, 24, 5):
        one = [t[i : i + 1].detach().requires_grad_() for t in parameters]
        alone = QPLayer()(*one)
        torch.testing.assert_close(together.value[i], alone.value[0], rtol=1e-12, atol=1e-12)
        assert (together.steps[i], together.status[i]) == (alone.steps[0], alone.status[0])
        own = torch.autograd.grad(alone.value.square().sum(), one)
        for whole, part in zip(gradients, own, strict=True):
            torch.testing.assert_close(whole[i], part[0], rtol=1e-9, atol=1e-11)


Q1, Q2, V = torch.eye(2), torch.eye(2).expand(3, 2, 2), torch.zeros(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Q1, V, Q1, None), "A is given without b: give both or neither"),
        ((Q1, V, None, None, None, V), "h is given without G"),
        ((Q1, V.double()), r"differ in dtype \(Q torch.float32, q torch.float64\)"),
        ((Q1.long(), V.long()), "Q is int64: give float32 or float64"),
        ((Q1, [0.0, 0.0]), "q is a list: give a tensor"),
        ((Q1, torch.zeros(3)), r"q has the shape \[1, 3\], with n = 3, but Q says n = 2"),
        ((torch.eye(2, 3), V), r"Q has the shape \[1, 2, 3\], with n = 3, but Q says n = 2"),
        ((Q2, torch.zeros(4, 2)), r"q has the shape \[4, 2\], with B = 4, but Q says B = 3"),
        ((Q1, V, None, None, Q1, torch.zeros(3)), r"h has .*p = 3, but G says p = 2"),
        ((Q1, torch.zeros(1, 1, 1, 2)), r"q has 4 dimensions: give \[n\], or \[B, n\]"),
        ((torch.zeros(0, 0), torch.zeros(0)), "number of variables is 0"),
        ((torch.zeros(0, 2, 2), torch.zeros(0, 2)), "the batch or .* is 0"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        QPLayer()(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, "tolerance is 0.0: set it to 1e-14 or more"),
        ({"tolerance": 1e-3}, "tolerance is 0.001: set it to at most 0.0001"),
        ({"max_steps": 0}, "max_steps is 0: set it to 1 or more"),
        ({"on_failure": "skip"}, "unknown on_failure 'skip': choose one of mask, raise, warn"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        QPLayer(**options)


def test_masked_failures_are_silent_and_have_no_gradient():
    """Failed values are NaN, those of degenerate examples stay, and the others are as they were."""
    # On the bound with a multiplier of 0: a kink.
    kink = program(q=(-1.0, -1.0), h=(1.0, 5.0, 5.0, 5.0))
    problems = [GOOD, *FAILURES.values(), kink, GOOD]
    parameters, alone = stacked(problems), stacked([GOOD])
    layer = QPLayer(on_failure="mask")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = layer(*parameters)
        found = torch.autograd.grad(solution.value[solution.solved].square().sum(), parameters)
    assert solution.status.tolist() == [0, 1, 2, 3, 4, 0, 0]
    assert solution.degenerate.tolist() == [False] * 5 + [True, False]
    assert solution.value[1:5].isnan().all()
    torch.testing.assert_close(solution.value[5], torch.ones(2).double())
    wanted = torch.autograd.grad(layer(*alone).value.square().sum(), alone)
    assert max(gradient.abs().max() for gradient in wanted) > 0.1
    for gradient, one in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient[[0, 6]], one.expand_as(gradient[:2]))
        assert torch.equal(gradient[1:6], torch.zeros_like(gradient[1:6]))


def test_a_masked_tangent_is_zero_where_the_value_has_a_kink():
    inside = program(h=(1.0, 1.0, 5.0, 5.0))
    Q, q, *rest = stacked([program(q=(-1.0, -1.0), h=(1.0, 5.0, 5.0, 5.0)), inside])
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("error", UserWarning)
        dual = forward_ad.make_dual(q, torch.ones_like(q))
        tangent = forward_ad.unpack_dual(QPLayer(on_failure="mask")(Q, dual, *rest).value).tangent
    assert torch.equal(tangent[0], torch.zeros_like(tangent[0]))
    torch.testing.assert_close(tangent[1], -torch.ones(2).double())


def test_a_good_batch_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        QPLayer()(*random_problems(8, 5, 2, 6))
    assert "tolerance=1e-10" in repr(QPLayer())

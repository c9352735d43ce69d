"""Sparsemax: the projection, its derivatives of both modes and orders, and its kinks."""

import runpy
import warnings
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

from savi.errors import InputError
from savi.implicit import kkt
from savi.implicit.qp import QPLayer
from savi.implicit.reporter import ImplicitGradientWarning
from savi.implicit.sparsemax import simplex_projection_problem, sparsemax, sparsemax_solution

SCRIPT = Path(__file__).parents[2] / "scripts" / "examples" / "sparsemax.py"

#: θ with a utility equal to the threshold: x = (1, 0, 0) with τ = 0.
KINK = (1.0, 0.0, -3.0)


def utilities(*shape: int, spread: float = 1.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (spread * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def jacobian(support: torch.Tensor) -> torch.Tensor:
    """diag(s) − ssᵀ/k for the indicator s of the support."""
    s = support.double()
    outer = s.unsqueeze(-1) * s.unsqueeze(-2)
    return s.diag_embed() - outer / s.sum(dim=-1)[..., None, None]


def pulled_back(x: torch.Tensor, theta: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(x, theta, cotangent)[0]


@pytest.mark.parametrize("shape", [(5,), (3, 1), (3, 7), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e6])
def test_the_solution_satisfies_the_kkt_conditions(shape, spread):
    theta = utilities(*shape, spread=spread)
    solution = sparsemax_solution(theta)
    x, v, tau = solution.value, solution.multipliers, solution.threshold.unsqueeze(-1)
    rounding = {"rtol": 0.0, "atol": 1e-14 * max(1.0, spread)}
    torch.testing.assert_close(x - theta + tau - v, torch.zeros_like(x), **rounding)
    torch.testing.assert_close(x.sum(dim=-1), torch.ones(shape[:-1], dtype=x.dtype))
    assert (x >= 0).all()
    assert (v >= 0).all()
    assert not (x * v).any()
    assert torch.equal(solution.support, x > 0)
    assert torch.equal(x, sparsemax(theta))
    assert not solution.degenerate.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1e-4, 1e-2, 1.0, 1e4])
def test_many_items_are_served_to_the_precision_of_the_float_type(dtype, spread):
    theta = utilities(4, 10_000, spread=spread, dtype=dtype)
    x = sparsemax(theta)
    assert x.dtype == dtype
    eps = torch.finfo(dtype).eps
    exact = sparsemax(theta.double()).to(dtype)
    torch.testing.assert_close(x, exact, rtol=0.0, atol=2 * eps)
    # The rounding of 10⁴ items adds up like √(10⁴).
    torch.testing.assert_close(x.sum(dim=-1), torch.ones(4, dtype=dtype), rtol=0.0, atol=100 * eps)


def test_ties_share_alike():
    theta = torch.tensor([[2.0, 2.0, 2.0, 2.0], [3.0, 3.0, 0.0, 0.0]])
    expected = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])
    assert torch.equal(sparsemax(theta), expected)


def test_utilities_of_minus_infinity_exclude_their_items():
    theta = torch.tensor([[0.3, -torch.inf, 0.1]], requires_grad=True)
    solution = sparsemax_solution(theta)
    torch.testing.assert_close(solution.value, torch.tensor([[0.6, 0.0, 0.4]]))
    assert not solution.degenerate.any()
    gradient = pulled_back(solution.value, theta, torch.tensor([[1.0, 5.0, 0.0]]))
    assert torch.equal(gradient, torch.tensor([[0.5, 0.0, -0.5]]))


def test_what_is_not_a_number_stays_in_its_example():
    theta = torch.tensor([[0.0, torch.nan], [0.0, 2.0]], requires_grad=True)
    x = sparsemax(theta)
    gradient = pulled_back(x, theta, torch.ones_like(x))
    assert x.isnan().all(dim=-1).tolist() == gradient.isnan().all(dim=-1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.long), r"float32 or float64, not torch\.int64"),
        (torch.zeros(2, 3, dtype=torch.bfloat16), r"theta\.float\(\)"),
        (torch.zeros(()), "at least one item"),
        (torch.zeros(2, 0), "at least one item"),
    ],
)
@pytest.mark.parametrize("function", [sparsemax, sparsemax_solution])
def test_what_cannot_be_projected_is_refused(function, theta, message):
    with pytest.raises(InputError, match=message):
        function(theta)


def test_derivatives_of_both_modes_and_orders_are_right():
    theta = utilities(3, 5).requires_grad_()
    assert (sparsemax_solution(theta).margin > 1e-3).all()
    assert torch.autograd.gradcheck(sparsemax, theta, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(sparsemax, theta, check_fwd_over_rev=True)


def test_the_jacobian_is_the_closed_form():
    theta = utilities(4, 6)
    expected = jacobian(sparsemax_solution(theta).support)
    batched = torch.func.vmap(torch.func.jacrev(sparsemax))(theta)
    forward = torch.func.vmap(torch.func.jacfwd(sparsemax))(theta)
    torch.testing.assert_close(batched, expected)
    torch.testing.assert_close(forward, expected)


def test_the_second_derivative_of_a_linear_function_is_zero():
    theta = utilities(3, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(sparsemax(theta)[:, 0].sum(), theta, create_graph=True)
    (second,) = torch.autograd.grad(gradient.pow(2).sum(), theta)
    assert not second.any()


@pytest.mark.parametrize("outer", [torch.func.jacrev, torch.func.jacfwd])
@pytest.mark.parametrize("inner", [torch.func.jacrev, torch.func.jacfwd])
def test_hessians_by_transforms_are_those_of_the_composition(outer, inner):
    theta = utilities(3, 5)
    solution = sparsemax_solution(theta)
    hessian = torch.func.vmap(outer(inner(lambda theta: sparsemax(theta).pow(3).sum())))(theta)
    j = jacobian(solution.support)
    torch.testing.assert_close(hessian, j @ (6.0 * solution.value).diag_embed() @ j)


def test_a_batch_of_cotangents_is_served():
    theta = utilities(2, 3).requires_grad_()
    x = sparsemax(theta)
    cotangents = torch.eye(6, dtype=x.dtype).view(6, 2, 3)
    (rows,) = torch.autograd.grad(x, theta, cotangents, is_grads_batched=True)
    blocks = torch.stack([rows[3 * b : 3 * b + 3, b] for b in range(2)])
    torch.testing.assert_close(blocks, jacobian(x > 0))


def test_a_kink_is_found():
    theta = torch.tensor([KINK, (0.6, 0.0, -3.0)])
    solution = sparsemax_solution(theta)
    assert solution.degenerate.tolist() == [True, False]
    assert float(solution.margin[0]) == 0.0
    assert float(solution.value[0, 1]) == float(solution.multipliers[0, 1]) == 0.0


def test_a_kink_hidden_by_rounding_is_found():
    # In float32 the two differ by 1 to within a step of 100.
    theta = torch.tensor([[100.3, 99.3]])
    assert sparsemax_solution(theta).degenerate.tolist() == [True]
    assert sparsemax_solution(theta - 0.01 * torch.tensor([1.0, 0.0])).degenerate.tolist() == [
        False
    ]


def test_the_margin_is_the_distance_to_the_nearest_kink():
    theta = utilities(64, 4)
    solution = sparsemax_solution(theta)
    directions = torch.nn.functional.normalize(utilities(2000, 1, 4), dim=-1)
    inside = sparsemax(theta + 0.999 * solution.margin.unsqueeze(-1) * directions) > 0
    assert (inside == solution.support).all()
    # Of many directions, some leave the piece soon after.
    outside = sparsemax(theta + 1.5 * solution.margin.unsqueeze(-1) * directions) > 0
    assert (outside != solution.support).any(dim=-1).any(dim=0).all()


def test_a_single_item_has_no_kink():
    solution = sparsemax_solution(torch.tensor([[7.0]]))
    assert (float(solution.value), float(solution.margin)) == (1.0, torch.inf)
    assert not solution.degenerate.any()


def test_to_differentiate_at_a_kink_warns():
    theta = torch.tensor([KINK, (0.6, 0.0, -3.0)], requires_grad=True)
    x = sparsemax(theta)
    with pytest.warns(ImplicitGradientWarning, match="threshold"):
        gradient = pulled_back(x, theta, torch.tensor([[1.0, 0.0, 0.0]] * 2))
    # At the kink, that of the piece whose support is the first item alone.
    assert gradient.tolist() == [[0.0, 0.0, 0.0], [0.5, -0.5, 0.0]]


def test_forward_mode_and_transforms_warn_as_well():
    theta = torch.tensor([KINK])
    with pytest.warns(ImplicitGradientWarning), forward_ad.dual_level():
        sparsemax(forward_ad.make_dual(theta, torch.ones_like(theta)))
    with pytest.warns(ImplicitGradientWarning):
        torch.func.vmap(torch.func.jacrev(sparsemax))(theta)
    leaf, cotangents = theta.clone().requires_grad_(), torch.ones(2, 1, 3)
    with pytest.warns(ImplicitGradientWarning):
        torch.autograd.grad(sparsemax(leaf), leaf, cotangents, is_grads_batched=True)


def test_the_text_is_the_same_every_time_so_that_it_shows_once():
    texts = []
    for shift in (0.0, 1.0):
        theta = (torch.tensor([KINK]) + shift).requires_grad_()
        with pytest.warns(ImplicitGradientWarning) as caught:
            sparsemax(theta)[0, 0].backward()
        texts.append((str(caught[0].message), caught[0].filename, caught[0].lineno))
    assert texts[0] == texts[1]


def test_a_kink_that_nothing_depends_on_does_not_warn():
    theta = torch.tensor([KINK, (0.6, 0.0, -3.0)], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparsemax(theta)[1, 0].backward()
        sparsemax(theta.detach())
    assert theta.grad.tolist() == [[0.0, 0.0, 0.0], [0.5, -0.5, 0.0]]


def test_the_theorem_on_the_kkt_conditions_agrees():
    theta = utilities(8, 5).requires_grad_()
    direct, cotangent = sparsemax_solution(theta), utilities(8, 5, spread=2.0).flip(0)
    solution = kkt(simplex_projection_problem(), direct.value, theta)
    assert not solution.certificate.failed.any()
    assert torch.equal(solution.active, ~direct.support)
    torch.testing.assert_close(solution.equality_multipliers.squeeze(-1), direct.threshold)
    torch.testing.assert_close(solution.inequality_multipliers, direct.multipliers)
    torch.testing.assert_close(
        pulled_back(solution.value, theta, cotangent),
        pulled_back(direct.value, theta, cotangent),
        rtol=1e-10,
        atol=1e-12,
    )


def test_the_theorem_s_certificate_reports_the_same_kink():
    theta = torch.tensor([KINK, (0.6, 0.0, -3.0)], dtype=torch.float64)
    with pytest.warns(ImplicitGradientWarning, match="multiplier of 0"):
        solution = kkt(simplex_projection_problem(), sparsemax(theta), theta)
    assert solution.certificate.degenerate.tolist() == [True, False]
    assert solution.certificate.failed.tolist() == [True, False]


@pytest.mark.parametrize("n", [1, 2, 9])
def test_the_quadratic_programme_agrees(n):
    theta = utilities(6, n).requires_grad_()
    identity, zero = torch.eye(n, dtype=theta.dtype), torch.zeros(n, dtype=theta.dtype)
    ones, one = torch.ones(1, n, dtype=theta.dtype), torch.ones(1, dtype=theta.dtype)
    x = QPLayer()(identity, -theta, ones, one, -identity, zero).value
    cotangent, direct = utilities(6, n, spread=2.0).flip(0), sparsemax(theta)
    torch.testing.assert_close(x, direct, rtol=0.0, atol=1e-10)
    torch.testing.assert_close(
        pulled_back(x, theta, cotangent),
        pulled_back(direct, theta, cotangent),
        rtol=0.0,
        atol=1e-6,
    )


@pytest.mark.parametrize("shape", [(7,), (50, 6), (2, 3, 200)])
@pytest.mark.parametrize("spread", [1e-2, 1.0, 100.0])
def test_entmax_agrees(shape, spread):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entmax = pytest.importorskip("entmax")
    theta = utilities(*shape, spread=spread).requires_grad_()
    peer, direct = entmax.sparsemax(theta, dim=-1), sparsemax(theta)
    cotangent = utilities(*shape).flip(0)
    torch.testing.assert_close(direct, peer, rtol=0.0, atol=1e-13)
    torch.testing.assert_close(
        pulled_back(direct, theta, cotangent), pulled_back(peer, theta, cotangent)
    )


def test_the_example_walks_across_a_kink(capsys):
    runpy.run_path(str(SCRIPT))["main"]()
    shown = capsys.readouterr().out
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in shown.splitlines()
        if line.startswith("│")
    ]
    told = {row[0]: row[4:] for row in rows}
    assert told.pop("-0.100") == ["0.0", "warns", "warns"]
    assert all(verdict[1:] == ["quiet", "quiet"] for verdict in told.values())
    assert {verdict[0] for verdict in told.values()} == {"0.5", "0.0"}
    difference = next(line for line in shown.splitlines() if line.startswith("largest difference"))
    assert float(difference.split(":")[1]) < 1e-14

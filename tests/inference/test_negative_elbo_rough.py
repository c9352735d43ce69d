"""∇²J to a few digits and its products, and the graph of a ∇J in closed form."""

import pytest
import torch
from torch import Tensor, nn

from savi._minimize import minimize
from savi.gradients import Implicit
from savi.implicit.adjoint import Adjoint
from savi.inference.negative_elbo import NegativeELBO
from savi.inner import InnerObjective, LevenbergMarquardt
from savi.inner.anchored import Proximal
from savi.vae import DECODERS, POSTERIORS, VARIANCES, GaussianVAE, short_format
from savi.vae.data_fit import DataFit
from savi.vae.distributions import common_noise

B, D, d, S = 6, 40, 3, 4
CLOSED = sorted(name for name, kind in POSTERIORS.items() if kind.closed_form)


def problem(
    name: str, form: str, dtype: torch.dtype = torch.float32, activation: str = "softplus"
) -> tuple[NegativeELBO, Tensor]:
    """J of a random perceptron whose head is wide, and a λ."""
    torch.manual_seed(0)
    decoder = DECODERS["mlp"](d, (D,), hidden=8, depth=2, activation=activation)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    model = GaussianVAE(decoder, VARIANCES["learned"](D, 0.3), d).to(dtype)
    family = POSTERIORS[name](d)
    z, noise = torch.randn(B, d), common_noise(S, torch.randn(B, d))(0).to(dtype)
    lam = torch.cat([z, 0.3 * torch.randn(B, family.num_params - d)], dim=-1).to(dtype)
    x = model.decode(z.to(dtype)).detach() + 0.5 * torch.randn(B, D).to(dtype)
    make = {"features": DataFit.linear_head, "pixels": lambda m, x, _: DataFit.direct(m, x)}
    fit = make[form](model, x, z.to(dtype))
    return NegativeELBO(model, family, fit, lambda step: noise), lam


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every processor rounds to bfloat16, if slowly."""
    monkeypatch.setattr(short_format, "has_short_products", lambda: True)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("form", ["features", "pixels"])
@pytest.mark.parametrize("proximal", [False, True])
def test_the_blocks_have_a_few_digits_and_all_else_has_all(name, form, proximal, short):
    made = []
    for dtype in (torch.float32, torch.float64):
        base, lam = problem(name, form, dtype)
        anchor, rho = torch.zeros_like(lam), torch.linspace(0.5, 2.0, B).to(dtype)
        made.append(Proximal(base, anchor, rho) if proximal else base)
    objective, exact = made
    assert exact.rough_curvature(lam) is None
    rough = objective.rough_curvature(lam.float())
    assert rough is not None
    hessian, v = exact.exact_curvature(lam), torch.randn_like(lam)
    assert 1e-6 < relative(rough.blocks, hessian) < 2.0**-6
    product = (hessian @ v.unsqueeze(-1)).squeeze(-1)
    assert relative(rough.matvec(v.float()), product) < 1e-5
    index = torch.tensor([1, 4])
    assert relative(rough.exact(index), hessian[index]) < 1e-5
    assert relative(rough.gradient, exact.gradient(lam)[1]) < 1e-5


def test_without_a_short_format_there_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(short_format, "has_short_products", lambda: False)
    objective, lam = problem("diagonal_gaussian", "features")
    assert objective.rough_curvature(lam) is None


def implicit_gradient(objective: NegativeELBO, lam: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Of a random function of the proximal solution in all weights and λ0, and the residuals."""
    init = lam.clone().requires_grad_()
    solution = minimize(
        Proximal(objective, init, 1.0), init,
        optimizer=LevenbergMarquardt(), gradient=Implicit(), max_steps=40, rtol=1e-5,
    )  # fmt: skip
    probe = torch.sin(torch.arange(lam.numel())).reshape(lam.shape).to(lam)
    wanted = [init, *objective.model.parameters()]
    found = torch.autograd.grad((probe * solution.value).sum(), wanted)
    return found, solution.certificate.linear_residual


@pytest.mark.parametrize("form", ["features", "pixels"])
def test_the_implicit_gradient_is_that_of_the_exact_blocks_in_double_precision(form, short):
    found, residual = implicit_gradient(*problem("diagonal_gaussian", form))
    exact, _ = implicit_gradient(*problem("diagonal_gaussian", form, torch.float64))
    # Refined, but not to the last digit: the rough blocks were in use.
    assert 1e-6 < float(residual.max()) <= torch.finfo(torch.float32).eps ** 0.5
    for one, other in zip(found, exact, strict=True):
        assert relative(one, other) < 2e-3


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("form", ["features", "pixels"])
def test_the_closed_gradient_has_the_graph_that_autograd_has(name, form):
    objective, lam = problem(name, form, torch.float64)
    lam.requires_grad_()
    wanted, probe = [lam, *objective.model.parameters()], torch.randn_like(lam)
    both = []
    for gradient in (objective.gradient, lambda *args: InnerObjective.gradient(objective, *args)):
        value, slope = gradient(lam, True)
        assert not value.requires_grad
        # Both have the statistics of the head in common.
        found = torch.autograd.grad((probe * slope).sum(), wanted, retain_graph=True)
        both.append((value, slope, *found))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("activation", "looks"), [("softplus", False), ("relu", True)])
def test_only_where_there_may_be_kinks_is_a_closer_look_taken(activation, looks, monkeypatch):
    """Two steps leave ∇J far from linear on the way to the solution."""
    taken, look = [], Adjoint._nearby
    monkeypatch.setattr(Adjoint, "_nearby", lambda *args: taken.append(args) or look(*args))
    objective, lam = problem("diagonal_gaussian", "pixels", torch.float64, activation)
    solution = minimize(
        objective, lam + 0.3, optimizer=LevenbergMarquardt(), gradient=Implicit(), max_steps=2
    )
    probe = torch.randn_like(lam)
    with pytest.warns(UserWarning, match=r"."):
        torch.autograd.grad((probe * solution.value).sum(), list(objective.model.parameters()))
    assert bool(taken) is looks

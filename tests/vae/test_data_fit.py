"""The form of log p(x|z) in feature space against the plain one."""

import copy

import pytest
import torch
from torch import Tensor, nn

from savi.errors import InputError
from savi.inference.negative_elbo import NegativeELBO
from savi.inner.precision import full_precision, short_products
from savi.vae import DECODERS, POSTERIORS, VARIANCES, GaussianVAE, short_format
from savi.vae.data_fit import DataFit, data_fit, head_of, head_pays
from savi.vae.distributions import common_noise
from savi.vae.quadratic import FeatureQuadratic

D, B, S = 40, 6, 4
MODES = sorted(VARIANCES)


def model_and_data(
    mode: str, dtype: torch.dtype, decoder: str = "mlp", gamma: float = 0.02
) -> tuple[GaussianVAE, Tensor, Tensor]:
    torch.manual_seed(0)
    network = DECODERS[decoder](3, (D,), hidden=8, depth=2, activation="softplus")
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.6)
    model = GaussianVAE(network, VARIANCES[mode](D, gamma), 3).to(dtype)
    if mode == "per_pixel":
        with torch.no_grad():
            model.gamma.log_excess.add_(0.5 * torch.randn(D))
    z = torch.randn(B, 3, dtype=dtype)
    x = model.decode(z).detach() + gamma**0.5 * torch.randn(B, D, dtype=dtype)
    return model, x, z


def both(model: GaussianVAE, x: Tensor, reference: Tensor) -> tuple[DataFit, DataFit]:
    return DataFit.linear_head(model, x, reference), DataFit.direct(model, x)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm())


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("away", [0.0, 1e-3, 1.0], ids=["at h0", "near h0", "far from h0"])
def test_values_and_derivatives_in_the_code(
    mode: str, dtype: torch.dtype, allowed: float, away: float
):
    model, x, z = model_and_data(mode, dtype)
    head, plain = both(model, x, z)
    codes = (z + away * torch.randn(S, B, 3, dtype=dtype)).requires_grad_()
    assert relative(head(codes), plain(codes)) < allowed
    slopes = []
    for fit in (head, plain):
        value, slope = fit.gradient(codes)
        (by_autograd,) = torch.autograd.grad(fit(codes).sum(), codes)
        assert relative(value, fit(codes)) < allowed
        assert relative(slope, by_autograd) < 10 * allowed
        slopes.append(slope)
    assert relative(*slopes) < 10 * allowed
    pairs = zip(head.second_order(codes), plain.second_order(codes), strict=True)
    assert all(relative(a, b) < 10 * allowed for a, b in pairs)
    with torch.no_grad():
        closed = head.gram(z)
        assert relative(closed, model.gram(z)) < 10 * allowed
    assert relative(head.gram(z), closed) < 10 * allowed


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian", "point_mass"])
def test_derivatives_in_every_parameter(mode: str, name: str):
    """Of ∇_λ J, so that mixed second derivatives are covered too."""
    model, x, z = model_and_data(mode, torch.float64)
    family = POSTERIORS[name](3)
    lam = (0.3 * torch.randn(B, family.num_params, dtype=torch.float64)).requires_grad_()
    noise, probe = common_noise(S, z), torch.randn_like(lam)
    theta = [p for p in model.parameters() if p.requires_grad]
    found = []
    for fit in both(model, x, z):
        objective = NegativeELBO(model, family, fit, noise)
        value, gradient = objective.gradient(lam, create_graph=True)
        closed = objective.gradient(lam)
        torch.testing.assert_close(closed, (value, gradient.detach()))
        torch.testing.assert_close(
            objective.exact_curvature(lam), objective.linearize(lam).by_products()
        )
        second = torch.autograd.grad((probe * gradient).sum(), [*theta, lam])
        found.append([value, gradient, objective.curvature(lam), *second])
    for a, b in zip(*found, strict=True):
        assert relative(a, b) < 1e-12


@pytest.mark.drawn
@pytest.mark.parametrize("gamma", [1.0, 1e-2, 1e-4])
def test_a_converged_gradient_is_as_small_as_by_the_plain_path(gamma: float):
    """Near the optimum the terms are far larger than their sum."""
    model, x, z = model_and_data("fixed", torch.float32, gamma=gamma)
    exact, x64, z64 = copy.deepcopy(model).double(), x.double(), z.double()
    family, noise = POSTERIORS["point_mass"](3), common_noise(1, z)
    truth = NegativeELBO(exact, family, x64, common_noise(1, z64))
    y, y0 = z64.clone(), z64 + 0.3
    for _ in range(60):
        y = y - torch.linalg.solve(truth.curvature(y), truth.gradient(y)[1])
    start = truth.gradient(y0)[1].norm(dim=-1)
    assert (truth.gradient(y)[1].norm(dim=-1) / start).max() < 1e-9
    rounded = y.float()
    expected = truth.gradient(rounded.double())[1]
    errors = []
    for fit in both(model, x, y0.float()):
        found = NegativeELBO(model, family, fit, noise).gradient(rounded)[1]
        errors.append(((found - expected).norm(dim=-1) / start).max())
    head, plain = errors
    assert head < 1e-5
    assert head < 3.0 * plain + 1e-7


def test_rows_are_those_of_the_batch():
    model, x, z = model_and_data("per_pixel", torch.float64)
    index = torch.tensor([4, 1])
    for fit in both(model, x, z):
        torch.testing.assert_close(fit.rows(index)(z[index]), fit(z)[index])


def test_the_data_are_not_touched_after_the_statistics():
    model, x, z = model_and_data("fixed", torch.float32)
    fit = DataFit.linear_head(model, x, z)
    widths = {t.shape[-1] for t in vars(fit.terms).values() if isinstance(t, Tensor)}
    assert isinstance(fit.terms, FeatureQuadratic)
    assert D not in widths
    before = model.decoder_evaluations
    fit.gradient(z)
    fit(z)
    fit.second_order(z)
    assert model.decoder_evaluations - before == B * (1 + 1 + 1 + 3)


# An LSTM is given the data besides its code, and has no such form.
@pytest.mark.parametrize("decoder", sorted(set(DECODERS) - {"lstm"}))
def test_the_form_is_chosen_by_cost(decoder: str):
    torch.manual_seed(0)
    shape = (3, 16, 16)
    network = DECODERS[decoder](3, shape, hidden=8, depth=2, activation="softplus")
    model = GaussianVAE(network, VARIANCES["fixed"](768, 0.1), 3)
    x, z = torch.randn(B, 768), torch.randn(B, 3)
    linear = type(network.head) is nn.Linear
    assert (head_of(model) is not None) == linear
    many = data_fit(model, x, z, codes=10_000)
    assert isinstance(many.terms, FeatureQuadratic) == linear
    for options in ({"codes": 0}, {"codes": 10_000, "linear_head": "off"}):
        assert not isinstance(data_fit(model, x, z, **options).terms, FeatureQuadratic)
    if linear:
        torch.testing.assert_close(many(z), data_fit(model, x, z, codes=0)(z), rtol=1e-4, atol=0)


def test_a_head_whose_weights_a_hook_computes_is_called():
    network = DECODERS["mlp"](3, (D,), hidden=8, depth=1, activation="tanh")
    model = GaussianVAE(network, VARIANCES["fixed"](D, 0.1), 3)
    assert head_of(model) is network.head
    direction = network.head.weight.detach().clone()

    @torch.no_grad()
    def normalised(head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        head.weight.copy_(direction / direction.norm())

    network.head.register_forward_pre_hook(normalised)
    direction.mul_(3.0).add_(1.0)
    assert head_of(model) is None
    x, z = torch.randn(B, D), torch.randn(B, 3)
    fit = data_fit(model, x, z, codes=10_000)
    torch.testing.assert_close(fit(z), model.likelihood(x, network(z.unsqueeze(0)))[0][0])


def test_wide_features_of_few_data_do_not_pay():
    assert head_pays(nn.Linear(500, 784), examples=128, codes=128 * 20)
    assert not head_pays(nn.Linear(256, 64), examples=128, codes=128 * 1000)
    # Two steps with two samples pay for the products with the data, not for WᵀW besides.
    assert not head_pays(nn.Linear(500, 784), examples=128, codes=128 * 4)
    assert head_pays(nn.Linear(500, 784), examples=128, codes=128 * 4, matrices=True)
    assert not head_pays(nn.Linear(256, 64), examples=128, codes=128 * 4, matrices=True)


def test_a_decoder_that_does_more_than_its_head_has_none():
    class Squashed(DECODERS["mlp"]):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(z).sigmoid()

    network = Squashed(3, (D,), hidden=8, depth=1, activation="tanh")
    model = GaussianVAE(network, VARIANCES["fixed"](D, 0.1), 3)
    assert head_of(model) is None
    fit = DataFit.direct(model, torch.randn(B, D))
    assert fit.chain is None
    family, noise = POSTERIORS["point_mass"](3), torch.zeros(1, B, 3)
    objective = NegativeELBO(model, family, fit, lambda step: noise)
    value, gradient = objective.gradient(torch.zeros(B, 3))
    assert value.shape == (B,)
    assert gradient.abs().min() > 0


def test_another_choice_is_refused():
    model, x, z = model_and_data("fixed", torch.float32)
    with pytest.raises(InputError, match=r"unknown linear_head 'on'.*auto, off"):
        data_fit(model, x, z, codes=1, linear_head="on")


@pytest.mark.parametrize("form", [0, 1], ids=["features", "pixels"])
def test_a_gram_that_only_steers_may_be_computed_in_short_products(form: int, monkeypatch):
    model, x, z = model_and_data("learned", torch.float32)
    fit = both(model, x, z)[form]

    @torch.no_grad()
    def gram(able: bool, allowed: bool) -> Tensor:
        monkeypatch.setattr(short_format, "has_short_products", lambda: able)
        with short_products() if allowed else full_precision("cpu"):
            return fit.gram(z)

    exact, short = gram(True, allowed=False), gram(True, allowed=True)
    assert short.dtype == torch.float32
    assert 1e-6 < relative(short, exact) < 2.0**-7
    assert torch.equal(exact, gram(False, allowed=True))


@pytest.mark.parametrize("form", [0, 1], ids=["features", "pixels"])
def test_double_precision_knows_no_short_products(form: int, monkeypatch):
    monkeypatch.setattr(short_format, "has_short_products", lambda: True)
    model, x, z = model_and_data("learned", torch.float64)
    fit = both(model, x, z)[form]
    with torch.no_grad(), short_products():
        assert relative(fit.gram(z), model.gram(z)) < 1e-12

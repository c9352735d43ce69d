"""Mixtures of logistics over levels: against sums over all levels, autograd and simulation."""

import math

import pytest
import torch
from closed_derivatives import require_closed_derivatives
from linear_gaussian import randn
from torch import Tensor, nn

from savi.config.schema import with_defaults
from savi.data.sets.digits import digits
from savi.errors import InputError, SettingError
from savi.implicit.smoothness import kinked_operations
from savi.vae import DECODERS, POSTERIORS, VAE, DiagonalGaussian, LogisticMixtureLikelihood, elbo
from savi.vae.build import build_encoder, build_vae
from savi.vae.data_fit import DataFit

D, L, M, N = 3, 5, 2, 4
#: From outputs that are nothing to those of logistics far narrower and wider than a level.
SPREADS = (0.0, 1.0, 30.0)


def likelihood(dim: int = D, levels: int = L, logistics: int = M) -> LogisticMixtureLikelihood:
    made = LogisticMixtureLikelihood(dim, logistics)
    made.output_shape((dim,), levels)
    return made


def all_levels(levels: int) -> Tensor:
    return (torch.arange(levels).double() / (levels - 1)).unsqueeze(1)


def observations(n: int = N, dim: int = D) -> Tensor:
    return torch.randint(0, L, (n, dim)).double() / (L - 1)


def model_of(d: int = 2) -> VAE:
    torch.manual_seed(0)
    decoder = DECODERS["mlp"](d, (D, 3 * M), hidden=6, depth=1, activation="tanh")
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.8)
    return VAE(decoder, likelihood(), d).double()


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("spread", SPREADS)
def test_probabilities_of_all_levels_sum_to_one(levels: int, spread: float):
    own, o = likelihood(D, levels), spread * randn(N, 3 * M * D)
    log_p = own.log_density(all_levels(levels)[:, None], o.expand(levels, N, -1))
    torch.testing.assert_close(log_p.logsumexp(0), torch.zeros(N, D).double(), rtol=0, atol=1e-12)
    assert (log_p <= 1e-12).all()
    torch.testing.assert_close(
        own.log_prob(all_levels(levels)[:1].expand(N, D), o), log_p[0].sum(-1)
    )


def test_a_probability_is_what_its_formula_says():
    own, o = likelihood(1, L, 2), 0.7 * randn(6)
    weight = o[:2].softmax(0)
    mean, scale = (
        torch.tensor([0.25, 0.75]).double() + o[2:4],
        torch.exp(7 * torch.tanh(o[4:] / 7)) / 4,
    )
    edges = (torch.arange(L + 1).double() - 0.5) / (L - 1)
    below = ((edges[:, None] - mean) / scale).sigmoid()
    below[0], below[-1] = 0.0, 1.0
    expected = (below.diff(dim=0) * weight).sum(-1)
    found = own.log_density(all_levels(L), o.expand(L, 6)).exp()[:, 0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("spread", SPREADS)
def test_mean_and_fisher_matrix_are_sums_over_all_levels(spread: float, monkeypatch):
    own, o = likelihood(1), spread * randn(3 * M)
    x, p = all_levels(L), own.log_density(all_levels(L), o.expand(L, 3 * M)).exp()
    torch.testing.assert_close((p * x).sum(0), own.mean(o))
    assert (own.unrounded_mean(o) - own.mean(o)).abs() <= 0.5 / (L - 1)
    scores = torch.stack(
        [torch.autograd.functional.jacobian(lambda o, v=v: own.log_prob(v, o), o) for v in x]
    )
    fisher = torch.einsum("x,xi,xj->ij", p[:, 0], scores, scores)
    eye = torch.eye(3 * M).double()
    torch.testing.assert_close(own.fisher_times(o, eye), fisher)
    torch.testing.assert_close(own.fisher(o), fisher.diagonal())
    whole = own.fisher_times(o, eye)
    monkeypatch.setattr("savi.vae.likelihoods.logistic_mixture.PIECE", 1)
    torch.testing.assert_close(own.fisher_times(o, eye), whole)
    bending = torch.stack([own.curvature_times(v, o, eye) for v in x])
    torch.testing.assert_close(torch.einsum("x,xij->ij", p[:, 0], bending), fisher)


def test_score_and_curvature_are_derivatives():
    own, x, o = likelihood(), observations(2), randn(2, D * 3 * M).requires_grad_()
    assert torch.autograd.gradcheck(lambda o: own.log_prob(x, o), o)
    assert torch.autograd.gradgradcheck(lambda o: own.log_prob(x, o), o)
    assert torch.autograd.gradcheck(own.fisher, o)
    assert torch.autograd.gradcheck(own.mean, o)
    value = own.log_prob(x, o)
    (slope,) = torch.autograd.grad(value.sum(), o, create_graph=True)
    assert not kinked_operations(slope, o)
    found, score = own.terms(x)(o)
    torch.testing.assert_close((found, score), (value, slope))
    v = randn(2, 3, D * 3 * M)
    assert torch.autograd.gradcheck(lambda o: own.curvature_times(x, o, v), o)
    products = [torch.autograd.grad(slope, o, v[:, n], retain_graph=True)[0] for n in range(3)]
    torch.testing.assert_close(own.terms(x).curvature(o, v), -torch.stack(products, dim=1))
    exact = torch.autograd.functional.hessian(lambda o: -own.log_prob(x, o).sum(), o.detach())
    size = D * 3 * M
    diagonal = exact.reshape(2 * size, 2 * size).diagonal().reshape(2, size)
    torch.testing.assert_close(own.curvature(x, o), diagonal)


def test_it_is_finite_in_single_precision_wherever_the_outputs_are():
    for levels in (2, 17, 256):
        own = likelihood(1, levels)
        size = torch.tensor([-1e4, -90.0, -1.0, 0.0, 1.0, 90.0, 1e4])
        o = torch.cartesian_prod(*[size] * 3).repeat_interleave(M, dim=1)
        o = (o * torch.tensor([1.0, -1.0] * 3)).requires_grad_()
        for x in (0.0, 1.0, round(0.4 * (levels - 1)) / (levels - 1)):
            seen = torch.full_like(o[:, :1], x)
            value = own.log_prob(seen, o)
            (slope,) = torch.autograd.grad(value.sum(), o)
            found = (value, slope, own.score(seen, o), own.fisher(o), own.mean(o))
            assert all(torch.isfinite(part).all() for part in found)
            assert torch.isfinite(own.curvature(seen, o)).all()
            assert torch.isfinite(own(seen, o[None])[1]).all()


@pytest.mark.parametrize("spread", SPREADS)
def test_samples_have_their_probabilities(spread: float):
    own, o, n = likelihood(1), spread * randn(3 * M), 4_000
    x = own.sample(o.expand(n, -1), torch.Generator().manual_seed(0))
    counts = torch.bincount(own.level(x).flatten(), minlength=L).double() / n
    p = own.log_density(all_levels(L), o.expand(L, -1)).exp()[:, 0]
    assert ((counts - p).abs() <= 4.5 * (p * (1 - p) / n).sqrt() + 1e-9).all()
    assert torch.isfinite(own.sample(o.expand(n, -1).float(), torch.Generator())).all()


@pytest.mark.parametrize("family", ["diagonal_gaussian", "point_mass"])
def test_closed_derivatives_of_the_inner_problem_are_those_of_autograd(family: str):
    require_closed_derivatives(model_of(), observations(), family)


def test_gauss_newton_weighs_tangents_by_the_fisher_matrix():
    model, x, z = model_of(), observations(), randn(N, 2)
    rows = torch.stack([torch.autograd.functional.jacobian(model.decode, code) for code in z]).mT
    blocks = model.likelihood.fisher_blocks(model.decode(z)).detach()
    exact = torch.stack(
        [row @ torch.block_diag(*block) @ row.T for row, block in zip(rows, blocks, strict=True)]
    )
    with torch.no_grad():
        torch.testing.assert_close(DataFit.direct(model, x).gram(z), exact)
        torch.testing.assert_close(model.gram(z), exact)
    assert torch.autograd.gradcheck(model.gram, z.requires_grad_())
    assert (torch.linalg.eigvalsh(exact) > -1e-12).all()


def test_a_short_training_on_digits_improves_on_its_start():
    x = digits().train.values[:256].float().flatten(1) / 16.0
    model = with_defaults(
        "model", {"likelihood": "logistic_mixture", "latent_dim": 4, "hidden": 32}
    )
    torch.manual_seed(0)
    vae = build_vae(model, (1, 8, 8), 0.1, levels=17)
    family = POSTERIORS["diagonal_gaussian"](4)
    encoder = build_encoder(model, (1, 8, 8), family.num_params, levels=17)
    optimizer = torch.optim.Adam([*vae.parameters(), *encoder.parameters()], lr=3e-3)
    bounds = []
    for _ in range(60):
        noise = torch.randn(1, len(x), 4)
        bound = elbo(vae, DiagonalGaussian(*encoder(x).chunk(2, dim=-1)), x, noise).elbo.mean()
        optimizer.zero_grad()
        (-bound).backward()
        optimizer.step()
        bounds.append(float(bound.detach()))
    # At its start about a uniform law of all 17 levels.
    assert bounds[0] > -1.2 * 64 * math.log(17)
    assert bounds[-1] > bounds[0] + 30.0


def test_what_it_is_not_for_is_refused():
    model = with_defaults("model", {"likelihood": "logistic_mixture"})
    with pytest.raises(InputError, match=r"'logistic_mixture' with data of real numbers: choose"):
        build_vae(model, (3,), 1.0)
    with pytest.raises(
        InputError, match=r"'conv'.*15 outputs for every pixel: set model.decoder=m"
    ):
        build_vae(model | {"decoder": "conv"}, (1, 8, 8), 1.0, levels=4)
    with pytest.raises(InputError, match=r"'lstm' with model.likelihood 'logistic_mixture': set"):
        build_vae(model | {"decoder": "lstm"}, (3,), 1.0, levels=4)
    with pytest.raises(SettingError, match=r"model.logistics is 0: set it to 1 or more"):
        build_vae(model | {"logistics": 0}, (3,), 1.0, levels=4)
    made = build_vae(model | {"logistics": 2}, (3,), 1.0, levels=4)
    assert made.decode(randn(2, 16).float()).shape == (2, 18)

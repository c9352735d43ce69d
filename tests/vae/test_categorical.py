"""The categorical likelihood against sums over all levels, and a linear model by quadrature."""

import math

import pytest
import torch
from closed_derivatives import require_closed_derivatives
from linear_gaussian import randn
from torch import Tensor, nn

from savi.config.schema import with_defaults
from savi.errors import InputError
from savi.evaluation.ais import annealed_log_likelihood, simulate
from savi.evaluation.annealing import Annealing
from savi.evaluation.bounds import importance_log_likelihood
from savi.evaluation.proposals import laplace_at_mode
from savi.implicit.smoothness import kinked_operations
from savi.vae import DECODERS, VAE, DiagonalGaussian
from savi.vae.build import build_vae
from savi.vae.data_fit import DataFit
from savi.vae.likelihoods import CategoricalLikelihood

D, L, N = 4, 5, 6


def likelihood(dim: int = D) -> CategoricalLikelihood:
    made = CategoricalLikelihood(dim)
    made.levels = L
    return made


def observations(n: int = N, padded: bool = False) -> Tensor:
    k = torch.randint(0, L, (n, D))
    if padded:
        k[:, -1] = -1
    return k.double() / (L - 1)


def model_of(d: int = 2) -> VAE:
    torch.manual_seed(0)
    decoder = DECODERS["mlp"](d, (D, L), hidden=6, depth=1, activation="tanh")
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.8)
    return VAE(decoder, likelihood(), d).double()


def test_density_mean_and_fisher_matrix_agree_with_sums_over_all_levels():
    own, o = likelihood(1), randn(L)
    x = (torch.arange(L).double() / (L - 1)).unsqueeze(1)
    density = own.log_density(x, o.expand(L, L)).exp()
    torch.testing.assert_close(density.sum(0), torch.ones(1).double())
    torch.testing.assert_close((density * x).sum(0), own.mean(o))
    score = own.score(x, o.expand(L, L))
    fisher = torch.einsum("x,xi,xj->ij", density[:, 0], score, score)
    torch.testing.assert_close(own.fisher_times(o, torch.eye(L).double()), fisher)
    torch.testing.assert_close(own.fisher(o), fisher.diagonal())
    torch.testing.assert_close(
        own.terms(x[:1]).curvature(o[None], torch.eye(L).double()[None])[0], fisher
    )


@pytest.mark.parametrize("padded", [False, True])
def test_score_and_curvature_are_derivatives_and_padding_has_none(padded: bool):
    own, x, o = likelihood(), observations(2, padded), randn(2, D * L).requires_grad_()
    assert torch.autograd.gradcheck(lambda o: own.log_prob(x, o), o)
    assert torch.autograd.gradgradcheck(lambda o: own.log_prob(x, o), o)
    v = randn(2, 3, D * L)
    assert torch.autograd.gradcheck(lambda o: own.fisher_times(o, v), o)
    value = own.log_prob(x, o)
    (slope,) = torch.autograd.grad(value.sum(), o, create_graph=True)
    torch.testing.assert_close(own.score(x, o), slope)
    assert not kinked_operations(slope, o)
    found, score = own.terms(x)(o)
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(score, slope)
    for n in range(3):
        (product,) = torch.autograd.grad(slope, o, v[:, n], retain_graph=True)
        torch.testing.assert_close(own.terms(x).curvature(o, v)[:, n], -product)
    diagonal = torch.stack(
        [
            torch.autograd.grad(slope[:, i].sum(), o, retain_graph=True)[0][:, i]
            for i in range(D * L)
        ],
        dim=1,
    )
    torch.testing.assert_close(own.curvature(x, o), -diagonal)
    if padded:
        assert not slope[:, -L:].any()
        torch.testing.assert_close(value, likelihood(3).log_prob(x[:, :3], o[:, : 3 * L]))


def test_samples_have_their_probabilities():
    own, o, n = likelihood(1), randn(L), 4_000
    x = own.sample(o.expand(n, L), torch.Generator().manual_seed(0))
    counts = torch.bincount(own.level(x).flatten(), minlength=L).double() / n
    p = o.softmax(dim=-1)
    assert ((counts - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()


def test_it_is_finite_in_single_precision_wherever_the_outputs_are():
    own = likelihood(1)
    o = torch.tensor([[-1e4, 0.0, 1e4, 90.0, -90.0], [1e-12, 0.0, -1e-12, 0.0, 0.0]])
    x = torch.tensor([[0.0], [1.0]])
    found = (own.log_prob(x, o), own.score(x, o), own.fisher(o), own.mean(o), own(x, o[None])[1])
    assert all(torch.isfinite(value).all() for value in found)


@pytest.mark.parametrize("family", ["diagonal_gaussian", "point_mass"])
def test_closed_derivatives_of_the_inner_problem_are_those_of_autograd(family: str):
    require_closed_derivatives(model_of(), observations(), family)


def test_gauss_newton_weighs_tangents_by_the_fisher_matrix():
    model, x, z = model_of(), observations(), randn(N, 2)
    rows = torch.stack([torch.autograd.functional.jacobian(model.decode, code) for code in z]).mT
    exact = torch.stack(
        [
            row @ torch.block_diag(*(torch.diag(p) - torch.outer(p, p) for p in ps)) @ row.T
            for row, ps in zip(
                rows, model.decode(z).detach().unflatten(-1, (D, L)).softmax(-1), strict=True
            )
        ]
    )
    with torch.no_grad():
        torch.testing.assert_close(DataFit.direct(model, x).gram(z), exact)
        torch.testing.assert_close(model.gram(z), exact)
    torch.testing.assert_close(model.gram(z.requires_grad_()), exact)
    assert torch.autograd.gradcheck(model.gram, z)


def test_a_linear_model_with_one_latent_against_quadrature():
    torch.manual_seed(0)
    head = nn.Linear(1, D * L)
    nn.init.normal_(head.weight, std=1.2)
    model = VAE(nn.Sequential(head), likelihood(), 1).double()
    _, x = simulate(model, N, torch.Generator().manual_seed(1))
    grid = torch.linspace(-8.0, 8.0, 2_001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        log_p = head(grid).unflatten(-1, (D, L)).log_softmax(dim=-1)
    k = model.likelihood.level(x)
    log_joint = sum(log_p[:, i, k[:, i]] for i in range(D)).T - 0.5 * grid[:, 0].square()
    log_joint = log_joint - 0.5 * math.log(2 * math.pi)
    evidence = log_joint.logsumexp(dim=1) + math.log(16.0 / 2_000)
    q = laplace_at_mode(model, x, x.new_zeros(N, 1))
    best = grid[log_joint.argmax(dim=1), 0]
    assert (q.mean[:, 0] - best).abs().max() < 0.012
    weighted = importance_log_likelihood(model, q, x, 4_000, torch.Generator().manual_seed(2))
    relative = (1.0 / weighted.effective_samples - 1.0 / 4_000).clamp_min(0.0).sqrt()
    assert ((weighted.log_likelihood - evidence).abs() < 4.5 * relative + 1e-9).all()
    assert (weighted.bound < evidence).all()
    annealed = annealed_log_likelihood(
        model, x, Annealing(8, 20), torch.Generator().manual_seed(3), q
    )
    error = (annealed.log_likelihood - evidence) / annealed.standard_error
    assert error.abs().max() < 4.5


def test_data_without_levels_and_decoders_of_images_are_refused():
    model = with_defaults("model", {"likelihood": "categorical"})
    with pytest.raises(InputError, match=r"'categorical' with data of real numbers: choose data"):
        build_vae(model, (3,), 1.0)
    assert build_vae(model, (3,), 1.0, levels=4).decode(randn(2, 16).float()).shape == (2, 12)
    with pytest.raises(InputError, match=r"model.decoder 'conv' .*: set model.decoder=mlp"):
        build_vae(model | {"decoder": "conv"}, (1, 8, 8), 1.0, levels=4)


def test_a_piece_of_the_samples_is_counted_in_logits(monkeypatch):
    model, x, sizes = model_of(), observations(), []
    monkeypatch.setattr("savi.vae.monte_carlo.CHUNK_ENTRIES", 4 * D * L)
    whole = model.decoder.forward

    def forward(z: Tensor) -> Tensor:
        sizes.append(z.shape[:-1].numel() * D * L)
        return whole(z)

    monkeypatch.setattr(model.decoder, "forward", forward)
    q = DiagonalGaussian(randn(N, 2), randn(N, 2))
    importance_log_likelihood(model, q, x, 10, torch.Generator().manual_seed(0))
    assert max(sizes) <= 4 * D * L
    monkeypatch.setattr("savi.vae.monte_carlo.CHUNK_ENTRIES", 10**9)
    sizes.clear()
    importance_log_likelihood(model, q, x, 10, torch.Generator().manual_seed(0))
    assert max(sizes) == 10 * N * D * L

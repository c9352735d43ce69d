"""The best posterior of the family, and its certificate."""

import pytest
import torch
from linear_gaussian import LinearGaussian, linear_gaussian, randn, vae

from savi.evaluation import optimum as optimum_module
from savi.evaluation.optimum import WORTH_NEWTON, LocalOptimum, local_optimum, matched_noise
from savi.vae import POSTERIORS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def optimum_of(problem: LinearGaussian, name: str, start, steps: int = 100) -> LocalOptimum:
    family = POSTERIORS[name](problem.model.latent_dim)
    return local_optimum(problem.model, family, problem.x, start, steps=steps, generator=seeded())


def test_matched_noise_has_exact_moments():
    noise = matched_noise(8, randn(5, 3), seeded())
    assert noise.shape == (8, 5, 3)
    moment = torch.einsum("sbi,sbj->bij", noise, noise) / 8
    torch.testing.assert_close(moment, torch.eye(3).double().expand(5, 3, 3))
    torch.testing.assert_close(noise.sum(dim=0), torch.zeros(5, 3).double())
    # In the limit it is Gaussian: E ε⁴ = 3, which noise on a sphere does not have.
    many = matched_noise(4000, randn(20, 2), seeded())
    assert float(many.pow(4).mean()) == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian", "laplace", "point_mass"])
def test_the_optimum_and_its_curvature_in_closed_form(name: str):
    problem = linear_gaussian(n=40)
    best = {
        "diagonal_gaussian": problem.best_diagonal,
        "full_gaussian": problem.best_full,
    }.get(name, lambda: problem.posterior_mean)()
    optimum = optimum_of(problem, name, best + randn(*best.shape))
    torch.testing.assert_close(optimum.value, best, rtol=0, atol=1e-5)
    assert not optimum.failed.any()
    assert optimum.remaining.max() < 1e-9
    assert optimum.stationarity.max() < 1e-5
    smallest = float(torch.linalg.eigvalsh(problem.precision).min())
    if name == "diagonal_gaussian":  # ½ in the log variances
        smallest = min(smallest, 0.5)
    if name != "full_gaussian":
        torch.testing.assert_close(
            optimum.min_curvature, torch.full((40,), smallest).double(), rtol=1e-3, atol=0
        )
    assert optimum.metrics() == {
        "converged": 1.0,
        "stationarity": float(optimum.stationarity.max()),
        "stationarity_median": float(optimum.stationarity.median()),
        "min_curvature": float(optimum.min_curvature.min()),
        "failures": 0.0,
    }


def test_a_start_at_the_optimum_counts_as_solved():
    problem = linear_gaussian(n=10)
    optimum = optimum_of(problem, "diagonal_gaussian", problem.best_diagonal())
    assert optimum.stationarity.max() < 1e-10
    assert not optimum.failed.any()


def curved(gamma: float) -> LinearGaussian:
    torch.manual_seed(0)
    model = vae(8, 20, gamma).requires_grad_(False)
    x = model.decode(randn(24, 8))
    return LinearGaussian(model, x + gamma**0.5 * randn(24, 20))


def test_newton_finishes_where_gauss_newton_is_slow():
    problem = curved(0.05)
    start = torch.zeros(24, 16).double()
    unfinished = optimum_of(problem, "diagonal_gaussian", start, steps=3)
    assert unfinished.failed.any()
    assert unfinished.metrics()["failures"] == pytest.approx(
        float(unfinished.failed.double().mean())
    )
    optimum = optimum_of(problem, "diagonal_gaussian", start, steps=100)
    assert not optimum.failed.any()
    assert (optimum.min_curvature > 0).all()
    assert (optimum.remaining <= WORTH_NEWTON).all()


def test_a_saddle_is_no_optimum():
    # μ is even in z: at z = 0 the gradient vanishes, and for a bright x −L bends downwards.
    class Even(torch.nn.Module):
        def forward(self, z):
            return z.square().sum(dim=-1, keepdim=True) * torch.ones(4).to(z)

    problem = linear_gaussian(d=2, dim=4, n=3)
    problem.model.decoder = Even()
    problem.x = torch.full((3, 4), 2.0).double()
    family = POSTERIORS["laplace"](2)
    optimum = local_optimum(
        problem.model, family, problem.x, torch.zeros(3, 2).double(), steps=0, generator=seeded()
    )
    assert optimum.converged.all()
    assert optimum.failed.all()
    assert (optimum.min_curvature < 0).all()


def test_the_answer_for_an_example_does_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch):
    problem, start = curved(0.5), torch.zeros(24, 16).double()
    whole = optimum_of(problem, "diagonal_gaussian", start)
    monkeypatch.setattr(optimum_module, "TANGENT_ENTRIES", 7 * 64 * 8 * 20)
    pieces = optimum_of(problem, "diagonal_gaussian", start)
    torch.testing.assert_close(pieces.value, whole.value, rtol=0, atol=1e-6)
    torch.testing.assert_close(pieces.min_curvature, whole.min_curvature)


def test_solves_of_few_examples_at_once_are_those_of_all(monkeypatch):
    problem = linear_gaussian(n=5)
    family = POSTERIORS["diagonal_gaussian"](3)
    start = torch.zeros(5, 6).double()

    def found():
        source = torch.Generator().manual_seed(0)
        return local_optimum(problem.model, family, problem.x, start, steps=20, generator=source)

    whole = found()
    monkeypatch.setattr("savi.evaluation.optimum.SOLVE_ENTRIES", 2 * 64 * 6)
    for one, other in zip(vars(whole).values(), vars(found()).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

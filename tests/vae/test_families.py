"""The posterior families."""

import math
from collections.abc import Callable

import pytest
import torch
from linear_gaussian import linear_gaussian, randn, vae
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.func import hessian, jacrev, vmap

from savi.errors import InputError
from savi.vae import POSTERIORS, FullGaussian, PosteriorFamily
from savi.vae.families import ClosedFormFamily
from savi.vae.families.laplace import _factor_of_inverse

B, S = 4, 2


@pytest.fixture(params=sorted(name for name, kind in POSTERIORS.items() if kind.closed_form))
def family(request: pytest.FixtureRequest) -> PosteriorFamily:
    torch.manual_seed(0)
    return POSTERIORS[request.param](3)


SIZES = {"diagonal_gaussian": 6, "full_gaussian": 9, "laplace": 3, "point_mass": 3}


def test_the_number_of_parameters(family: PosteriorFamily):
    assert family.num_params == SIZES[family.name]
    assert POSTERIORS["full_gaussian"](1).num_params == 2


def test_derivatives_of_the_samples(family: PosteriorFamily):
    model = vae()
    lam, noise = 0.5 * randn(B, family.num_params), randn(S, B, 3)

    def sample(row: Tensor, e: Tensor) -> Tensor:
        if family.is_map:  # the code itself, as in the inner problem
            return row
        return family.distribution(row[None], model).rsample(e[None, None])[0, 0]

    def of_all(derivative: Callable[..., Tensor]) -> Tensor:
        rows = [[derivative(*pair) for pair in zip(lam, e, strict=True)] for e in noise]
        return torch.stack([torch.stack(row) for row in rows])

    first, second = of_all(jacrev(sample)), of_all(hessian(sample))
    torch.testing.assert_close(family.sample_jacobian(lam, noise).expand_as(first), first)
    v = randn(B, family.num_params)
    torch.testing.assert_close(
        family.push_forward(lam, noise, v).expand(S, -1, -1),
        torch.einsum("sbip,bp->sbi", first, v),
    )
    bending = second.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(bending.diag_embed(), second)
    c = randn(S, B, 3)
    torch.testing.assert_close(
        family.pull_back(lam, noise, c), torch.einsum("sbi,sbip->bp", c, first) / S
    )
    torch.testing.assert_close(
        family.bending(lam, noise, c), torch.einsum("sbi,sbip->bp", c, bending) / S
    )


def test_curvature_pulled_back_through_the_samples(family: PosteriorFamily):
    """Where a family has a closed form, it is the product with the derivatives of the samples."""
    lam, noise = 0.5 * randn(B, family.num_params), randn(1 if family.is_map else S, B, 3)
    jacobian = family.sample_jacobian(lam, noise)
    for matrix in (randn(len(noise), B, 3, 3), randn(1, B, 3, 3)):
        symmetric = matrix + matrix.mT
        expected = (jacobian.mT @ symmetric @ jacobian).mean(dim=0)
        torch.testing.assert_close(family.pull_back_curvature(lam, noise, symmetric), expected)


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_what_a_family_has_no_closed_form_for_comes_from_autograd(name: str):
    """The derivatives of a family of nothing but a distribution, and those of its derivatives."""
    closed, made = POSTERIORS[name](3), type(name, (ClosedFormFamily,), {})
    made.num_params, made.distribution = (
        closed.num_params,
        lambda _, *args: closed.distribution(*args),
    )
    made.__abstractmethods__ = frozenset()
    family = made(3)
    noise, c, matrix = randn(S, B, 3), randn(S, B, 3), randn(S, B, 3, 3)
    calls = {
        "sample_jacobian": (noise,),
        "pull_back": (noise, c),
        "pull_back_curvature": (noise, matrix + matrix.mT),
        "bending": (noise, c),
        "kl_gradient": (),
        "kl_curvature": (),
        "natural_gradient": (randn(B, closed.num_params),),
    }
    for method, args in calls.items():
        lam = (0.5 * randn(B, closed.num_params)).requires_grad_()
        with torch.no_grad():
            plain = getattr(family, method)(lam, *args)
        assert not plain.requires_grad
        values = [getattr(f, method)(lam, *args) for f in (family, closed)]
        torch.testing.assert_close(values[0], plain)
        torch.testing.assert_close(*values)
        weights = randn(*plain.shape)
        slopes = [torch.autograd.grad((weights * value).sum(), lam)[0] for value in values]
        torch.testing.assert_close(*slopes)


def test_curvature_of_the_divergence(family: PosteriorFamily):
    model, lam = vae(), 0.5 * randn(B, family.num_params)

    def divergence(row: Tensor) -> Tensor:
        if family.is_map:
            return 0.5 * row.square().sum()
        return family.distribution(row[None], model).kl_per_dimension().sum()

    exact = torch.stack([hessian(divergence)(row) for row in lam])
    torch.testing.assert_close(family.kl_curvature(lam).diag_embed(), exact)


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_the_natural_gradient(name: str):
    """F is the Hessian of KL(q_λ ‖ q_λ') in λ' at λ' = λ."""
    family, model = POSTERIORS[name](3), vae()
    lam, gradient = randn(B, family.num_params), randn(B, family.num_params)

    def divergence(other: Tensor, row: Tensor) -> Tensor:
        p, q = (family.distribution(each[None], model) for each in (row, other))
        return p.kl_to(q)[0]

    fisher = torch.stack([hessian(divergence)(row, row) for row in lam])
    natural = family.natural_gradient(lam, gradient)
    torch.testing.assert_close((fisher @ natural.unsqueeze(-1)).squeeze(-1), gradient)


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_the_natural_step_begins_against_the_natural_gradient(name: str):
    """Its derivative in α at 0 is −F⁻¹g."""
    family = POSTERIORS[name](3)
    lam, gradient = randn(B, family.num_params), randn(B, family.num_params)

    def step(length: Tensor) -> Tensor:
        return family.natural_step(lam, gradient, length.expand(B))

    zero = torch.tensor(0.0, dtype=lam.dtype)
    torch.testing.assert_close(step(zero), lam)
    _, slope = torch.func.jvp(step, (zero,), (torch.ones_like(zero),))
    torch.testing.assert_close(slope, -family.natural_gradient(lam, gradient))


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_a_shorter_step_of_the_scale_leaves_the_mean_its_gradient(name: str):
    family = POSTERIORS[name](3)
    gradient = randn(B, family.num_params)
    scaled = family.scale_times(gradient, 0.25)
    assert torch.equal(scaled[:, :3], gradient[:, :3])
    torch.testing.assert_close(scaled[:, 3:], gradient[:, 3:] / 4)


def test_the_natural_step_of_a_diagonal_gaussian_ends_at_one():
    """No variance more than doubles, and no mean moves by more than 1, the prior's deviation.

    As long as it is short, the mean's step is Newton's with the new variances.
    """
    family = POSTERIORS["diagonal_gaussian"](3)
    lam, slope = randn(B, 6), 10.0 ** randn(B, 3)
    mean, log_variance = lam.chunk(2, dim=-1)
    lengths = 10.0 ** torch.linspace(-3, 3, B, dtype=lam.dtype)
    for sign in (-1.0, 1.0):
        gradient = torch.cat([slope, sign * slope], dim=-1)
        moved, new = family.natural_step(lam, gradient, lengths).chunk(2, dim=-1)
        assert (sign * (log_variance - new) > 0).all()
        assert (new <= log_variance + math.log(2) + 1e-12).all()
        delta = lengths[:, None] * new.exp() * slope
        torch.testing.assert_close(mean - moved, delta / (1.0 + delta.square()).sqrt())
        assert (mean - moved < 1.0 + 1e-12).all()
    # With x = −½ and 2: 1 + x + ½x² is 0.625 and 5.
    gradient = torch.tensor([[0.0, 0.0, 0.0, -0.25, 1.0, 0.0]], dtype=lam.dtype)
    new = family.natural_step(lam[:1], gradient, torch.ones(1, dtype=lam.dtype))[:, 3:]
    factor = torch.tensor([[0.625, 5.0, 1.0]], dtype=lam.dtype)
    torch.testing.assert_close(new, log_variance[:1] - factor.log())


@pytest.mark.parametrize("name", ["laplace", "point_mass"])
def test_a_point_has_no_natural_gradient(name: str):
    with pytest.raises(InputError, match=f"'{name}' has no Fisher matrix"):
        POSTERIORS[name](3).natural_gradient(randn(B, 3), randn(B, 3))


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian"])
def test_the_parameters_of_the_prior(name: str):
    family = POSTERIORS[name](3)
    q = family.distribution(family.prior_params()[None], vae())
    assert not q.kl_per_dimension().any()


def test_the_mean_is_the_first_part_of_the_parameters(family: PosteriorFamily):
    lam = randn(B, family.num_params)
    assert torch.equal(family.distribution(lam, vae()).mean, lam[:, :3])


@pytest.mark.parametrize("beta", [1.0, 0.25])
@pytest.mark.parametrize("mode", ["fixed", "per_pixel"])
def test_the_laplace_covariance_at_a_curved_decoder(beta: float, mode: str):
    torch.manual_seed(0)
    model, lam = vae(mode=mode), randn(B, 3)
    for parameter in model.gamma.parameters():
        torch.nn.init.normal_(parameter)
    q = POSTERIORS["laplace"](3).distribution(lam, model, beta)
    assert isinstance(q, FullGaussian)
    jacobian = vmap(jacrev(model.decoder))(lam)
    scaled = jacobian.mT @ (jacobian / model.gamma()[:, None])
    covariance = torch.linalg.inv(torch.eye(3).double() + scaled / beta)
    torch.testing.assert_close(q.scale_tril @ q.scale_tril.mT, covariance)
    assert torch.equal(q.scale_tril.tril(), q.scale_tril)
    assert (q.scale_tril.diagonal(dim1=1, dim2=2) > 0).all()


def test_laplace_is_the_exact_posterior_of_an_affine_decoder():
    problem = linear_gaussian()
    q = POSTERIORS["laplace"](3).distribution(problem.posterior_mean, problem.model)
    exact = torch.linalg.inv(problem.precision).expand(5, -1, -1)
    torch.testing.assert_close(q.scale_tril @ q.scale_tril.mT, exact)


class ByAutograd(PosteriorFamily):
    """A diagonal Gaussian of which only the distribution is known."""

    name = "by_autograd"

    @property
    def num_params(self) -> int:
        return 2 * self.latent_dim

    def distribution(self, lam):
        return POSTERIORS["diagonal_gaussian"](self.latent_dim).distribution(lam, None)


def test_a_family_of_nothing_but_a_distribution_has_the_natural_gradient_of_the_closed_form():
    lam, gradient = randn(B, 6), randn(B, 6)
    family, closed = ByAutograd(3), POSTERIORS["diagonal_gaussian"](3)
    found = family.natural_gradient(lam, gradient)
    torch.testing.assert_close(found, closed.natural_gradient(lam, gradient))
    assert not found.requires_grad
    weights = randn(B, 6)
    at = lam.clone().requires_grad_()
    slopes = [
        torch.autograd.grad((weights * f.natural_gradient(at, gradient)).sum(), at)[0]
        for f in (family, closed)
    ]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(family.mean(lam, vae()), lam[:, :3])
    assert torch.equal(family.prior_params(), torch.zeros(6))


def test_a_laplace_covariance_that_is_held_constant():
    model = vae()
    exact, stop = (POSTERIORS["laplace"](3, name) for name in ("exact", "stop"))
    lam = (0.5 * randn(B, 3)).requires_grad_()
    q, held = exact.distribution(lam, model), stop.distribution(lam, model)
    torch.testing.assert_close(held.scale_tril, q.scale_tril)
    assert q.scale_tril.requires_grad
    assert not held.scale_tril.requires_grad
    (slope,) = torch.autograd.grad(held.rsample(randn(S, B, 3)).sum(), lam)
    torch.testing.assert_close(slope, torch.full_like(lam, S))


def test_an_unknown_covariance_gradient_lists_the_known_ones():
    with pytest.raises(InputError, match="exact, stop"):
        POSTERIORS["laplace"](3, "none")


def test_a_precision_without_factors_is_no_neighbours_fault():
    root = torch.randn(3, 4, 4, dtype=torch.float64)
    precision = root @ root.mT + torch.eye(4, dtype=torch.float64)
    sound = MultivariateNormal(torch.zeros(3, 4).double(), precision_matrix=precision).scale_tril
    assert torch.equal(_factor_of_inverse(precision), sound)
    precision[1] = -precision[1]
    broken = _factor_of_inverse(precision)
    assert torch.equal(broken[[0, 2]], sound[[0, 2]])
    assert broken[1].isnan().any()

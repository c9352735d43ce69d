"""What trains the encoder."""

import pytest
import torch
from linear_gaussian import LinearGaussian, exact_noise, linear_gaussian, randn
from semi_amortized import MAP, infer, semi_amortized
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from savi.errors import InputError
from savi.inference.encoder_losses import ENCODER_LOSSES, EncoderObjective, OuterBatch, frozen
from savi.inference.semi_amortized import Inference, SemiAmortizedInference
from savi.vae import POSTERIORS, PosteriorFamily, elbo

NOISE = exact_noise(5, 3)
DENSITIES = ["diagonal_gaussian", "full_gaussian", "laplace"]


@pytest.fixture
def problem() -> LinearGaussian:
    return linear_gaussian(mode="learned")


def inferred(family: PosteriorFamily) -> Inference:
    init, value = (0.5 * randn(5, family.num_params).requires_grad_() for _ in range(2))
    return Inference(init, value, None)


def loss_of(name: str, problem: LinearGaussian, family: PosteriorFamily, found: Inference):
    return ENCODER_LOSSES[name](OuterBatch(problem.model, family, problem.x, found, NOISE, 0.5))


@pytest.mark.parametrize("posterior", [*DENSITIES, "point_mass"])
def test_elbo_at_init(posterior: str, problem: LinearGaussian):
    family = POSTERIORS[posterior](3)
    found = inferred(family)
    q = family.distribution(found.init, problem.model, 0.5)
    bound = elbo(problem.model, q, problem.x, NOISE)
    expected = (-bound.reconstruction + 0.5 * bound.kl).mean()
    torch.testing.assert_close(loss_of("elbo_at_init", problem, family, found), expected)


@pytest.mark.parametrize(
    ("posterior", "inner"),
    [("diagonal_gaussian", {}), ("full_gaussian", {"objective": "proximal"}), ("laplace", MAP)],
)
def test_objective_at_init(posterior: str, inner: dict, problem: LinearGaussian):
    """Its number and its gradient are those of J at λ0, on the noise of the solve."""
    inference = semi_amortized(posterior, "stop", **inner)
    noise = inference.draw_noise(randn(5, 3))
    found = infer(inference, problem, noise=noise, beta=0.5)
    loss = loss_of("objective_at_init", problem, inference.family, found)
    init = inference.start(problem.x)
    objective = inference.problem(problem.model, problem.x, init.detach(), beta=0.5, noise=noise)
    expected = objective(init).mean()
    torch.testing.assert_close(loss, expected)
    weights = list(inference.encoder.parameters())
    for ours, theirs in zip(
        *(torch.autograd.grad(x, weights) for x in (loss, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_objective_at_init_needs_a_solve():
    inference = semi_amortized("diagonal_gaussian", "stop", max_steps=0)
    with pytest.raises(InputError, match="encoder_loss=elbo_at_init"):
        EncoderObjective({"objective_at_init": 1.0, "elbo_at_init": 1.0}, inference)


@pytest.mark.parametrize("posterior", DENSITIES)
def test_divergences_between_start_and_result(posterior: str, problem: LinearGaussian):
    family = POSTERIORS[posterior](3)
    found = inferred(family)

    def law(lam: Tensor) -> MultivariateNormal:
        q = family.distribution(lam, problem.model, 0.5)
        if posterior == "diagonal_gaussian":
            return MultivariateNormal(q.mean, q.variance.diag_embed())
        return MultivariateNormal(q.mean, scale_tril=q.scale_tril)

    initial, final = law(found.init), law(found.value)
    for name, expected in (
        ("kl_init_final", kl_divergence(initial, final)),
        ("kl_final_init", kl_divergence(final, initial)),
    ):
        torch.testing.assert_close(loss_of(name, problem, family, found), expected.mean())


def test_distill(problem: LinearGaussian):
    family = POSTERIORS["point_mass"](3)
    found = inferred(family)
    expected = (found.init - found.value).square().sum(dim=1).mean()
    torch.testing.assert_close(loss_of("distill", problem, family, found), expected)


@pytest.mark.parametrize("posterior", DENSITIES)
@pytest.mark.parametrize("name", sorted(ENCODER_LOSSES))
def test_only_the_start_receives_a_gradient(name: str, posterior: str, problem: LinearGaussian):
    inner = MAP if posterior == "laplace" else {}
    inference = semi_amortized(posterior, **inner)
    found = infer(inference, problem)
    objective = EncoderObjective({name: 1.0}, inference)
    loss = objective(OuterBatch(problem.model, inference.family, problem.x, found, NOISE))
    loss.backward()
    assert all(p.grad is None for p in problem.model.parameters())
    assert all(p.grad is not None and p.grad.any() for p in inference.encoder.parameters())
    # The graph of the result itself is untouched by the freezing.
    problem.model.zero_grad()
    infer(inference, problem).value.sum().backward()
    assert problem.model.decoder.head.weight.grad is not None


def test_the_sum_is_weighted(problem: LinearGaussian):
    inference = semi_amortized()
    found = infer(inference, problem)
    weights = {name: 0.1 + i for i, name in enumerate(sorted(ENCODER_LOSSES))}
    objective = EncoderObjective(weights | {"through": 0.25}, inference)
    assert objective.through == 0.25
    total = objective(OuterBatch(problem.model, inference.family, problem.x, found, NOISE, 0.5))
    expected = sum(
        weight * loss_of(name, problem, inference.family, found) for name, weight in weights.items()
    )
    torch.testing.assert_close(total, expected)


def test_without_terms_there_is_nothing_to_compute(problem: LinearGaussian):
    inference = semi_amortized()
    objective = EncoderObjective({"through": 1.0, "distill": 0.0}, inference)
    found = infer(inference, problem)
    problem.model.decoder_evaluations = 0
    assert objective(OuterBatch(problem.model, inference.family, problem.x, found, NOISE)) == 0.0
    assert problem.model.decoder_evaluations == 0


def test_freezing_ends_even_with_an_error_and_spares_what_was_frozen():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    before = [p.requires_grad for p in module.parameters()]
    with frozen(module):
        assert not any(p.requires_grad for p in module.parameters())
    assert [p.requires_grad for p in module.parameters()] == before
    with pytest.raises(KeyError), frozen(module):
        raise KeyError
    assert [p.requires_grad for p in module.parameters()] == before


def proximal_ift() -> SemiAmortizedInference:
    return semi_amortized(
        gradient="ift", objective="proximal", optimizer="levenberg_marquardt", lr=None
    )


ACCEPTED = {
    "through unrolling": (semi_amortized, {"through": 1.0}),
    "through no steps": (lambda: semi_amortized(max_steps=0), {"through": 1.0}),
    "through the anchor": (proximal_ift, {"through": 1.0}),
    "start": (lambda: semi_amortized(gradient="stop"), {"elbo_at_init": 1.0}),
    "start, no steps": (lambda: semi_amortized(max_steps=0), {"elbo_at_init": 1.0}),
    "divergence": (lambda: semi_amortized(gradient="stop"), {"kl_init_final": 1.0}),
    "distill a point": (lambda: semi_amortized("point_mass", "stop", **MAP), {"distill": 1.0}),
    "no encoder": (lambda: semi_amortized(encoder=False), {"through": 0.0, "distill": 0.0}),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_trains_the_encoder_is_accepted(case: str):
    make, weights = ACCEPTED[case]
    EncoderObjective(weights, make())


REFUSED = {
    "unknown": (semi_amortized, {"hope": 1.0}, "unknown encoder_loss 'hope'"),
    "negative": (semi_amortized, {"distill": -1.0}, r"encoder_loss\.distill is -1"),
    "infinite": (semi_amortized, {"through": float("inf")}, r"encoder_loss\.through is inf"),
    "not a number": (semi_amortized, {"through": float("nan")}, r"encoder_loss\.through is nan"),
    "nothing": (semi_amortized, {}, "set encoder_loss"),
    "stop": (lambda: semi_amortized(gradient="stop"), {"through": 1.0}, "'stop'.*no gradient"),
    "ift": (
        lambda: semi_amortized(gradient="ift", optimizer="levenberg_marquardt", lr=None),
        {"through": 1.0},
        "'ift'.*'elbo'.*set encoder_loss=elbo_at_init",
    ),
    "distill nothing": (
        lambda: semi_amortized(max_steps=0),
        {"distill": 1.0, "kl_init_final": 1.0},
        "encoder_loss",
    ),
    "divergence of points": (
        lambda: semi_amortized("point_mass", **MAP),
        {"kl_final_init": 1.0},
        "'kl_final_init' with posterior 'point_mass'.*distill",
    ),
    "no encoder": (
        lambda: semi_amortized(encoder=False),
        {"through": 1.0, "distill": 2.0},
        "'through, distill'.*no encoder.*encoder_loss=none",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_train_the_encoder_is_refused(case: str):
    make, weights, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        EncoderObjective(weights, make())

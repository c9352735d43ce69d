"""The bounds that the outer loss may maximise."""

import pytest
import torch
from linear_gaussian import linear_gaussian, randn
from semi_amortized import MAP, infer, semi_amortized

from savi.errors import InputError
from savi.inference.encoder_losses import EncoderObjective
from savi.inference.gradient_check import ProbeBatch
from savi.inference.outer_loss import DREG, IWAE, OuterLoss, check_objective

NO_KL = {"weight": 1.0, "warmup_steps": 0, "free_bits": 0.0}


def outer_loss(bound: str, posterior: str = "diagonal_gaussian", **inner) -> OuterLoss:
    inference = semi_amortized(posterior, **inner)
    losses = EncoderObjective({"through": 1.0}, inference)
    return OuterLoss(linear_gaussian().model, inference, losses, 4, 0.0, objective=bound)


@pytest.mark.parametrize("objective", [IWAE, DREG])
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("posterior", ["diagonal_gaussian", "laplace"])
def test_the_refined_posterior_is_the_proposal(objective, steps, posterior):
    problem = linear_gaussian(mode="learned")
    inner = MAP if posterior == "laplace" else {}
    loss = outer_loss(objective, posterior, max_steps=steps, **inner)
    model, inference, x = loss.model, loss.inference, problem.x
    probe = ProbeBatch.draw(x, loss, seed=1)
    step = probe.step(loss, 1.0)
    lam = infer(inference, problem, noise=probe.inner_noise).value
    q = inference.family.distribution(lam, model)
    z = q.rsample(probe.outer_noise)
    log_weight = model.log_joint(x, z) - q.log_prob(z)
    expected = -(log_weight.logsumexp(dim=0) - torch.tensor(4.0).double().log()).mean()
    torch.testing.assert_close(step.loss, expected)
    assert (step.bound.importance_weighted >= log_weight.mean(dim=0)).all()
    step.loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in inference.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_its_samples_are_independent():
    like = randn(5, 3)
    noise = outer_loss(IWAE).draw_noise(like, torch.Generator().manual_seed(0))
    pairs = outer_loss("elbo").draw_noise(like, torch.Generator().manual_seed(0))
    torch.testing.assert_close(pairs.sum(dim=0), torch.zeros_like(like))
    assert (noise.sum(dim=0).abs() > 1e-3).all()


@pytest.mark.parametrize(
    ("posterior", "kl", "tuned", "said"),
    [
        ("point_mass", {}, False, "'iwae' with posterior 'point_mass', which has no density: set"),
        (
            "diagonal_gaussian",
            {"weight": 0.5},
            False,
            r"with model.kl.weight 0.5, which the weight",
        ),
        ("diagonal_gaussian", {"warmup_steps": 3}, False, r"set model.kl.warmup_steps=0, or model"),
        ("diagonal_gaussian", {"free_bits": 0.1}, False, r"set model.kl.free_bits=0, or model.obj"),
        ("diagonal_gaussian", {}, True, r"with hypergradient.tune, by which the validation ELBO"),
    ],
)
def test_what_importance_weights_have_no_place_for_is_refused(posterior, kl, tuned, said):
    inference = semi_amortized(posterior, max_steps=0)
    check_objective({"objective": "elbo", "kl": NO_KL | kl}, inference, tuned)
    with pytest.raises(InputError, match=said):
        check_objective({"objective": "iwae", "kl": NO_KL | kl}, inference, tuned)

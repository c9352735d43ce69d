"""Last steps that were taken on trust: the outer bound finds those that lead far up."""

from dataclasses import replace

import pytest
import torch

from savi.experiments.build import build
from savi.inference.trusted_step import ALLOWED, outlying
from savi.inner.solution import Reason, Status
from savi.vae.elbo import elbo

SMALL = (
    "experiment=savi", "data.limit=64", "model.hidden=8", "model.latent_dim=3", "logger=csv",
)  # fmt: skip
GAIN = torch.tensor([10.0, 12.0, 8.0, 14.0, 6.0])  # median 10, and 2 the median deviation
LED_ASTRAY = [2, 5]


def test_what_is_outlying():
    assert ALLOWED == 5.0
    assert not outlying(GAIN).any()
    # The median of these seven is 9, and the median deviation from it 3.
    for low, far in ((-14.9, False), (-15.1, True)):
        gain = torch.cat([GAIN, torch.tensor([low, 9.0])])
        assert outlying(gain).tolist() == [*([False] * 5), far, False]


def test_a_bound_that_differs_from_j_by_a_constant_is_no_failure():
    assert not outlying(GAIN - 1000.0).any()
    assert outlying(torch.cat([GAIN - 1000.0, torch.tensor([-2000.0])])).tolist()[-1]


@pytest.mark.parametrize("value", [float("nan"), -float("inf"), float("inf")])
def test_what_is_not_finite_is_outlying(value):
    assert outlying(torch.cat([GAIN, torch.tensor([value])])).tolist() == [False] * 5 + [True]
    assert outlying(torch.full((3,), value)).all()


def test_models_that_share_a_batch_are_judged_apart():
    far = torch.tensor([[0.0, 1.0, 2.0, 3.0, -20.0], [0.0, 100.0, 200.0, 300.0, -20.0]])
    assert outlying(far).tolist() == [[False] * 4 + [True], [False] * 5]


@pytest.fixture(params=["stop", "unrolled"])
def module(request, config):
    choice = () if request.param == "stop" else ("gradient=unrolled", "encoder_loss=through")
    data, made = build(config(*SMALL, *choice))
    made.batch = data.split("train")[:12]
    return made


def step(module, measured, astray=None):
    """An outer step on the inner noise, so that none falls by chance; some are led far away."""

    def lead_astray(_, __, inference):
        where = torch.zeros(len(module.batch), 1, dtype=torch.bool)
        where[LED_ASTRAY] = True
        value = torch.where(where, inference.value + astray, inference.value)
        return replace(inference, value=value, solution=replace(inference.solution, value=value))

    generator = torch.Generator().manual_seed(0)
    like = module.batch.new_empty(len(module.batch), 3)
    inner = module.inference.draw_noise(like, generator)
    outer = inner(0)
    hook = module.inference.register_forward_hook(lead_astray) if astray is not None else None
    made = module.outer_loss(
        module.batch, 1.0, inner_noise=inner, outer_noise=outer, measured=measured
    )
    if hook is not None:
        hook.remove()
    return made, outer


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("astray", [30.0, float("nan")])
def test_those_led_astray_keep_the_encoders_guess(module, measured, astray):
    module.train()
    whole, _ = step(module, measured)
    assert not (whole.inference.solution.reason == Reason.ABOVE_START).any()
    made, noise = step(module, measured, astray)
    solution, kept = made.inference.solution, torch.ones(12, dtype=torch.bool)
    kept[LED_ASTRAY] = False
    assert (solution.reason == Reason.ABOVE_START).tolist() == (~kept).tolist()
    assert (solution.status[~kept] == Status.DIVERGED).all()
    assert solution.value is made.inference.value
    assert torch.equal(solution.value[~kept], made.inference.init[~kept])
    assert torch.equal(solution.value[kept], whole.inference.value[kept])

    # The loss is that of the bound at these λ: γ, the batch's own, knows nothing of the others.
    q = module.family.distribution(made.inference.value, module.vae)
    bound = elbo(module.vae, q, module.batch, noise)
    torch.testing.assert_close(made.bound.elbo, bound.elbo)
    torch.testing.assert_close(made.bound.squared_error, bound.squared_error)
    weights = list(module.vae.decoder.parameters())
    found, expected = (
        torch.autograd.grad(-b.elbo.mean(), weights, retain_graph=True) for b in (made.bound, bound)
    )
    torch.testing.assert_close(found, expected)
    assert torch.isfinite(made.loss)


def test_a_step_that_is_judged_is_left_alone(config):
    data, module = build(config(*SMALL, "inner.last_step=judged"))
    module.batch = data.split("train")[:12]
    made, _ = step(module, True, 30.0)
    assert not (made.inference.solution.reason == Reason.ABOVE_START).any()
    assert torch.equal(
        made.inference.value[0], step(module, True)[0].inference.value[0]
    )  # fmt: skip
    assert (made.inference.value[LED_ASTRAY] > 20.0).any()


def test_the_encoder_learns_of_none_of_it_through_the_solve(config):
    """Of an example that keeps λ0, what reaches the encoder is its own loss alone."""
    data, module = build(config(*SMALL, "gradient=unrolled", "encoder_loss=through"))
    module.batch = data.split("train")[:12]
    made, _ = step(module, False, 30.0)
    (slope,) = torch.autograd.grad(made.bound.elbo.sum(), made.inference.init)
    assert (slope[LED_ASTRAY] == 0).all()
    assert (slope[0] != 0).any()

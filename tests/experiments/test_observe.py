"""A model looked at on its test split."""

import pytest
import torch

from savi.experiments.build import build
from savi.experiments.observe import TRAVERSAL, inner_trace, observe, smallest_curvature
from savi.inference.negative_elbo import NegativeELBO

SMALL = ("data.limit=24", "model.hidden=8", "model.latent_dim=3", "logger=csv")


@pytest.mark.parametrize("experiment", ["savi_ift", "savi_unrolled", "vlae"])
def test_the_trace_ends_where_inference_ends(config, experiment):
    data, module = build(config(*SMALL, f"experiment={experiment}"))
    x = data.split("test")[:8]
    elbo, stationarity = inner_trace(module, x)
    steps = module.inference.test_max_steps
    assert elbo.shape == stationarity.shape == (steps + 1, 8)
    assert (stationarity[0] == 1).all()
    inference = module.inference(
        module.vae, x, max_steps=steps, generator=torch.Generator().manual_seed(module.seed)
    )
    torch.testing.assert_close(stationarity[-1], inference.solution.stationarity)
    assert elbo[-1].mean() > elbo[0].mean()


def test_reconstructions_come_from_both_ends_of_the_solve(config):
    data, module = build(config(*SMALL, "experiment=savi_ift"))
    observed = observe(module, data)
    x = data.split("test")
    torch.testing.assert_close(observed.x, x[:36])
    codes = module.inference.start(observed.x)[:, :3]
    torch.testing.assert_close(observed.init, module.vae.decode(codes))
    torch.testing.assert_close(observed.final, module.vae.decode(observed.means[:36]))
    better = (observed.final - observed.x).square().sum() < (
        observed.init - observed.x
    ).square().sum()
    assert better
    assert len(observed.labels) == len(observed.means) == len(observed.stationarity) == len(x)


def test_one_dimension_at_a_time_is_traversed_by_falling_kl(config):
    data, module = build(config(*SMALL, "experiment=savi_ift"))
    # Moves the posterior of two dimensions, and leaves the third at the prior.
    with torch.no_grad():
        first = next(p for p in module.vae.decoder.parameters() if p.ndim == 2)
        first[:, 1] = 0.0
        first[:, [0, 2]] *= torch.tensor([3.0, 9.0])
    observed = observe(module, data)
    assert 1 not in observed.traversed
    assert len(observed.traversed) == 2
    kl = [float(observed.kl[i]) for i in observed.traversed]
    assert kl == sorted(kl, reverse=True)
    for row, dimension in zip(observed.traversals, observed.traversed, strict=True):
        codes = observed.means[0].repeat(len(TRAVERSAL), 1)
        codes[:, dimension] = torch.tensor(TRAVERSAL)
        torch.testing.assert_close(row, module.vae.decode(codes))


def test_the_curvature_is_that_of_the_problem_that_was_solved(config):
    data, module = build(config(*SMALL, "experiment=savi_unrolled", "inner.max_steps=40"))
    x = data.split("test")[:4]
    with torch.no_grad():
        init = module.inference.start(x)
        noise = module.inference.draw_noise(init[:, :3], torch.Generator().manual_seed(module.seed))
        solved = module.inference(module.vae, x, max_steps=40, noise=noise, init=init)
    problem = module.inference.problem(module.vae, x, init, max_steps=40, noise=noise)
    assert isinstance(problem, NegativeELBO)
    expected = [
        torch.linalg.eigvalsh(
            torch.autograd.functional.hessian(
                lambda row, b=b: problem(torch.cat([solved.value[:b], row, solved.value[b + 1 :]]))[
                    b
                ],
                solved.value[b : b + 1],
            ).reshape(6, 6)
        )[0]
        for b in range(4)
    ]
    measured = smallest_curvature(module, x)
    torch.testing.assert_close(measured.float(), torch.stack(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "overrides",
    [
        ("inner=trust_region", "inner.radius=0.5"),
        ("experiment=laplace_ift",),
        ("experiment=laplace_ift", "posterior=point_mass"),
        ("posterior=full_gaussian", "inner.max_steps=2"),
        ("experiment=svi",),
    ],
    ids=" ".join,
)
def test_every_kind_of_inner_problem_can_be_observed(config, overrides):
    data, module = build(config(*SMALL, *overrides))
    observed = observe(module, data)
    assert observed.curvature.isfinite().all()
    assert observed.means.isfinite().all()
    assert observed.trace is not None


def test_what_does_not_exist_is_none(config):
    data, module = build(config(*SMALL, "experiment=vae"))
    observed = observe(module, data)
    assert observed.trace is observed.stationarity is observed.curvature is None
    assert observed.init.equal(observed.final)
    overrides = ("experiment=vae_svi", "inner.noise=fresh", "inner.optimizer=adam")
    data, module = build(config(*SMALL, *overrides))
    observed = observe(module, data)
    assert observed.curvature is None
    assert observed.stationarity is not None


def test_looking_leaves_no_trace(config):
    data, module = build(config(*SMALL, "experiment=savi_ift"))
    module.train()
    module.vae.decoder_evaluations = 7
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    first, second = observe(module, data), observe(module, data)
    assert torch.get_rng_state().equal(state)
    assert module.training
    assert module.vae.decoder_evaluations == 7
    assert all(value.equal(weights[name]) for name, value in module.state_dict().items())
    assert first.means.equal(second.means)
    assert first.samples.equal(second.samples)
    assert first.trace[0].equal(second.trace[0])

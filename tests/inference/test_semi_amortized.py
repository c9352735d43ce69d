"""Semi-amortised inference."""

import pytest
import torch
from linear_gaussian import linear_gaussian, randn
from semi_amortized import INNER, MAP, infer, semi_amortized
from torch import Tensor

from savi.errors import InputError
from savi.gradients import EncoderGradient
from savi.inference.negative_elbo import NegativeELBO
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.inner.anchored import Proximal
from savi.inner.trust_region import TrustRegion
from savi.vae import POSTERIORS
from savi.vae.families import PosteriorFamily


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def encoder_gradient(through: float, **inner) -> list[Tensor]:
    torch.manual_seed(0)
    problem, inference = linear_gaussian(), semi_amortized(**inner)
    probe = randn(5, 6)
    value = infer(inference, problem, through=through, generator=seeded()).value
    return list(torch.autograd.grad((probe * value).sum(), list(inference.encoder.parameters())))


@pytest.mark.parametrize(
    "inner",
    [
        {},
        {"max_steps": 0},
        {"optimizer": "levenberg_marquardt", "lr": None},
        {"objective": "proximal"},
        {
            "objective": "proximal",
            "gradient": "ift",
            "optimizer": "levenberg_marquardt",
            "lr": None,
            "max_steps": 20,
        },
        {
            "objective": "trust_region",
            "radius": 0.3,
            "gradient": "ift",
            "optimizer": "levenberg_marquardt",
            "lr": None,
            "max_steps": 20,
        },
    ],
    ids=["unrolled", "no steps", "levenberg_marquardt", "proximal", "ift", "trust region"],
)
@pytest.mark.parametrize("through", [0.0, 0.5, 3.0])
def test_the_weight_scales_the_gradient_that_reaches_the_encoder(inner: dict, through: float):
    whole, scaled = encoder_gradient(1.0, **inner), encoder_gradient(through, **inner)
    assert all(gradient.any() for gradient in whole)
    for one, other in zip(scaled, whole, strict=True):
        torch.testing.assert_close(one, through * other, rtol=1e-12, atol=1e-14)


def test_the_weight_leaves_values_and_the_gradient_of_the_model_as_they_are():
    problem, inference = linear_gaussian(), semi_amortized()
    results = []
    for through in (1.0, 0.0, 0.5):
        inferred = infer(inference, problem, through=through, generator=seeded())
        weight = problem.model.decoder.head.weight
        (gradient,) = torch.autograd.grad(inferred.value.sum(), weight)
        results.append((inferred.init, inferred.value, gradient))
    for other in results[1:]:
        for one, expected in zip(other, results[0], strict=True):
            assert torch.equal(one, expected)


def test_without_steps_the_encoder_s_answer_is_the_result():
    problem, inference = linear_gaussian(), semi_amortized(max_steps=0)
    inferred = infer(inference, problem)
    assert inferred.solution is None
    assert torch.equal(inferred.value, inference.encoder(problem.x))
    assert torch.equal(inferred.init, inferred.value)
    assert problem.model.decoder_evaluations == 0
    assert inference.encoder_gradient is EncoderGradient.EXACT


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian", "laplace", "point_mass"])
def test_without_an_encoder_every_example_starts_at_the_prior(name: str):
    problem = linear_gaussian()
    inner = MAP if POSTERIORS[name](3).is_map else {}
    inference = semi_amortized(name, encoder=False, **inner)
    inferred = infer(inference, problem)
    assert torch.equal(inferred.init, torch.zeros(5, inference.family.num_params).double())
    assert (inferred.value != inferred.init).any(dim=1).all()
    assert not list(inference.parameters())
    assert "prior_params" not in inference.state_dict()


def test_refining_raises_the_bound_and_converges_to_the_best_posterior():
    problem = linear_gaussian()
    inference = semi_amortized(
        optimizer="levenberg_marquardt", lr=None, samples=6, max_steps=50, atol=1e-9
    )
    value = infer(inference, problem).value
    torch.testing.assert_close(value, problem.best_diagonal(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("gradient", "objective", "expected"),
    [
        ("unrolled", "elbo", EncoderGradient.EXACT),
        ("unrolled", "proximal", EncoderGradient.EXACT),
        ("unrolled", "trust_region", EncoderGradient.EXACT),
        ("stop", "elbo", EncoderGradient.ZERO),
        ("stop", "proximal", EncoderGradient.ZERO),
        ("stop", "trust_region", EncoderGradient.ZERO),
        ("ift", "elbo", EncoderGradient.ZERO),
        ("ift", "proximal", EncoderGradient.EXACT),
        ("ift", "trust_region", EncoderGradient.EXACT),
    ],
)
def test_the_declared_gradient_is_the_one_that_flows(gradient, objective, expected):
    problem = linear_gaussian()
    inference = semi_amortized(
        gradient=gradient,
        objective=objective,
        radius=0.3 if objective == "trust_region" else None,
        optimizer="levenberg_marquardt",
        lr=None,
        max_steps=20,
    )
    assert inference.encoder_gradient is expected
    value = infer(inference, problem, generator=seeded()).value
    parameters = list(inference.encoder.parameters())
    if value.requires_grad:
        gradients = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
    else:
        gradients = (None,) * len(parameters)
    flows = [g is not None and bool(g.any()) for g in gradients]
    assert flows == [expected is EncoderGradient.EXACT] * len(parameters)


def test_the_problem_is_the_one_that_was_named():
    problem = linear_gaussian()
    init = randn(5, 6)

    def objective(**inner):
        return semi_amortized(**inner).problem(problem.model, problem.x, init, beta=0.5)

    assert isinstance(objective(), NegativeELBO)
    assert objective().beta == 0.5
    assert not objective().stochastic
    assert objective(noise="fresh").stochastic
    proximal = objective(objective="proximal", rho=2.5)
    assert isinstance(proximal, Proximal)
    assert proximal.rho == 2.5
    assert proximal.anchor is init
    region = objective(objective="trust_region", radius=1.5)
    assert isinstance(region, TrustRegion)
    assert region.radius.tolist() == [1.5] * 5
    assert region.anchor is init


@pytest.mark.parametrize("posterior", ["diagonal_gaussian", "full_gaussian", "point_mass"])
def test_a_trust_region_holds_some_examples_and_tells_the_encoder_of_those_alone(posterior: str):
    problem = linear_gaussian()
    options = {"optimizer": "levenberg_marquardt", "lr": None, "max_steps": 60, "rtol": 1e-10}
    without = semi_amortized(posterior, **options)
    free = infer(without, problem, generator=seeded())
    distance = torch.linalg.vector_norm(free.value - free.init, dim=-1).detach()
    inference = semi_amortized(
        posterior, "ift", objective="trust_region", radius=float(distance.median()) * 1.01,
        **options,
    )  # fmt: skip
    inference.load_state_dict(without.state_dict())
    inferred = infer(inference, problem, generator=seeded())
    held = inferred.solution.multiplier > 0
    assert held.any()
    assert not held.all()
    radius = inference.radius
    reached = torch.linalg.vector_norm(inferred.value - inferred.init, dim=-1)
    torch.testing.assert_close(reached[held], torch.full_like(reached[held], radius))
    assert (reached <= radius + 1e-12).all()
    weights = list(inference.encoder.parameters())
    for b, is_held in enumerate(held.tolist()):
        bound = inferred.value[b].square().sum()
        gradients = torch.autograd.grad(bound, weights, retain_graph=True)
        assert all(bool(g.any()) == is_held for g in gradients)


@pytest.mark.parametrize("noise", ["crn", "fresh"])
def test_the_generator_decides_the_noise(noise: str):
    problem, inference = linear_gaussian(), semi_amortized(noise=noise)
    first, second, other = (
        infer(inference, problem, generator=torch.Generator().manual_seed(seed)).value
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_an_example_does_not_see_its_batch():
    problem = linear_gaussian()
    inference = semi_amortized("laplace", optimizer="levenberg_marquardt", lr=None, **MAP)
    together = infer(inference, problem).value
    for b in range(5):
        alone = inference(problem.model, problem.x[b : b + 1], max_steps=inference.max_steps).value
        torch.testing.assert_close(alone[0], together[b], rtol=1e-9, atol=1e-9)


def test_nothing_is_differentiated_where_gradients_are_off():
    problem, inference = linear_gaussian(), semi_amortized()
    with torch.no_grad():
        assert not infer(inference, problem).value.requires_grad
    assert infer(inference, problem).value.requires_grad


def test_as_many_steps_in_tests_as_in_training_unless_set():
    assert semi_amortized(max_steps=7).test_max_steps == 7
    assert semi_amortized(max_steps=7, test_max_steps=0).test_max_steps == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "evidence"}, r"unknown inner\.objective 'evidence'"),
        ({"optimizer": "sgd"}, r"unknown inner\.optimizer 'sgd'"),
        ({"noise": "none"}, r"unknown inner\.noise 'none'"),
        ({"gradient": "magic"}, "unknown gradient 'magic'"),
        ({"max_steps": -1}, r"inner\.max_steps is -1"),
        ({"test_max_steps": -2}, r"inner\.test_max_steps is -2"),
        ({"samples": 0}, r"inner\.samples is 0"),
        ({"rtol": -1.0}, r"inner\.rtol is -1"),
        ({"atol": float("nan")}, r"inner\.atol is nan"),
        ({"rho": 0.0}, r"inner\.rho is 0"),
        ({"objective": "trust_region"}, r"inner\.radius is null .*: set it above 0"),
        ({"objective": "trust_region", "radius": 0.0}, r"inner\.radius is 0\.0 .*: set it above 0"),
        ({"objective": "trust_region", "radius": float("nan")}, r"inner\.radius is nan"),
        ({"objective": "trust_region", "radius": float("inf")}, r"inner\.radius is inf"),
        ({"radius": 1.0}, r"'elbo', which has no trust region: set inner\.radius to null"),
        ({"damping": 1.0}, "'gd' has no option 'damping'"),
        ({"history": 5}, "'gd' has no option 'history'"),
        ({"optimizer": "lbfgs", "lr": None, "history": 0}, r"inner\.history is 0: set it to 1"),
        ({"optimizer": "lbfgs", "lr": None, "noise": "fresh"}, r"so set inner\.noise=crn"),
        (
            {"optimizer": "natural_gradient", "posterior": "laplace", **MAP},
            "'natural_gradient' with an objective whose λ describes no distribution",
        ),
        (
            {"optimizer": "natural_gradient", "objective": "trust_region", "radius": 1.0},
            "so set inner=proximal",
        ),
        ({"objective": "map"}, "posterior=laplace or posterior=point_mass"),
        ({"posterior": "laplace"}, r"set inner\.objective=map"),
        ({"gradient": "ift", "noise": "fresh"}, r"set inner\.noise=crn"),
        ({"gradient": "ift", "max_steps": 0}, r"set inner\.max_steps to 1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        semi_amortized(**settings)


def test_a_step_of_the_scale_asks_for_a_family_that_has_one():
    class Own(PosteriorFamily):
        name = "own"
        num_params = 3

        def distribution(self, lam, *_):
            raise NotImplementedError

    inner = INNER | {"optimizer": "natural_gradient", "lr": 1.0, "scale_lr": 0.3}
    with pytest.raises(InputError, match=r"inner\.scale_lr 0\.3 with posterior 'own'"):
        SemiAmortizedInference(None, Own(3), inner, {"name": "stop"})


def test_an_option_that_the_backend_does_not_take_is_refused():
    with pytest.raises(InputError, match="'stop' has no option 'solver'"):
        SemiAmortizedInference(
            None,
            POSTERIORS["diagonal_gaussian"](3),
            INNER,
            {"name": "stop", "solver": "cg", "rtol": None},
        )

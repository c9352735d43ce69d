"""The gradient of a run against a reference, and a check that leaves no trace."""

import copy
from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

from savi.errors import InputError
from savi.experiments.build import build
from savi.experiments.run import build_callbacks, train
from savi.inference.gradient_check import (
    REFERENCES,
    ProbeBatch,
    compare,
    outer_gradient,
    reference_gradient,
)
from savi.inner.solution import Status
from savi.report.figures import read_metrics
from savi.training import SemiAmortizedVAE
from savi.training.callbacks import CostMonitor
from savi.training.gradient_monitor import GradientMonitor

SMALL = (
    "data.limit=48",
    "data.batch_size=16",
    "model.hidden=8",
    "model.latent_dim=3",
    "evaluation.val_samples=2",
)
PROXIMAL = ("experiment=savi_ift", "inner.samples=2")
#: The figures of a check where nothing is undefined, for the reference ``unrolled``.
FIGURES = {
    "gradient/cosine_to_reference",
    *(
        f"gradient/{figure}_{part}"
        for figure in ("cosine_to_reference", "relative_error")
        for part in ("decoder", "encoder")
    ),
}


@pytest.fixture
def built(config) -> Callable:
    """Data and module of a small run."""
    return lambda *overrides: build(config("logger=csv", *SMALL, *overrides))


def probe_of(module: SemiAmortizedVAE, data) -> ProbeBatch:
    return ProbeBatch.draw(data.split("val")[:8], module.outer_loss, seed=0)


def check(data, module: SemiAmortizedVAE, reference: str) -> dict[str, float]:
    """Compare with a reference, in the module's own float type."""
    probe, outer = probe_of(module, data), module.outer_loss
    measured, _ = outer_gradient(outer, probe, beta=1.0)
    return compare(measured, reference_gradient(outer, probe, 1.0, reference)[0])


def quiet_trainer(*callbacks: pl.Callback, **options) -> pl.Trainer:
    settings = {"accelerator": "cpu", "max_epochs": 1, "logger": False} | options
    return pl.Trainer(
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        **settings,
    )


def monitor(data, module: SemiAmortizedVAE, reference: str = "unrolled") -> GradientMonitor:
    return GradientMonitor(module, data.split("val")[:8], every_n_steps=2, reference=reference)


@pytest.mark.parametrize("overrides", [PROXIMAL, ("experiment=laplace_ift",)])
@pytest.mark.parametrize("noise", ["crn", "fresh"])
def test_unrolling_is_its_own_reference(built, overrides, noise):
    overrides = (*overrides, "gradient=unrolled", f"inner.noise={noise}")
    data, module = built(*overrides)
    metrics = check(data, module.double(), "unrolled")
    assert metrics["cosine_to_reference"] == pytest.approx(1.0, abs=1e-12)
    for part in ("decoder", "encoder"):
        assert metrics[f"cosine_to_reference_{part}"] == pytest.approx(1.0, abs=1e-12)
        assert metrics[f"relative_error_{part}"] < 1e-10


def test_an_implicit_gradient_of_a_solved_problem_is_exact(built):
    """By another route: heavier damping, and conjugate gradients instead of Cholesky."""
    data, module = built(
        *PROXIMAL,
        "inner.damping=1.0",
        "inner.max_steps=200",
        "inner.rtol=1e-9",
        "gradient.solver=cg",
        "gradient.rtol=1e-10",
    )
    metrics = check(data, module.double(), "ift")
    assert metrics["cosine_to_reference"] == pytest.approx(1.0, abs=1e-10)
    assert 0 < metrics["relative_error_decoder"] < 1e-6
    assert 0 < metrics["relative_error_encoder"] < 1e-6


@pytest.mark.parametrize(
    ("reference", "step", "rtol"), [("unrolled", 1e-5, 1e-6), ("ift", 1e-3, 1e-4)]
)
def test_references_are_derivatives_of_the_outer_loss(built, reference, step, rtol):
    """Along a random direction in θ and φ, by central differences of the loss itself."""
    data, module = built(
        *PROXIMAL,
        "gradient=stop",
        "inner.optimizer=gd",
        "inner.lr=0.01",
        "encoder_loss.elbo_at_init=0.01",
        "model.gamma.mode=learned",
    )
    module.double().encoder_objective.terms = {}
    outer, probe = module.outer_loss, probe_of(module, data)
    gradient, _ = reference_gradient(outer, probe, 1.0, reference)
    vector = torch.cat([gradient["decoder"], gradient["encoder"]])
    parameters = [*outer.model.parameters(), *outer.inference.encoder.parameters()]
    direction = torch.randn(len(vector), dtype=vector.dtype, generator=torch.manual_seed(1))
    direction /= direction.norm()

    REFERENCES[reference](outer.inference)
    centre = torch.nn.utils.parameters_to_vector(parameters).detach()
    losses = []
    for sign in (1, -1):
        torch.nn.utils.vector_to_parameters(centre + sign * step * direction, parameters)
        losses.append(float(probe.to(centre).step(outer, 1.0).loss.detach()))
    slope = (losses[0] - losses[1]) / (2 * step)
    assert slope == pytest.approx(float(vector @ direction), rel=rtol)


@pytest.mark.parametrize("reference", sorted(REFERENCES))
def test_references_of_an_adapted_step_on_trust(built, reference):
    data, module = built("experiment=savi", "inner.lr=0.1")
    outer, probe = module.outer_loss, probe_of(module, data)
    gradient, inference = reference_gradient(outer, probe, 1.0, reference)
    assert all(torch.isfinite(vector).all() for vector in gradient.values())
    if reference == "ift":
        assert (inference.solution.status == Status.CONVERGED).all()
        reference_inference = copy.deepcopy(outer.inference)
        REFERENCES[reference](reference_inference)
        assert reference_inference.last_step == "judged"
    assert module.inference.step_size is not None


@pytest.mark.parametrize("reference", sorted(REFERENCES))
def test_references_of_a_float32_run_are_in_float64(built, reference):
    """The same as those of the run converted to float64 first, whatever numbers the probe saw."""
    data, module = built(*PROXIMAL)
    probe = probe_of(module, data)
    gradient, inference = reference_gradient(module.outer_loss, probe, 1.0, reference)
    assert inference.value.dtype == torch.float64
    exact, _ = reference_gradient(module.double().outer_loss, probe, 1.0, reference)
    torch.testing.assert_close(gradient, exact, rtol=1e-12, atol=0)


def test_a_stopped_gradient_differs_and_leaves_the_encoder_out(built):
    data, module = built(*PROXIMAL, "gradient=stop", "inner.max_steps=1")
    module.double().encoder_objective.terms = {}
    metrics = check(data, module, "ift")
    assert metrics["relative_error_decoder"] > 1e-3
    assert metrics["relative_error_encoder"] == 1.0
    assert "cosine_to_reference_encoder" not in metrics
    assert metrics["cosine_to_reference_decoder"] < 1


def test_what_is_not_defined_is_left_out():
    zero, one, other = torch.zeros(2), torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    assert compare({"decoder": one, "encoder": zero}, {"decoder": other, "encoder": zero}) == {
        "cosine_to_reference_decoder": pytest.approx(24 / 25),
        "relative_error_decoder": pytest.approx(2**0.5 / 5),
        "cosine_to_reference": pytest.approx(24 / 25),
    }
    assert compare({"decoder": one}, {"decoder": zero}) == {}
    assert set(compare({"decoder": zero}, {"decoder": one})) == {"relative_error_decoder"}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_gradient_is_measured_in_the_precision_of_the_run(built, tmp_path, precision):
    data, module = built("experiment=savi_unrolled")
    logger = CSVLogger(tmp_path, name="", version="")
    quiet_trainer(
        monitor(data, module), logger=logger, log_every_n_steps=1, precision=precision
    ).fit(module, datamodule=data)
    curves = read_metrics(tmp_path / "metrics.csv")
    assert set(curves) >= FIGURES
    assert all(list(curves[name].steps) == [0, 2] for name in FIGURES)
    assert min(curves["gradient/cosine_to_reference"].values) > 0.999
    errors = curves["gradient/relative_error_decoder"].values
    assert (max(errors) < 1e-4) == (precision == "32-true")


@pytest.mark.parametrize(
    ("overrides", "reference"),
    [
        (PROXIMAL, "ift"),
        (("experiment=savi_unrolled", "inner.noise=fresh", "model.gamma.mode=learned"), "unrolled"),
    ],
)
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
def test_training_goes_on_as_if_there_were_no_check(built, overrides, reference):
    def trained(checked: bool):
        data, module = built(*overrides)
        cost = CostMonitor()
        callbacks = [monitor(data, module, reference), cost] if checked else [cost]
        trainer = quiet_trainer(*callbacks, log_every_n_steps=1, max_epochs=2)
        trainer.fit(module, datamodule=data)
        return (
            module.state_dict(),
            dict(trainer.logged_metrics),
            cost.metrics()["cost/decoder_evaluations"],
            torch.get_rng_state(),
        )

    with_check, without = trained(True), trained(False)
    torch.testing.assert_close(with_check, without, rtol=0, atol=0)
    assert ("ift/failures" in without[1]) == (reference == "ift")


def test_a_check_leaves_no_trace(built):
    """And passes over in silence that the run's own solve is not converged."""
    data, module = built(*PROXIMAL, "inner.max_steps=1", "gradient.max_stationarity=1e-12")
    before = copy.deepcopy(module.state_dict())
    module.vae.decoder_evaluations = 7
    state = torch.get_rng_state()
    metrics = monitor(data, module, "ift").measure(quiet_trainer(), module)
    assert set(metrics) == FIGURES | {"gradient/reference_failures"}
    assert metrics["gradient/reference_failures"] == 0
    assert metrics["gradient/relative_error_decoder"] > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert module.vae.decoder_evaluations == 7
    assert all(p.grad is None for p in module.parameters())
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    assert next(module.parameters()).dtype == torch.float32


def test_a_gradient_that_the_run_refuses_is_not_compared(built):
    data, module = built(*PROXIMAL, "gradient.on_failure=raise", "gradient.max_error=1e-12")
    assert monitor(data, module, "ift").measure(quiet_trainer(), module) == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("gradient_check_every_n_steps=0",), "every_n_steps is 0: set it to 1 or more"),
        (("gradient_check_examples=0",), "gradient_check_examples is 0: set it to 1 or more"),
        (
            ("gradient_check_reference=foo",),
            "unknown callbacks.gradient_check_reference 'foo': choose one of ift, unrolled",
        ),
        (
            ("gradient_check_reference=foo", "gradient_check_every_n_steps=null"),
            "unknown callbacks.gradient_check_reference 'foo'",
        ),
        (("inner.noise=fresh",), "'ift' with inner.noise 'fresh': .* set inner.noise=crn"),
        (("experiment=vae",), "with inner.max_steps 0: .* set inner.max_steps to 1 or more"),
    ],
)
def test_settings_are_refused_before_any_work(config, overrides, message):
    overrides = tuple(f"callbacks.{o}" if o.startswith("gradient_") else o for o in overrides)
    settings = config(
        "logger=csv",
        *SMALL,
        "experiment=savi_unrolled",
        "callbacks.gradient_check_every_n_steps=1",
        *overrides,
    )
    with pytest.raises(InputError, match=message):
        build(settings)


def test_the_check_is_off_by_default(config, built, tmp_path):
    data, module = built("experiment=vae")
    callbacks, _ = build_callbacks(config()["callbacks"], str(tmp_path), False, data, module)
    assert not any(isinstance(callback, GradientMonitor) for callback in callbacks)


@pytest.mark.slow
def test_the_figures_are_in_the_metrics_of_a_run(config, tmp_path):
    settings = config(
        "logger=csv",
        *SMALL,
        "debug=quick",
        "data.limit=48",
        "data=digits",
        "trainer.max_epochs=1",
        "callbacks.gradient_check_every_n_steps=2",
        "callbacks.figures=false",
        "experiment=savi_ift",
    )
    metrics = train(settings, tmp_path / "run")
    curves = read_metrics(tmp_path / "run" / "metrics.csv")
    names = FIGURES | {"gradient/reference_failures"}
    assert {name: metrics[name] for name in names} == pytest.approx(
        {name: curves[name].values[-1] for name in names}
    )
    assert names <= set(curves)
    assert all(list(curves[name].steps) == [0, 2] for name in names)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
def test_the_check_works_on_a_gpu(built, tmp_path, precision):
    data, module = built(*PROXIMAL)
    check = monitor(data, module, "ift")
    logger = CSVLogger(tmp_path, name="", version="")
    quiet_trainer(
        check, accelerator="gpu", devices=1, logger=logger, log_every_n_steps=1, precision=precision
    ).fit(module, datamodule=data)
    cosines = read_metrics(tmp_path / "metrics.csv")["gradient/cosine_to_reference"]
    assert min(cosines.values) > 0.99

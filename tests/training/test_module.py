"""The LightningModule: every method is a configuration of it."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from savi.config.schema import LR_SCHEDULES
from savi.experiments.build import build
from savi.training import SemiAmortizedVAE
from savi.training.kl_weight import kl_weight
from savi.training.schedules import KEPT, LEFT, SCHEDULES
from savi.vae.distributions import antithetic_noise
from savi.vae.elbo import elbo

EXPERIMENTS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "conf" / "experiment").glob("*.yaml")
)
SMALL = (
    "data.limit=32",
    "data.batch_size=16",
    "model.hidden=8",
    "model.latent_dim=3",
    "evaluation.val_samples=2",
)


@pytest.fixture
def built(config):
    """Data and module of a small run."""

    def make(*overrides: str):
        return build(config("logger=csv", *SMALL, *overrides))

    return make


def quiet_trainer(accelerator: str = "cpu", **options) -> pl.Trainer:
    return pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator=accelerator,
        log_every_n_steps=1,
        **options,
    )


def one_step(module: SemiAmortizedVAE, data, **options) -> dict[str, float]:
    """Train for one step and return what was logged; the gradients stay in place."""
    trainer = quiet_trainer(max_steps=1, limit_val_batches=0, inference_mode=False, **options)
    trainer.fit(module, datamodule=data)
    return {name: float(value) for name, value in trainer.logged_metrics.items()}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
def test_every_method_trains_decoder_and_encoder(built, experiment):
    data, module = built(f"experiment={experiment}")
    logged = one_step(module, data)
    assert logged["gradient/norm_decoder"] > 0
    assert all(torch.isfinite(p).all() for p in module.parameters())
    if experiment == "svi":
        assert module.inference.encoder is None
    else:
        assert logged["gradient/norm_encoder"] > 0
    assert ("inner/steps" in logged) == (module.inference.max_steps > 0)
    assert ("ift/failures" in logged) == (module.inference.backend.name == "ift")


def test_the_vae_is_the_textbook_one(built):
    """The loss of experiment=vae and its gradient, written out with torch.distributions."""
    data, module = built("experiment=vae", "model.gamma.mode=fixed", "model.gamma.value=0.3")
    x = next(iter(data.train_dataloader())).x
    encoder, decoder = module.inference.encoder, module.vae.decoder
    torch.manual_seed(3)
    noise = antithetic_noise(1, torch.zeros(len(x), 3))
    mean, log_variance = encoder(x).chunk(2, dim=-1)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    likelihood = torch.distributions.Normal(decoder(mean + q.scale * noise[0]), 0.3**0.5)
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    kl = torch.distributions.kl_divergence(q, prior).sum(-1)
    expected = -(likelihood.log_prob(x).sum(-1) - kl).mean()
    expected_gradients = torch.autograd.grad(expected, list(module.parameters()))

    inference = module.inference(module.vae, x, max_steps=0)
    bound = elbo(module.vae, module.family.distribution(inference.value, module.vae), x, noise)
    loss = -bound.objective()
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, expected_gradients)


def test_the_kl_weight_warms_up_linearly(built):
    data, module = built("experiment=vae", "model.kl.warmup_steps=4", "model.kl.weight=2.0")
    seen = []

    class Recorder(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(pl_module.beta)

    trainer = quiet_trainer(max_steps=6, limit_val_batches=0, callbacks=[Recorder()])
    trainer.fit(module, datamodule=data)
    assert seen == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_the_kl_weight_rises_anew_in_every_cycle():
    kl = {"weight": 2.0, "warmup_steps": 4, "cycle_steps": 8}
    # Fu et al. 2019, (6) and (7): β_t = min(1, τ/R) with τ = mod(t − 1, T/M)/(T/M), for M = 3
    # cycles in T = 24 steps and R = 1/2. Here a cycle begins one step above 0.
    published = [2.0 * min(1.0, 2.0 * (((t - 1) % 8) + 1) / 8) for t in range(1, 25)]
    assert [kl_weight(kl, step) for step in range(24)] == published
    assert published[7:10] == [2.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("schedule", "last"),
    [("cosine", 0.0), ("linear", 0.0), ("exponential", LEFT), ("one_cycle", 4e-6)],
)
def test_a_schedule_ends_with_the_training(built, schedule, last):
    data, module = built("experiment=vae", f"optimizer.schedule={schedule}", "optimizer.lr=0.01")
    trainer = quiet_trainer(max_epochs=2, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    reached = trainer.optimizers[0].param_groups[0]["lr"]
    assert reached == pytest.approx(0.01 * last, rel=1e-6, abs=1e-9)


def test_the_inverse_square_root_knows_no_end():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule, rates = SCHEDULES["inverse_sqrt"](optimizer, 7), []
    for _ in range(4 * KEPT + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[: KEPT + 1] == [0.5] * (KEPT + 1)
    assert rates[4 * KEPT] == pytest.approx(0.25)
    assert rates[KEPT:] == sorted(rates[KEPT:], reverse=True)


def test_every_schedule_has_a_name_in_configs():
    assert set(LR_SCHEDULES) == {"constant", *SCHEDULES}


def test_a_cycle_rises_and_falls():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule, rates = SCHEDULES["one_cycle"](optimizer, 19), []
    for _ in range(19):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.5)
    assert rates.index(max(rates)) == 5
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)


@pytest.mark.parametrize("experiment", ["savi_ift", "laplace_ift", "vlae"])
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
def test_inner_solves_work_in_lightnings_inference_mode(built, experiment):
    data, module = built(f"experiment={experiment}")
    trainer = quiet_trainer(inference_mode=True)
    (test,) = trainer.test(module, datamodule=data, verbose=False)
    again = quiet_trainer(inference_mode=False).test(module, datamodule=data, verbose=False)
    assert test == pytest.approx(again[0], rel=1e-6)
    assert test["inner/improvement"] > 0


def test_the_validation_bound_repeats(built):
    data, module = built("experiment=savi_ift")
    (first,) = quiet_trainer().validate(module, datamodule=data, verbose=False)
    torch.manual_seed(1234)
    (second,) = quiet_trainer().validate(module, datamodule=data, verbose=False)
    assert first == second


def test_hyperparameters_are_plain_and_load_in_safe_mode(built, tmp_path):
    data, module = built("experiment=savi_ift")
    trainer = quiet_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    loaded = SemiAmortizedVAE.load_from_checkpoint(tmp_path / "a.ckpt")
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_mixed_precision_leaves_the_inner_loop_alone(built, precision):
    data, module = built("experiment=savi_ift")
    dtypes = set()
    original = type(module.inference.optimizer).step

    def spy(self, objective, point, state, create_graph):
        dtypes.add((point.y.dtype, point.value.dtype, point.gradient.dtype))
        return original(self, objective, point, state, create_graph)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(module.inference.optimizer), "step", spy)
        one_step(module, data, precision=precision)
    assert dtypes == {(torch.float32,) * 3}


def test_free_bits_hold_the_gradient_of_a_collapsed_dimension_back(built):
    """Below the free bits a dimension's KL has no gradient; above them it has."""
    data, module = built("experiment=vae")
    x = data.split("val")
    q = module.family.distribution(module.inference.start(x), module.vae)
    bound = elbo(module.vae, q, x, antithetic_noise(2, q.mean.detach()))
    kl = bound.kl_per_dimension.mean(dim=0)
    threshold = float(kl.detach().median())
    expected = bound.reconstruction.mean() - kl.clamp_min(threshold).sum()
    torch.testing.assert_close(bound.objective(free_bits=threshold), expected)
    assert bound.objective(free_bits=threshold) < bound.objective()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
def test_every_method_trains_on_a_gpu(built, experiment):
    data, module = built(f"experiment={experiment}")

    class OnTheGPU(pl.Callback):
        """Looks while training runs: afterwards Lightning moves the module to the CPU."""

        seen = False

        def on_train_batch_end(self, trainer, pl_module, *_):
            assert all(torch.isfinite(p).all() and p.is_cuda for p in pl_module.parameters())
            self.seen = True

    watch = OnTheGPU()
    quiet_trainer("gpu", devices=1, max_steps=2, inference_mode=False, callbacks=[watch]).fit(
        module, datamodule=data
    )
    assert watch.seen

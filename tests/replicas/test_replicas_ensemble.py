"""A joint step is the step of each replica alone."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from savi.data.batches import Batch
from savi.experiments.build import build
from savi.replicas.ensemble import Ensemble, joined, rows_of
from savi.training.warm_start import WarmStarts

# A run that tunes its own hyperparameters is refused (test_replicas_configs.py).
EXPERIMENTS = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "conf" / "experiment").glob("*.yaml")
    if path.stem != "hypergradient"
)
SMALL = (
    "trainer.threads=1", "data.limit=48", "data.batch_size=16", "model.hidden=8",
    "model.latent_dim=3", "logger=csv",
    "evaluation.val_samples=4", "optimizer.schedule=constant", "optimizer.weight_decay=0.01",
)  # fmt: skip
SIZE, STEPS, REPLICAS = 16, 3, 3

pytestmark = pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")


class Alone:
    """One replica, trained as :class:`SemiAmortizedVAE` is, from the global random state."""

    def __init__(self, module, state):
        self.module, self.state = module, state
        self.optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=module.optimizer_config["lr"],
            weight_decay=module.optimizer_config["weight_decay"],
        )

    def step(self, batch: Batch) -> None:
        module, starts = self.module, self.module.warm_starts
        torch.set_rng_state(self.state)
        self.optimizer.zero_grad()
        taken = module.outer_loss(batch.x, 1.0, init=starts[batch.index] if starts else None)
        taken.loss.backward()
        if starts is not None:
            starts[batch.index] = taken.inference.value
        module.vae.gamma.observe(taken.bound.squared_error)
        self.state = torch.get_rng_state()
        self.optimizer.step()


def built(config, *overrides: str, vary=lambda seed: ()):
    """R modules in float64, each with its examples and the random state after its building."""
    modules, examples, states = [], [], []
    for seed in range(REPLICAS):
        values = config(*SMALL, *overrides, *vary(seed))
        values["seed"] = values["data"]["seed"] = seed + values["seed"]
        data, module = build(values)
        modules.append(module.double())
        examples.append(data.split("train").double())
        states.append(torch.get_rng_state())
        if module.warm_starts is not None:
            module.warm_starts.begin(len(examples[-1]))
    return modules, examples, states


def check(config, *overrides: str, atol: float = 1e-8, vary=lambda seed: ()) -> None:
    modules, examples, states = built(config, *overrides, vary=vary)
    alone = [Alone(deepcopy(m), state) for m, state in zip(modules, states, strict=True)]
    sources = [torch.Generator().set_state(state) for state in states]
    ensemble = Ensemble(modules, sources, STEPS)
    for number in range(STEPS):
        index = torch.arange(SIZE * number, SIZE * (number + 1))
        batches = [Batch(x[index], index) for x in examples]
        batch = joined(batches)
        ensemble.update(batch, ensemble.gradients(batch))
        for one, batch in zip(alone, batches, strict=True):
            one.step(batch)
    for one, module in zip(alone, modules, strict=True):
        for name, value in one.module.state_dict().items():
            torch.testing.assert_close(module.state_dict()[name], value, rtol=0, atol=atol)
            assert not torch.equal(value, torch.zeros_like(value))
        if module.warm_starts is not None:
            expected = one.module.warm_starts.table
            torch.testing.assert_close(module.warm_starts.table, expected, rtol=0, atol=atol)
        one.module.eval()
    ensemble.eval()
    inference, *bounds = ensemble.evaluate_batch(torch.cat([x[:10] for x in examples]), stream=1)
    for number, one in enumerate(alone):
        rows, module = slice(10 * number, 10 * (number + 1)), one.module
        own, *own_bounds = module.evaluate_batch(
            examples[number][:10], module.evaluation_noise(1), module.settings["val_samples"]
        )
        torch.testing.assert_close(rows_of(inference, rows).value, own.value, rtol=0, atol=atol)
        for bound, expected in zip(bounds, own_bounds, strict=True):
            torch.testing.assert_close(rows_of(bound, rows).elbo, expected.elbo, rtol=0, atol=atol)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_method_trains_and_validates_as_alone(config, experiment):
    check(config, f"experiment={experiment}", "inner.adapt_lr=false")


@pytest.mark.parametrize("mode", ["fixed", "learned", "optimal", "per_pixel"])
def test_every_gamma(config, mode):
    check(config, "experiment=savi_ift", f"model.gamma.mode={mode}")


@pytest.mark.parametrize(
    "overrides",
    [
        ("experiment=savi_ift", "posterior=full_gaussian"),
        ("experiment=laplace_ift", "posterior=point_mass"),
        ("experiment=savi_ift", "inner=trust_region"),
        ("experiment=vae_svi", "inner.noise=fresh", "inner.optimizer=adam", "inner.lr=0.05"),
        ("experiment=savi_unrolled", "gradient=checkpointed"),
        ("experiment=savi_ift", "gradient.on_failure=fallback"),
        ("experiment=savi_ift", "model.decoder=residual_mlp"),
        ("experiment=savi_ift", "model=conv", "model.hidden=2", "model.depth=1"),
        ("experiment=vae", "model=resnet", "model.hidden=2", "model.depth=1"),
    ],
    ids=lambda overrides: "-".join(overrides[1:]),
)
def test_other_choices(config, overrides):
    check(config, *overrides)


def test_examples_that_have_converged_are_dropped_from_a_joint_solve_too(config):
    """With a rough tolerance some examples stop early, in different numbers for each replica."""
    check(config, "experiment=savi_ift", "inner.rtol=0.3", "inner.max_steps=8")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("inner.rho", (0.1, 1.0, 10.0)),
        ("optimizer.lr", (1e-3, 1e-2, 1e-4)),
        ("optimizer.weight_decay", (0.0, 0.1, 1.0)),
        ("model.gamma.value", (0.05, 0.1, 0.2)),
    ],
)
def test_replicas_with_their_own_constants(config, key, values):
    check(config, "experiment=savi_ift", vary=lambda seed: (f"{key}={values[seed]}",))


def test_replicas_with_their_own_radius(config):
    overrides = ("experiment=savi_ift", "inner=trust_region")
    check(config, *overrides, vary=lambda seed: (f"inner.radius={0.1 * (seed + 1)}",))


def test_a_replica_that_is_not_finite_hurts_no_other(config):
    modules, examples, states = built(config, "experiment=savi_ift")
    alone = Alone(deepcopy(modules[0]), states[0])
    with torch.no_grad():
        next(modules[1].vae.decoder.parameters()).fill_(torch.nan)
    sources = [torch.Generator().set_state(state) for state in states]
    ensemble = Ensemble(modules, sources, STEPS)
    index = torch.arange(SIZE)
    batches = [Batch(x[index], index) for x in examples]
    for _ in range(2):
        batch = joined(batches)
        ensemble.update(batch, ensemble.gradients(batch))
        alone.step(batches[0])
    for name, value in alone.module.state_dict().items():
        torch.testing.assert_close(modules[0].state_dict()[name], value, rtol=0, atol=1e-8)
    assert not all(p.isfinite().all() for p in modules[1].parameters())


def test_gradients_are_clipped_for_each_replica_alone(config):
    modules, examples, states = built(config, "experiment=vae")
    sources = [torch.Generator().set_state(state) for state in states]
    ensemble = Ensemble(modules, sources, STEPS, max_norm=0.5)
    index = torch.arange(SIZE)
    batch = joined([Batch(x[index], index) for x in examples])
    ensemble.update(batch, ensemble.gradients(batch))
    for module in modules:
        norm = torch.nn.utils.get_total_norm([p.grad for p in module.parameters()])
        assert float(norm) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.drawn
def test_warm_starts_are_kept_by_each_replica(config):
    # Seeds whose first solves get somewhere: one that ends above its start returns that.
    modules, examples, states = built(config, "experiment=svi", "inner.atol=1e-6", "seed=2")
    sources = [torch.Generator().set_state(state) for state in states]
    ensemble = Ensemble(modules, sources, STEPS)
    index = torch.arange(SIZE)
    batch = joined([Batch(x[index], index) for x in examples])
    ensemble.update(batch, ensemble.gradients(batch))
    tables = [module.warm_starts.table for module in modules]
    assert all(isinstance(module.warm_starts, WarmStarts) for module in modules)
    assert all(bool((table[index] != 0).any()) for table in tables)
    assert not torch.equal(tables[0], tables[1])


@pytest.mark.parametrize("rates", [(1e-3, 1e-3, 1e-3), (1e-3, 2e-3, 3e-3)])
@pytest.mark.parametrize("first", [0, 1])
def test_a_step_that_a_replica_leaves_out_moves_the_others_alone(config, rates, first):
    """Whether the optimiser moves stacked weights or each replica's own; at its first step too."""
    modules, examples, states = built(
        config, "experiment=savi", "inner.max_steps=2", "optimizer.weight_decay=0.1",
        vary=lambda seed: (f"optimizer.lr={rates[seed]}",),
    )  # fmt: skip
    alone = [Alone(deepcopy(m), state) for m, state in zip(modules, states, strict=True)]
    sources = [torch.Generator().set_state(state) for state in states]
    ensemble = Ensemble(modules, sources, STEPS)
    for number in range(3):
        index = torch.arange(SIZE * number, SIZE * (number + 1))
        batches = [Batch(x[index].clone(), index) for x in examples]
        if number == first:
            batches[1].x[2, 3] = torch.nan
        batch = joined(batches)
        step = ensemble.gradients(batch)
        bad = ensemble.not_finite(step)
        assert bad == ({1: "the loss is nan"} if number == first else {})
        before = {name: value.clone() for name, value in modules[1].state_dict().items()}
        ensemble.update(batch, step, bad)
        same = [torch.equal(before[k], v) for k, v in modules[1].state_dict().items()]
        assert all(same) == (number == first)
        for place in (0, 2):
            alone[place].step(batches[place])
    for place in (0, 2):
        for name, value in alone[place].module.state_dict().items():
            torch.testing.assert_close(modules[place].state_dict()[name], value, rtol=0, atol=1e-8)
    assert all(p.isfinite().all() for p in modules[1].parameters())

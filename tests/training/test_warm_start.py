"""Inner solves that begin where the last visit of their example ended."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from warm_starts import EXAMPLES, WARM, Diary, quiet_trainer

from savi.data.batches import ShuffledBatches
from savi.errors import InputError
from savi.evaluation import evaluate
from savi.experiments.build import build
from savi.gradients import BACKENDS
from savi.vae.distributions import antithetic_noise

#: Neither weights nor data nor noise change from visit to visit, so that only the starts can.
STILL = (
    "posterior=point_mass", "inner.objective=map", "data.dequantise=false", "optimizer.lr=1e-30",
    "model.gamma.mode=fixed", "inner.max_steps=100",
)  # fmt: skip
DESCENT = ("inner.optimizer=momentum", "inner.lr=0.01")
NEEDS = {"reversible": DESCENT, "finite_difference": DESCENT, "truncated": ("gradient.steps=1",)}


@pytest.fixture
def built(config):
    """Data and module of a small run with warm starts."""

    def make(*overrides: str):
        return build(config(*WARM, *overrides))

    return make


@pytest.fixture
def fit(built):
    """Train for some epochs, and return the module and the diary."""

    def run(epochs: int, *overrides: str):
        data, module = built(*overrides)
        diary = Diary()
        quiet_trainer(epochs, diary).fit(module, datamodule=data)
        return module, diary

    return run


def test_a_solve_begins_where_the_last_one_of_its_example_ended(fit):
    module, diary = fit(3)
    first, second, third = (diary.epochs[epoch] for epoch in range(3))
    assert torch.equal(first["init"], module.inference.prior_params.expand(EXAMPLES, -1))
    assert (first["value"] != first["init"]).any(dim=1).all()
    assert torch.equal(second["init"], first["value"])
    assert torch.equal(third["init"], second["value"])
    assert torch.equal(module.warm_starts.table, third["value"])
    assert not module.warm_starts.table.requires_grad


def test_nothing_is_left_to_do_while_nothing_changes(fit):
    _, diary = fit(2, *STILL)
    assert diary.steps(0) > 1
    assert diary.steps(1) == 0


def test_the_tolerance_does_not_shrink_with_the_start(fit):
    """From a start within atol nothing is done, whatever rtol asks for."""
    _, diary = fit(2, *STILL, "inner.rtol=1e-8", "inner.atol=1e-3")
    assert diary.steps(0) > 1
    assert diary.steps(1) == 0


def test_training_needs_fewer_steps_while_weights_and_noise_change(fit):
    # Many samples, or λ would fit the noise of a visit, which the next one has not.
    settings = (
        "inner.samples=24", "inner.max_steps=50", "inner.rtol=0", "inner.atol=0.05",
        "inner.optimizer=gd", "inner.lr=0.1", "model.gamma.value=0.1",
    )  # fmt: skip
    steps = {}
    for warm in (True, False):
        _, diary = fit(4, *settings, f"inner.warm_start={warm}")
        steps[warm] = [diary.steps(epoch) for epoch in range(4)]
    assert steps[True][0] == steps[False][0]
    assert all(steps[True][epoch] < 0.6 * steps[False][epoch] for epoch in (1, 2, 3))


def test_the_order_of_the_batches_does_not_matter(fit, monkeypatch):
    """Each example goes its own way, in whatever company."""
    ascending = torch.arange(EXAMPLES)
    tables = []
    for order in (ascending, ascending.flip(0)):
        monkeypatch.setattr(ShuffledBatches, "order", lambda self, order=order: order)
        module, diary = fit(3, *STILL, "inner.max_steps=1", "inner.rtol=0", "inner.atol=0")
        assert (diary.epochs[2]["steps"] == 1).all()
        tables.append(module.warm_starts.table)
    assert (tables[0] != 0).any(dim=1).all()
    torch.testing.assert_close(*tables)


def test_validation_and_evaluation_start_at_the_prior_and_leave_the_table_alone(built):
    data, module = built("evaluation.ais_examples=16")
    diary = Diary()
    trainer = quiet_trainer(1, diary)
    trainer.fit(module, datamodule=data)
    table = module.warm_starts.table.clone()
    assert (table != module.inference.prior_params).any(dim=1).all()
    trainer.validate(module, datamodule=data, verbose=False)
    trainer.test(module, datamodule=data, verbose=False)
    diary.setup(trainer, module, "test")
    evaluate(module, data)
    # Three batches each: the validation in the fit, the three passes after it, and the few examples
    # of the annealed log-likelihood, twice, and as many simulated ones.
    assert len(diary.untrained) == 15
    for inference in diary.untrained:
        assert (inference.init == module.inference.prior_params).all()
        assert (inference.value != inference.init).any()
    assert torch.equal(module.warm_starts.table, table)


def test_only_finite_rows_are_kept(built):
    _, module = built()
    starts = module.warm_starts
    starts.table = torch.ones(4, 6)
    value = torch.full((3, 6), 2.0, requires_grad=True) + 0.0
    value.data[1, 2], value.data[2, 0] = torch.nan, torch.inf
    starts[torch.tensor([3, 0, 1])] = value
    assert torch.equal(starts.table, torch.tensor([1.0, 1.0, 1.0, 2.0])[:, None].expand(4, 6))
    assert not starts.table.requires_grad


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
def test_every_backend_takes_the_start_as_a_constant(built, backend):
    """The backward sees the start that the solve had, although the table has moved on."""
    _, module = built(f"gradient={backend}", *NEEDS.get(backend, ()), "inner.max_steps=2")
    module.double()
    torch.manual_seed(0)
    x, table, outer_noise = (torch.randn(n).double() for n in ((4, 64), (7, 6), (1, 4, 3)))
    noise, index = antithetic_noise(2, x[:, :3]), torch.tensor([5, 0, 2, 3])
    starts = module.warm_starts
    starts.table = table.clone()

    def gradients(init: Tensor, keep: bool) -> list[Tensor]:
        step = module.outer_loss(
            x, 1.0, init=init, inner_noise=lambda _: noise, outer_noise=outer_noise
        )
        if keep:
            starts[index] = step.inference.value
        return list(torch.autograd.grad(step.loss, list(module.parameters())))

    warm, constant = gradients(starts[index], keep=True), gradients(table[index], keep=False)
    assert (starts.table[index] != table[index]).any(dim=1).all()
    assert torch.equal(starts.table[[1, 4, 6]], table[[1, 4, 6]])
    assert len(warm) > 4
    for one, other in zip(warm, constant, strict=True):
        assert one.any()
        assert torch.equal(one, other)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")
def test_every_backend_trains(fit, backend):
    overrides = (f"gradient={backend}", *NEEDS.get(backend, ()), "inner.max_steps=2")
    module, diary = fit(2, *overrides)
    assert torch.equal(diary.epochs[1]["init"], diary.epochs[0]["value"])
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_several_devices_are_refused(built):
    _, module = built()
    with pytest.raises(InputError, match="warm_start on 2 devices"):
        module.warm_starts.on_train_start(SimpleNamespace(world_size=2), module)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.encoder=mlp", "encoder_loss=elbo_at_init"), r"set model\.encoder=none"),
        (("inner.objective=proximal",), "'proximal', whose λ0 is part of the problem"),
        (
            ("inner.objective=trust_region", "inner.radius=1"),
            "'trust_region', whose λ0 is part of the problem",
        ),
        (("inner.max_steps=0",), r"inner\.max_steps 0, .* set inner\.max_steps to 1 or more"),
        (("inner.atol=0",), r"set inner\.atol above 0"),
    ],
)
def test_what_has_no_use_for_warm_starts_is_refused(built, overrides, message):
    with pytest.raises(InputError, match=rf"^inner\.warm_start with .*{message}"):
        built(*overrides)


def test_without_any_tolerance_every_visit_takes_all_its_steps(fit):
    _, diary = fit(2, "inner.rtol=0", "inner.atol=0", "inner.max_steps=2")
    assert diary.steps(0) == diary.steps(1) == 2

"""The trained VAE that benchmarks share: what it is, and that its derivatives are those meant."""

import math
from dataclasses import asdict

import pytest
import torch
from benchmarks.batch import TrainedBatch
from benchmarks.images import CHANNELS, read_images
from benchmarks.trained import build_module, train, trained_batch, trained_problem

from savi.config.schema import Config
from savi.errors import InputError
from savi.experiments.checkpoint import CONFIG_KEY

CONFIG = {
    "seed": 0,
    "dataset": "digits",
    "data_path": None,
    "side": None,
    "batch": 6,
    "latent_dim": 3,
    "hidden": 64,
    "depth": 1,
    "activation": "softplus",
    "train_steps": 200,
    "checkpoint": None,
}


@pytest.fixture(scope="module")
def batch():
    return trained_batch(CONFIG)


def test_training_lowers_gamma_which_is_then_fixed(batch):
    untrained = trained_batch(CONFIG | {"train_steps": 1})
    gamma = batch.model.gamma()
    assert gamma < 0.8 * untrained.model.gamma()
    assert not gamma.requires_grad
    assert all(weight.dtype == torch.float32 for weight in batch.weights)
    assert [len(part) for part in (batch.x, batch.start, batch.scale, batch.noise)] == [6] * 4
    assert batch.x.shape == (6, 64)
    assert (batch.scale > 0).all()


def test_the_encoder_is_a_better_start_than_the_prior(batch):
    objective = batch.objective()
    assert objective.value(batch.start).mean() < objective.value(0 * batch.start).mean()


def test_the_values_are_those_of_the_formulas(batch):
    gamma, dim = float(batch.model.gamma()), batch.x.shape[1]

    def energy(z):
        squares = (batch.x - batch.model.decoder(z)).square().sum(-1)
        return 0.5 * (squares / gamma + dim * math.log(2 * math.pi * gamma))

    z = batch.start + 0.1
    penalty = 0.5 * z.square().sum(-1)
    torch.testing.assert_close(batch.objective()(z), energy(z) + penalty)
    expected = (energy(z + batch.scale * batch.noise) + penalty).mean()
    torch.testing.assert_close(batch.outer(z), expected)
    gradients = torch.autograd.grad(batch.outer(z), batch.weights)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_the_same_seed_gives_the_same_batch(batch):
    state = torch.get_rng_state()
    again = trained_batch(CONFIG)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(batch.given, again.given, strict=True):
        assert torch.equal(one, other)


def test_rows_and_copies(batch):
    few = batch.rows(2)
    assert torch.equal(few.x, batch.x[:2])
    expected = batch.objective()(batch.start)[:2]
    torch.testing.assert_close(few.objective()(few.start), expected)
    double = batch.to(torch.float64)
    assert {tensor.dtype for tensor in double.given} == {torch.float64}
    assert batch.weights[0].dtype == torch.float32
    torch.testing.assert_close(double.outer(double.start).float(), batch.outer(batch.start))
    for n in (0, 7):
        with pytest.raises(InputError, match=f"{n} examples of a batch of 6: set batch to {n}"):
            batch.rows(n)


def test_another_gamma_shares_the_weights(batch):
    sharper = batch.with_gamma(0.1)
    torch.testing.assert_close(sharper.model.gamma(), 0.1 * batch.model.gamma())
    assert sharper.weights[0] is batch.weights[0]
    assert isinstance(sharper, TrainedBatch)


def test_larger_images():
    small, large = (read_images("digits", None, side, 0) for side in (None, 12))
    assert large.shape == (3, 12, 12)
    x, y = small.held_out(4), large.held_out(4).unflatten(1, large.shape)
    for channel, weight in enumerate(CHANNELS):
        torch.testing.assert_close(y[:, channel], weight * y[:, 0])
    # Bilinear interpolation with a margin keeps the mean up to the borders.
    torch.testing.assert_close(y[:, 0].mean((1, 2)), x.mean(1), atol=0.05, rtol=0.0)
    assert trained_batch(CONFIG | {"side": 12, "train_steps": 2}).x.shape == (6, 432)


def test_training_goes_on_after_an_epoch():
    images = read_images("digits", None, None, 0)
    batches = images.training_batches()
    per_epoch = len(images.data.train_dataloader())
    seen = [next(batches) for _ in range(per_epoch + 1)]
    assert not torch.equal(seen[0], seen[per_epoch])


def test_training_goes_on_where_it_was_left():
    images = read_images("digits", None, None, 0, limit=40, batch_size=16)
    state = torch.get_rng_state()
    batches = images.training_batches()
    seen = [next(batches) for _ in range(8)]
    # Three batches in an epoch, the last one of 8.
    assert [len(x) for x in seen] == [16, 16, 8, 16, 16, 8, 16, 16]
    for start in (0, 2, 3, 7):
        assert torch.equal(next(images.training_batches(start)), seen[start])
    assert torch.equal(torch.get_rng_state(), state)


def test_examples_are_held_out_of_each_split():
    images = read_images("digits", None, None, 0)
    assert torch.equal(images.held_out(5), images.data.split("val")[:5])
    assert torch.equal(images.held_out(5, "test"), images.data.split("test")[:5])
    with pytest.raises(InputError, match=r"a batch of 5000 examples .* the test split of 'digits'"):
        images.held_out(5000, "test")


def test_a_checkpoint_takes_the_place_of_training(batch, tmp_path):
    images = read_images("digits", None, None, 0)
    module = build_module(CONFIG, images)
    train(module, images, CONFIG["train_steps"])
    run = asdict(Config(data={"name": "digits", "seed": 0}))
    run["model"] |= {key: CONFIG[key] for key in ("latent_dim", "hidden", "depth")}
    run["encoder_loss"]["through"] = 1.0
    run["logger"]["wandb"] = False
    path = tmp_path / "best.ckpt"
    torch.save({CONFIG_KEY: run, "state_dict": module.state_dict()}, path)
    again = trained_batch(CONFIG | {"checkpoint": str(path), "latent_dim": 1, "dataset": "mnist"})
    for one, other in zip(batch.given, again.given, strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(InputError, match="side is 12 with a checkpoint"):
        trained_batch(CONFIG | {"checkpoint": str(path), "side": 12})
    # The same guesses, as the start of another problem.
    problem = trained_problem(CONFIG | {"checkpoint": str(path), "samples": 3}, torch.float64)
    mean, log_variance = problem.start.detach().float().chunk(2, dim=-1)
    torch.testing.assert_close(mean, batch.start)
    torch.testing.assert_close((0.5 * log_variance).exp(), batch.scale)
    assert problem.noise.shape == (3, *batch.start.shape)
    run["posterior"]["name"] = "laplace"
    other = build_module(CONFIG, images, posterior=run["posterior"])
    torch.save({CONFIG_KEY: run, "state_dict": other.state_dict()}, path)
    with pytest.raises(InputError, match="another posterior than a diagonal Gaussian"):
        trained_problem(CONFIG | {"checkpoint": str(path), "samples": 3}, torch.float64)
    run["model"]["likelihood"] = "bernoulli"
    torch.save({CONFIG_KEY: run, "state_dict": module.state_dict()}, path)
    with pytest.raises(InputError, match=r"give one with model\.likelihood=gaussian"):
        trained_batch(CONFIG | {"checkpoint": str(path)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "batch is 0: set it to 1 or more"),
        ({"batch": 10_000}, "a batch of 10000 examples is asked for, .* 'digits' has 180: ask for"),
        ({"train_steps": 0}, "train_steps is 0: set it to 1 or more"),
        ({"side": 0}, "side is 0: set it to 1 or more"),
        ({"dataset": "foo"}, "unknown data set 'foo'"),
        (
            {"dataset": "linear_gaussian", "side": 8},
            "the examples of 'linear_gaussian' are no images",
        ),
        (
            {"dataset": "fashion_mnist", "data_path": "missing"},
            "data.path 'missing' does not exist",
        ),
        ({"activation": "foo"}, "unknown activation 'foo'"),
        ({"checkpoint": "missing.ckpt"}, "checkpoint 'missing.ckpt' does not exist"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        trained_batch(CONFIG | change)

"""Deterministic autoencoders of a run's architecture."""

import pytest
import torch
from closed_forms import covariance_eigenvalues
from linear_gaussian import randn

from savi.data import TensorDataModule
from savi.errors import InputError
from savi.evaluation.autoencoder import (
    autoencoder_error,
    build_autoencoder,
    linear_error,
    standardise_codes,
)
from savi.training.module import SemiAmortizedVAE

MODEL = {
    "latent_dim": 2,
    "decoder": "mlp",
    "encoder": "mlp",
    "hidden": 8,
    "depth": 0,
    "activation": "tanh",
    "encoder_hidden": None,
    "encoder_depth": None,
    "samples": 1,
    "gamma": {"mode": "optimal", "value": None, "floor": 1e-6},
    "kl": {"weight": 1.0, "warmup_steps": 0, "free_bits": 0.0},
}


@pytest.fixture(scope="module")
def data() -> TensorDataModule:
    options = {"n": 1000, "dim": 6, "latent_dim": 3}
    data = TensorDataModule("linear_gaussian", batch_size=32, options=options)
    data.setup()
    return data


def module_of(**model: object) -> SemiAmortizedVAE:
    return SemiAmortizedVAE(
        data_shape=(6,),
        data_variance=1.0,
        model=MODEL | model,
        posterior={"name": "diagonal_gaussian"},
        inner={
            "objective": "elbo",
            "optimizer": "levenberg_marquardt",
            "max_steps": 1,
            "test_max_steps": None,
            "rtol": 0.0,
            "atol": 0.0,
            "rho": 1.0,
            "noise": "crn",
            "samples": 2,
        },
        gradient={"name": "stop"},
        encoder_loss={"elbo_at_init": float(model.get("encoder") != "none")},
        optimizer={"lr": 1e-2, "weight_decay": 0.0, "schedule": "constant"},
        evaluation={
            "val_samples": 2,
            "samples": 8,
            "importance_samples": 20,
            "gap_examples": 16,
            "gap_steps": 10,
            "ais_examples": 0,
            "ais_chains": 2,
            "ais_steps": 2,
            "autoencoder_steps": 1,
        },
    )


def test_principal_components_are_the_best_linear_code():
    torch.manual_seed(0)
    x = randn(300, 30) @ randn(30, 30) + 3.0
    eigenvalues = covariance_eigenvalues(x)
    for d in (1, 5, 29):
        assert linear_error(x, x, d) == pytest.approx(float(eigenvalues[d:].sum()) / 30, rel=1e-3)
    assert linear_error(x, x, 40) == pytest.approx(0.0, abs=1e-12)
    # On other examples, the mean is that of the training examples.
    assert linear_error(x, x + 1.0, 40) == pytest.approx(0.0, abs=1e-12)
    assert linear_error(x[:5], x, 10) > 1.0


@pytest.mark.drawn
def test_an_affine_autoencoder_finds_the_principal_components(data: TensorDataModule):
    error = autoencoder_error(module_of(), data, epochs=40)
    best = linear_error(data.split("train"), data.split("test"), 2)
    assert error == pytest.approx(best, rel=0.02)
    assert autoencoder_error(module_of(), data, "train", epochs=1) > 1.02 * best


@pytest.mark.parametrize("encoder", ["mlp", "none"])
def test_it_touches_nothing_and_repeats_itself(data: TensorDataModule, encoder: str):
    module = module_of(encoder=encoder)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.random.get_rng_state()
    with torch.no_grad():
        first = autoencoder_error(module, data, epochs=1)
    linear_error(data.split("train"), data.split("test"), 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in module.parameters())
    torch.manual_seed(99)
    assert autoencoder_error(module, data, epochs=1) == first


def test_it_has_the_architecture_of_the_run():
    network = build_autoencoder(MODEL | {"depth": 3, "encoder_depth": 1}, (6,))
    assert [type(part).__name__ for part in network] == ["MLPEncoder", "MLPDecoder"]
    assert network(randn(4, 6).float()).shape == (4, 6)
    assert len(network[0].trunk) == 2
    assert len(network[1].trunk) == 6
    convolutional = MODEL | {"decoder": "conv", "encoder": "none", "depth": 1}
    names = [type(part).__name__ for part in build_autoencoder(convolutional, (1, 8, 8))]
    assert names == ["ConvolutionalEncoder", "ConvolutionalDecoder"]


def test_its_codes_start_as_those_of_the_prior():
    encoder = build_autoencoder(MODEL | {"depth": 2}, (6,))[0]
    x = randn(200, 6).float()
    assert encoder(x).std(dim=0).max() < 0.5
    standardise_codes(encoder, x)
    torch.testing.assert_close(encoder(x).mean(dim=0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder(x).std(dim=0, correction=0), torch.ones(2))
    # Another kind of network is left as it is.
    standardise_codes(torch.nn.Identity(), x)


def test_no_epochs_are_refused(data: TensorDataModule):
    with pytest.raises(InputError, match="epochs is 0"):
        autoencoder_error(module_of(), data, epochs=0)

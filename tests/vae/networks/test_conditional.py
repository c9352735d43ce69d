"""Decoders that are given the class of an example, against one network for each class."""

import pytest
import torch
from linear_gaussian import linear_gaussian, randn
from semi_amortized import INNER
from torch import Tensor, nn

from savi.config.schema import with_defaults
from savi.errors import InputError
from savi.evaluation.ais import simulate
from savi.evaluation.proposals import laplace_at_mode
from savi.inference.encoder_losses import EncoderObjective
from savi.inference.outer_loss import OuterLoss
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.vae import POSTERIORS, VAE
from savi.vae.build import build_encoder, build_vae
from savi.vae.data_fit import DataFit
from savi.vae.elbo import elbo

D, CLASSES, d = 5, 3, 2
LABELS = torch.tensor([0, 2, 1, 2])


def model_of(likelihood: str = "gaussian") -> VAE:
    torch.manual_seed(0)
    gamma = {"mode": "fixed", "value": 0.3} if likelihood == "gaussian" else {}
    own = {"latent_dim": d, "likelihood": likelihood, "condition": "labels", "gamma": gamma}
    model = with_defaults("model", own | {"hidden": 7})
    made = build_vae(model, (D,), 1.0, classes=CLASSES)
    for parameter in made.decoder.parameters():
        nn.init.normal_(parameter, std=0.6)
    return made.double()


def rows(labels: Tensor = LABELS) -> Tensor:
    return torch.cat([torch.rand(len(labels), D).double().round(), labels[:, None].double()], dim=1)


class OfClass(nn.Module):
    """The decoder of one class alone."""

    def __init__(self, decoder: nn.Module, label: int) -> None:
        super().__init__()
        self.decoder, self.one_hot = decoder, nn.functional.one_hot(torch.tensor(label), CLASSES)

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(torch.cat([z, self.one_hot.double().expand(*z.shape[:-1], -1)], -1))


def of_class(model: VAE, label: int) -> VAE:
    return VAE(OfClass(model.decoder.decoder, label), model.likelihood, d)


def test_a_model_that_is_given_nothing_is_itself():
    problem = linear_gaussian()
    assert problem.model.given(problem.x) is problem.model
    assert DataFit.direct(problem.model, problem.x).network is problem.model.decoder
    assert not problem.model.autoregressive


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "laplace"])
def test_every_example_is_decoded_as_its_class(likelihood: str):
    model, x, z = model_of(likelihood), rows(), randn(4, len(LABELS), d)
    given, fit = model.given(x), DataFit.direct(model, x)
    assert given.given(x) is given
    q = laplace_at_mode(model, x, z[0]) if likelihood != "laplace" else None
    few = torch.tensor([3, 1])
    for n, label in enumerate(LABELS.tolist()):
        alone, own, here = of_class(model, label), x[n : n + 1, :D], z[:, n : n + 1]
        torch.testing.assert_close(given.decode(z)[:, n : n + 1], alone.decode(here))
        torch.testing.assert_close(
            fit(z)[:, n : n + 1], alone.likelihood.log_prob(own, alone.decode(here))
        )
        torch.testing.assert_close(given.gram(z[0])[n : n + 1], alone.gram(here[0]))
        torch.testing.assert_close(fit.gram(z[0])[n : n + 1], alone.gram(here[0]))
        torch.testing.assert_close(model.log_joint(x, z)[:, n : n + 1], alone.log_joint(own, here))
        if q is not None:
            mode = laplace_at_mode(alone, own, here[0])
            torch.testing.assert_close(
                q.scale_tril[n : n + 1], mode.scale_tril, rtol=1e-3, atol=1e-3
            )
    torch.testing.assert_close(fit.rows(few)(z[:, few]), fit(z)[:, few])
    torch.testing.assert_close(given.decode_rows(z, few), given.decode(z)[:, few])
    torch.testing.assert_close(given.mean_rows(z[0], slice(1, 3)), given.mean(z[0])[1:3])
    assert given.decoder_evaluations == model.decoder_evaluations > 0


def test_drawn_examples_keep_the_classes():
    model, like = model_of("bernoulli"), rows()
    z, x = simulate(model, len(like), torch.Generator().manual_seed(0), like)
    assert torch.equal(x[:, D], like[:, D])
    assert torch.isfinite(model.log_joint(x, z[None])).all()
    assert model.sample(len(like), torch.Generator(), like).shape == (len(like), D)


@pytest.mark.parametrize("gradient", ["unrolled", "finite_difference", "ift", "stop"])
@pytest.mark.parametrize("posterior", ["diagonal_gaussian", "laplace"])
def test_the_outer_gradient_of_an_example_is_that_of_its_class(gradient: str, posterior: str):
    """Solves, encoder and bound of a mixed batch are those of the examples one by one."""
    model, x, family = model_of(), rows(), POSTERIORS[posterior](d)
    own = {"latent_dim": d, "condition": "labels", "hidden": 7}
    encoder = build_encoder(
        with_defaults("model", own), (D,), family.num_params, classes=CLASSES
    ).double()
    inner = INNER | {
        "optimizer": "levenberg_marquardt",
        "max_steps": 4 if gradient != "ift" else 30,
        "rtol": 1e-9,
    }
    if gradient == "finite_difference":
        inner = INNER | {"optimizer": "momentum"}
    inner.pop("lr", None) if gradient != "finite_difference" else None
    inner["objective"] = "map" if posterior == "laplace" else "elbo"
    inference = SemiAmortizedInference(encoder, family, inner, {"name": gradient}).double()
    outer = OuterLoss(model, inference, EncoderObjective({"elbo_at_init": 1.0}, inference), 2, 0.0)
    inner_noise, outer_noise = randn(2, len(x), d), randn(2, len(x), d)

    def gradient_of(index: Tensor) -> list[Tensor]:
        step = outer(
            x[index], 1.0,
            inner_noise=lambda _: inner_noise[:, index], outer_noise=outer_noise[:, index],
        )  # fmt: skip
        parameters = [*model.decoder.parameters(), *encoder.parameters()]
        return list(torch.autograd.grad(step.loss, parameters))

    together = gradient_of(torch.arange(len(x)))
    single = [gradient_of(torch.tensor([n])) for n in range(len(x))]
    for whole, *parts in zip(together, *single, strict=True):
        torch.testing.assert_close(whole, torch.stack(parts).mean(0), rtol=1e-5, atol=1e-7)


def test_the_bound_of_a_labelled_model_is_the_sum_of_those_of_its_classes():
    model, x = model_of(), rows()
    q = POSTERIORS["diagonal_gaussian"](d).distribution(randn(len(x), 2 * d), model)
    noise = randn(3, len(x), d)
    bound = elbo(model, q, x, noise)
    for n, label in enumerate(LABELS.tolist()):
        part = slice(n, n + 1)
        alone = elbo(of_class(model, label), q[part], x[part, :D], noise[:, part])
        torch.testing.assert_close(bound.elbo[part], alone.elbo)
        torch.testing.assert_close(bound.squared_error[part], alone.squared_error)


def test_networks_and_data_without_labels_are_refused():
    with pytest.raises(InputError, match=r"'labels' with data that have none: choose data"):
        build_vae(with_defaults("model", {"condition": "labels"}), (D,), 1.0)
    conv = with_defaults("model", {"condition": "labels", "decoder": "conv"})
    with pytest.raises(InputError, match=r"with model.decoder 'conv', which takes no labels: set"):
        build_vae(conv, (1, 8, 8), 1.0, classes=2)

"""Semi-amortised inference through an LSTM: unrolled, by differences, and as Kim et al. do it."""

from collections.abc import Callable

import pytest
import torch
from linear_gaussian import randn
from lstm_models import d, lstm_encoder, lstm_vae, sequences
from semi_amortized import INNER
from torch import Tensor

from savi.inference.encoder_losses import EncoderObjective
from savi.inference.negative_elbo import NegativeELBO
from savi.inference.outer_loss import OuterLoss
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.vae import POSTERIORS, VAE
from savi.vae.distributions import common_noise

FAMILY = POSTERIORS["diagonal_gaussian"](d)
#: As in Kim et al. (2018) for text.
KIM = {"optimizer": "momentum", "momentum": 0.5, "lr": 0.3, "max_steps": 20}


def outer_loss(gradient: dict, length: int | None = None, **inner) -> OuterLoss:
    sizes = {} if length is None else {"length": length}
    settings = INNER | {"samples": 1} | inner
    if settings["optimizer"] not in ("gd", "momentum"):
        del settings["lr"]
    inference = SemiAmortizedInference(
        lstm_encoder(2 * d, **sizes), FAMILY, settings, gradient
    ).double()
    through = EncoderObjective({"through": 1.0, "elbo_at_init": 1.0}, inference)
    return OuterLoss(lstm_vae(**sizes), inference, through, 2, 0.0)


def gradient_of(outer: OuterLoss, x: Tensor, rows: Tensor | None = None) -> list[Tensor]:
    """That of the outer loss in encoder and decoder, with noise that belongs to the examples."""
    source = torch.Generator().manual_seed(5)
    inner, own = (torch.randn(s, 3, d, generator=source, dtype=x.dtype).to(x) for s in (1, 2))
    index = torch.arange(len(x)) if rows is None else rows
    step = outer(x, 1.0, inner_noise=lambda _: inner[:, index], outer_noise=own[:, index])
    parameters = [*outer.model.decoder.parameters(), *outer.inference.encoder.parameters()]
    found = torch.autograd.grad(step.loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize(
    ("gradient", "inner"),
    [
        ({"name": "unrolled"}, {"optimizer": "adam", "lr": 0.05}),
        ({"name": "finite_difference"}, KIM | {"max_steps": 4}),
        ({"name": "stop"}, {"optimizer": "levenberg_marquardt"}),
        ({"name": "ift", "solver": "cg", "rtol": 1e-12},
         {"optimizer": "levenberg_marquardt", "objective": "proximal", "max_steps": 30,
          "rtol": 1e-9}),
    ],
)  # fmt: skip
def test_padding_has_no_part_in_the_outer_gradient(gradient: dict, inner: dict):
    x, parts = sequences(), []
    together = gradient_of(outer_loss(gradient, **inner), x)
    for n, length in enumerate((4, 2, 3)):
        row, outer = torch.tensor([n]), outer_loss(gradient, length=length, **inner)
        parts.append(gradient_of(outer, x[n : n + 1, :length], row))
    for whole, *single in zip(together, *parts, strict=True):
        torch.testing.assert_close(whole, torch.stack(single).mean(0), rtol=1e-5, atol=1e-8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["unrolled", "finite_difference", "ift"])
def test_a_gpu_gives_the_same_gradients(name: str):
    """Second derivatives through time, which cuDNN's own LSTM does not have."""
    settings = KIM if name != "ift" else {"optimizer": "newton", "objective": "proximal"}
    found = []
    for device in ("cpu", "cuda"):
        outer = outer_loss({"name": name}, **settings | {"max_steps": 8})
        outer.model.to(device)
        outer.inference.to(device)
        found.append([g.cpu() for g in gradient_of(outer, sequences().to(device))])
    torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=1e-9)


def test_differences_agree_with_unrolling():
    x = sequences()
    exact = gradient_of(outer_loss({"name": "unrolled"}, **KIM), x)
    differences = gradient_of(outer_loss({"name": "finite_difference"}, **KIM), x)
    size = max(float(g.abs().max()) for g in exact)
    for one, other in zip(exact, differences, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 * size)


def test_an_implicit_gradient_agrees_with_a_long_unrolled_solve():
    x = sequences()
    inner = {"objective": "proximal", "optimizer": "levenberg_marquardt", "rtol": 1e-10, "rho": 2.0}
    inner["max_steps"] = 30
    implicit = [
        gradient_of(outer_loss({"name": "ift", "solver": s, "rtol": 1e-12}, **inner), x)
        for s in ("cg", "cholesky")
    ]
    long = {"objective": "proximal", "optimizer": "gd", "lr": 0.2, "max_steps": 120, "rho": 2.0}
    unrolled = gradient_of(outer_loss({"name": "unrolled"}, **long), x)
    for by_cg, by_factor, by_steps in zip(*implicit, unrolled, strict=True):
        torch.testing.assert_close(by_cg, by_factor, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(by_cg, by_steps, rtol=1e-5, atol=1e-7)


def kims_own(
    objective: Callable[[Tensor, Tensor], Tensor],
    init: tuple[Tensor, Tensor],
    parameters: list,
    *,
    lr: float,
    momentum: float,
    iters: int,
    max_norm: float,
    eps: float,
) -> tuple[tuple[Tensor, Tensor], Callable]:
    """Algorithm 2 of Kim et al. (2018): momentum forwards, forward differences backwards.

    The gradients of mean and log variance are clipped, which nothing here is large enough for.
    """
    point, speed, passed = init, tuple(torch.zeros_like(x) for x in init), []

    def derivatives(at: tuple[Tensor, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        at = tuple(x.detach().requires_grad_() for x in at)
        found = torch.autograd.grad(objective(*at), [*at, *parameters])
        for g in found[:2]:
            assert g.norm() < max_norm
        return list(found[:2]), list(found[2:])

    for _ in range(iters):
        slopes, weights = derivatives(point)
        passed.append((point, slopes, weights))
        speed = tuple(momentum * v - g for v, g in zip(speed, slopes, strict=True))
        point = tuple(x + lr * v for x, v in zip(point, speed, strict=True))

    def backward(cotangent: tuple[Tensor, Tensor]) -> tuple[tuple, list[Tensor]]:
        u, v = cotangent, tuple(torch.zeros_like(x) for x in cotangent)
        total = [torch.zeros_like(p) for p in parameters]
        for at, slopes, weights in reversed(passed):
            v = tuple(b + lr * a for a, b in zip(u, v, strict=True))
            moved = tuple(x + eps * b for x, b in zip(at, v, strict=True))
            slopes_there, weights_there = derivatives(moved)
            total = [
                t - (there - here) / eps
                for t, there, here in zip(total, weights_there, weights, strict=True)
            ]
            u = tuple(
                a - (there - here) / eps
                for a, there, here in zip(u, slopes_there, slopes, strict=True)
            )
            v = tuple(momentum * b for b in v)
        return u, total

    return point, backward


def test_the_optimiser_of_kim_et_al_gives_the_same_gradients():
    """Momentum 0.5, clipping at 5, K = 20, and the product with the Hessian by differences."""
    model, x, init = lstm_vae(), sequences(), (0.3 * randn(3, 2 * d))
    noise = common_noise(1, x.new_zeros(3, d), torch.Generator().manual_seed(0))
    cotangent = randn(3, 2 * d)
    parameters = list(model.decoder.parameters())

    def total(mean: Tensor, log_variance: Tensor) -> Tensor:
        z = mean + (0.5 * log_variance).exp() * noise(0)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return kl - model.likelihood(x, model.given(x).decode(z))[0].sum()

    point, backward = kims_own(
        total, init.chunk(2, dim=-1), parameters,
        lr=KIM["lr"], momentum=0.5, iters=20, max_norm=5.0, eps=1e-7,
    )  # fmt: skip
    of_init, of_weights = backward(cotangent.chunk(2, dim=-1))
    outer = outer_loss({"name": "finite_difference"}, **KIM)
    start = init.clone().requires_grad_()
    value = solved(outer, model, x, start, noise)
    torch.testing.assert_close(value.detach(), torch.cat(point, dim=-1), rtol=0, atol=1e-12)
    found = torch.autograd.grad((value * cotangent).sum(), [start, *parameters])
    expected = [torch.cat(of_init, dim=-1), *of_weights]
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-6, atol=1e-6)


def solved(outer: OuterLoss, model: VAE, x: Tensor, init: Tensor, noise) -> Tensor:
    inference = outer.inference
    return inference(model, x, max_steps=inference.max_steps, init=init, noise=noise).value


def test_curvatures_of_the_inner_problem_are_right():
    model, x = lstm_vae(), sequences()
    noise = common_noise(2, x.new_zeros(3, d), torch.Generator().manual_seed(0))
    objective, y = NegativeELBO(model, FAMILY, x, noise), 0.3 * randn(3, 2 * d)
    exact = objective.exact_curvature(y)
    h = 1e-5
    for i in range(2 * d):
        step = torch.zeros(2 * d).double()
        step[i] = h
        ends = [objective.gradient(y + sign * step)[1] for sign in (1, -1)]
        torch.testing.assert_close(
            exact[:, :, i], (ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-7
        )
    assert (torch.linalg.eigvalsh(objective.curvature(y)) > 0).all()
    few = torch.tensor([2, 0])
    torch.testing.assert_close(objective.rows(few)(y[few]), objective(y)[few])

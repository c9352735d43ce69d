"""A user's network is looked at once, before any work."""

import pytest
import torch
from torch import nn

from savi.errors import InputError
from savi.vae.networks.probe import probe


class Once(torch.autograd.Function):
    """Twice the input, with a first derivative alone."""

    @staticmethod
    def forward(ctx, x):
        return 2.0 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2.0 * gradient


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def chain(*layers, width=5):
    return nn.Sequential(nn.Linear(3, width), *layers, nn.Linear(width, 2))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (chain(nn.BatchNorm1d(5)), "lets examples of a batch influence each other"),
        (chain(nn.BatchNorm1d(4), width=4), "lets examples of a batch influence each other"),
        (chain(Applied(lambda h: h - h.mean(dim=0).detach())), "influence each other"),
        (chain(nn.Dropout(0.5)), "gives other outputs at a second call"),
        (nn.Linear(3, 4), r"returns shape \(4, 4\) for inputs of shape \(4, 3\): return \(4, 2\)"),
        (nn.Linear(4, 2), r"fails on inputs of shape \(4, 3\) with RuntimeError"),
        (chain(nn.Flatten()), r"fails on inputs of shape \(2, 4, 3\)"),
        (chain(Applied(Once.apply)), "cannot be differentiated twice"),
        (Applied(lambda x: torch.ones(*x.shape[:-1], 2)), "has no derivative"),
    ],
)
def test_what_no_inner_problem_could_use_is_refused(network, message):
    with pytest.raises(InputError, match=f"model.decoder 'mine' .*{message}"):
        probe(network, "model.decoder 'mine'", 3, 2, twice=True)


def test_an_encoder_needs_no_second_derivative():
    probe(chain(Applied(Once.apply)), "model.encoder 'mine'", 3, 2, twice=False)


def test_nothing_is_left_changed():
    network = chain(nn.Tanh(), nn.BatchNorm1d(5, momentum=0.5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(InputError):
        probe(network, "it", 3, 2, twice=True)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())

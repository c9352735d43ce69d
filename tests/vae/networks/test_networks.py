"""What every decoder and encoder promises, whichever it is."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, jvp, vmap

from savi.errors import InputError
from savi.vae.networks import ACTIVATIONS, DECODERS, ENCODERS

# PyTorch's own forward-mode formulas are compiled by its deprecated torch.jit.script at first use.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")

NAMES = ["mlp", "residual_mlp", "conv", "resnet"]
FLAT = ["mlp", "residual_mlp"]
IMAGES = ["conv", "resnet"]
LEADING = [(), (3,), (2, 3), (2, 1, 3), (0,)]
LATENT = 3


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randomised(network: nn.Module) -> nn.Module:
    """In double precision with every parameter away from its start, where whole branches are 0."""
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.4)
    return network


def tiny_decoder(name: str, *, depth: int = 2, activation: str = "softplus") -> nn.Module:
    return randomised(
        DECODERS[name](LATENT, (1, 4, 3), hidden=2, depth=depth, activation=activation)
    )


def tiny_encoder(name: str, *, depth: int = 2, activation: str = "softplus") -> nn.Module:
    return randomised(ENCODERS[name]((1, 4, 3), 2, hidden=2, depth=depth, activation=activation))


def tiny_networks() -> list:
    return [
        pytest.param(build, name, width, id=f"{build.__name__}-{name}")
        for build, width in ((tiny_decoder, LATENT), (tiny_encoder, 12))
        for name in NAMES
    ]


def test_the_registries_hold_these_names():
    # An LSTM is of sequences: see test_lstm.
    assert set(DECODERS) == set(ENCODERS) == {*NAMES, "lstm"}


@pytest.mark.parametrize("leading", LEADING, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_shapes_for_any_leading_dimensions(name: str, leading: tuple[int, ...]):
    shape = (2, 5, 7)
    decoder = DECODERS[name](LATENT, shape, hidden=2, depth=2, activation="relu")
    encoder = ENCODERS[name](shape, 5, hidden=2, depth=2, activation="relu")
    mean = decoder(torch.randn(*leading, LATENT))
    assert mean.shape == (*leading, 70)
    assert encoder(mean).shape == (*leading, 5)


@pytest.mark.parametrize(("build", "name", "width"), tiny_networks())
def test_an_output_does_not_depend_on_the_rest_of_the_batch(build, name: str, width: int):
    network = build(name)
    inputs = torch.randn(2, 3, width, dtype=torch.float64)
    outputs = network(inputs)
    assert outputs.std() > 1e-3
    one_by_one = torch.stack([network(example) for example in inputs.flatten(0, 1)])
    torch.testing.assert_close(outputs.flatten(0, 1), one_by_one, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(vmap(vmap(network))(inputs), outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("build", "name", "width"), tiny_networks())
def test_trunk_and_affine_head_compose_to_the_network(build, name: str, width: int):
    network = build(name)
    inputs = torch.randn(4, width, dtype=torch.float64)
    h = network.trunk(inputs)
    assert torch.equal(network.head(h), network(inputs))
    assert is_affine(network.head, h.shape[-1])
    assert not is_affine(network, width)


@pytest.mark.parametrize("name", FLAT)
def test_the_head_of_a_flat_decoder_is_linear(name: str):
    assert isinstance(tiny_decoder(name).head, nn.Linear)


def is_affine(network: nn.Module, width: int) -> bool:
    a, b = torch.randn(2, 5, width, dtype=torch.float64)
    middle = (network(3 * a) + network(-3 * b)) / 2
    return torch.allclose(network((3 * a - 3 * b) / 2), middle, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("build", "name", "width"), tiny_networks())
def test_depth_0_is_affine_and_therefore_smooth(build, name: str, width: int, activation: str):
    network = build(name, depth=0, activation=activation)
    assert is_affine(network, width)
    assert network.is_smooth
    assert build(name, depth=1, activation=activation).is_smooth == (activation == "tanh")


@pytest.mark.parametrize(("build", "name", "width"), tiny_networks())
def test_jacobians_of_torch_func_and_autograd_agree(build, name: str, width: int):
    network = build(name)
    inputs = torch.randn(3, width, dtype=torch.float64)
    basis = torch.eye(width, dtype=torch.float64)

    def forward_jacobian(example: Tensor) -> Tensor:
        columns = vmap(lambda v: jvp(network, (example,), (v,))[1])(basis)
        return columns.T

    reference = torch.stack(
        [torch.autograd.functional.jacobian(network, example) for example in inputs]
    )
    assert reference.abs().max() > 1e-3
    torch.testing.assert_close(vmap(forward_jacobian)(inputs), reference)
    torch.testing.assert_close(vmap(jacrev(network))(inputs), reference)


@pytest.mark.parametrize(("build", "name", "width"), tiny_networks())
def test_second_derivatives(build, name: str, width: int):
    network = build(name)
    inputs = torch.randn(2, width, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, inputs)
    assert torch.autograd.gradgradcheck(network, inputs)


@pytest.mark.parametrize(("build", "name", "width"), tiny_networks())
def test_double_backward_reaches_the_parameters(build, name: str, width: int):
    network = build(name)
    inputs = torch.randn(2, width, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(inputs).square().sum(), inputs, create_graph=True)
    derivatives = torch.autograd.grad(gradient.square().sum(), list(network.parameters()))
    assert all(derivative.abs().max() > 0 for derivative in derivatives)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation_has_all_derivatives(activation: str):
    decoder = tiny_decoder("resnet", activation=activation)
    z = torch.randn(2, LATENT, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(decoder, z)
    jacobian = vmap(jacrev(decoder))(z.detach())
    tangents = torch.eye(LATENT, dtype=torch.float64)
    columns = vmap(lambda v: jvp(decoder, (z.detach(),), (v.expand_as(z),))[1])(tangents)
    torch.testing.assert_close(columns.movedim(0, -1), jacobian)


@pytest.mark.parametrize("name", NAMES)
def test_no_normalisation_over_the_batch_and_no_dropout(name: str):
    decoder = DECODERS[name](LATENT, (1, 8, 8), hidden=4, depth=2, activation="silu")
    z = torch.randn(2, LATENT)
    assert list(decoder.buffers()) == []
    assert torch.equal(decoder.train()(z), decoder.eval()(z))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_start_small_but_alive(name: str):
    shape, examples = (1, 28, 28), 256
    sizes = {"hidden": 32, "depth": 2, "activation": "gelu"}
    mean = DECODERS[name](16, shape, **sizes)(torch.randn(examples, 16))
    assert 0.03 < mean.std() < 0.2
    outputs = ENCODERS[name](shape, 32, **sizes)(torch.rand(examples, math.prod(shape)))
    assert 0.01 < outputs.std() < 0.2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"latent_dim": 0}, "latent_dim is 0: set it to an integer >= 1"),
        ({"hidden": 0}, "hidden is 0: set it to an integer >= 1"),
        ({"depth": -1}, "depth is -1: set it to an integer >= 0"),
        ({"depth": 0, "activation": "mish"}, "unknown activation 'mish': choose one of elu, gelu"),
        ({"data_shape": ()}, r"data_shape is \(\): set it to the shape of one example"),
        ({"data_shape": (1, 0, 4)}, r"data_shape is \(1, 0, 4\): set it to the shape"),
    ],
    ids=str,
)
def test_refusals(name: str, wrong: dict, message: str):
    right = {"data_shape": (1, 4, 4), "hidden": 2, "depth": 1, "activation": "relu"}
    with pytest.raises(InputError, match=message):
        DECODERS[name](**{"latent_dim": 2, **right, **wrong})
    wrong = {"out_dim" if key == "latent_dim" else key: size for key, size in wrong.items()}
    with pytest.raises(InputError, match=message.replace("latent_dim", "out_dim")):
        ENCODERS[name](**{"out_dim": 2, **right, **wrong})

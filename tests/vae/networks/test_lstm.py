"""The LSTMs against PyTorch's own, against each other without padding, and as probabilities."""

from itertools import product

import pytest
import torch
from linear_gaussian import randn
from lstm_models import L, T, d, lstm_encoder, lstm_vae, sequences
from torch import Tensor, nn

from savi.errors import InputError, SettingError
from savi.evaluation.ais import simulate
from savi.vae import DECODERS, ENCODERS
from savi.vae.build import build_vae
from savi.vae.data_fit import DataFit
from savi.vae.networks.lstm import Cell, LSTMDecoder


def test_the_cell_is_that_of_pytorch():
    own, reference = Cell(3).double(), nn.LSTMCell(2, 3).double()
    inputs, h, c = randn(4, 2), randn(4, 3), randn(4, 3)
    with torch.no_grad():
        own.recurrent.copy_(reorder(reference.weight_hh))
        own.bias.copy_(reorder(reference.bias_hh + reference.bias_ih))
    gates = inputs @ reorder(reference.weight_ih).T + own.bias
    for mine, theirs in zip(own(gates, h, c), reference(inputs, (h, c)), strict=True):
        torch.testing.assert_close(mine, theirs)


def reorder(weight: Tensor) -> Tensor:
    """From the order i, f, u, o to i, f, o, u."""
    i, f, u, o = weight.chunk(4)
    return torch.cat([i, f, o, u])


def test_the_encoder_reads_up_to_the_last_word():
    encoder, x = lstm_encoder(4), sequences()
    for n, length in enumerate((4, 2, 3)):
        torch.testing.assert_close(encoder(x)[n], encoder(x[n : n + 1, :length])[0])
    assert encoder(x.expand(2, *x.shape)).shape == (2, 3, 4)


def test_an_output_sees_the_code_and_the_words_before_it():
    model, x, z = lstm_vae(), sequences((T, T)), randn(3, 2, d)
    before = model.given(x).decode(z).unflatten(-1, (T, L))
    for t in range(T):
        other = x.clone()
        other[:, t:] = (other[:, t:] + 0.25) % 1.25
        after = model.given(other).decode(z).unflatten(-1, (T, L))
        assert torch.equal(after[..., : t + 1, :], before[..., : t + 1, :])
        assert (after[..., t + 1 :, :] != before[..., t + 1 :, :]).any(-1).all()
    moved = model.given(x).decode(z + 0.1).unflatten(-1, (T, L))
    assert (moved != before).any(-1).all()


def test_the_probabilities_of_all_sequences_add_up_to_one():
    model, z = lstm_vae(3, 3), randn(1, 1, d)
    x = torch.tensor(list(product(range(3), repeat=3))).double() / 2
    log_p = model.likelihood(x, model.given(x).decode(z.expand(1, len(x), d)))[0]
    torch.testing.assert_close(log_p.logsumexp(dim=1), torch.zeros(1).double())


def test_padding_has_no_part_in_log_p_and_its_derivatives():
    model, x, z = lstm_vae(), sequences(), randn(2, 3, d).requires_grad_()
    fit = DataFit.direct(model, x)
    value = fit(z)
    parameters = list(model.decoder.parameters())
    whole = torch.autograd.grad(value.sum(), [z, *parameters])
    parts = [torch.zeros_like(p) for p in parameters]
    for n, length in enumerate((4, 2, 3)):
        short, code = lstm_vae(length), z[:, n : n + 1]
        alone = DataFit.direct(short, x[n : n + 1, :length])
        torch.testing.assert_close(alone(code), value[:, n : n + 1])
        slope, *own = torch.autograd.grad(alone(code).sum(), [code, *short.decoder.parameters()])
        torch.testing.assert_close(slope, whole[0][:, n : n + 1])
        parts = [part + one for part, one in zip(parts, own, strict=True)]
        torch.testing.assert_close(fit.gram(z[0])[n], alone.gram(code[0])[0])
        torch.testing.assert_close(model.given(x).gram(z[0])[n], alone.gram(code[0])[0])
    for found, part in zip(whole[1:], parts, strict=True):
        torch.testing.assert_close(found, part)


def test_derivatives_of_any_order_are_there():
    model, x, z = lstm_vae(), sequences(), (0.5 * randn(1, 3, d)).requires_grad_()
    fit = DataFit.direct(model, x)
    assert torch.autograd.gradcheck(fit, z)
    assert torch.autograd.gradgradcheck(fit, z)
    given, o = model.given(x), model.given(x).decode(z)
    rows = torch.autograd.functional.jacobian(lambda z: given.decode(z)[0].sum(0), z)[:, 0]
    p = o[0].detach().unflatten(-1, (T, L)).softmax(-1)
    fisher = torch.stack(
        [torch.block_diag(*(torch.diag(q) - torch.outer(q, q) for q in one)) for one in p]
    )
    rows = rows.permute(1, 2, 0)
    torch.testing.assert_close(given.gram(z[0]).detach(), rows @ fisher @ rows.mT)


def test_words_are_dropped_once_for_a_batch_in_training_alone():
    model, x = lstm_vae(length=50, word_dropout=0.3), sequences((50, 30), 50)
    words = model.decoder.tokens(x)
    assert torch.equal(model.eval().given(x).decoder.context, words)
    given = model.train().given(x)
    dropped = given.decoder.context == L
    assert 0.1 < float(dropped.double().sum() / 80) < 0.5
    assert torch.equal(given.decoder.context[~dropped], words[~dropped])
    assert not dropped[1, 30:].any()
    assert given.given(x).decoder.context is given.decoder.context
    assert DataFit.direct(given, x).network.context is given.decoder.context
    assert not torch.equal(model.given(x).decoder.context, given.decoder.context)


def test_drawn_sequences_have_the_lengths_and_the_probabilities():
    model = lstm_vae(2, 3)
    like = torch.tensor([[0.0, 0.0], [0.0, -0.5]]).double().repeat(2_000, 1)
    z, x = simulate(model, len(like), torch.Generator().manual_seed(0), like)
    assert torch.equal(x < 0, like < 0)
    same = torch.zeros(len(like), d).double()
    x = model.draw(same, torch.Generator().manual_seed(0), like)[::2]
    pairs = torch.tensor(list(product(range(3), repeat=2))).double() / 2
    p = model.likelihood(pairs, model.given(pairs).decode(same[None, :9]))[0][0].exp()
    counts = torch.stack([(x == pair).all(1).double().mean() for pair in pairs])
    assert ((counts - p).abs() < 4.5 * (p * (1 - p) / len(x)).sqrt()).all()
    assert z.shape == same.shape


def test_what_it_cannot_be_made_of_is_refused():
    for name, registry in (("lstm", DECODERS), ("lstm", ENCODERS)):
        with pytest.raises(InputError, match=r"data_shape is \(3,\): give \(length, levels\)"):
            registry[name](*((2, (3,)) if registry is DECODERS else ((3,), 2)), hidden=2)
    with pytest.raises(SettingError, match="hidden is 0"):
        LSTMDecoder(2, (3, 4), hidden=0)
    with pytest.raises(SettingError, match="word_dropout is 1"):
        LSTMDecoder(2, (3, 4), hidden=2, word_dropout=1.0)
    model = {"decoder": "lstm", "latent_dim": 2, "hidden": 3}
    with pytest.raises(InputError, match=r"with model.likelihood 'gaussian': set"):
        build_vae(model | {"likelihood": "gaussian"}, (3,), 1.0)
    with pytest.raises(InputError, match="'lstm' is for sequences, and the data are images of 1×8"):
        build_vae(model | {"likelihood": "categorical"}, (1, 8, 8), 1.0, levels=4)


@pytest.mark.parametrize("lengths", [(T, T, T), (4, 2, 3)])
def test_the_gradient_without_a_graph_is_that_of_autograd(lengths: tuple[int, ...]):
    model, x, z = lstm_vae(), sequences(lengths), randn(2, 3, d).requires_grad_()
    fit = DataFit.direct(model, x)
    values = fit(z)
    (slope,) = torch.autograd.grad(values.sum(), z)
    torch.testing.assert_close(fit.gradient(z.detach()), (values.detach(), slope))
    torch.testing.assert_close(fit.gradient(z[0].detach()), (values[0].detach(), slope[0]))
    few = fit.rows(torch.tensor([2, 0]))
    torch.testing.assert_close(few.gradient(z[:, [2, 0]].detach())[1], slope[:, [2, 0]])
    # What no z changes is kept for one batch alone.
    with torch.no_grad():
        model.decoder.words.mul_(2.0)
    again = DataFit.direct(model, x)
    torch.testing.assert_close(again.gradient(z.detach())[0], again(z).detach())


def test_whoever_looks_on_or_changes_a_part_sees_every_evaluation():
    class Louder(LSTMDecoder):
        def forward(self, z, context):
            return 2.0 * super().forward(z, context)

    model, x = lstm_vae(), sequences()
    assert DataFit.direct(model, x).first is not None
    handle = model.decoder.head.register_forward_hook(lambda *_: None)
    assert DataFit.direct(model, x).first is None
    handle.remove()
    model.decoder.__class__ = Louder
    assert DataFit.direct(model, x).first is None


def test_what_no_code_changes_is_computed_once_for_one_backward(monkeypatch):
    model, x, z = lstm_vae(), sequences(), randn(2, 3, d).requires_grad_()
    fit, read = DataFit.direct(model, x), []
    whole = LSTMDecoder.seen
    monkeypatch.setattr(LSTMDecoder, "seen", lambda *given: read.append(1) or whole(*given))

    def gradients(fit: DataFit) -> tuple[Tensor, ...]:
        total = 0.0
        for code in (z, 0.5 * z):
            (slope,) = torch.autograd.grad(fit(code).sum(), code, create_graph=True)
            total = total + slope.square().sum() + fit(code).sum()
        return torch.autograd.grad(total, [z, *model.decoder.parameters()])

    expected, apart = gradients(fit), len(read)
    found = gradients(fit.for_one_backward())
    assert (apart, len(read) - apart) == (4, 1)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)

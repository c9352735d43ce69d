"""The BFGS pairs: the secant equation, the two forms of the estimate, and what is left out."""

import pytest
import torch
from inner_problems import randn, spd

from savi.inner.optimizers.lbfgs import Pairs


def filled(history=4, moves=3, batch=2, size=5, seed=0):
    """Pairs of a quadratic, whose Hessian comes along."""
    hessian = spd(batch, size, seed=seed)
    pairs = Pairs.none(randn(batch, size, seed=0), history)
    for index in range(moves):
        s = randn(batch, size, seed=10 + index)
        pairs, _ = pairs.followed_by(s, torch.einsum("bij,bj->bi", hessian, s))
    return pairs, hessian, s


@pytest.mark.parametrize("moves", [0, 1, 3, 4, 7])
def test_the_matrix_is_the_inverse(moves):
    pairs = Pairs.none(randn(2, 5, seed=0), 4) if moves == 0 else filled(moves=moves)[0]
    matrix, v = pairs.matrix(), randn(2, 5, seed=1)
    product = pairs.inverse_product(torch.einsum("bij,bj->bi", matrix, v))
    torch.testing.assert_close(product, v)
    torch.testing.assert_close(matrix, matrix.mT)
    assert (torch.linalg.eigvalsh(matrix) > 0).all()
    assert (pairs.known == (moves > 0)).all()


@pytest.mark.parametrize("metric", [None, lambda v: v * torch.arange(1.0, 6.0).double()])
def test_the_newest_pair_fulfils_the_secant_equation(metric):
    pairs, hessian, s = filled(moves=6)
    change = torch.einsum("bij,bj->bi", hessian, s)
    torch.testing.assert_close(pairs.inverse_product(change, metric), s)


def test_the_metric_is_where_the_estimate_begins():
    v = randn(2, 5, seed=1)
    assert torch.equal(Pairs.none(v, 3).inverse_product(v, torch.sin), v.sin())
    # With u = Hs and M = H⁻¹ the scale is 1, and there is nothing to learn.
    pairs, hessian, _ = filled(moves=3)
    inverse = torch.linalg.inv(hessian)
    product = pairs.inverse_product(v, lambda u: torch.einsum("bij,bj->bi", inverse, u))
    torch.testing.assert_close(product, torch.einsum("bij,bj->bi", inverse, v))


def test_the_scale_of_a_pair_does_not_matter():
    """Nor does it underflow."""
    v, s, u = randn(1, 5, seed=1), randn(1, 5, seed=2), randn(1, 5, seed=2) + 0.1
    plain, tiny = (Pairs.none(v, 2).followed_by(c * s, c * u)[0] for c in (1.0, 1e-200))
    torch.testing.assert_close(tiny.inverse_product(v), plain.inverse_product(v))


def test_pairs_without_curvature_are_left_out():
    pairs, _, _ = filled()
    s = randn(2, 5, seed=3)
    for other in (-s, torch.zeros_like(s), torch.full_like(s, torch.nan)):
        same, new = pairs.followed_by(s, other)
        assert all(torch.equal(a, b) for a, b in zip(same, pairs, strict=True))
        assert not new.any()
    mixed, new = pairs.followed_by(s, torch.stack([s[0], -s[1]]))
    assert new.tolist() == [True, False]
    assert torch.equal(mixed.moves[1], pairs.moves[1])
    torch.testing.assert_close(mixed.moves[0, -1], s[0] / s[0].norm())
    torch.testing.assert_close(mixed.moves[0, :-1], pairs.moves[0, 1:])


def test_pairs_can_be_forgotten():
    pairs = filled()[0].forgotten(torch.tensor([True, False]))
    assert pairs.known.tolist() == [False, True]
    v = randn(2, 5, seed=1)
    assert torch.equal(pairs.inverse_product(v)[0], v[0])


def test_gradient():
    inputs = [randn(2, 3, seed=seed).requires_grad_() for seed in range(3)]

    def product(v, s, other):
        pairs = Pairs.none(v, 2)
        for move in (s, other):
            pairs, _ = pairs.followed_by(move, 2.0 * move + 0.3 * move.flip(-1))
        return pairs.inverse_product(v), pairs.matrix()

    torch.autograd.gradcheck(product, inputs)

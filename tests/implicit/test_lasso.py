"""The derivative of the lasso's solution, with scikit-learn's solver and paths as oracles."""

import math
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import lars_path

from savi.gradients import ImplicitGradientError, ImplicitGradientWarning, SmoothnessNote

SCRIPT = Path(__file__).parents[2] / "scripts" / "examples" / "lasso.py"

# F is made of clamps, and the certificate says so each time.
pytestmark = pytest.mark.filterwarnings("ignore::savi.implicit.reporter.SmoothnessNote")


@pytest.fixture(scope="module")
def lasso():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope="module")
def folds(lasso):
    return lasso.cross_validation()


def made(lasso, batch=3, n=30, size=8, seed=0):
    """Small data sets of their own, [B, n, P]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, n, size, generator=generator, dtype=torch.float64)
    w = torch.zeros(batch, size, dtype=torch.float64)
    w[:, :3] = torch.tensor([2.0, -1.0, 0.5])
    noise = torch.randn(batch, n, generator=generator, dtype=torch.float64)
    return lasso.LeastSquares(x, (x @ w.unsqueeze(-1)).squeeze(-1) + 0.3 * noise)


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.02])
def test_the_closed_form_and_finite_differences(lasso, folds, fraction):
    train, _ = folds
    closed, measured = lasso.check(train, fraction * lasso.largest_penalty(train))
    assert closed < 1e-11
    assert measured < 1e-6


def test_every_row_has_its_own_penalty(lasso):
    data = made(lasso)
    alpha = torch.tensor([0.02, 0.1, 0.4], dtype=torch.float64)
    w = lasso.fit(data, alpha)
    assert len(set((w != 0).sum(dim=-1).tolist())) > 1
    rows = torch.autograd.functional.jacobian(
        lambda alpha: lasso.differentiable(data, w, alpha, on_failure="raise").value, alpha
    )
    expected = lasso.slope(data, w).unsqueeze(-1) * torch.eye(3, dtype=w.dtype).unsqueeze(1)
    torch.testing.assert_close(rows, expected, rtol=1e-11, atol=1e-11)


def test_the_slope_is_that_of_the_path(lasso, folds):
    """The path is piecewise linear in α, and LARS computes it exactly, knot by knot."""
    knots, path = lars(folds[0], 0)
    middle = (knots[3:13] + knots[4:14]) / 2
    data = repeated(lasso, folds[0], 0, len(middle))
    w = torch.from_numpy((path[3:13] + path[4:14]) / 2)
    alpha = torch.from_numpy(middle).requires_grad_()
    solution = lasso.differentiable(data, w, alpha, on_failure="raise")
    expected = np.diff(path, axis=0)[3:13] / np.diff(knots)[3:13, None]
    torch.testing.assert_close(
        lasso.jacobian(solution, alpha), torch.from_numpy(expected), rtol=1e-8, atol=1e-9
    )
    assert solution.certificate.kinks == ("clamp",)


def test_the_note_on_kinks(lasso):
    data, alpha = made(lasso, batch=1), torch.tensor([0.1], dtype=torch.float64)
    with pytest.warns(SmoothnessNote, match="clamp"):
        lasso.differentiable(data, lasso.fit(data, alpha), alpha)


def test_the_hypergradient_by_finite_differences(lasso, folds):
    validation = lasso.Validation(*folds)
    log_alpha, h = math.log(0.05), 1e-5
    _, gradient = validation(log_alpha)
    above, below = validation(log_alpha + h)[0], validation(log_alpha - h)[0]
    assert gradient == pytest.approx((above - below) / (2 * h), rel=1e-6)
    assert validation.fits == 3 * lasso.FOLDS


def lars(data, fold):
    """The knots of a fold's path, and the solutions there, by scikit-learn."""
    knots, _, path = lars_path(data.x[fold].numpy(), data.y[fold].numpy(), method="lasso")
    return knots, path.T.copy()


def repeated(lasso, data, fold, count):
    """The same fold ``count`` times."""
    return lasso.LeastSquares(*(t[fold].expand(count, *t[fold].shape) for t in (data.x, data.y)))


def test_a_knot_has_no_derivative(lasso, folds):
    rows, reasons = lasso.around_a_knot(folds[0])
    above, knot, below = rows
    assert [failed for *_, failed in rows] == [False, True, False]
    assert any("kink" in reason for reason in reasons)
    assert (above[1], below[1]) == (3, 4)
    assert above[3] == 0.0
    assert abs(below[3]) > 0.1
    assert min(above[2], below[2]) > 1e-4
    assert abs(knot[2]) < 1e-12


def test_nearly_every_knot_is_reported(lasso, folds):
    """One step in one direction looks for the kink: a direction almost along it shows none."""
    knots, path = lars(folds[0], 0)
    inner = slice(1, -1)
    data = repeated(lasso, folds[0], 0, len(knots[inner]))
    alpha = torch.from_numpy(knots[inner])
    with pytest.warns(ImplicitGradientWarning, match="kink"):
        certificate = lasso.differentiable(data, torch.from_numpy(path[inner]), alpha).certificate
    assert len(alpha) > 80
    assert certificate.failed.double().mean() > 0.98


@pytest.mark.drawn
def test_a_repeated_feature_is_reported(lasso):
    """With X_SᵀX_S singular, or a copy of a used feature at |∇_j f| = α, no derivative exists."""
    data = made(lasso, batch=2)
    x = torch.cat([data.x, data.x[..., :1]], dim=-1)
    data = lasso.LeastSquares(x[:1].expand(2, -1, -1), data.y[:1].expand(2, -1))
    alpha = torch.full((2,), 0.1, dtype=torch.float64)
    w = lasso.fit(data, alpha)
    together = w[0, 0] + w[0, -1]
    assert together > 1.0
    # Solutions all the same: one of the copies does the work, or both. A copy that is left out lies
    # at a kink, of which rounding chooses the side; on one of them it makes J singular, too.
    w[0, 0], w[0, -1] = together, 0.0
    w[1, 0] = w[1, -1] = together / 2
    with pytest.warns(ImplicitGradientWarning, match="singular"):
        certificate = lasso.differentiable(data, w, alpha).certificate
    assert certificate.residual.max() < 1e-9
    assert certificate.failed.all()
    with pytest.raises(ImplicitGradientError, match="2 examples"):
        lasso.differentiable(data, w, alpha, on_failure="raise")


def test_the_example_finds_the_minimum_of_the_path(lasso, capsys):
    lasso.main()
    shown = capsys.readouterr().out
    closed, measured = re.search(r"closed form: (\S+), finite differences: (\S+)", shown).groups()
    assert float(closed) < 1e-8
    assert float(measured) < 1e-6
    ours, path = re.findall(r"│ [^│]+ │ (0\.\d+) │ (0\.\d+) +│ (\d+) +│", shown)
    assert abs(math.log(float(ours[0]) / float(path[0]))) < math.log(100.0) / 299
    assert float(ours[1]) <= float(path[1]) + 1e-6
    assert 10 * int(ours[2]) < int(path[2])
    assert shown.count("holds") == 2

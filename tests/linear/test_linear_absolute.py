"""|A| and its derivative, at repeated eigenvalues and next to 0 too."""

import pytest
import torch
from inner_problems import randn

from savi.inner.optimizers.newton import FLOOR, absolute


def symmetric(*spectra):
    """Matrices with these eigenvalues and random eigenvectors."""
    spectrum = torch.tensor(spectra, dtype=torch.float64)
    vectors, _ = torch.linalg.qr(randn(len(spectra), len(spectra[0]), len(spectra[0]), seed=0))
    return (vectors * spectrum.unsqueeze(-2)) @ vectors.mT


def test_keeps_the_eigenvectors_and_the_sizes_of_the_eigenvalues():
    matrix = symmetric([3.0, -2.0, 1.0], [-1.0, -1.0, -4.0])
    value = absolute(matrix)
    torch.testing.assert_close(value @ value, matrix @ matrix)
    assert (torch.linalg.eigvalsh(value) > 0).all()
    torch.testing.assert_close(absolute(value), value)


def test_keeps_clear_of_zero():
    value = absolute(symmetric([2.0, 1e-13, -1.0], [-5.0, 0.0, 0.0]))
    smallest = torch.linalg.eigvalsh(value)[:, 0] / torch.tensor([2.0, 5.0], dtype=torch.float64)
    assert (smallest > 0.49 * FLOOR).all()
    assert (smallest < 1.01 * FLOOR).all()
    assert (absolute(torch.zeros(1, 2, 2)) == 0).all()


@pytest.mark.parametrize(
    "spectrum",
    [
        [3.0, -2.0, 1.0],
        [1.0, 1.0, -1.0],
        [-2.0, -2.0, -2.0],
        [1.0, -1.0, 1e-9],
        [4.0, 1e-9, -1e-9],
    ],
    ids=["distinct", "repeated", "a multiple of I", "below the floor", "twice below the floor"],
)
def test_derivative(spectrum):
    matrix = symmetric(spectrum).requires_grad_()
    # Small enough for eigenvalues below the floor to stay there.
    torch.autograd.gradcheck(
        lambda a: absolute(0.5 * (a + a.mT)), matrix, eps=1e-8, atol=1e-6, rtol=1e-5
    )


def test_the_derivative_at_a_multiple_of_the_identity():
    """D|A|[E] = −E where A = −I."""
    matrix = -torch.eye(3, dtype=torch.float64).expand(2, 3, 3).contiguous().requires_grad_()
    cotangent = randn(2, 3, 3, seed=1)
    (g,) = torch.autograd.grad(absolute(matrix), matrix, cotangent)
    torch.testing.assert_close(g, -0.5 * (cotangent + cotangent.mT))


def test_a_second_derivative_is_refused():
    matrix = symmetric([3.0, -2.0, 1.0]).requires_grad_()
    (g,) = torch.autograd.grad(absolute(matrix).sum(), matrix, create_graph=True)
    with pytest.raises(RuntimeError, match="'newton' has no second derivative"):
        torch.autograd.grad(g.sum(), matrix)

import pytest
import torch

from savi.vae.quadratic import BLOCKS, self_product, symmetric_form


@pytest.mark.parametrize("shape", [(5, 1), (3, 4), (20, 13)])
def test_value_and_derivatives(shape: tuple[int, int]):
    a = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    product = self_product(a)
    torch.testing.assert_close(product, a.T @ a)
    # The blocks below the diagonal are copies; within one on it, two sums may be rounded apart.
    edge = shape[1] // BLOCKS
    assert (product[:edge, edge:] == product[edge:, :edge].T).all()
    torch.testing.assert_close(product, product.T, rtol=0, atol=1e-14 * product.abs().max().item())
    torch.autograd.gradcheck(self_product, (a,))
    torch.autograd.gradgradcheck(self_product, (a,))


@pytest.mark.parametrize("width", [1, 3, 13])
def test_a_symmetric_form_by_half_of_its_matrix(width: int):
    rows = torch.randn(3, 2, width, dtype=torch.float64)
    root = torch.randn(width, width, dtype=torch.float64)
    metric, before = root + root.T, rows.clone()
    form = symmetric_form(rows, metric)
    torch.testing.assert_close(form, rows @ metric @ rows.mT)
    assert torch.equal(form, form.mT)
    assert torch.equal(rows, before)
    assert torch.equal(metric, root + root.T)

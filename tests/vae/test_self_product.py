import pytest
import torch

from savi.vae.quadratic import self_product


@pytest.mark.parametrize("shape", [(5, 1), (3, 4), (20, 13)])
def test_value_and_derivatives(shape: tuple[int, int]):
    a = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    product = self_product(a)
    torch.testing.assert_close(product, a.T @ a)
    assert (product == product.T).all()
    torch.autograd.gradcheck(self_product, (a,))
    torch.autograd.gradgradcheck(self_product, (a,))

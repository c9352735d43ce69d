"""Batches of symmetric matrices that the tests of the linear solvers share."""

import torch
from inner_problems import randn
from torch import Tensor

from savi.linear import SymmetricOperator


def operator(matrix: Tensor, preconditioner: Tensor | None = None) -> SymmetricOperator:
    """The blocks as they are, with a Gauss–Newton matrix if one is given."""
    return SymmetricOperator(
        matvec=lambda v: (matrix @ v.unsqueeze(-1)).squeeze(-1),
        dense=lambda: matrix,
        preconditioner=None if preconditioner is None else (lambda: preconditioner),
    )


def diagonally_preconditioned(matrix: Tensor) -> SymmetricOperator:
    """The blocks with a positive definite diagonal matrix that is not too far from them."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).abs() + 0.1
    return operator(matrix, torch.diag_embed(diagonal))


def with_eigenvalues(eigenvalues: Tensor, batch: int, seed: int = 0) -> Tensor:
    """Blocks [B, P, P] with these eigenvalues and random eigenvectors."""
    size = len(eigenvalues)
    vectors = torch.linalg.qr(randn(batch, size, size, seed=seed)).Q
    matrix = (vectors * eigenvalues.double()) @ vectors.mT
    return 0.5 * (matrix + matrix.mT)

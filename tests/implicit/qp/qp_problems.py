"""Quadratic programs with known properties."""

import torch


def random_problems(batch, n, m, p, seed=0, slack=0.3):
    """Q, q, A, b, G, h of feasible, strictly convex programs with active constraints."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    L = normal(batch, n, n)
    Q = L @ L.mT / n + 0.5 * torch.eye(n, dtype=torch.float64)
    q, A, G, inside = normal(batch, n), normal(batch, m, n), normal(batch, p, n), normal(batch, n)
    room = slack * torch.rand(batch, p, dtype=torch.float64, generator=generator)
    return Q, q, A, product(A, inside), G, product(G, inside) + room


def product(M, v):
    return (M @ v.unsqueeze(-1)).squeeze(-1)


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)

"""The solution of a system of equations as a differentiable function of its parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from savi.implicit.policy import OnFailure
from savi.implicit.root_certificate import RootCertificate, certify
from savi.implicit.system import Equations, System
from savi.implicit.theorem import Linearized, attach
from savi.types import Rows

#: What can be done about an example that breaks a condition.
POLICIES = (OnFailure.WARN, OnFailure.RAISE, OnFailure.MASK)


@dataclass(frozen=True)
class ImplicitSolution:
    """A solution with its derivative.

    Attributes:
        value: x, with derivatives in everything that the equations depend on.
        certificate: whether the theorem's conditions hold there.
    """

    value: Rows
    certificate: RootCertificate


def root(
    F: Equations, solution: Rows, *params: Tensor, on_failure: str = "warn"
) -> ImplicitSolution:
    """Differentiate a solution of F(x; θ) = 0 that any solver may have found.

    By the implicit function theorem a solution x moves with θ as

        dx = −J⁻¹ (∂F/∂θ) dθ,   J = ∂F/∂x,

    if x is a solution, F is continuously differentiable there and J is nonsingular. The
    certificate says for every example whether that is so.

    Derivatives are right in reverse mode (``backward``, ``torch.autograd.grad``) and forward mode
    (``torch.autograd.forward_ad``), of every order, also where the modes meet. The transforms of
    ``torch.func`` refuse it.

    The Jacobians are formed and factorised (LU), one P×P block per example: P² numbers and P
    backward passes through F, for tens to hundreds of unknowns per example.

    Args:
        F: (x [B, P], *params) -> [B, P], as many equations as unknowns; row b depends on row b of
            x alone. It may take derivatives of its own with ``create_graph=True``.
        solution: where a solver ended; what it was computed from does not matter.
        params: θ: tensors of any shape, shared by the batch or not. What F closes over and
            requires grad receives derivatives as well.
        on_failure: what is done about examples that break a condition: ``warn``, ``raise`` or
            ``mask`` (a derivative of 0). A singular J is answered with 0 under ``warn`` too.

    Raises:
        InputError: for a wrong shape or type, or an unknown policy.
        ImplicitGradientError: under ``raise``, if an example breaks a condition.

    >>> theta = torch.tensor([2.0, 9.0], requires_grad=True)
    >>> x = torch.tensor([[2.0**0.5], [3.0]])  # solved by whatever means
    >>> root(lambda x, theta: x**2 - theta[:, None], x, theta).value.sum().backward()
    >>> theta.grad  # 1 / (2 √θ)
    tensor([0.3536, 0.1667])
    """
    policy = OnFailure.named(on_failure, POLICIES)
    linearized = Linearized.at(System.of(F, solution, params), solution.detach())
    certificate = certify(linearized)
    return ImplicitSolution(attached(linearized, certificate, policy), certificate)


def attached(linearized: Linearized, certificate: RootCertificate, policy: OnFailure) -> Rows:
    """The solution with its derivative, as the policy has it for the examples that failed."""
    certificate.report(policy)
    failed = certificate.failed
    return attach(linearized, ~failed if policy is OnFailure.MASK else torch.ones_like(failed))

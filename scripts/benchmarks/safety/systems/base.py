"""What a system under test is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.safety.problem import Problem
from savi.registry import Registry

SYSTEMS: Registry[type[System]] = Registry("system")


class NotExpressible(Exception):
    """The system has no way to state this problem."""


class Answer(NamedTuple):
    """What a system answers: where its solve ended, and (dλ*/dθ)ᵀ w."""

    value: Float[Tensor, "1 P"]
    gradient: Float[Tensor, " Q"]


class System(ABC):
    """A way to solve an inner problem and to differentiate its solution, at default settings.

    All take the same gradient steps with the same stopping rule; only the derivative differs.

    Attributes:
        package: what must be installed.
        asks: "implicit" (the derivative of λ*), or "steps" (that of the K steps taken).
        notes: warnings about a kind of objective, wherever the solve ends: no word about an
            answer.
    """

    package: ClassVar[str]
    asks: ClassVar[str] = "implicit"
    notes: ClassVar[tuple[type[Warning], ...]] = ()

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the system can be tested here."""
        return find_spec(cls.package) is not None

    @abstractmethod
    def answer(self, problem: Problem) -> Answer:
        """Solve ``problem`` and differentiate.

        Raises:
            NotExpressible: if there is no way to state it.
        """


def refuse_newton(problem: Problem) -> None:
    """For systems whose solves are gradient steps alone.

    Raises:
        NotExpressible: for a problem that is to be solved by Newton's method.
    """
    if problem.newton:
        raise NotExpressible("the solve is not a sequence of gradient steps")


def pulled_back(value: Tensor, theta: Tensor, problem: Problem) -> Answer:
    """λK and (dλK/dθ)ᵀ w by autograd; 0 where autograd sees no way from θ to λK."""
    if not value.requires_grad:
        return Answer(value, torch.zeros_like(theta))
    (gradient,) = torch.autograd.grad(
        value, theta, problem.cotangent, allow_unused=True, materialize_grads=True
    )
    return Answer(value.detach(), gradient)

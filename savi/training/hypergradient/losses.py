"""The losses of both levels as functions of weights and hyperparameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from savi.gradients import Implicit
from savi.implicit.root import root
from savi.inference.gradient_check import ProbeBatch
from savi.inference.outer_loss import OuterLoss
from savi.inner.loop import InnerLoop
from savi.inner.objective import InnerObjective
from savi.inner.solution import Solution
from savi.types import Rows, Scalar
from savi.vae.model import GaussianVAE

#: Those of :data:`HYPERPARAMETERS` that are not constants of the training, by their names.
Hyper = Mapping[str, Scalar]

#: How well λ* is solved for: to the limits of float64, so that its derivatives are right.
_RTOL, _MAX_STEPS = 1e-9, 200


@dataclass(frozen=True)
class ExactSolution(Implicit):
    """λ* with ∇J(λ*) = 0, attached to the graph by :func:`savi.implicit.root`.

    A hypergradient differentiates the gradient of the training loss, and so λ* twice, which the
    backend ``ift`` refuses. Here P×P Jacobians are formed with their graphs: for a few examples at
    a time, not for training. Only ``on_failure`` counts of the options.
    """

    name: ClassVar[str] = "root"
    second_derivatives: ClassVar[str] = "right"
    refuses_constraints: ClassVar[str] = "its solution may lie on the constraint"

    def solve(
        self, loop: InnerLoop, objective: InnerObjective, init: Rows, differentiable: bool
    ) -> Solution:
        """Run the loop without a graph, then attach the theorem."""
        solution = loop.run(objective, init.detach())
        if not differentiable:
            return solution
        exact = root(
            lambda y: objective.gradient(y, create_graph=True)[1],
            solution.value,
            on_failure=self.on_failure,
        )
        return replace(solution, value=exact.value)


@dataclass(frozen=True)
class Bilevel:
    """min_h val(w*(h), h) with w*(h) = argmin_w train(w, h), on fixed batches with fixed noise.

    ``train`` is what the training minimises: −(1/B) Σ_b L_β(θ, λ*; x_b) + ½ wd ‖w‖², where
    w = (θ, φ) and λ* is the exact solution of each example's inner problem. ``val`` is the mean of
    −L(θ, λ*; x) over validation examples with β = 1, a bound on −log p(x), where λ* solves the
    inner problem of evaluation, whose KL term has weight 1 too. The noise is drawn once (common
    random numbers).

    Attributes:
        loss: the outer loss of the training, a copy in float64 whose inner solves are exact.
        train: training examples, with noise.
        val: validation examples, with noise.
        beta: β where it is not among the hyperparameters.
    """

    loss: OuterLoss
    train: ProbeBatch
    val: ProbeBatch
    beta: float = 1.0

    @classmethod
    def of(
        cls,
        loss: OuterLoss,
        train: Float[Tensor, "N D"],
        val: Float[Tensor, "M D"],
        *,
        beta: float = 1.0,
        samples: int = 1,
        seed: int = 0,
        on_failure: str = "warn",
    ) -> Bilevel:
        """Both levels at the weights of the training of a loss, which stay as they are.

        The bounds take S ``samples``; ``on_failure`` is that of :class:`ExactSolution`.
        """
        loss = replace(copy.deepcopy(loss), samples=samples)
        # Apple's GPUs have no float64.
        device = next(loss.model.parameters()).device
        device = torch.device("cpu") if device.type == "mps" else device
        for module in (loss.model, loss.inference):
            module.to(device).double()
        inference = loss.inference
        steps = _MAX_STEPS if inference.max_steps > 0 else 0
        inference.solve_exactly(ExactSolution(on_failure=on_failure), max_steps=steps, rtol=_RTOL)
        like = next(loss.model.parameters())
        first, second = (
            ProbeBatch.draw(x.cpu().double(), loss, 2 * seed + level).to(like)
            for level, x in enumerate((train, val))
        )
        return cls(loss, first, second, beta)

    @property
    def weights(self) -> list[Tensor]:
        """w: those of the decoder, of a learned γ, and of the encoder."""
        modules = (self.loss.model, self.loss.inference)
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def train_loss(self, hyper: Hyper) -> Scalar:
        """``train`` with its graph to the weights and to h."""
        decay = hyper.get("weight_decay", self.loss.weight_decay)
        loss = replace(self._at(hyper), weight_decay=decay)
        return self.train.step(loss, hyper.get("beta", self.beta)).loss

    def val_loss(self, hyper: Hyper) -> Scalar:
        """``val`` with its graph to the weights and to h."""
        loss = replace(self._at(hyper), weight_decay=0.0, free_bits=0.0)
        return self.val.step(loss, 1.0).loss

    def _at(self, hyper: Hyper) -> OuterLoss:
        """The loss whose modules hold γ and ρ of h, with their graphs."""
        if "gamma" in hyper:
            assert isinstance(self.loss.model, GaussianVAE)
            self.loss.model.gamma.gamma = hyper["gamma"].reshape(1)
        if "rho" in hyper:
            self.loss.inference.rho = hyper["rho"]
        return self.loss

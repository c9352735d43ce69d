"""A system of equations F(x; θ) = 0, with the Jacobian of every example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from savi.errors import InputError
from savi.implicit.captured import Replaced, captured_tensors
from savi.inner.precision import full_precision
from savi.types import Rows

Equations = Callable[..., Tensor]

_TYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class System:
    """F with everything that it depends on besides x.

    Attributes:
        equations: (x [B, P], *params) -> F [B, P], where row b depends on row b of x alone.
        params: the tensors handed over.
        captured: further tensors that ``equations`` closes over, and that need a derivative.
    """

    equations: Equations
    params: tuple[Tensor, ...]
    captured: tuple[Tensor, ...]

    @classmethod
    def of(cls, equations: Equations, x: Rows, params: tuple[Tensor, ...]) -> System:
        """Find what the equations close over, and see whether they fit x.

        Raises:
            InputError: if x, a parameter or the value of F has the wrong type or shape.
        """
        require_tensors(x, params)
        found: list[Tensor] = []
        # A copy: what F does to it in place is not done to the caller's.
        own = x.detach().clone()
        captured = captured_tensors(lambda: found.append(equations(own, *params)), [own, *params])
        if not torch.equal(own, x.detach()) and not x.isnan().any():
            raise InputError("F changes x in place: compute its value from x, and leave x as it is")
        for value in found:
            if not isinstance(value, Tensor) or (value.shape, value.dtype) != (x.shape, x.dtype):
                raise InputError(
                    f"F returned {_described(value)} for a solution that is {_described(x)}: "
                    "return as many equations as unknowns, in the same type"
                )
        return cls(equations, params, tuple(captured))

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Everything that may receive a derivative."""
        return (*self.params, *self.captured)

    def residual(self, x: Rows, inputs: Sequence[Tensor]) -> Rows:
        """F(x) with ``inputs`` in place of :attr:`inputs`."""
        if not self.inputs:
            # There is nothing to replace, and to watch every operation takes time.
            with full_precision(x.device.type):
                return self.equations(x)
        return self._residual(x, inputs)[0]

    def residual_at_leaves(self, x: Rows, inputs: Sequence[Tensor]) -> Rows:
        """The same, where x and the inputs are leaves, so that the graph shows what is missing.

        Raises:
            InputError: if F uses another tensor that requires grad, whose derivative would be lost.
        """
        value, replaced = self._residual(x, inputs)
        for leaf in replaced.hidden([value]):
            raise InputError(
                f"F uses a tensor of shape {tuple(leaf.shape)} that requires grad where its "
                "derivative would be lost (inside a custom autograd function, a script or another "
                "thread, or beside a parameter that it is computed from): pass it as a parameter"
            )
        return value

    def _residual(self, x: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, Replaced]:
        count = len(self.params)
        # A backward may be called elsewhere than F was, in an autocast region for instance.
        with (
            full_precision(x.device.type),
            Replaced(self.captured, inputs[count:], own=[x, *inputs]) as replaced,
        ):
            return self.equations(x, *inputs[:count]), replaced


def require_tensors(x: Tensor, params: tuple[Tensor, ...]) -> None:
    """Refuse a solution or parameters that no system can be made of.

    Raises:
        InputError: for a wrong type or shape, inference mode, or a transform of torch.func.
    """
    if not isinstance(x, Tensor) or x.dtype not in _TYPES or x.ndim != 2 or not x.shape[1]:
        raise InputError(
            f"the solution is {_described(x)}: give a floating-point tensor [B, P] in float32 "
            "or float64, one row per example"
        )
    if x.is_inference() or torch.is_inference_mode_enabled():
        raise InputError(
            "an implicit solution in inference mode, which keeps no derivatives: use "
            "torch.no_grad() instead"
        )
    for number, param in enumerate(params):
        if not isinstance(param, Tensor):
            raise InputError(
                f"parameter {number} is {_described(param)}: give tensors, and let F close "
                "over anything else"
            )
    if any(map(torch._C._functorch.is_functorch_wrapped_tensor, (x, *params))):
        raise InputError(
            "an implicit solution inside a transform of torch.func: take its derivatives by "
            "torch.autograd.grad, or by torch.autograd.forward_ad"
        )


def jacobian(
    value: Float[Tensor, "B M"], x: Rows, create_graph: bool = False
) -> Float[Tensor, "B M P"]:
    """∂value/∂x of every example, one row of the Jacobians at a time.

    Args:
        value: with its graph from x; row b depends on row b of x alone.
        x: where it was computed.
        create_graph: whether the Jacobian is to be differentiated.
    """
    rows = [value.new_zeros(x.shape)] * value.shape[-1]
    if value.requires_grad:
        for index in range(value.shape[-1]):
            (row,) = torch.autograd.grad(
                value[:, index].sum(),
                x,
                retain_graph=True,
                create_graph=create_graph,
                materialize_grads=True,
            )
            rows[index] = row
    return torch.stack(rows, dim=-2) if rows else value.new_zeros(*value.shape, x.shape[-1])


def _described(value: object) -> str:
    """A tensor's type and shape, or the type of anything else."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    return f"of type {type(value).__name__}"

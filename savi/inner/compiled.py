"""∇J by ``torch.compile``: one fused kernel sequence for an inner step's expensive part."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from savi.errors import InputError
from savi.inner.objective import InnerObjective, require_one_value_per_example
from savi.types import PerExample, Rows

ValueAndGradient = Callable[[InnerObjective, Tensor], tuple[Tensor, Tensor]]


def compiled_gradient(
    objective: InnerObjective, y: Rows, create_graph: bool
) -> tuple[PerExample, Rows]:
    """As :meth:`InnerObjective.gradient`, compiled once for each kind of objective and shape.

    On a GPU, steps without a graph are recorded as a CUDA graph.

    ``autograd.grad(create_graph=True)`` cannot be compiled together with an outer backward, but
    ``torch.func.grad`` can; a derivative of the backward itself is refused by PyTorch.

    Raises:
        InputError: if the objective cannot be compiled on this machine.
    """
    # Imported where something is compiled: it takes longer than all the rest of torch.
    from torch._dynamo.exc import TorchDynamoException

    recorded = y.device.type == "cuda" and not create_graph
    with torch.set_grad_enabled(create_graph):
        try:
            if recorded:
                torch.compiler.cudagraph_mark_step_begin()
            value, gradient = _compiled(recorded)(objective, y if create_graph else y.detach())
        except TorchDynamoException as error:
            reason, *_ = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(
                f"torch.compile of the inner steps failed ({reason}): leave compile out "
                "(inner.compile=false in a config), or install what it needs (a C++ compiler)"
            ) from error
    if recorded:
        # The next replay of the CUDA graph writes its results into the same memory.
        value, gradient = value.clone(), gradient.clone()
    require_one_value_per_example(value, y)
    objective.evaluated(y)
    return value.detach(), gradient


@cache
def _compiled(recorded: bool) -> ValueAndGradient:
    """Compiled; ``recorded`` as a CUDA graph, which the host replays by a single launch."""
    mode = "reduce-overhead" if recorded else "default"
    return torch.compile(_value_and_gradient, fullgraph=True, mode=mode)


def _value_and_gradient(objective: InnerObjective, y: Tensor) -> tuple[Tensor, Tensor]:
    def total(point: Tensor) -> tuple[Tensor, Tensor]:
        value = objective(point)
        return value.sum(), value

    gradient, value = torch.func.grad(total, has_aux=True)(y)
    return value, gradient

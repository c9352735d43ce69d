"""Which operations with kinks lie between λ and the residual ∇J."""

from __future__ import annotations

import re
from typing import Any

from jaxtyping import Float
from torch import Tensor

#: Operations whose first or second derivative jumps, by the names of their autograd nodes.
_KINKED = re.compile(
    r"(Abs|Sgn|Relu|LeakyRelu|PreluKernel|RreluWithNoise|Threshold|Elu|Celu|Hardtanh|Hardswish"
    r"|Fmax|Fmin|Cummax|Cummin|Aminmax|SmoothL1Loss|HuberLoss|Remainder|Fmod|Round|Floor|Ceil"
    r"|GridSampler\w*|Hardsigmoid|Softshrink|Hardshrink|Clamp(?:Min|Max)?|Maximum|Minimum|Max|Min|Amax|Amin|Median"
    r"|Sort|Topk|Kthvalue|MaxPool\w*|AdaptiveMaxPool\w*?)(?:Backward)+\d*$"
)


def kinked_operations(
    residual: Float[Tensor, "B P"], point: Float[Tensor, "B P"]
) -> tuple[str, ...]:
    """The names of those operations in the graph from ``point`` to ``residual``.

    The theorem asks for an F = ∇J that is continuously differentiable in λ near the solution. With
    these operations it is so only in pieces, and the implicit gradient is right inside a piece.
    The list is that of common ones: a kink that is made otherwise (by a mask or an index that
    depends on λ) is not named. Operations that ``point`` does not pass through (those of the
    inference network) do not count.

    Args:
        residual: F(λ) with its graph.
        point: λ, a leaf.
    """
    # Every node of the graph with the nodes that use its result, and the node of ``point``.
    users: dict[Any, list[Any]] = {residual.grad_fn: []} if residual.grad_fn is not None else {}
    stack, passed = list(users), []
    while stack:
        node = stack.pop()
        if getattr(node, "variable", None) is point:
            passed.append(node)
        for operand, _ in node.next_functions:
            if operand is not None:
                if operand not in users:
                    users[operand] = []
                    stack.append(operand)
                users[operand].append(node)
    names, seen = set(), set(passed)
    while passed:
        node = passed.pop()
        if match := _KINKED.match(node.name()):
            names.add(match.group(1).lower())
        for user in users[node]:
            if user not in seen:
                seen.add(user)
                passed.append(user)
    return tuple(sorted(names))

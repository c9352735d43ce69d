"""Which operations with kinks lie between x or θ and the residual F."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch

from savi.types import Rows

#: Operations whose first or second derivative jumps, by the names of their autograd nodes.
_KINKED = re.compile(
    r"(Abs|Sgn|Relu|LeakyRelu|PreluKernel|RreluWithNoise|Threshold|Elu|Celu|Hardtanh|Hardswish"
    r"|Fmax|Fmin|Cummax|Cummin|Aminmax|SmoothL1Loss|HuberLoss|Remainder|Fmod|Round|Floor|Ceil"
    r"|GridSampler\w*|Hardsigmoid|Softshrink|Hardshrink|Clamp(?:Min|Max)?|Maximum|Minimum|Max|Min|Amax|Amin|Median"
    r"|Sort|Topk|Kthvalue|MaxPool\w*|AdaptiveMaxPool\w*?)(?:Backward)+\d*$"
)


class Kinks(NamedTuple):
    """The operations with kinks in a graph.

    Attributes:
        in_x: the names of those that x passes through.
        in_params: whether F itself has others, which θ alone passes through.
    """

    in_x: tuple[str, ...]
    in_params: bool = False


def kinked_operations(residual: Rows, point: Rows) -> tuple[str, ...]:
    """The names of those operations in the graph from ``point`` to ``residual``."""
    return kinks(residual, point).in_x


def kinks(residual: Rows, point: Rows, since: int | None = None) -> Kinks:
    """The operations with kinks in F.

    The theorem asks for an F that is continuously differentiable near the solution. With these
    operations it is so only in pieces, and the implicit gradient is right inside a piece. The list
    is that of common ones: a kink that is made otherwise (by a mask or an index that depends on x)
    is not named. Operations before F (those of the inference network) do not count.

    Args:
        residual: F(x) with its graph.
        point: x, a leaf.
        since: the :func:`sequence_number` at which F began; None looks at those of x alone.
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
    beside = since is not None and any(
        _KINKED.match(node.name()) and node._sequence_nr() >= since
        for node in users
        if node not in seen
    )
    return Kinks(tuple(sorted(names)), beside)


def sequence_number() -> int:
    """The number of an autograd node made now: those of this thread's earlier nodes are lower."""
    with torch.enable_grad():
        node = torch.zeros((), requires_grad=True).clone().grad_fn
    assert node is not None
    return node._sequence_nr()

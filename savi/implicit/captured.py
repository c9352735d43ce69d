"""The tensors that a function closes over and that need a gradient: found, and replaced.

A backend that recomputes steps in the backward must send gradients to whatever the objective uses:
decoder weights, γ, the anchor λ0 of a proximal term. The objective is a closure, so nobody hands
over a list. :func:`captured_tensors` finds them while the function runs and :class:`Replaced` puts
fresh leaves in their place; both refuse a function whose graph leads past them to other leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from savi.errors import InputError
from savi.implicit.smoothness import sequence_number


def captured_tensors(function: Callable[[], Any], own: Sequence[Tensor]) -> list[Tensor]:
    """The tensors requiring grad that ``function`` uses and does not make itself.

    Args:
        function: run once, with gradients enabled.
        own: tensors that are not captured although the function uses them (its arguments).
    """
    mode = _Capture(own)
    with torch.enable_grad(), mode:
        function()
    return list(mode.captured.values())


class _Capture(TorchFunctionMode):
    """Watches the arguments and results of every torch function."""

    def __init__(self, own: Sequence[Tensor]) -> None:
        super().__init__()
        # Strong references: an id is only unique as long as its tensor lives.
        self.own: dict[int, Tensor] = {id(tensor): tensor for tensor in own}
        self.captured: dict[int, Tensor] = {}
        self.start = sequence_number()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note captured arguments; what comes out belongs to the function."""
        kwargs = dict(kwargs or {})
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor) and self._is_captured(tensor):
                self.captured[id(tensor)] = tensor
        result = func(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(tensor) not in self.captured:
                self.own[id(tensor)] = tensor
        return result

    def _is_captured(self, tensor: Tensor) -> bool:
        if id(tensor) in self.own or id(tensor) in self.captured:
            return False
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return False
        # A tangent of forward-mode differentiation would be lost: captured, it is refused.
        if not tensor.requires_grad and unpack_dual(tensor).tangent is None:
            return False
        # Results of function transforms do not pass through here, but they are younger.
        return tensor.grad_fn is None or tensor.grad_fn._sequence_nr() < self.start


class Replaced(TorchFunctionMode):
    """Inside, every torch function sees ``replacements`` in place of the captured tensors.

    Attributes:
        leaves: the leaves that a graph made inside may lead to: the replacements, the function's
            arguments (``own``), and what it makes itself.
    """

    def __init__(
        self,
        captured: Sequence[Tensor],
        replacements: Sequence[Tensor],
        own: Sequence[Tensor] = (),
    ) -> None:
        super().__init__()
        self.leaves = [*replacements, *own]
        self.table = {id(old): new for old, new in zip(captured, replacements, strict=True)}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func`` on the replacements, and note the leaves that the function makes."""
        arguments = [*map(self._replace, args)]
        named = {key: self._replace(value) for key, value in (kwargs or {}).items()}
        plain = [t for t in arguments if isinstance(t, Tensor) and not t.requires_grad]
        given = {id(t) for t in arguments if isinstance(t, Tensor)}
        result = func(*arguments, **named)
        # A leaf is made by a function that returns a new one, or makes its argument one; not by
        # one that hands back what it was given.
        made = [result] if isinstance(result, Tensor) and id(result) not in given else []
        for tensor in (*made, *plain):
            if tensor.requires_grad and tensor.grad_fn is None:
                self.leaves.append(tensor)
        return result

    def _replace(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return self.table.get(id(argument), argument)
        if isinstance(argument, list | tuple | dict):
            return tree_map_only(Tensor, self._replace, argument)
        return argument

    def refuse_hidden_tensors(self, backend: str, outputs: Sequence[Tensor]) -> None:
        """Walk the graph of ``outputs``: every leaf must be a replacement, or made inside.

        Raises:
            InputError: if the function reached a tensor past torch's functions (inside a custom
                ``autograd.Function``) or one that it did not use when it was watched: its
                gradient would be lost.
        """
        for leaf in self.hidden(outputs):
            raise InputError(
                f"gradient backend '{backend}' does not see a tensor of shape {tuple(leaf.shape)} "
                "that the objective uses inside a custom autograd function, a script or another "
                "thread, or not at every step: take 'unrolled' or 'ift'"
            )

    def hidden(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """The leaves of the graph of ``outputs`` that are neither replacements nor made inside."""
        known = {id(tensor) for tensor in self.leaves}
        return [leaf for leaf in _leaves(outputs) if id(leaf) not in known]


def _leaves(outputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """The leaves that the graph of ``outputs`` leads to."""
    seen: set[Any] = set()
    stack: list[Any] = [output.grad_fn for output in outputs]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            yield leaf
        stack.extend(parent for parent, _ in node.next_functions)

"""Inner solves inside ``torch.inference_mode``, whose tensors autograd refuses to save."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only


class OrdinaryTensors(TorchFunctionMode):
    """Hand every torch function ordinary copies of inference tensors.

    An objective may close over tensors that were made in inference mode (a validation batch).
    Autograd needs to save them, which it refuses, so they are copied where they are used.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func`` on the copies."""
        args, kwargs = tree_map_only(Tensor, _ordinary, (args, dict(kwargs or {})))
        return func(*args, **kwargs)


def _ordinary(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor

"""How much memory tensors hold, counted and not sampled: at once, and for a backward."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storage_of(tensor: Tensor) -> int:
    """Which storage a tensor lies in: an address, the storage's own as long as it lives."""
    return tensor.untyped_storage().data_ptr()


class LiveBytes(TorchDispatchMode):
    """Inside, every storage that an operation makes is counted from its birth to its death.

    The peak is the same in every run and on every machine, which neither a process's memory nor an
    allocator's statistics are: the allocator's rounding, caches and Python's own objects do not
    count. Tensors from before do not count either. On the CPU the backward is counted too; a GPU's
    backward runs in threads that the mode does not see.

    Attributes:
        now: bytes alive.
        peak: the most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and count what it made."""
        before = {
            id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor, before)
        return result

    def _count(self, tensor: Tensor, before: set[int]) -> None:
        storage = tensor.untyped_storage()
        if id(storage) in before or storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size


class SavedTensors:
    """What a graph keeps, as long as it keeps it."""

    def __init__(self) -> None:
        self._alive: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def watched(self) -> saved_tensors_hooks:
        """The context in which the graph is built."""
        return saved_tensors_hooks(self._pack, lambda saved: saved.tensor)

    def nbytes(self, without: Iterable[int] = ()) -> int:
        """Bytes of all storages, each once, but those of ``without`` (see :func:`storage_of`)."""
        sizes = {
            storage_of(saved.tensor): saved.tensor.untyped_storage().nbytes()
            for saved in self._alive
        }
        return sum(sizes[storage] for storage in sizes.keys() - set(without))

    def _pack(self, tensor: Tensor) -> _Saved:
        # With its own grad_fn, the result of an operation would keep its graph alive for ever.
        saved = _Saved(tensor.detach())
        self._alive.add(saved)
        return saved


class _Saved:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

"""Is what a checkpoint holds of a callback of the kinds of values that the callback keeps?

Most of it is looked at long after it was restored, in the middle of a training or at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import Tensor

from savi.typed import conforms, holds_numbers

KINDS: tuple[type | tuple[type, ...], ...] = (
    bool, (int, float), str, Tensor, Mapping, (list, tuple),
)  # fmt: skip
#: Of what is empty or None before a training, by the names of savi's callbacks and Lightning's.
FILLED: Mapping[str, Any] = {
    "best_model_score": Tensor | None,
    "best_k_models": dict[str, Tensor],
    "current_score": Tensor | None,
    "first": int | list | tuple | None,
    "kinds": dict[str, int],
    "last": dict[str, float],
    "seconds": Tensor | dict[int, int],
    "step": int | None,
    "table": Tensor | None,
}


def check_states(callbacks: Iterable[Callback], saved: Mapping[str, Any]) -> None:
    """Look at the states of a checkpoint before the callbacks are given them.

    Raises:
        ValueError: for a value of another kind.
    """
    for callback in callbacks:
        own, state = callback.state_dict(), saved.get(callback.state_key, {})
        for name in filter(state.__contains__, own):
            filled = FILLED.get(name, Any)
            if not (_alike(own[name], state[name]) and conforms(state[name], filled)):
                raise ValueError(f"{name} of {type(callback).__name__} is of another kind")


def _alike(own: object, saved: object) -> bool:
    """Whether both are of one kind; what is None as yet may be of any."""
    if own is None:
        return True
    if isinstance(saved, Tensor) and not holds_numbers(saved):
        return False
    return next(kind for kind in KINDS if isinstance(own, kind)) == next(
        (kind for kind in KINDS if isinstance(saved, kind)), None
    )

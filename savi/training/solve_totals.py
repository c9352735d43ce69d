"""How many inner solves of a whole training failed, and of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor

from savi.implicit.adjoint_certificate import BRIEF
from savi.inner.solution import Solution, Status
from savi.typed import conforms

#: The names of the totals; those of the kinds follow after a slash.
SOLVES, FAILED = "inner/solves", "inner/solves_failed"
#: The kind of a solve that no certificate judges.
DIVERGED = "diverged"
#: All of them.
KINDS = (DIVERGED, *BRIEF.values())


class SolveTotals:
    """One solve for each example and training step, counted under every policy.

    With a certificate a solve has failed where it breaks a condition of the theorem, of which an
    example may break several. Without, the steps are differentiated as they were taken, so that
    only one that diverged has failed.
    """

    def __init__(self) -> None:
        self.certified, self.solves = False, 0
        # On the device until they are asked for: a step is not to wait for a count.
        self._failed: Tensor | int = 0
        self._kinds: dict[str, Tensor | int] = {}

    def add(self, solution: Solution, rows: slice = slice(None)) -> None:
        """Count the solves of a step whose backward has run, or those of some of its rows."""
        self.solves += len(solution.reason[rows])
        verdict = getattr(solution.certificate, "verdict", None)
        if verdict is None:
            failed = solution.status[rows] == Status.DIVERGED
            broken = {DIVERGED: failed}
        else:
            self.certified, failed = True, verdict.failed[rows]
            broken = {BRIEF[kind]: where[rows] for kind, where in verdict.broken.items()}
        self._failed = self._failed + failed.sum()
        for kind, where in broken.items():
            self._kinds[kind] = self._kinds.get(kind, 0) + where.sum()

    def gather(self) -> None:
        """On each of several devices: the totals of all."""
        self.load_state_dict(self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """The totals of all devices, each of which must ask for them."""
        own = {"certified": self.certified, "solves": self.solves, "failed": self.failed}
        parts: list[dict[str, Any]] = [own | {"kinds": self.kinds}]
        if dist.is_available() and dist.is_initialized():
            own, parts = parts[0], parts * dist.get_world_size()
            dist.all_gather_object(parts, own)
        kinds: Counter[str] = Counter()
        for part in parts:
            kinds.update(part["kinds"])
        return {
            "certified": any(part["certified"] for part in parts),
            "solves": sum(part["solves"] for part in parts),
            "failed": sum(part["failed"] for part in parts),
            "kinds": dict(kinds),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting from these totals, on one device for all.

        Raises:
            ValueError: for totals that are none.
        """
        hints = {"certified": bool, "solves": int, "failed": int, "kinds": dict[str, int]}
        for name, hint in hints.items():
            if not conforms(state[name], hint):
                raise ValueError(f"{name} of the inner solves are no counts")
        self.certified, self.solves = state["certified"], state["solves"]
        self._failed, self._kinds = state["failed"], dict(state["kinds"])

    @property
    def failed(self) -> int:
        """How many solves failed."""
        return int(self._failed)

    @property
    def kinds(self) -> dict[str, int]:
        """How many failed of each kind that occurs, the most frequent first."""
        counts = {kind: int(count) for kind, count in self._kinds.items()}
        return dict(sorted(((k, n) for k, n in counts.items() if n), key=lambda pair: -pair[1]))

    def metrics(self) -> dict[str, float]:
        """The totals by name; empty where no certificate judges and none has failed."""
        if not self.certified and not self.failed:
            return {}
        kinds = {f"{FAILED}/{kind.replace(' ', '_')}": float(n) for kind, n in self.kinds.items()}
        return {SOLVES: float(self.solves), FAILED: float(self.failed)} | kinds


def in_words(metrics: Mapping[str, float]) -> str:
    """The totals of a run in a line; empty where there are none."""
    if SOLVES not in metrics:
        return ""
    prefix = f"{FAILED}/"
    kinds = sorted((-n, name) for name, n in metrics.items() if name.startswith(prefix))
    words = ", ".join(
        f"{name.removeprefix(prefix).replace('_', ' ')} {-n:,.0f}" for n, name in kinds
    )
    line = f"inner solves that failed: {metrics[FAILED]:,.0f} of {metrics[SOLVES]:,.0f}"
    return f"{line} ({words})" if words else line

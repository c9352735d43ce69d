"""When the solves of training refine λ0: always, from a step on, or once it pays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import linear_regression, mean, median
from typing import Any

from savi.errors import Conflict, SettingError, refuse
from savi.inference.semi_amortized import SemiAmortizedInference

ALWAYS, AUTO = "always", "auto"

#: Steps of each kind that are timed, alternately, after the first one of a training.
TIMED = 4

#: Validations that a slope is drawn through.
FEWEST = 3


class Refinement:
    """Before the step ``first`` training is that of a plain VAE, and from then on solves refine.

    Attributes:
        first: the step, counted from 0; None if it is not known yet.
    """

    def __init__(self, first: int | None = 0) -> None:
        self.first = first

    def refines(self, step: int) -> bool:
        """Whether the solves of this training step refine."""
        return self.first is not None and step >= self.first

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training goes on with."""
        return {"first": self.first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where that training was."""
        self.first = state["first"]

    @staticmethod
    def of(inner: Mapping[str, Any], inference: SemiAmortizedInference) -> Refinement:
        """What ``inner.when`` asks for.

        Raises:
            InputError: for a value that is none, and where there is nothing to begin with, or
                nothing to refine.
        """
        # Runs of versions without it refine always.
        when = str(inner.get("when", ALWAYS))
        if when not in (ALWAYS, AUTO) and not when.isdecimal():
            raise SettingError(
                "when", f"is '{when}': set it to {ALWAYS}, {AUTO}, or the number of a training step"
            )
        if when == ALWAYS:
            return Refinement()
        steps, test_steps = inference.max_steps, inference.test_max_steps
        refuse(
            f"inner.when '{when}'",
            [
                Conflict(
                    inference.encoder is None,
                    "model.encoder 'none'", "model.encoder=mlp", "which has nothing to refine",
                ),
                Conflict(
                    steps == 0, "inner.max_steps 0", "inner.max_steps to 1 or more",
                    "where nothing is refined",
                ),
                Conflict(
                    when == AUTO and test_steps == 0, "inner.test_max_steps 0",
                    "inner.test_max_steps to 1 or more",
                    "so that what refinement gains is not measured",
                ),
            ],
            otherwise=f"inner.when={ALWAYS}",
        )  # fmt: skip
        return WhenItPays() if when == AUTO else Refinement(int(when))


class WhenItPays(Refinement):
    r"""Refine from the validation on at which it gains more than its seconds would otherwise.

    Let v(t) be the validation bound after t steps (nats), and c the price of a step that refines in
    steps that do not. Bounds grow about as the logarithm of the steps, so that the seconds of
    refinement would buy v(ct) − v(t) ≈ s log c nats in amortised steps, with s = dv / d log t from
    a straight line through the validations since t/2. It pays if what refinement adds to the bounds
    of validation examples is more, on average over the same validations::

        mean [ L(λK) − L(λ0) ]  >  s log c

    Where data are scarce the encoder errs on new examples and the bound soon falls, so that both
    sides speak for refinement; on large data the bound rises for long, and it comes late or never.
    Once begun, refinement stays. c is the ratio of the median seconds of the first few steps, of
    which every other one refines.

    Attributes:
        validations: (t, v, gain) of each, in order.
        seconds: those of the steps that were timed, of both kinds.
    """

    def __init__(self) -> None:
        super().__init__(first=None)
        self.validations: list[tuple[int, float, float]] = []
        self.seconds: dict[bool, list[float]] = {False: [], True: []}

    def refines(self, step: int) -> bool:
        """As always, and some of the first steps, to be timed."""
        return super().refines(step) or (self.is_timed(step) and step % 2 == 0)

    def is_timed(self, step: int) -> bool:
        """Whether :meth:`took` is to be told how long this step took."""
        return self.first is None and 1 <= step <= 2 * TIMED

    def took(self, step: int, seconds: float) -> None:
        """A timed step is over."""
        self.seconds[self.refines(step)].append(seconds)

    def validated(self, step: int, bound: float, gain: float) -> None:
        """After so many steps the validation examples have this bound, and this gain (nats)."""
        if not (math.isfinite(bound) and math.isfinite(gain)) or step == 0:
            return
        self.validations.append((step, bound, gain))
        if self.first is None and self.otherwise is not None and self.gain > self.otherwise:
            self.first = step

    @property
    def price(self) -> float | None:
        """c; None before it is known."""
        if not all(self.seconds.values()):
            return None
        return max(1.0, median(self.seconds[True]) / median(self.seconds[False]))

    @property
    def recent(self) -> list[tuple[int, float, float]]:
        """The validations of the second half of the steps so far."""
        return [entry for entry in self.validations if 2 * entry[0] >= self.validations[-1][0]]

    @property
    def gain(self) -> float:
        """What refinement adds to the bound, recently."""
        return mean(gain for _, _, gain in self.recent)

    @property
    def otherwise(self) -> float | None:
        """What its seconds would add in amortised steps: s log c; None before it is known."""
        recent = self.recent if self.validations else []
        if len(recent) < FEWEST or self.price is None:
            return None
        steps = [math.log(step) for step, _, _ in recent]
        slope, _ = linear_regression(steps, [bound for _, bound, _ in recent])
        return slope * math.log(self.price)

    def state_dict(self) -> dict[str, Any]:
        """Its decision, and what it decides by."""
        knowledge = {"validations": list(self.validations), "seconds": dict(self.seconds)}
        return super().state_dict() | knowledge

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where that training was."""
        super().load_state_dict(state)
        self.seconds = dict(state["seconds"])
        self.validations = [tuple(entry) for entry in state["validations"]]

"""When the solves of training refine λ0: always, from a step on, or once it pays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import mean
from typing import Any

from savi.errors import Conflict, SettingError, refuse
from savi.inference.semi_amortized import SemiAmortizedInference

ALWAYS, AUTO = "always", "auto"

#: How many times what it gains on training examples refinement has to gain on new ones.
RATIO = 2.0

#: Validations that are averaged, at least.
FEWEST = 3

#: The last step at which it may begin. Later on the noise of the gradient is what limits a
#: training, and more steps are worth more than refined ones.
LATEST = 4_000


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
    r"""Refine from the validation on at which it gains twice as much on new examples.

    What refinement adds to the bound, L(λK) − L(λ0), is what the encoder's guess lacks. Where data
    are scarce the encoder learns its training examples by heart: its guesses for them get better,
    and those for new ones worse. Training with refinement, which does not fit the model to the
    guesses, then leads to a better model; before that it is the dearer way to the same one.
    It begins once, on average over the validations since half of the steps,

        L(λK) − L(λ0) of validation examples  ≥  2 (L(λK) − L(λ0)) of training examples  >  0,

    and stays; after t = 4,000 it does not begin any more. On Fashion-MNIST with 1,000 and 3,000
    images that is at about half of the steps after which a plain VAE is best, and it leads to a
    better model; with 10,000 images it would be at 8,000 steps, and lead to a worse one.

    Attributes:
        gains: (t, of validation examples, of training examples) of each validation, in nats.
    """

    def __init__(self) -> None:
        super().__init__(first=None)
        self.gains: list[tuple[int, float, float]] = []

    def undecided(self, step: int) -> bool:
        """Whether :meth:`validated` is to be told of a validation after so many steps."""
        return self.first is None and 0 < step <= LATEST

    def validated(self, step: int, gain: float, trained: float) -> None:
        """After so many steps refinement gains this on validation and on training examples."""
        if not (math.isfinite(gain) and math.isfinite(trained) and self.undecided(step)):
            return
        self.gains.append((step, gain, trained))
        if len(self.recent) >= FEWEST and self.gain >= RATIO * self.trained > 0.0:
            self.first = step

    @property
    def recent(self) -> list[tuple[int, float, float]]:
        """The validations of the second half of the steps so far."""
        return [entry for entry in self.gains if 2 * entry[0] >= self.gains[-1][0]]

    @property
    def gain(self) -> float:
        """What refinement adds to the bound of validation examples, recently."""
        return mean(gain for _, gain, _ in self.recent)

    @property
    def trained(self) -> float:
        """What it adds to that of training examples."""
        return mean(trained for _, _, trained in self.recent)

    def state_dict(self) -> dict[str, Any]:
        """Its decision, and what it decides by."""
        return super().state_dict() | {"gains": list(self.gains)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where that training was."""
        super().load_state_dict(state)
        self.gains = [tuple(entry) for entry in state["gains"]]

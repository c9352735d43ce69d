"""When the solves of training refine λ0: always, from a step on, or where data are scarce."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from savi.errors import Conflict, SettingError, refuse
from savi.inference.semi_amortized import SemiAmortizedInference

ALWAYS, AUTO = "always", "auto"

#: The most training examples that are few.
SCARCE = 5_000


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
        return WhereScarce() if when == AUTO else Refinement(int(when))


class WhereScarce(Refinement):
    """Refine from the first step on where there are few training examples, else never.

    Of few examples the encoder soon has learned every one by heart, and with it the model: training
    with refinement, which does not fit the model to the encoder's guesses, then leads to a better
    one. Of many examples more steps teach more than refined ones do. On Fashion-MNIST (``race`` of
    the benchmark) refinement is ahead of a plain VAE at equal seconds with 1,000 and 3,000 images,
    and behind it with 10,000. What refinement gains on validation examples, and how much more than
    on training examples, says so only when it is too late for either.
    """

    def __init__(self) -> None:
        super().__init__(first=None)

    def decide(self, examples: int | None) -> None:
        """For a training on so many examples; None for a stream of them without end."""
        self.first = 0 if examples is not None and examples <= SCARCE else None

"""What a run may change against collapse: nothing that it has set already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from savi.vae.networks.initialization import kept_share

#: Decoders whose skip connections let the signal through at any depth.
RESIDUAL = ("residual_mlp", "resnet")
#: Of a signal's variance, so little that training may not find it.
FADED = 0.05


@dataclass(frozen=True)
class Advice:
    """Sentences of advice for a run.

    Attributes:
        model: the run's ``model`` group; of what it leaves out, everything may be advised.
        quantised: whether the data have levels that they could be dequantised from.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    quantised: bool = True

    def _of(self, group: str, key: str) -> Any:
        return (self.model.get(group) or {}).get(key)

    @property
    def gamma_is_optimal(self) -> bool:
        """Whether γ is set in closed form."""
        return self._of("gamma", "mode") == "optimal"

    @property
    def gamma_is_learned(self) -> bool:
        """Whether γ moves by gradient steps, and can lag behind its optimum."""
        return self._of("gamma", "mode") in ("learned", "per_pixel")

    @property
    def signal_fades(self) -> bool:
        """Whether next to nothing of z comes through a plain decoder at the start.

        With the ``softplus`` of the defaults this is so from three layers on.
        """
        activation, depth = self.model.get("activation"), self.model.get("depth")
        if activation is None or depth is None or self.model.get("decoder") in RESIDUAL:
            return False
        return kept_share(activation) ** depth < FADED

    def lower_gamma(self, beta: float) -> str:
        """Against a βγ that is too large."""
        options = [
            "set model.gamma.mode=optimal" * (not self.gamma_is_optimal),
            "lower model.gamma.value" * (self._of("gamma", "mode") == "fixed"),
            "set model.kl.weight=1" * (beta != 1.0 and self._of("kl", "weight") != 1.0),
        ]
        return _listed(options) or "train for longer (trainer.max_epochs)"

    def raise_floor(self) -> str:
        """Against a γ at its floor."""
        options = [
            _now("raise model.gamma.floor", self._of("gamma", "floor")),
            "set model.gamma.mode=optimal" * (not self.gamma_is_optimal),
            "dequantise the data (data.dequantise=true)" * self.quantised,
        ]
        return _listed(options)

    def another_minimum(self) -> str:
        """Against a training that did not find what the architecture can do."""
        options = [
            "train for longer (trainer.max_epochs)",
            "with another seed",
            "with model.kl.warmup_steps" * (not self._of("kl", "warmup_steps")),
            "with model.activation=tanh" * self.signal_fades,
        ]
        return _listed(options)

    def lighter_decoder(self) -> str:
        """Against an architecture that is hard to train."""
        depth = self.model.get("depth")
        options = [
            _now("lower model.depth", depth) * (depth is None or depth > 1),
            "use model.decoder=residual_mlp" * (self.model.get("decoder") not in RESIDUAL),
            "train both for longer (trainer.max_epochs and evaluation.autoencoder_steps)",
        ]
        return _listed(options)


def _now(what: str, value: Any) -> str:
    return what if value is None else f"{what} (now {value})"


def _listed(options: list[str]) -> str:
    *first, last = [option for option in options if option] or [""]
    return f"{', '.join(first)} or {last}" if first else last

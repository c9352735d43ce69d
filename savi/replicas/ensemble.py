"""R runs' modules, trained by the steps that each of them would take alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from savi.data.batches import Batch
from savi.inference.encoder_losses import EncoderObjective
from savi.inference.outer_loss import OuterLoss, OuterStep
from savi.inference.semi_amortized import Inference
from savi.replicas.inference import StackedInference
from savi.replicas.model import StackedVAE
from savi.training import SemiAmortizedVAE
from savi.training.module import kl_weight
from savi.vae.elbo import Bound, elbo
from savi.vae.monte_carlo import chunk_sizes
from savi.vae.noise import antithetic_noise

Record = TypeVar("Record")


class Ensemble(nn.Module):
    """R modules, each with a batch and a source of noise of its own, as one.

    The batches are the rows of one batch. Its outer loss is the sum of the modules' losses, so
    that the gradient of each module's weights is that of its own loss. The weights of the modules
    are views of stacked ones: what happens here happens to the modules.

    Args:
        modules: they may differ in their weights, in the constants ρ, r and γ, and in the learning
            rate and the weight decay.
        sources: where each module's training noise comes from.
        steps: the length of the training, for a schedule of the learning rate.
        max_norm: the norm to which each module's gradient is clipped; None: not at all.
    """

    def __init__(
        self,
        modules: Sequence[SemiAmortizedVAE],
        sources: Sequence[torch.Generator],
        steps: int,
        max_norm: float | None = None,
    ) -> None:
        super().__init__()
        first, shared = modules[0], modules[0].hparams
        self.replicas, self.sources, self.max_norm = list(modules), list(sources), max_norm
        self.vae = StackedVAE([module.vae for module in modules])
        self.inference = StackedInference(
            [module.inference for module in modules], shared["inner"], shared["gradient"]
        )
        encoder_objective = EncoderObjective(shared["encoder_loss"], self.inference)
        self.outer_loss = OuterLoss(
            self.vae, self.inference, encoder_objective, first.samples, first.kl["free_bits"]
        )
        self.optimizer = torch.optim.AdamW(self._parameter_groups(), fused=True)
        cosine = first.optimizer_config["schedule"] == "cosine"
        self.schedule = (
            torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)
            if cosine
            else None
        )
        self.taken = 0

    def train(self, mode: bool = True) -> Ensemble:
        """Set the mode of the modules too: a γ of theirs works here."""
        for module in self.replicas:
            module.train(mode)
        return super().train(mode)

    def backward(self, batches: Sequence[Batch]) -> OuterStep:
        """The gradients of every module on its batch; the weights and γ stay as they are.

        Args:
            batches: one for each module, all of one size.

        Returns:
            What the losses were computed from, with the rows of all modules.
        """
        # In place: they are views of the stacked ones.
        torch._foreach_zero_([p.grad for p in self.parameters() if p.grad is not None])
        taken = self.outer_loss(
            torch.cat([batch.x for batch in batches]),
            kl_weight(self.replicas[0].kl, self.taken),
            init=self._starts(batches),
            **self._noise(batches[0].x),
        )
        # A mean over all rows weighs each module by 1/R.
        (len(batches) * taken.loss).backward()
        self._keep_ends(batches, taken.inference)
        return taken

    def update(self, taken: OuterStep) -> None:
        """Move the weights by the gradients, and a closed-form γ."""
        self.vae.gamma.observe(taken.bound.squared_error.unflatten(0, (len(self.replicas), -1)))
        if self.max_norm is not None:
            for module in self.replicas:
                nn.utils.clip_grad_norm_(module.parameters(), self.max_norm)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        self.taken += 1

    @torch.no_grad()
    def evaluate_batches(
        self, xs: Sequence[Float[Tensor, "B D"]], stream: int
    ) -> tuple[Inference, Bound, Bound]:
        """As :meth:`SemiAmortizedVAE.evaluate_batch` in validation, of every module.

        Args:
            xs: a batch for each module.
            stream: the number of the batches, which decides on their noise.
        """
        generators = [module.evaluation_noise(stream) for module in self.replicas]
        x, like = torch.cat(list(xs)), self._codes(xs[0])
        steps = self.inference.test_max_steps
        inner_noise = self.inference.draw_from(generators, like) if steps > 0 else None
        inference = self.inference(self.vae, x, max_steps=steps, noise=inner_noise)
        seeds = [int(torch.randint(2**62, (), generator=g)) for g in generators]
        sources = [torch.Generator().manual_seed(seed) for seed in seeds]
        samples = self.replicas[0].settings["val_samples"]
        sizes = list(chunk_sizes(samples, xs[0].numel()))
        noise = torch.cat(
            [torch.cat([antithetic_noise(n, like, g) for n in sizes]) for g in sources], dim=1
        )

        def bound_at(lam: Tensor) -> Bound:
            q = self.inference.family.distribution(lam, self.vae)
            return elbo(self.vae, q, x, noise)

        bound = bound_at(inference.value)
        return inference, bound, bound if inference.solution is None else bound_at(inference.init)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """The stacked weights, or each module's own where the modules are moved differently.

        Adam moves every number by its own history, so that either is R optimisers.
        """
        settings = [
            {key: module.optimizer_config[key] for key in ("lr", "weight_decay")}
            for module in self.replicas
        ]
        if all(own == settings[0] for own in settings):
            return [{"params": list(self.parameters())} | settings[0]]
        pairs = zip(self.replicas, settings, strict=True)
        return [{"params": list(module.parameters())} | own for module, own in pairs]

    def _codes(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B d"]:
        return x.new_empty(len(x), self.vae.latent_dim)

    def _noise(self, x: Float[Tensor, "B D"]) -> dict[str, Any]:
        """What the modules draw for a step, in their order: the inner noise, then the bound's."""
        like, noise = self._codes(x), {}
        if self.inference.max_steps > 0:
            noise["inner_noise"] = self.inference.draw_from(self.sources, like)
        samples = self.outer_loss.samples
        outer = [antithetic_noise(samples, like, source) for source in self.sources]
        return noise | {"outer_noise": torch.cat(outer, dim=1)}

    def _starts(self, batches: Sequence[Batch]) -> Float[Tensor, "N P"] | None:
        """Warm starts, where the modules keep them."""
        starts = [module.warm_starts for module in self.replicas]
        pairs = zip(starts, batches, strict=True)
        rows = [start[batch.index] for start, batch in pairs if start is not None]
        return torch.cat(rows) if rows else None

    def _keep_ends(self, batches: Sequence[Batch], inference: Inference) -> None:
        ends = inference.value.unflatten(0, (len(batches), -1))
        for module, batch, end in zip(self.replicas, batches, ends, strict=True):
            if module.warm_starts is not None:
                module.warm_starts[batch.index] = end


def rows_of(record: Record, rows: slice) -> Record:
    """Of a dataclass of tensors with one row per example, nested or not: some of the examples."""
    assert is_dataclass(record)
    assert not isinstance(record, type)
    parts: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            parts[field.name] = value[rows]
        elif is_dataclass(value):
            parts[field.name] = rows_of(value, rows)
    return replace(record, **parts)

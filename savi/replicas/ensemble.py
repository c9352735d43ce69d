"""R runs' modules as one, trained by the steps that each of them would take alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from savi.data.batches import Batch
from savi.inference.encoder_losses import EncoderObjective
from savi.inference.outer_loss import OuterLoss, OuterStep
from savi.inference.semi_amortized import Inference
from savi.replicas.model import StackedInference, StackedVAE
from savi.training import SemiAmortizedVAE
from savi.training.finite import all_finite, gradients, in_words, not_finite
from savi.training.kl_weight import kl_weight
from savi.training.module import outer_optimizer
from savi.training.step_metrics import evaluation_metrics, gradient_norms, training_metrics
from savi.types import Observations, Rows
from savi.vae.distributions import antithetic_noise
from savi.vae.elbo import Bound, elbo
from savi.vae.monte_carlo import chunk_sizes

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
        self.optimizer, self.schedule = outer_optimizer(
            first.optimizer_config, self._parameter_groups(), lambda: steps
        )
        self.device, self.taken = torch.device("cpu"), 0

    def gradients(self, batch: Batch, measured: bool = True) -> OuterStep:
        """Take the gradients of every module on its batch; the weights and γ stay as they are.

        ``measured`` is that of :class:`OuterLoss`.
        """
        # In place: those of the modules are views of them.
        torch._foreach_zero_([p.grad for p in self.parameters() if p.grad is not None])
        beta, noise = kl_weight(self.replicas[0].kl, self.taken), self._noise(batch.x)
        step = self.outer_loss(batch.x, beta, init=self._starts(batch), measured=measured, **noise)
        # A mean over all rows weighs each module by 1/R.
        (len(self.replicas) * step.loss).backward()
        return step

    def not_finite(self, step: OuterStep) -> dict[int, str]:
        """What is not finite, in words, in the step of each module where something is not."""
        if all_finite([step.loss, *gradients(self)]):
            return {}
        found = {}
        for number, rows in enumerate(self.rows(step.bound.elbo)):
            loss = -float(step.bound.elbo[rows].detach().mean())
            names = not_finite(self.replicas[number])
            if names or loss - loss != 0:
                found[number] = in_words(loss, names)
        return found or dict.fromkeys(range(len(self.replicas)), "the joint loss is not finite")

    def update(self, batch: Batch, step: OuterStep, bad: Collection[int] = ()) -> None:
        """Move the weights by the gradients, and what no gradient moves, but for bad steps.

        ``bad`` are the numbers of the modules whose step is left out.
        """
        with self._unmoved(bad):
            self.vae.likelihood.observe(
                step.bound.squared_error.unflatten(0, (len(self.replicas), -1))
            )
            if self.max_norm is not None:
                for module in self.replicas:
                    nn.utils.clip_grad_norm_(module.parameters(), self.max_norm)
            self.optimizer.step()
        self._keep_ends(batch, step.inference, bad)
        self.count()

    def count(self) -> None:
        """One more step has been taken, or left out."""
        if self.schedule is not None:
            self.schedule.step()
        self.taken += 1

    @contextmanager
    def _unmoved(self, numbers: Collection[int]) -> Iterator[None]:
        """Whatever happens inside happens to the other modules alone.

        Where the modules share stacked weights, the optimiser counts the step for all of them.
        """
        modules = [self.replicas[number] for number in numbers]
        held = [{k: v.clone() for k, v in module.state_dict().items()} for module in modules]
        states = [(rows, rows.clone()) for rows in self._rows_of_states(numbers)]
        slices = [(p, p.grad) for module in modules for p in module.parameters()]
        for p, gradient in slices:
            if gradient is not None:
                gradient.zero_()
            p.grad = None
        yield
        for module, own in zip(modules, held, strict=True):
            module.load_state_dict(own)
        for rows, before in states:
            rows.copy_(before)
        for p, gradient in slices:
            p.grad = gradient

    def _rows_of_states(self, numbers: Collection[int]) -> Iterator[Tensor]:
        """What the optimiser keeps of the modules' slices of stacked weights."""
        alone = {p for module in self.replicas for p in module.parameters()}
        for p, state in self.optimizer.state.items():
            for value in state.values():
                if p not in alone and isinstance(value, Tensor) and value.shape == p.shape:
                    yield from (value[number] for number in numbers)

    def training_metrics(self, step: OuterStep) -> list[dict[str, Any]]:
        """What each module would log of a step, between its gradients and its update."""
        found = []
        for module, rows in zip(self.replicas, self.rows(step.inference.value), strict=True):
            inference = rows_of(step.inference, rows)
            bound = rows_of(step.bound, rows)
            figures: dict[str, Any] = training_metrics(module.vae, bound, inference)
            figures |= gradient_norms(module.vae, module.inference.encoder)
            if inference.solution is not None and inference.solution.certificate is not None:
                figures |= inference.solution.certificate.metrics()
            found.append(figures)
        return found

    def evaluation_metrics(self, batch: Batch, stream: int) -> list[dict[str, Tensor]]:
        """What each module would log of a validation batch."""
        inference, *bounds = self.evaluate_batch(batch.x, stream)
        found = []
        for module, rows in zip(self.replicas, self.rows(batch.x), strict=True):
            final, initial = (rows_of(bound, rows) for bound in bounds)
            own = rows_of(inference, rows)
            found.append(evaluation_metrics("val", module.vae, own, final, initial))
        return found

    @torch.no_grad()
    def evaluate_batch(self, x: Observations, stream: int) -> tuple[Inference, Bound, Bound]:
        """As :meth:`SemiAmortizedVAE.evaluate_batch` in validation, of every module.

        The number ``stream`` of the batches decides on their noise.
        """
        generators = [module.evaluation_noise(stream) for module in self.replicas]
        own = x[self.rows(x)[0]]
        like, steps = self._codes(own), self.inference.test_max_steps
        inner_noise = self.inference.draw_from(generators, like) if steps > 0 else None
        inference = self.inference(self.vae, x, max_steps=steps, noise=inner_noise)
        seeds = [int(torch.randint(2**62, (), generator=g)) for g in generators]
        sizes = list(chunk_sizes(self.replicas[0].settings["val_samples"], own.numel()))
        draws = [
            torch.cat([antithetic_noise(n, like, source) for n in sizes])
            for source in (torch.Generator().manual_seed(seed) for seed in seeds)
        ]
        noise = torch.cat(draws, dim=1)

        def bound_at(lam: Rows) -> Bound:
            return elbo(self.vae, self.inference.family.distribution(lam, self.vae), x, noise)

        bound = bound_at(inference.value)
        return inference, bound, bound if inference.solution is None else bound_at(inference.init)

    def rows(self, values: Tensor) -> list[slice]:
        """Where each module's examples lie among so many values."""
        size = len(values) // len(self.replicas)
        return [slice(start, start + size) for start in range(0, len(values), size)]

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """The stacked weights, or each module's own where the modules are moved differently.

        Adam moves every number by its own history, so that either is R optimisers.
        """
        configs = [module.optimizer_config for module in self.replicas]
        own = [{key: config[key] for key in ("lr", "weight_decay")} for config in configs]
        if all(settings == own[0] for settings in own):
            return [{"params": list(self.parameters())} | own[0]]
        pairs = zip(self.replicas, own, strict=True)
        return [{"params": list(module.parameters())} | settings for module, settings in pairs]

    def _codes(self, x: Observations) -> Tensor:
        return x.new_empty(len(x), self.vae.latent_dim)

    def _noise(self, x: Observations) -> dict[str, Any]:
        """What the modules draw for a step, in their order: the inner noise, then the bound's."""
        like, noise = self._codes(x[self.rows(x)[0]]), {}
        if self.inference.max_steps > 0:
            noise["inner_noise"] = self.inference.draw_from(self.sources, like)
        samples = self.outer_loss.samples
        outer = [antithetic_noise(samples, like, source) for source in self.sources]
        return noise | {"outer_noise": torch.cat(outer, dim=1)}

    def _starts(self, batch: Batch) -> Rows | None:
        """Warm starts, where the modules keep them."""
        tables = [module.warm_starts for module in self.replicas]
        indices = batch.index.chunk(len(tables))
        rows = [own[i] for own, i in zip(tables, indices, strict=True) if own is not None]
        return torch.cat(rows) if rows else None

    def _keep_ends(self, batch: Batch, inference: Inference, bad: Collection[int]) -> None:
        parts = (part.chunk(len(self.replicas)) for part in (batch.index, inference.value))
        for number, (index, end) in enumerate(zip(*parts, strict=True)):
            starts = self.replicas[number].warm_starts
            if starts is not None and number not in bad:
                starts[index] = end


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of one size, one after another."""
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def rows_of(record: Record, rows: slice) -> Record:
    """Of a dataclass of trees of tensors with one row per example: some of the examples."""

    def of(part: Any) -> Any:
        return part[rows] if isinstance(part, Tensor) else part

    assert is_dataclass(record)
    assert not isinstance(record, type)
    parts: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            parts[field.name] = rows_of(value, rows)
        elif isinstance(value, Tensor | Mapping | tuple):
            parts[field.name] = tree_map(of, value)
    return replace(record, **parts)

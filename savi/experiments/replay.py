"""``replay``: repeat a training step that was left out, and show what is not finite where."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from savi.errors import InputError
from savi.experiments.checkpoint import CONFIG_KEY, STEP_KEY, read_checkpoint
from savi.experiments.loggers import quieten_libraries
from savi.experiments.reload import load
from savi.implicit.reporter import collected
from savi.inference.outer_loss import OuterStep
from savi.inner.solution import Reason
from savi.training import SemiAmortizedVAE
from savi.training.finite import in_words, not_finite
from savi.training.kl_weight import warm_up
from savi.types import Mask

#: So many examples are named, or shown row by row.
SHOWN = 8


@dataclass(frozen=True)
class Replay:
    """A step that has been repeated.

    Attributes:
        module: with the weights before it, and the gradients that it has left.
        inputs: what it was made of.
        step: its loss, and what that comes from; None if a factorisation failed before.
        failed: the factorisation that failed, and where; empty if none did.
    """

    module: SemiAmortizedVAE
    inputs: Mapping[str, Any]
    step: OuterStep | None
    failed: str

    def summary(self) -> str:
        """What was found at the time, and what is found now."""
        then = f"step {self.inputs['step']:,} of epoch {self.inputs['epoch'] + 1}"
        told = f"The run left out {then}: {self.inputs['what']}."
        loss = 0.0 if self.step is None else float(self.step.loss.detach())
        names = not_finite(self.module)
        if self.failed:
            return f"{told} Here a factorisation fails: {self.failed}."
        if loss - loss == 0 and not names:
            return (
                f"{told} Here all is finite: what was wrong is neither in the examples nor in the "
                "weights (an option or a module of its own, the device, too little memory)."
            )
        return f"{told} Here {in_words(loss, names)}."

    def tables(self) -> Iterator[Table]:
        """The terms of the loss, the inner solves, some examples, and the gradients."""
        if self.step is not None:
            yield self._terms(self.step)
            if self.step.inference.solution is not None:
                yield self._solves(self.step.inference.solution.reason)
            yield self._examples(self.step)
        yield self._gradients()

    def _terms(self, step: OuterStep) -> Table:
        table = _table("Terms of the loss", "Term", "Mean", "Largest", "Not finite")
        inference, bound = step.inference, step.bound
        values: dict[str, Tensor] = {
            "x, the data": self.inputs["x"],
            "λ0, the start": inference.init,
            "λK": inference.value,
            "squared error": bound.squared_error,
            "reconstruction": bound.reconstruction,
            "KL": bound.kl,
            "ELBO": bound.elbo,
        }
        for name, value in values.items():
            rows = value.detach().flatten(1) if value.ndim > 1 else value.detach().unsqueeze(-1)
            where = _named(~torch.isfinite(rows).all(dim=-1))
            table.add_row(name, _short(rows.mean()), _short(rows.abs().amax()), where)
        own = self.module.vae.likelihood.figures()
        for name, number in (*own.items(), ("loss", step.loss)):
            number = number.detach()
            finite = bool(torch.isfinite(number).all())
            largest = _short(number.abs().amax())
            table.add_row(name, _short(number.mean()), largest, "" if finite else "it")
        return table

    def _solves(self, reasons: Tensor) -> Table:
        table = _table("Inner solves", "Ended by", "Status", "Examples")
        for reason in Reason:
            where = reasons == reason
            if where.any():
                words = reason.name.lower().replace("_", " ")
                table.add_row(words, reason.status.name.lower(), _named(where))
        return table

    def _examples(self, step: OuterStep) -> Table:
        """Those that are not finite, or else those with the lowest bound."""
        elbo, solution = step.bound.elbo.detach(), step.inference.solution
        # NaN and infinities first.
        order = torch.where(torch.isfinite(elbo), elbo, -torch.inf).argsort()[:SHOWN].tolist()
        columns = ["Example", "In the data", "Largest |x|", "Squared error", "ELBO"]
        more = [] if solution is None else ["Inner steps", "J(λ0)", "J(λK)"]
        table = _table("Examples with the lowest ELBO", *columns, *more)
        for row in order:
            x, index = self.inputs["x"][row], self.inputs["index"][row]
            cells = [str(row), str(int(index)), _short(x.abs().amax())]
            cells += [_short(step.bound.squared_error[row]), _short(elbo[row])]
            if solution is not None:
                start = step.inference.start.value[row]
                cells += [str(int(solution.steps[row])), _short(start)]
                cells += [_short(solution.objective[row])]
            table.add_row(*cells)
        return table

    def _gradients(self) -> Table:
        table = _table("Gradients", "Parameter", "Shape", "Norm", "Not finite")
        for name, p in self.module.named_parameters():
            shape = "×".join(map(str, p.shape))
            if p.grad is None:
                table.add_row(name, shape, "none", "")
                continue
            count = int((~torch.isfinite(p.grad)).sum())
            table.add_row(name, shape, _short(p.grad.norm()), f"{count:,}" if count else "")
        return table


def replay(path: str | Path) -> Replay:
    """Repeat the step that a run has kept: on the same kind of device, with the same numbers.

    Raises:
        InputError: for a file that holds no step, and one of a GPU where there is none.
    """
    quieten_libraries()
    checkpoint = read_checkpoint(path)
    if STEP_KEY not in checkpoint:
        raise InputError(
            f"replay '{path}' is a checkpoint that holds no training step: give the bad_step.ckpt "
            "that a run leaves in its folder when a step is not finite"
        )
    config, inputs = checkpoint[CONFIG_KEY], checkpoint[STEP_KEY]
    if config["trainer"]["threads"] is not None:
        torch.set_num_threads(config["trainer"]["threads"])
    device = inputs["device"]
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"replay '{path}': its step drew its noise on a CUDA GPU, and this machine has none"
        )
    module = load(path).train().to(device)
    x, start = inputs["x"].to(device), inputs["start"]
    if device == "cuda":
        torch.cuda.set_rng_state(inputs["noise"])
    else:
        torch.set_rng_state(inputs["noise"])
    step, failed = None, ""
    try:
        # The tables say what the certificates would.
        with collected():
            with _autocast(config["trainer"]["precision"], device):
                step = module.outer_loss(
                    x,
                    module.kl_weight * warm_up(module.kl, inputs["step"]),
                    init=None if start is None else start.to(device),
                    refine=inputs["refine"],
                )
            step.loss.backward()
    except torch.linalg.LinAlgError as error:
        failed = f"{' '.join(str(error).split())} ({_where(error)})"
    return Replay(module, {**inputs, "x": x}, step, failed)


def _autocast(precision: str, device: str) -> Any:
    """What Lightning wraps a training step in."""
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.half}
    if precision not in kinds:
        return nullcontext()
    return torch.autocast(device, dtype=kinds[precision], cache_enabled=False)


def _where(error: BaseException) -> str:
    """The line that an error comes from, as far as it is not a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f"{own[-1].name}, {Path(own[-1].filename).name}:{own[-1].lineno}"


def _named(where: Mask) -> str:
    """How many examples, and the numbers of the first ones in the batch."""
    rows = where.nonzero().flatten().tolist()
    if not rows:
        return ""
    shown = ", ".join(map(str, rows[:SHOWN]))
    return f"{len(rows):,} of {len(where):,}: {shown}{', …' if len(rows) > SHOWN else ''}"


def _short(number: Tensor) -> str:
    return f"{float(number):.4g}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table

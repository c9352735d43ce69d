"""Trainings with numbers in them that are none: what becomes of the weights and of the record."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from savi.experiments.checkpoint import STEP_KEY, read_checkpoint
from savi.inference.semi_amortized import Inference
from savi.inner.solution import Reason
from soaks import Tally, soak
from soaks.patched import SMALL, train

#: Every way to learn, and what is kept from step to step: γ, warm starts, a step size.
METHODS = ("savi_ift", "svi", "savi", "vlae", "vae_svi")

#: What is put in; the first four make a bad step, the last a solve that has to be given up.
KINDS = ("pixel", "loss", "gradient", "matrix", "solve")
BAD = KINDS[:4]

#: The share of the steps into which something is put.
SHARE = 0.06


@soak(
    "faults",
    "2,000 steps with faults put in: finite weights, and all of them in the record, no other",
    2_000,
)
def faults(trials: int, seed: int, folder: Path, share: float = SHARE) -> Tally:
    """Train so many steps in all, a part with each method."""
    tally = Tally()
    each = max(20, trials // len(METHODS))
    for name in METHODS[: max(1, trials // each)]:
        run, log = folder / name, folder / f"{name}.log"
        words = (
            *SMALL, f"experiment={name}", f"seed={seed}", "inner.max_steps=3",
            "trainer.log_every_n_steps=1", "trainer.max_epochs=2", "trainer.max_bad_steps=1000",
            f"trainer.limit_train_batches={each // 2}", f"hydra.run.dir={run}",
        )  # fmt: skip
        journal = folder / f"{name}.json"
        code = train(partial(_inject, journal, f"{name} {seed}", share), words, log)
        found = [f"exit code {code}"] if code else list(_wrong(run, journal))
        tally.add(*(f"{name}: {fault}" for fault in found))
        # One trial for each step.
        tally.tried += each - 1
    return tally


def _wrong(run: Path, journal: Path) -> Iterator[str]:
    """What the record of a run lacks of what was put into it, or has besides."""
    injected = json.loads(journal.read_text(encoding="utf-8"))
    bad = [entry["step"] for entry in injected if entry["kind"] in BAD]
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    if metrics.get("train/bad_steps", 0) != len(bad):
        yield f"{metrics.get('train/bad_steps', 0):.0f} bad steps are recorded of {len(bad)}"
    if (counted := _counted(run / "metrics.csv")) != bad:
        yield f"the steps {sorted(set(counted) ^ set(bad))} are in one of record and journal only"
    solves = [entry for entry in injected if entry["kind"] == "solve"]
    if lost := [entry["step"] for entry in solves if not entry["sound"]]:
        yield f"the solves of the steps {lost} ended above their start, or nowhere"
    diverged = sum(entry["diverged"] for entry in solves)
    if metrics.get("inner/solves_failed", 0) < diverged:
        yield f"{metrics.get('inner/solves_failed', 0):.0f} failed solves of {diverged}"
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = read_checkpoint(run / "checkpoints" / name)
        starts = checkpoint["callbacks"].get("WarmStarts", {})
        parts = checkpoint["state_dict"], checkpoint["optimizer_states"], starts
        if broken := sum(not bool(torch.isfinite(t).all()) for t in _tensors(parts)):
            yield f"{broken} tensors of {name} are not finite"
    if wrong := [k for k, v in metrics.items() if k.startswith("test/") and not math.isfinite(v)]:
        yield f"{', '.join(wrong)} are not finite"
    if bad and read_checkpoint(run / "bad_step.ckpt")[STEP_KEY]["step"] != bad[0]:
        yield "the step that was kept is not the first"


def _counted(file: Path) -> list[int]:
    """The steps at which the count of bad ones rises."""
    steps, before = [], 0.0
    with file.open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            if count := float(row.get("train/bad_steps") or 0.0):
                steps += [int(row["step"])] * int(count > before)
                before = count
    return steps


def _tensors(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor) and part.is_floating_point():
        yield part
    elif isinstance(part, dict):
        for value in part.values():
            yield from _tensors(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _tensors(value)


def _outcome(inference: Inference, row: int) -> dict[str, bool]:
    """How an example's solve ended: an optimiser that judges its trials has turned bad ones down.

    Where the last step is taken on trust, J at its end is not known.
    """
    solution, start = inference.solution, inference.start.value[row]
    assert solution is not None
    end, reason = solution.objective[row], int(solution.reason[row])
    higher = bool(end > start + 1e-5 * start.abs())
    diverged = reason in (Reason.NOT_FINITE, Reason.ABOVE_START)
    at_start = torch.equal(solution.value[row], inference.start.y[row])
    finite = bool(torch.isfinite(solution.value[row]).all())
    # Every J but that of the start was none, for one that judges nothing.
    return {"sound": finite and not higher and (at_start or not diverged), "diverged": diverged}


def _inject(journal: Path, seed: str, share: float) -> None:
    """Have the program of this process meet faults at random, and write down which."""
    from savi.inference.outer_loss import OuterLoss, OuterStep
    from savi.inner.loop import InnerLoop
    from savi.inner.solution import Point

    source, entries = random.Random(seed), []
    plain, evaluate, step, broken = OuterLoss.__call__, InnerLoop._evaluate, -1, None
    start: Tensor | None = None

    def outer_loss(self: OuterLoss, x: Tensor, *args: Any, **kwargs: Any) -> OuterStep:
        nonlocal step, broken, start
        step += 1
        kind = source.choice(KINDS) if source.random() < share else None
        row = source.randrange(len(x))
        if kind is not None:
            entries.append({"step": step, "kind": kind, "row": row})
        if kind == "pixel":
            x = x.clone()
            x[row, source.randrange(x.shape[1])] = source.choice((math.nan, math.inf, -math.inf))
        if kind == "matrix":
            journal.write_text(json.dumps(entries), encoding="utf-8")
            torch.linalg.cholesky(torch.zeros(2, 2))
        broken, start = (row if kind == "solve" else None), None
        taken = plain(self, x, *args, **kwargs)
        broken = None
        if kind == "loss":
            object.__setattr__(taken, "loss", taken.loss * source.choice((math.nan, math.inf)))
        if kind == "gradient":
            parameter = source.choice(list(self.model.parameters()))
            # 0 with an infinite derivative.
            root = (parameter - parameter.detach()).square().sum().sqrt()
            object.__setattr__(taken, "loss", taken.loss + root)
        if kind == "solve" and taken.inference.solution is not None:
            entries[-1] |= _outcome(taken.inference, row)
        journal.write_text(json.dumps(entries), encoding="utf-8")
        return taken

    def _evaluate(self: InnerLoop, objective: Any, k: int, y: Tensor, graph: bool) -> Point:
        """J of one example is none anywhere but at its start."""
        nonlocal start
        point = evaluate(self, objective, k, y, graph)
        if broken is None or len(y) <= broken:
            return point
        if k == 0 and start is None:
            start = y[broken].detach().clone()
        assert start is not None
        hit = (torch.arange(len(y)) == broken) & (y.detach() != start).any(dim=-1)
        value = point.value.masked_fill(hit, math.nan)
        return Point(y, value, point.gradient.masked_fill(hit.unsqueeze(-1), math.nan))

    OuterLoss.__call__, InnerLoop._evaluate = outer_loss, _evaluate  # type: ignore[method-assign]

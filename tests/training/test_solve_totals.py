"""The totals of failed inner solves, which a run shows when it ends."""

import pytest
import torch

from savi.experiments.build import build
from savi.experiments.run import train
from savi.inner.solution import Reason, Solution
from savi.report.metrics import METRICS
from savi.report.table import plain_text, results_table
from savi.training.solve_totals import FAILED, KINDS, SOLVES, SolveTotals, in_words

SMALL = (
    "debug=quick", "logger=csv", "data.limit=48", "data.batch_size=16", "model.hidden=8",
    "model.latent_dim=2", "trainer.threads=1", "trainer.max_epochs=2", "callbacks.figures=false",
    "evaluation.ais_examples=0", "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0",
)  # fmt: skip

#: Too few steps to solve any inner problem, so that many examples break a condition.
UNSOLVED = ("experiment=savi_ift", "inner.optimizer=gd", "+inner.lr=1e-3", "inner.max_steps=1")

pytestmark = pytest.mark.filterwarnings("ignore::savi.gradients.ImplicitGradientWarning")


def ended(*reasons: Reason) -> Solution:
    """Solves that ended so."""
    zeros = torch.zeros(len(reasons))
    return Solution(zeros[:, None], torch.tensor(reasons), zeros, zeros, zeros)


@pytest.fixture
def counted(monkeypatch):
    """Every verdict that a training step's backward leaves, by what it says of its examples."""
    verdicts, add = [], SolveTotals.add

    def listen(self, solution, rows=slice(None)):
        add(self, solution, rows)
        verdicts.append((solution.certificate.verdict, rows))

    monkeypatch.setattr(SolveTotals, "add", listen)
    return verdicts


def test_without_a_certificate_what_diverged_has_failed():
    totals = SolveTotals()
    totals.add(ended(Reason.SMALL_GRADIENT, Reason.OUT_OF_STEPS, Reason.NO_MOVEMENT))
    assert totals.metrics() == {}
    totals.add(ended(Reason.NOT_FINITE, Reason.ABOVE_START, Reason.SMALL_GRADIENT))
    assert totals.metrics() == {SOLVES: 6.0, FAILED: 2.0, f"{FAILED}/diverged": 2.0}
    assert in_words(totals.metrics()) == "inner solves that failed: 2 of 6 (diverged 2)"
    assert in_words({}) == ""


def test_the_line_tells_the_kinds_the_most_frequent_first():
    metrics = {
        SOLVES: 48_000.0,
        FAILED: 1_312.0,
        f"{FAILED}/not_positive_definite": 12.0,
        f"{FAILED}/not_converged": 1_300.0,
    }
    assert in_words(metrics) == (
        "inner solves that failed: 1,312 of 48,000 (not converged 1,300, not positive definite 12)"
    )


def test_every_kind_has_a_row_of_its_own():
    for kind in KINDS:
        assert f"{FAILED}/{kind.replace(' ', '_')}" in METRICS


@pytest.mark.parametrize("policy", ["warn", "mask"])
def test_a_run_ends_with_the_totals_of_its_training(config, tmp_path, counted, policy):
    """Whatever is done about the failures, and whatever its evaluation has solved since."""
    every = "callbacks.gradient_check_every_n_steps=1"
    values = config(*SMALL, *UNSOLVED, f"gradient.on_failure={policy}", every)
    metrics = train(values, tmp_path / "run")
    # 48 examples in three batches, twice.
    assert len(counted) == 6
    assert metrics[SOLVES] == 96
    assert metrics[FAILED] == sum(int(verdict.failed.sum()) for verdict, _ in counted) > 0
    solved = [verdict.broken[kind].sum() for verdict, _ in counted for kind in verdict.broken
              if kind.startswith("the inner problem is not solved")]  # fmt: skip
    assert metrics[f"{FAILED}/not_converged"] == int(sum(solved)) > 0
    text = plain_text(results_table(metrics, "run"))
    rows = [line.split() for line in text.splitlines()]
    assert ["Inner", "solves", "in", "training", "96", SOLVES] in rows
    failed = f"{metrics[FAILED]:.0f}"
    assert ["Inner", "solves", "that", "failed", failed, "↓", FAILED] in rows


def test_a_certificate_that_finds_nothing_is_told_and_none_is_not(config, tmp_path):
    solved = ("experiment=laplace_ift", "inner.max_steps=50", "inner.rtol=1e-6")
    metrics = train(config(*SMALL, *solved), tmp_path / "ift")
    assert (metrics[SOLVES], metrics[FAILED]) == (96, 0)
    assert not any(name.startswith(f"{FAILED}/") for name in metrics)
    metrics = train(config(*SMALL, "experiment=vae_svi"), tmp_path / "unrolled")
    assert SOLVES not in metrics


def test_replicas_count_their_own(config, tmp_path, counted, capsys):
    from savi.replicas import train as train_together

    together = train_together(config(*SMALL, *UNSOLVED, "trainer.replicas=2"), tmp_path / "two")
    out = capsys.readouterr().out
    for number, metrics in enumerate(together):
        own = [(verdict, rows) for verdict, rows in counted if rows.start == 16 * number]
        assert len(own) == 6
        assert metrics[SOLVES] == 96
        assert metrics[FAILED] == sum(int(verdict.failed[rows].sum()) for verdict, rows in own)
        assert f"seed-{number}: {in_words(metrics)}" in out
    assert sum(metrics[FAILED] for metrics in together) > 0


def test_solves_that_train_nothing_are_not_counted(config):
    data, module = build(config(*SMALL, *UNSOLVED))
    module.evaluate_batch(data.split("test"), module.evaluation_noise(0), samples=2)
    assert module.solves.metrics() == {}

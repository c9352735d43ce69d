import math

import pytest
import torch

from savi.report.metrics import METRICS
from savi.report.table import plain_text, results_table

SHUFFLED = {
    "zeta": 2.0,
    "cost/step_seconds": 0.01234,
    "inner/converged": 0.984,
    "test/gap/amortization": 2.5,
    "val/elbo": -1240.0,
    "test/kl": 24.3678,
    "my[bold]/metric": 3.14159265,
    "test/gamma": 0.0123456,
    "ift/linear_residual": 1e-7,
    "test/elbo": -1234.5678,
    "test/mine": 1.0,
}


def lines(metrics, width=100):
    return plain_text(results_table(metrics, "Results [of] a run"), width).splitlines()


def test_rows_stand_under_their_headings_in_order():
    *rows, caption = lines(SHUFFLED)
    assert "higher is better" in caption
    first = [line.strip().split("  ")[0].strip() for line in rows if line.strip()]
    assert first[0] == "Results [of] a run"
    assert first[1] == "Metric"
    assert first[3:] == [
        "Bound",
        "Evidence lower bound",
        "Evidence lower bound, validation",
        "KL from the prior, KL(q‖p)",
        "Latents",
        "Decoder variance γ",
        "Gaps",
        "Amortisation gap",
        "Inner problem",
        "Examples converged",
        "Certificate",
        "Linear solve, residual",
        "Cost",
        "Time per training step",
        "Other",
        "my[bold]/metric",
        "test/mine",
        "zeta",
    ]


@pytest.mark.parametrize(
    "cells",
    [
        ["Evidence lower bound", "-1,234.57", "nats", "↑", "test/elbo"],
        ["Evidence lower bound, validation", "-1,240.00", "nats", "↑", "val/elbo"],
        ["Examples converged", "98.4%", "↑", "inner/converged"],
        ["Time per training step", "0.0123", "s", "↓", "cost/step_seconds"],
        ["KL from the prior, KL(q‖p)", "24.37", "nats", "test/kl"],
        ["my[bold]/metric", "3.14159"],
    ],
    ids=lambda cells: cells[-1],
)
def test_a_row_gives_label_value_unit_direction_and_name(cells):
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines(SHUFFLED)]
    assert cells in rows


def test_at_80_columns_no_name_of_a_metric_is_cut():
    names = [*METRICS, "train/gap/stationarity_median", "test/collapse/autoencoder_error"]
    rows = lines(dict.fromkeys(names, -1234.5678), 80)
    for name in names:
        assert any(line.endswith(f" {name}") for line in rows), name


def test_groups_without_metrics_are_left_out():
    text = "\n".join(lines({"test/elbo": -1.0}))
    assert "Bound" in text
    for heading in ("Latents", "Gaps", "Inner problem", "Certificate", "Cost", "Other"):
        assert heading not in text


def test_every_known_metric_has_its_own_row():
    text = "\n".join(lines(dict.fromkeys(METRICS, 1.0)))
    for name, metric in METRICS.items():
        assert any(metric.label in line and name in line for line in text.splitlines())
    assert "Other" not in text


def test_no_metrics_give_an_empty_table():
    rows = [line.split() for line in lines({})]
    assert ["Metric", "Value", "Unit", "Name"] in rows
    assert not any("Other" in row for row in rows)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_shown(value):
    assert any(str(value) in line for line in lines({"test/elbo": value}))


def test_scalar_tensors_are_numbers_too():
    assert any("-1.50" in line for line in lines({"test/elbo": torch.tensor(-1.5)}))


@pytest.mark.parametrize("width", [60, 80, 100])
def test_text_is_plain_and_keeps_to_its_width(width):
    rows = lines(SHUFFLED, width)
    assert all(len(row) <= width and row == row.rstrip() for row in rows)
    assert "\x1b" not in "".join(rows)
    # A narrow table shortens names, never values, and never breaks a row.
    assert len(rows) == len(lines(SHUFFLED))
    assert any("-1,234.57" in row for row in rows)

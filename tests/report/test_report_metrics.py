from itertools import groupby

import pytest

from savi.report.metrics import METRICS, SPLITS, describe, parse

UNITS = {"", "nats", "bits", "s", "MB"}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("test/elbo", ("test", "elbo")),
        ("val/gap/amortization", ("val", "gap/amortization")),
        ("inner/steps", (None, "inner/steps")),
        ("train/inner/steps", ("train", "inner/steps")),
        ("elbo", (None, "elbo")),
        ("test", (None, "test")),
        ("testing/elbo", (None, "testing/elbo")),
    ],
)
def test_parse(name, parts):
    assert parse(name) == parts


def test_a_metric_is_the_same_on_every_split():
    for split in SPLITS:
        assert describe(f"{split}/elbo") is METRICS["elbo"]
    assert METRICS["elbo"].unit == "nats"
    assert METRICS["elbo"].better == "higher"
    assert METRICS["nll"].better == "lower"


def test_an_unknown_metric_has_no_description():
    assert describe("test/mine") is None


def test_each_group_is_in_one_piece():
    groups = [group for group, _ in groupby(metric.group for metric in METRICS.values())]
    assert len(groups) == len(set(groups))


@pytest.mark.parametrize("name", METRICS)
def test_descriptions_are_whole(name):
    metric = METRICS[name]
    assert metric.unit in UNITS
    assert 0 < len(metric.label) <= 30
    for value in (0.0, -1.5, 1e-9, 123456.789):
        assert metric.format(value)
    assert metric.format(float("nan")).startswith("nan")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("test/elbo", -1234.5678, "-1,234.57"),
        ("test/bits_per_dim", 1.23456, "1.235"),
        ("test/gamma", 0.0123456, "0.0123"),
        ("inner/converged", 0.984, "98.4%"),
        ("inner/stationarity", 1.23e-4, "1.2e-04"),
        ("cost/peak_memory_mb", 1234.6, "1,235"),
    ],
)
def test_digits_suit_the_metric(name, value, text):
    assert describe(name).format(value) == text

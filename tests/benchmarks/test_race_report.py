"""The race's figures on made-up rows: the best so far, leads, intervals, targets and the figure."""

import math

import pytest
from benchmarks.race.figure import race_figure
from benchmarks.race.report import (
    BEST,
    CLAIMS,
    Claim,
    best_so_far,
    curves,
    lead,
    means,
    race_table,
    target_table,
    targets,
)
from benchmarks.race.run import Row

from savi.report.table import plain_text


def rows(method, values, seed=0, size=1_000, marks=(5.0, 15.0, 30.0)):
    """Pairs of a validation and a test value; None after a divergence."""
    return [
        Row(size, method, seed, mark, mark, 10, diverged=True)
        if pair is None
        else Row(size, method, seed, mark, mark, 10, *pair, 50.0, 60.0, 1.0, 2.0)
        for mark, pair in zip(marks, values, strict=True)
    ]


#: Two seeds: validation finds the slow VAE better at first, the quick one later.
FIELD = [
    *rows("vae", [(1.0, 10.0), (4.0, 40.0), (2.0, 90.0)]),
    *rows("vae_slow", [(2.0, 20.0), (3.0, 35.0), (3.5, 95.0)]),
    *rows("savi", [(0.0, 15.0), (9.0, 62.0), (1.0, 0.0)]),
    *rows("vae", [(1.0, 12.0), (4.0, 44.0), (2.0, 90.0)], seed=1),
    *rows("vae_slow", [(2.0, 22.0), (3.0, 35.0), (3.5, 95.0)], seed=1),
    *rows("savi", [(0.0, 19.0), (9.0, 68.0), (1.0, 0.0)], seed=1),
]


def test_the_best_so_far_is_chosen_by_validation():
    run = rows("vae", [(1.0, 10.0), (4.0, 8.0), (2.0, 99.0)])
    assert best_so_far(run) == {5.0: 10.0, 15.0: 8.0, 30.0: 8.0}
    assert best_so_far(run[::-1]) == best_so_far(run)
    assert best_so_far(rows("vae", [(1.0, 10.0), None, None])) == dict.fromkeys((5, 15, 30), 10.0)
    assert all(math.isnan(value) for value in best_so_far(rows("vae", [None] * 3)).values())


def test_the_best_vae_is_chosen_by_validation_among_all_settings():
    found = curves(FIELD, 1_000)
    assert list(found) == [BEST, "vae", "vae_slow", "savi"]
    assert found[BEST] == {0: {5: 20.0, 15: 40.0, 30: 40.0}, 1: {5: 22.0, 15: 44.0, 30: 44.0}}
    assert found["vae"][0] == {5: 10.0, 15: 40.0, 30: 40.0}
    assert curves(FIELD, 300) == {BEST: {}}


def test_leads_are_taken_seed_for_seed_with_their_interval():
    ahead = lead(curves(FIELD, 1_000), "savi", BEST)
    assert [summary.mean for summary in ahead.values()] == [-4.0, 23.0, 23.0]
    # Differences −5 and −3, then 22 and 24: s = √2, and t at 0.975 with one degree is 12.7062.
    for mark in (5.0, 15.0):
        assert ahead[mark].half_width == pytest.approx(12.7062, rel=1e-5)
    assert means(curves(FIELD, 1_000))["savi"][15.0].mean == 65.0


def test_a_seed_that_is_lost_is_left_out_of_the_means():
    field = [*FIELD, *rows("savi", [None] * 3, seed=2), *rows("vae", [(1.0, 1.0)] * 3, seed=2)]
    ahead = lead(curves(field, 1_000), "savi", BEST)[15.0]
    assert (ahead.mean, ahead.n, ahead.omitted) == (23.0, 2, 1)
    text = " ".join(plain_text(race_table(field, 1_000, 200), 120).split())
    assert "Diverged: savi (seed 2)." in text


def test_the_table_holds_means_and_leads():
    text = plain_text(race_table(FIELD, 1_000, 200), 120)
    lines = [line.split() for line in text.splitlines()]
    assert ["Method", "5", "s", "15", "s", "30", "s"] in lines
    assert ["savi", "17.0", "65.0", "65.0"] in lines
    assert ["±25.4", "±38.1", "±38.1"] in lines
    assert ["−", "best", "VAE", "−4.0", "+23.0", "+23.0"] in lines
    flat = " ".join(text.split())
    assert "1,000 images" in flat
    assert "over the seeds (0, 1)," in flat
    assert "Effective samples 60 to 60 of 200." in flat
    one = plain_text(race_table(FIELD[:9], 1_000, 200), 120)
    assert "±" not in one


def test_targets_look_at_the_least_lead_from_a_mark_on():
    claims = [
        Claim(1_000, "savi", BEST, 20.0, 15.0),
        Claim(1_000, "savi", BEST, 0.0),
        Claim(1_000, "savi", "vlae", 0.0),
        Claim(300, "savi", BEST, 0.0),
        Claim(1_000, "savi", BEST, 0.0, 60.0),
    ]
    found = targets(FIELD, claims)
    assert [claim for claim, _ in found] == claims[:2]
    (_, late), (_, all_) = found
    assert str(late) == "23.00 nats over best VAE from 15 s on, at least 20: met"
    assert str(all_) == "-4.00 nats over best VAE, at least 0: MISSED"
    text = plain_text(target_table(found), 120)
    assert "at least 20: met" in text
    assert "1,000" in text


def test_a_lead_that_nobody_knows_meets_no_target():
    field = [*rows("vae", [(1.0, 1.0)] * 3), *rows("savi", [None, None, None])]
    ((_, target),) = targets(field, [Claim(1_000, "savi", BEST, -1.0)])
    assert math.isnan(target.ratio)
    assert not target.met


def test_what_is_claimed():
    asked = {(c.size, c.method, c.rival, c.least, c.start) for c in CLAIMS}
    assert (1_000, "savi", BEST, 20.0, 15.0) in asked
    assert {(10_000, "auto", BEST, -1.0, 60.0), (50_000, "auto", BEST, 0.0, 600.0)} < asked


def test_the_figure_has_a_column_for_each_size():
    field = [*FIELD, *rows("vae", [(1.0, 1.0), None, None], size=300)]
    figure = race_figure(field)
    small, large, small_lead, large_lead = figure.axes
    assert [axes.get_title(loc="left") for axes in (small, large)] == [
        "300 training images",
        "1,000 training images",
    ]
    drawn = {line.get_label(): list(line.get_ydata()) for line in large.get_lines()}
    assert drawn["savi"] == [17.0, 65.0, 65.0]
    assert drawn[BEST] == [21.0, 42.0, 42.0]
    (lead_line,) = [line for line in large_lead.get_lines() if line.get_label() == "savi"]
    assert list(lead_line.get_ydata()) == [-4.0, 23.0, 23.0]
    assert not [line for line in small_lead.get_lines() if line.get_label() == "savi"]

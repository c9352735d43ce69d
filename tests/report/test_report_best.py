"""Which setting is the best, and what is said of it."""

from pathlib import Path

import pytest
from run_folders import CONFIG, merged
from scipy import stats

from savi.report.best import best_setting, objective
from savi.report.runs import Run


def run(rho, seed, value, metric="test/nll", state="finished", **changes):
    config = merged(CONFIG, {"inner.rho": rho, "seed": seed, "optimized_metric": metric} | changes)
    metrics = {} if value is None else {metric: value}
    command = f"savi-train inner.rho={rho} seed={seed} 'imports=[a, b]'"
    return Run(Path("run"), f"{rho}-{seed}", state, config=config, metrics=metrics, command=command)


STEADY = [run(1.0, seed, value) for seed, value in enumerate([10.0, 11.0, 12.0])]
#: The lowest figure of all, and the worse mean.
LUCKY = [run(2.0, seed, value) for seed, value in enumerate([5.0, 20.0, 30.0])]


def test_the_best_mean_wins_over_a_lucky_seed():
    best = best_setting([*LUCKY, *STEADY])
    assert (best.metric, best.setting.label) == ("test/nll", "rho=1")
    low, high = stats.t.interval(0.95, 2, 11.0, stats.sem([10.0, 11.0, 12.0]))
    assert best.summary.mean == 11.0
    assert best.summary.half_width == pytest.approx((high - low) / 2)
    assert best.words == "mean 11 ± 2.5 nats (95 % t-interval over 3 seeds)"
    assert best.command == "savi-train inner.rho=1.0 'imports=[a, b]'"


def test_a_figure_that_is_better_high_is_sought_high():
    runs = [run(rho, 0, rho, "val/elbo") for rho in (1.0, 3.0, 2.0)]
    assert best_setting(runs).setting.label == "rho=3"


def test_one_seed_has_no_interval():
    best = best_setting([run(1.0, 0, 10.0), run(2.0, 0, 20.0)])
    assert best.words == "10 nats with one seed, and so without an interval"


def test_the_same_seed_twice_is_one_seed_and_another_split_is_not():
    twice = best_setting([run(1.0, 0, 10.0), run(1.0, 0, 12.0)])
    assert (twice.summary.n, twice.summary.mean) == (1, 11.0)
    splits = [run(1.0, 0, 10.0, **{"data.seed": split}) for split in (0, 1)]
    assert best_setting(splits).summary.n == 2


@pytest.mark.parametrize(
    ("value", "state"), [(None, "failed"), (float("nan"), "finished"), (1.0, "interrupted")]
)
def test_a_setting_that_lost_seeds_does_not_win_by_the_one_that_is_left(value, state):
    broken = [run(3.0, 0, 2.0), run(3.0, 1, value, state=state)]
    assert best_setting([*broken, *STEADY]).setting.label == "rho=1"
    # Where there is no other, what is missing is said.
    alone = best_setting(broken)
    assert alone.summary.mean == 2.0
    assert alone.words.endswith("without an interval; 1 more run is without a figure")


def test_nothing_is_best_by_a_figure_without_a_better_end():
    assert best_setting([run(1.0, 0, 10.0, "test/kl"), run(2.0, 0, 20.0, "test/kl")]) is None
    assert best_setting([run(1.0, 0, None, state="failed")]) is None
    assert best_setting([]) is None


def test_runs_that_were_tuned_for_different_figures_are_compared_by_their_bound():
    assert objective([run(1.0, 0, 1.0), run(1.0, 0, 1.0, "val/elbo")]) == "test/elbo"
    assert objective(STEADY) == "test/nll"
